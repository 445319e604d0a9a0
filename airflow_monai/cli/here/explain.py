"""``airflow monai explain``: which workflows would run for a study, and why each other one would not.

Reads files only: no container, no Airflow, no database. It shows values of the study, to a person who has its files.
"""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from airflow_monai.cli.ending import ends
from airflow_monai.cli.here.configured import this_store, workflow_folder
from airflow_monai.cli.here.explain_text import lines
from airflow_monai.errors import MonaiError
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.specs.defaults.lookup import defaults_above
from airflow_monai.specs.fields import AE_TITLE
from airflow_monai.specs.folder import FolderSpecs, SpecFile, combined, load_folder, read_spec
from airflow_monai.specs.foresight import EdgeView, Fate, Foresight, foresee
from airflow_monai.specs.plan import ForEach, Grouping, TaskPlan, WorkflowPlan
from airflow_monai.specs.problems import errors_of, nearest_word
from airflow_monai.specs.routing import Decision, decide
from airflow_monai.store.study_folder import FolderContent, FoundSeries, payload_of, read_folder, tags_of
from airflow_monai.types import Payload, SeriesTags

ANYBODY = "ANY-SCU"
_MODALITY, _DESCRIPTION = "00080060", "0008103E"


Registered = Callable[[], Mapping[Path, SpecFile]]
"""Gives the workflows of registered MAPs."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What becomes one payload.

    :param name: tells it from the other units of its study.
    :param series: series it is made of.
    """

    name: str
    payload: Payload
    tags: SeriesTags


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    :param called: AE title that the study is sent to; None for each that a workflow listens to.
    :param calling: AE title that it comes from; None for one that a workflow takes.
    """

    called: str | None = None
    calling: str | None = None

    @classmethod
    def of(cls, called: str | None, calling: str | None) -> Question:
        """The question of a command line; blanks around an AE title mean nothing (PS3.5 section 6.2).

        :raises MonaiError: for an AE title that is none.
        """
        return cls(_ae_title(called), _ae_title(calling))


def _ae_title(text: str | None) -> str | None:
    title = None if text is None else text.strip(" ")
    if title is not None and not re.match(AE_TITLE, title):
        raise MonaiError(f"{text!r} is no AE title: 1 to 16 ASCII characters without backslash.")
    return title


@ends(refused=2)
def explain(args: Namespace) -> int:

    if bool(args.study) == bool(args.payload):
        raise MonaiError("Say what is to be explained: --study DIR, or --payload ID.")
    specs = Path(args.specs or workflow_folder())
    question = Question.of(args.called, args.calling)
    from airflow_monai.workflows.site import SiteWorkflows

    store = this_store() if args.payload or not args.specs else None
    registered = SiteWorkflows(store).files if store and not args.specs else None
    if args.study or store is None:
        return run(Path(args.study), specs, question, args.json, sys.stdout, registered)
    from airflow_monai.store.payloads import load_payload, load_series_tags

    payload, tags = load_payload(store, args.payload), load_series_tags(store, args.payload)
    return run_payload(payload, tags, specs, question, args.json, sys.stdout, registered)


def run(
    study: Path, specs: Path, question: Question, as_json: bool, out: TextIO, registered: Registered | None = None
) -> int:
    """Explain each study of a folder.

    :param specs: folder of workflow files, or one file.
    :return: exit code: 0 when a workflow wants one of the studies, 1 when none does, 2 when no
        workflow file can be used.
    :raises MonaiError: when a folder, or the question, cannot be used.
    """
    found = read_specs(specs, registered)
    content = read_folder(study)
    if not content.series:
        raise MonaiError(f"There is no DICOM image in {study}.{_bad_files(content)}")
    answers = [
        {"study_instance_uid": uid, "series": _series(series), "answers": _answers(series, content, found, question)}
        for uid, series in content.studies().items()
    ]
    report = {
        "studies": answers,
        "files": {
            "passed_over": content.passed_over,
            "duplicates": content.duplicates,
            "bad": [{"file": str(bad.path), "problem": bad.problem, "used": bad.used} for bad in content.bad],
        },
        "specs": {
            "problems": [problem.to_dict() for problem in errors_of(found.problems)],
            "workflows": len(found.workflows),
        },
    }
    return finish(report, as_json, out)


def run_payload(
    payload: Payload,
    tags: SeriesTags,
    specs: Path,
    question: Question,
    as_json: bool,
    out: TextIO,
    registered: Registered | None = None,
) -> int:
    """Explain a payload of the store, with the AE titles that it was sent with unless the question names others."""
    found = read_specs(specs, registered)
    called, calling = question.called or payload.called_aet, question.calling
    unit = Unit("", payload, tags)
    callers = (calling,) if calling else payload.calling_aets
    told = [_workflow(plan, [unit], called, callers) for plan in found.workflows]
    answer = {"called": called, "calling": ", ".join(callers), "workflows": told, **_nobody(called, found)}
    study = {"study_instance_uid": payload.study_instance_uid, "series": _tags_series(payload, tags)}
    problems = [problem.to_dict() for problem in errors_of(found.problems)]
    report = {
        "studies": [{**study, "answers": [answer]}],
        "files": {"passed_over": 0, "duplicates": 0, "bad": []},
        "specs": {"problems": problems, "workflows": len(found.workflows)},
    }
    return finish(report, as_json, out)


def finish(report: Mapping[str, Any], as_json: bool, out: TextIO) -> int:
    if as_json:
        out.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    else:
        out.writelines(f"{line}\n" for line in lines(report))
    told = [item for study in report["studies"] for answer in study["answers"] for item in answer["workflows"]]
    if not report["specs"]["workflows"]:
        return 2  # no file could be used
    return 0 if any(item["wanted"] for item in told) else 1


def read_specs(path: Path, registered: Registered | None = None) -> FolderSpecs:
    """The workflows of a folder or of one file, and those of registered MAPs where they are asked for."""
    if not path.exists() and not (registered and registered()):
        raise MonaiError(f"There is no workflow file or folder {path}: name one with --specs.")
    if path.is_file():
        found = combined({path: read_spec(path, defaults=defaults_above(path))})
    else:
        found = load_folder(path, more=registered)
    if not found.workflows and not found.problems:
        raise MonaiError(f"The folder {path} holds no workflow file: name another one with --specs.")
    return found


def _answers(
    series: Sequence[FoundSeries], content: FolderContent, found: FolderSpecs, question: Question
) -> list[dict[str, Any]]:
    """One for each AE title that the study may be sent to."""
    titles = sorted({plan.ae_title for plan in found.workflows})
    called = [question.called] if question.called is not None else titles
    return [_answer(title, series, content, found, question) for title in called]


def _answer(
    called: str, series: Sequence[FoundSeries], content: FolderContent, found: FolderSpecs, question: Question
) -> dict[str, Any]:
    told = []
    for plan in found.workflows:
        if question.called is None and plan.ae_title != called:
            continue  # it is told of under its own AE title
        callers = (question.calling,) if question.calling else plan.data_origins[:1] or (ANYBODY,)
        units = list(_units(plan, series, content, called, callers))
        answer = _workflow(plan, units, called, callers)
        if not question.calling and plan.data_origins and plan.ae_title == called:
            answer["origins"] = list(plan.data_origins)
        told.append(answer)
    return {"called": called, "calling": question.calling, "workflows": told, **_nobody(called, found)}


def _nobody(called: str, found: FolderSpecs) -> dict[str, Any]:
    """That no workflow listens to an AE title, so that the gateway would refuse the sender, and which one may be
    meant."""
    titles = {plan.ae_title for plan in found.workflows}
    if called in titles:
        return {}
    return {"unknown_ae_title": True, "did_you_mean": nearest_word(called, sorted(titles))}


def _units(
    plan: WorkflowPlan, series: Sequence[FoundSeries], content: FolderContent, called: str, callers: Iterable[str]
) -> Iterator[Unit]:
    """What the workflow's grouping makes of the study."""
    callers = tuple(callers)
    groups: list[tuple[str, list[FoundSeries]]] = [("", list(series))]
    if plan.grouping is Grouping.SERIES:
        groups = [(item.series_uid, [item]) for item in series]
    elif plan.grouping is Grouping.PATIENT:
        who = {(item.patient.id, item.patient.hospital_id) for item in series}
        groups = [("", [one for one in content.series if (one.patient.id, one.patient.hospital_id) in who])]
    for name, members in groups:
        yield Unit(name, payload_of(members, called, callers), tags_of(members))


def _workflow(plan: WorkflowPlan, units: Sequence[Unit], called: str, callers: Iterable[str]) -> dict[str, Any]:
    decisions = [decide(unit.payload, unit.tags, [plan], with_values=True)[0] for unit in units]
    wanted = [index for index, decision in enumerate(decisions) if decision.wanted]
    shown = wanted[0] if wanted else 0
    answer: dict[str, Any] = {
        "workflow": plan.name,
        "version": plan.version,
        "file": plan.source,
        "wanted": bool(wanted),
        "reason": decisions[shown].reason,
        "predicate": _predicate(decisions[shown]),
        "grouping": (plan.grouping or Grouping.STUDY).value,
    }
    if len(units) > 1:
        answer["payloads"] = [_payload(unit, decision) for unit, decision in zip(units, decisions, strict=True)]
    if wanted:
        unit = units[shown]
        answer |= _run(plan, unit)
    return answer


def _payload(unit: Unit, decision: Decision) -> dict[str, Any]:
    return {"series_instance_uid": unit.name, "wanted": decision.wanted, "reason": decision.reason,
            "predicate": _predicate(decision)}  # fmt: skip


def _predicate(decision: Decision) -> list[dict[str, Any]]:
    return [
        {"condition": item.condition, "holds": item.holds, "error": item.error, "values": dict(item.values)}
        for item in decision.predicate
    ]


def _run(plan: WorkflowPlan, unit: Unit) -> dict[str, Any]:
    """What a run on this payload would do."""
    context = ExecutionContext(
        payload=unit.payload,
        series_tags=lambda: unit.tags,
        workflow_name=plan.name,
        workflow_description=plan.description,
        params={param.name: param.default for param in plan.params},
    )
    ahead = foresee(plan, context)
    return {
        "tasks": [_task(task, ahead, unit) for task in plan.tasks],
        "edges": [_edge(edge) for edge in ahead.edges],
    }


def _task(task: TaskPlan, ahead: Foresight, unit: Unit) -> dict[str, Any]:
    told: dict[str, Any] = {"id": task.id, "type": task.type.value, "runs": ahead.tasks[task.id].value}
    if ahead.tasks[task.id] is Fate.OPEN:
        told["decided_by"] = sorted(_deciders(task.id, ahead))
    if "map" in task.args:
        told["map"] = task.args["map"]
    if task.for_each is ForEach.SERIES:
        told["times"] = len({file.series_instance_uid for file in unit.payload.files})
    if task.export_destinations:
        told["export_destinations"] = list(task.export_destinations)
    return told


def _deciders(task: str, ahead: Foresight) -> set[str]:
    """Tasks whose outcome decides whether this one runs: those of its open ways, and of the ways before these."""
    found: set[str] = set()
    for edge in ahead.edges:
        if edge.target == task and edge.fate is Fate.OPEN:
            found.update(edge.decided_by)
            if ahead.tasks[edge.source] is Fate.OPEN:
                found |= _deciders(edge.source, ahead)
    return found


def _edge(edge: EdgeView) -> dict[str, Any]:
    counted = {} if edge.series is None else {"series_taken": edge.series[0], "series": edge.series[1]}
    return {
        **counted,
        "from": edge.source,
        "to": edge.target,
        "conditions": list(edge.conditions),
        "taken": edge.fate.value,
        "holds": edge.verdict.value,
        "decided_by": list(edge.decided_by),
        "values": dict(edge.values or {}),
        "error": edge.error,
    }


def _series(series: Iterable[FoundSeries]) -> list[dict[str, Any]]:
    return [
        {
            "series_instance_uid": item.series_uid,
            "images": len(item.files),
            "modality": _first(item.tags.get(item.series_uid, {}), _MODALITY),
            "description": _first(item.tags.get(item.series_uid, {}), _DESCRIPTION),
        }
        for item in series
    ]


def _tags_series(payload: Payload, tags: SeriesTags) -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    for file in payload.files:
        counts[file.series_instance_uid] = counts.get(file.series_instance_uid, 0) + 1
    return [
        {
            "series_instance_uid": uid,
            "images": count,
            "modality": _first(tags.get(uid, {}), _MODALITY),
            "description": _first(tags.get(uid, {}), _DESCRIPTION),
        }
        for uid, count in sorted(counts.items())
    ]


def _first(tags: Mapping[str, list[Any]], tag: str) -> str:
    return str((tags.get(tag) or [""])[0] or "")


def _bad_files(content: FolderContent) -> str:
    if not content.bad:
        return f" {content.passed_over} other files were passed over." if content.passed_over else ""
    return f" {content.bad[0].path}: {content.bad[0].problem}."
