"""The explanation of a study as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_monai.wording import counted

_MARKS = {"yes": "runs", "no": "does not run", "open": "may run"}
_MAX_BAD = 20


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report of :mod:`airflow_monai.cli.here.explain`, line by line."""
    for study in report["studies"]:
        yield from _study(study)
    yield from _files(report["files"])
    for problem in report["specs"]["problems"]:
        yield f"not considered, because it cannot be used: {problem['file']}:{problem['line']}: {problem['message']}"


def _study(study: Mapping[str, Any]) -> Iterator[str]:
    images = sum(item["images"] for item in study["series"])
    yield f"Study {study['study_instance_uid']}: {counted(images, 'image')} in {len(study['series'])} series"
    for item in study["series"]:
        name = f" {item['description']!r}" if item["description"] else ""
        yield f"  {item['modality'] or '-'}{name}, {counted(item['images'], 'image')}, {item['series_instance_uid']}"
    for answer in study["answers"]:
        yield ""
        yield from _answer(answer)
    yield ""


def _answer(answer: Mapping[str, Any]) -> Iterator[str]:
    sender = f" by {answer['calling']}" if answer["calling"] else ""
    yield f"Sent to {answer['called']}{sender}"
    if answer.get("unknown_ae_title"):
        near = f"; did you mean {answer['did_you_mean']!r}?" if answer.get("did_you_mean") else "."
        yield f"  No workflow listens to AE title {answer['called']!r}: the gateway refuses the sender{near}"
    for item in answer["workflows"]:
        yield from _workflow(item)


def _workflow(item: Mapping[str, Any]) -> Iterator[str]:
    verdict = "would run" if item["wanted"] else "would not run"
    yield f"  {item['workflow']} {item['version']} ({item['file']}): {verdict}"
    origins = f", from {' or '.join(item['origins'])}" if item.get("origins") else ""
    yield f"    {item['reason']}{origins}"
    for condition in item["predicate"]:
        yield from _condition(condition)
    yield from _payloads(item)
    if item.get("tasks"):
        yield from _tasks(item)


def _payloads(item: Mapping[str, Any]) -> Iterator[str]:
    payloads = item.get("payloads") or ()
    if not payloads:
        return
    wanted = sum(one["wanted"] for one in payloads)
    yield f"    takes each {item['grouping']} by itself: {wanted} of {len(payloads)} would run"
    for one in payloads:
        yield f"      {one['series_instance_uid']}: {'would run' if one['wanted'] else one['reason']}"


def _condition(item: Mapping[str, Any]) -> Iterator[str]:
    verdict = {True: "true", False: "false", None: "cannot be evaluated"}[item["holds"]]
    yield f"    predicate {_one_line(item['condition'])}: {verdict}"
    yield from (f"      {line}" for line in _values(item["values"]))
    if item["error"]:
        yield f"      {item['error']}"


def _values(values: Mapping[str, str]) -> Iterator[str]:
    for path, value in values.items():
        yield f"{path} is {value}"


def _tasks(item: Mapping[str, Any]) -> Iterator[str]:
    width = max(len(task["id"]) for task in item["tasks"])
    kinds = max(len(task["type"]) for task in item["tasks"])
    for task in item["tasks"]:
        decided = f", decided by {_results(task['decided_by'])}" if task.get("decided_by") else ""
        verdict = f"{_MARKS[task['runs']]}{decided}"
        yield f"    {task['id']:<{width}}  {task['type']:<{kinds}}  {verdict}{_more(task)}"
        for edge in item["edges"]:
            if edge["from"] == task["id"] and edge["conditions"] and task["runs"] != "no":
                yield from _edge(edge)


def _edge(edge: Mapping[str, Any]) -> Iterator[str]:
    """A way with conditions, under its source."""
    if edge["holds"] == "open":
        verdict = f"decided by {_results(edge['decided_by'])}"
    else:
        verdict = "taken" if edge["holds"] == "yes" else "not taken"
        verdict += (
            f" for {edge['series_taken']} of {edge['series']} series"
            if edge["holds"] == "yes" and "series" in edge
            else ""
        )
    yield f"      -> {edge['to']}: {verdict}: {' and '.join(map(_one_line, edge['conditions']))}"
    yield from (f"         {line}" for line in _values(edge["values"]))
    if edge["error"]:
        yield f"         it cannot be evaluated: {edge['error']}"


def _more(task: Mapping[str, Any]) -> str:
    parts = [task["map"]] if task.get("map") else []
    if task.get("times") is not None:
        parts.append(f"for each of {task['times']} series")
    if task.get("export_destinations"):
        parts.append("to " + ", ".join(task["export_destinations"]))
    return f"  ({'; '.join(parts)})" if parts else ""


def _one_line(condition: str) -> str:
    return " ".join(condition.split())


def _results(tasks: list[str]) -> str:
    return " and ".join(f"{task}'s result" for task in tasks)


def _files(files: Mapping[str, Any]) -> Iterator[str]:
    if files["passed_over"]:
        yield f"{counted(files['passed_over'], 'file')} passed over: no DICOM image"
    if files["duplicates"]:
        yield f"{counted(files['duplicates'], 'file')} passed over: another file holds the same image"
    for bad in files["bad"][:_MAX_BAD]:
        yield f"{bad['file']}: {bad['problem']}{'' if bad['used'] else ' (not used)'}"
    if len(files["bad"]) > _MAX_BAD:
        yield f"and {len(files['bad']) - _MAX_BAD} more files with problems"
