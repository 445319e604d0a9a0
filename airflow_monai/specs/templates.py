"""Templates of a spec: ``{{ path }}`` in conditions and arguments, and the values of artifacts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_monai.specs.attributes import canonical

MAX_PATH = 500
MAX_TEXT = 32_000
"""Longest argument: in UTF-8 it still fits into one variable of a process' environment."""
_TEMPLATE = re.compile(r"\{\{([^{}]{0,500})\}\}")  # stops at every brace, so that no text costs more than its length
_VALUE = re.compile(r"\{\{([^{}]*)\}{1,2}([^{}]*)")  # published files also have one closing brace
_INPUT = frozenset({"context.input.dicom", "context.input"})
_EXECUTION = re.compile(r"(context\.executions\.)([^.\s]+)")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\:]")
MAX_SUFFIX = 300


class TemplateError(ValueError):
    """An artifact's value is not a template of the language."""


class ArtifactSource(str, Enum):
    """Where an input artifact comes from."""

    INPUT = "input"
    OUTPUT_DIR = "output_dir"
    ARTIFACT = "artifact"


@dataclass(frozen=True, slots=True)
class ArtifactReference:
    """A parsed artifact value.

    :param task: the task whose output it is; None for the received study.
    :param artifact: name of that task's artifact; None for its whole output folder.
    :param suffix: a path within it, without slashes at its ends; empty for all of it.
    """

    source: ArtifactSource
    task: str | None = None
    artifact: str | None = None
    suffix: str = ""


def paths_of(text: str) -> list[str]:
    """The paths between the braces of a text, trimmed, in order."""
    return [found.strip() for found in _TEMPLATE.findall(text)]


def placed_paths(text: str) -> Iterator[tuple[str, int]]:
    """The paths of :func:`paths_of`, each with where its braces begin."""
    return ((found[1].strip(), found.start()) for found in _TEMPLATE.finditer(text))


def unclosed(text: str) -> int | None:
    """Where a ``{{`` stands that begins no template, None where there is none such."""
    if "{{" not in text:
        return None
    start = _TEMPLATE.sub(lambda found: " " * len(found[0]), text).find("{{")
    return None if start < 0 else start


def parse_artifact(value: str) -> ArtifactReference:
    """What an artifact's value points at.

    :raises TemplateError: when it is none of the three forms, or its suffix leaves the folder.
    """
    match = _VALUE.fullmatch(value.strip())
    if not match or len(match[1]) > MAX_PATH:
        raise TemplateError(
            f"{_short(value)!r} is not an artifact value: write {{{{ context.input.dicom }}}}, "
            "{{ context.executions.<task>.artifacts.<name> }} or {{ context.executions.<task>.output_dir }}"
        )
    path, suffix = match[1].strip(), _suffix(match[2])
    if path in _INPUT:
        return ArtifactReference(ArtifactSource.INPUT, suffix=suffix)
    parts = path.split(".", 4)
    if parts[:2] == ["context", "executions"] and all(parts[2:]):
        if len(parts) == 4 and parts[3] == "output_dir":
            return ArtifactReference(ArtifactSource.OUTPUT_DIR, parts[2], suffix=suffix)
        if len(parts) == 5 and parts[3] == "artifacts":
            return ArtifactReference(ArtifactSource.ARTIFACT, parts[2], parts[4], suffix)
    raise TemplateError(
        f"{_short(path)!r} is no path of an artifact: use context.input.dicom, "
        "context.executions.<task>.artifacts.<name> or context.executions.<task>.output_dir"
    )


def canonical_value(value: str, ids: Mapping[str, str]) -> str:
    """An artifact's value with both closing braces, and with task ids as :func:`canonical_templates` has them."""
    match = _VALUE.fullmatch(value.strip())
    return canonical_templates(f"{{{{{match[1]}}}}}{match[2]}" if match else value, ids)


def _suffix(text: str) -> str:
    text = text.strip()
    if text and not text.startswith("/"):
        raise TemplateError("what follows '}}' must be a path that begins with '/'")
    parts = text.strip("/").split("/") if text.strip("/") else []
    if len(text) > MAX_SUFFIX or _UNSAFE.search(text) or any(part in ("", ".", "..") for part in parts):
        raise TemplateError("the path after '}}' must stay within the folder: no '..', ':', '\\' or empty parts")
    return "/".join(parts)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:80] + "..."


def result_keys(references: Iterable[tuple[str, str, str]]) -> dict[str, set[str]]:
    """Task id (as written) -> keys of its result among what :func:`executions_of` found."""
    found: dict[str, set[str]] = {}
    for task, part, key in references:
        if part == "result" and key:
            found.setdefault(task, set()).add(key)
    return found


def executions_of(texts: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(task, part, key) of every ``context.executions.<task>.<part>.<key>`` in templates of the texts; an ``any`` or
    ``all`` before the part is left out."""
    for text in texts:
        for path in paths_of(text) if "context.executions." in text else ():
            parts = path.split(".")
            if parts[:2] == ["context", "executions"] and len(parts) > 2:
                if parts[3:4] in (["any"], ["all"]):
                    del parts[3]
                yield parts[2], parts[3] if len(parts) > 3 else "", ".".join(parts[4:])


def leaves(value: Any) -> Iterator[str]:
    """Every text in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)


def canonical_templates(text: str, ids: Mapping[str, str]) -> str:
    """The text with the paths of its templates in one spelling: task ids as the tasks spell them (they may be written
    in any case), DICOM attributes by number.

    :param ids: lower-case id -> id.
    """
    return _TEMPLATE.sub(lambda match: _one_spelling(match, ids), text) if "{{" in text else text


def _one_spelling(match: re.Match[str], ids: Mapping[str, str]) -> str:
    path = match[1].strip()
    if path.startswith("context.dicom."):
        return match[0].replace(path, canonical(path))
    return _EXECUTION.sub(lambda found: found[1] + ids.get(found[2].lower(), found[2]), match[0])
