"""From an answer to a task's result."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from airflow_monai.errors import MissingOutput, ServiceRefused
from airflow_monai.hooks.http_client import HttpAnswer
from airflow_monai.specs.http_request import RequestSpec, ResponseKind
from airflow_monai.specs.json_path import look_up
from airflow_monai.tasks.run import Outcome, TaskRun

_SUFFIXES = {
    "application/json": "json",
    "application/pdf": "pdf",
    "application/dicom": "dcm",
    "application/xml": "xml",
    "text/html": "html",
    "text/plain": "txt",
    "text/csv": "csv",
    "image/png": "png",
    "image/jpeg": "jpg",
}


def json_of(spec: RequestSpec, answer: HttpAnswer) -> Any:
    """The answer's JSON document, None for an empty answer.

    :raises ServiceRefused: when it is none.
    """
    if not answer.content.strip():
        return None
    try:
        return json.loads(answer.content, parse_constant=_no_json, parse_float=_finite)
    except (ValueError, RecursionError):
        message = f"{spec.shown}: the answer is no JSON (status {answer.status}). Where it need not be: response: text"
        raise ServiceRefused(message, status=answer.status) from None


def _no_json(word: str) -> NoReturn:
    raise ValueError(word)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large")
    return number


def result_of(spec: RequestSpec, answer: HttpAnswer) -> dict[str, Any]:
    """The task's result: the keys of a JSON object, ``value`` for other JSON, ``text`` for a text.

    :raises ServiceRefused: when the answer is not what the task expects.
    """
    found: dict[str, Any] = {}
    if spec.response is ResponseKind.TEXT:
        found = {"text": answer.content.decode("utf-8", "replace")}
    elif spec.response is ResponseKind.JSON:
        document = json_of(spec, answer)
        if spec.results:
            found = {name: look_up(document, place) for name, place in spec.results.items()}
        elif document is not None:
            found = document if isinstance(document, dict) else {"value": document}
    return {**found, "http_status": answer.status}


def outcome_of(
    run: TaskRun, spec: RequestSpec, answer: HttpAnswer, outputs: Sequence[Mapping[str, Any]], **stats: Any
) -> Outcome:
    """The task's outcome; its output artifact is the answer as it came. Writes to the store: not for the event loop.

    :param outputs: one output artifact or none.
    :raises MissingOutput: when the artifact is mandatory and the answer empty.
    """
    result = result_of(spec, answer)
    artifacts: dict[str, tuple[str, ...]] = {}
    for output in outputs:
        if answer.content:
            key = f"{run.output_key}/{output['name']}/answer.{_suffix(answer)}"
            run.store.write(key, answer.content)
            artifacts[output["name"]] = (key,)
        elif output.get("mandatory", True):
            raise MissingOutput(f"{spec.shown}: the answer is empty, so that there is no artifact {output['name']!r}.")
    facts = {"http_status": answer.status, "response_bytes": len(answer.content), **stats}
    return Outcome(result, artifacts, facts, run.output_key if artifacts else None)


def _suffix(answer: HttpAnswer) -> str:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("+json"):
        return "json"
    return _SUFFIXES.get(kind, "bin")
