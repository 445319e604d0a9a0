"""Types of single fields of a workflow: what each may hold, and the message when it does not."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from airflow_monai.failures import DEFAULT_POLICY, MEANINGS, Answer
from airflow_monai.specs.choices import ARTIFACT_TYPES, TASK_TYPE_ALIASES, TASK_TYPES
from airflow_monai.specs.plan import ForEach, Grouping, Kind, LateImages, OnFailure, Priority
from airflow_monai.specs.problems import nearest
from airflow_monai.specs.units import duration_seconds, memory_bytes

TASK_ID = r"^[A-Za-z0-9_-]{1,100}$"
ARTIFACT_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"
# PS3.5 section 6.2, AE: at most 16 characters of the default repertoire, no backslash, no control, not only spaces.
AE_TITLE = r"^[ !-\[\]-~]{1,16}$"
_TYPES_BY_LOWER = {name.lower(): name for name in ARTIFACT_TYPES}


LEAST_MEMORY, MOST_MEMORY = 1 << 20, 1 << 46
"""Less is an amount whose unit was forgotten, more one that no host has."""


def refuse(code: str, message: str, hint: str = "") -> PydanticCustomError:
    """A refusal with a code, and with a hint, for the list of problems."""
    return PydanticCustomError(code, "{text}", {"text": message, "hint": hint})  # type: ignore[arg-type]


def _short(text: str) -> str:
    shown = text if len(text) <= 60 else text[:60] + "..."
    return f"'{shown}'" if shown.isprintable() and "'" not in shown else repr(shown)


def _name(value: str) -> str:
    value = value.strip()
    if not value:
        raise refuse("bad-name", "a name must not be blank")
    if len(value) > 250 or not value.isprintable():
        raise refuse("bad-name", f"the name {_short(value)} is longer than 250 characters or holds control characters")
    return value


def _version(value: str) -> str:
    value = value.strip()
    if not value or len(value) > 100:
        raise refuse("bad-version", "a version must be a text of 1 to 100 characters", "for example 1.0.0")
    return value


def _ae_title(value: str) -> str:
    title = value.strip(" ")
    if not title or len(title) > 16 or not re.match(AE_TITLE, title):
        raise refuse(
            "bad-ae-title",
            f"{_short(value)} is no AE title",
            "1 to 16 ASCII characters without backslash and control characters, not only blanks",
        )
    return title


def _task_id(value: str) -> str:
    if not re.fullmatch(TASK_ID, value):
        raise refuse("bad-id", f"{_short(value)} is no task id", "1 to 100 letters, digits, '-' and '_'")
    return value


def _artifact_name(value: str) -> str:
    if not re.fullmatch(ARTIFACT_NAME, value):
        raise refuse(
            "bad-artifact-name",
            f"{_short(value)} is no name of an artifact",
            "1 to 100 letters, digits, '_', '-' and '.', beginning with a letter, digit or '_'",
        )
    return value


def _artifact_type(value: str) -> str:
    known = _TYPES_BY_LOWER.get(value.strip().lower())
    if known is None:
        begins = [name for name in ARTIFACT_TYPES if len(name) > 1 and value.strip().upper().startswith(name.upper())]
        near = f"did you mean {max(begins, key=len)!r}?" if begins else nearest(value, ARTIFACT_TYPES)
        hint = near or "use a DICOM modality such as SEG, SR or CT, or Folder, HL7, Unset"
        raise refuse("unknown-artifact-type", f"{_short(value)} is no type of artifact", hint)
    return known


def _task_type(value: str) -> str:
    """Only the spelling: whether a type is known and supported is a matter of the checks."""
    name = value.strip().lower()
    return TASK_TYPE_ALIASES.get(name, name)


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return value.lower() == "true"
    raise refuse("wrong-type", f"{_short(str(value))} is neither true nor false", "write true or false")


def _memory(value: str) -> str:
    try:
        amount = memory_bytes(value)
    except ValueError as error:
        raise refuse("bad-memory", str(error)) from error
    if not LEAST_MEMORY <= amount <= MOST_MEMORY:
        much = f"{amount} bytes" if amount < LEAST_MEMORY else "more than 64 TiB"
        raise refuse("bad-memory", f"{_short(value)} is {much}", "a number with Mi, Gi, MB or GB, as in 8Gi")
    return value.strip()


def _duration(value: Any) -> Any:
    try:
        return duration_seconds(str(value))
    except ValueError as error:
        raise refuse("bad-duration", str(error)) from error


def _choice(choices: type[Enum], what: str) -> BeforeValidator:
    """One of a closed choice, written in any case."""
    known = [str(choice.value) for choice in choices]

    def validate(value: Any) -> Any:
        text = str(value).strip().lower()
        if text in known:
            return choices(text)
        hint = nearest(text, known) or f"one of: {', '.join(known)}"
        raise refuse("unknown-choice", f"{_short(str(value))} is no {what}", hint)

    return BeforeValidator(validate)


def _number(value: Any) -> Any:
    """Numbers as written in the file, without the underscores and words that Python would take."""
    if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]*\.?[0-9]*([eE][+-]?[0-9]{1,3})?", value.strip()):
        raise refuse("wrong-type", f"{_short(value)} is no number")
    return value


def _policy_schema() -> WithJsonSchema:
    """The kinds of failure with their meanings, as editors offer them."""
    kinds = {
        kind.value: {
            "enum": [answer.value for answer in Answer],
            "default": DEFAULT_POLICY[kind].value,
            "description": meaning,
        }
        for kind, meaning in MEANINGS.items()
    }
    return WithJsonSchema({"type": "object", "properties": kinds, "additionalProperties": False})


def _text_schema(**more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **more})


Name = Annotated[str, AfterValidator(_name), _text_schema(minLength=1, maxLength=250)]
Version = Annotated[str, AfterValidator(_version), WithJsonSchema({"type": ["string", "number"]})]
Description = Annotated[str, Field(max_length=20_000)]
AeTitle = Annotated[str, AfterValidator(_ae_title), _text_schema(pattern=AE_TITLE)]
TaskId = Annotated[str, AfterValidator(_task_id), _text_schema(pattern=TASK_ID)]
TaskKind = Annotated[str, AfterValidator(_task_type), _text_schema(enum=[*TASK_TYPES, *TASK_TYPE_ALIASES])]
ArtifactName = Annotated[str, AfterValidator(_artifact_name), _text_schema(pattern=ARTIFACT_NAME)]
ArtifactKind = Annotated[str, AfterValidator(_artifact_type), _text_schema(enum=list(ARTIFACT_TYPES))]
Condition = Annotated[str, Field(max_length=10_000)]
Template = Annotated[str, Field(max_length=1_000)]
Memory = Annotated[
    str, AfterValidator(_memory), WithJsonSchema({"type": ["string", "integer"], "examples": ["8Gi", "512MB"]})
]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_number)]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s", "15m", "2h"]}),
]
RetryPolicy = Annotated[dict[str, str], _policy_schema()]
ForEachChoice = Annotated[ForEach, _choice(ForEach, "thing that a task can run for each of")]
OnFailureChoice = Annotated[OnFailure, _choice(OnFailure, "answer to a failure before a task")]
PriorityChoice = Annotated[Priority, _choice(Priority, "priority")]
GroupingChoice = Annotated[Grouping, _choice(Grouping, "grouping of images")]
LateImagesChoice = Annotated[LateImages, _choice(LateImages, "answer to late images")]
KindChoice = Annotated[Kind, _choice(Kind, "type of a parameter")]
