"""``airflow monai payloads``: what was received, and what became of it. Prints no patient data."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from airflow_monai.cli.elsewhere import or_elsewhere
from airflow_monai.cli.ending import ends
from airflow_monai.cli.here.configured import this_store
from airflow_monai.cli.moments import moment
from airflow_monai.cli.printing import print_json, print_table
from airflow_monai.errors import InvalidArgument, MonaiError
from airflow_monai.sinks.ledger.deliveries import ExportHistory, exports_of
from airflow_monai.store.arrival import Arrival
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.deletion import Deletion, DeletionState
from airflow_monai.store.finding import find_payloads
from airflow_monai.store.history import (
    PayloadFilter,
    PayloadHistory,
    PayloadKin,
    PayloadSummary,
    RunHistory,
    history_of,
    newest,
)
from airflow_monai.types import TaskStatus

if TYPE_CHECKING:
    from airflow_monai.intake.starting import Starter


@dataclass(frozen=True, slots=True)
class RunNow:
    """
    :param said: what Airflow says of a run, or why it says nothing.
    :param cancelled: when somebody cancelled it, ISO 8601; empty for one that was not.
    """

    said: str
    cancelled: str = ""


RunState = Callable[[str, str], RunNow]
"""DAG id and run id -> how the run is."""
_WHY_CLOSED = {
    "quiet": "no image came for its quiet time",
    "association-end": "its sender had ended the association, and no image came after that",
    "whole": "who brought it said that these were all",
    "open-too-long": "images went on coming for as long as a study may be open",
}
_SERVER = "airflow_monai.cli.remote.payloads"
_ALL = PayloadFilter()
_HEAD = ("PAYLOAD", "STATE", "AE TITLE", "FROM", "IMAGES", "CLOSED", "WORKFLOWS")


@ends()
@or_elsewhere(_SERVER)
def list_all(args: Namespace) -> int:
    if args.patient_id or args.patient_name or args.accession:
        raise MonaiError("Only a server looks for payloads by what is known of the patient: say --url.")
    wanted = PayloadFilter(args.state or "", (args.called or "").strip(" "), moment(args.since) if args.since else "")
    return run_list(this_store(), args.limit, args.json, sys.stdout, wanted)


@ends()
@or_elsewhere(_SERVER)
def show(args: Namespace) -> int:
    state = None if args.offline else _state_in_airflow
    return run_show(this_store(), args.payload, args.json, sys.stdout, state)


def _state_in_airflow(dag_id: str, run_id: str) -> RunNow:
    """What Airflow says of a run."""
    from airflow_monai import settings
    from airflow_monai.hooks.airflow_api import AirflowApi, RunNotCreated

    try:
        found = AirflowApi(settings.load().api_conn_id).run(dag_id, run_id)
    except RunNotCreated as error:
        return RunNow(f"state unknown: {error}")
    return RunNow("not in Airflow any more") if found is None else run_now(found)


def run_now(found: Mapping[str, Any]) -> RunNow:
    """
    :param found: a run, as Airflow's API gives it.
    """
    from airflow_monai.hooks.airflow_api import CANCELLED

    conf, state = found.get("conf"), str(found["state"])
    noted = conf.get(CANCELLED) if isinstance(conf, Mapping) else None
    at = str(noted.get("at") or "") if isinstance(noted, Mapping) else ""
    # one that was cleared since has begun anew
    if state != "failed" or not _is_later(at, str(found.get("start_date") or "")):
        return RunNow(state)
    return RunNow("cancelled", at)


def _is_later(one: str, other: str) -> bool:
    """Of two times, as ISO 8601; False where one of them is none."""
    try:
        return datetime.fromisoformat(one) >= datetime.fromisoformat(other)
    except (ValueError, TypeError):
        return False


@ends()
def start(args: Namespace) -> int:
    from airflow_monai.intake.here import IntakeHere

    store = this_store()
    with IntakeHere(store) as here:
        return run_start(store, args.payload, here.starter(), args.workflow or "", args.again, sys.stdout)


def run_list(store: Store, limit: int, as_json: bool, out: TextIO, wanted: PayloadFilter = _ALL) -> int:
    """Print one line for each payload."""
    summaries = newest(store, limit, wanted)
    if as_json:
        print_json([summary.to_dict() for summary in summaries], out)
    elif summaries:
        print_table([_HEAD, *map(_cells, summaries)], out)
    elif wanted == _ALL:
        print(f"The store {store.url} holds no payload yet.", file=out)
    else:
        print("No payload is so.", file=out)
    return 0


def run_show(store: Store, which: str, as_json: bool, out: TextIO, state: RunState | None = None) -> int:
    """Print all that is known of a payload, or of all payloads of a study.

    :param which: payload id, run id, Study Instance UID or accession number.
    :param state: asks Airflow for the states of runs.
    :raises MonaiError: when there is none.
    """
    found = find_payloads(store, which)
    for number, payload_id in enumerate(found):
        history, exports = history_of(store, payload_id), exports_of(store, payload_id)
        if as_json:
            text = {**history.to_dict(), "exports": [item.to_dict() for item in exports]}
            print_json(text, out) if len(found) == 1 else print(json.dumps(text), file=out)
            continue
        if number:
            print(file=out)
        out.writelines(f"{line}\n" for line in _lines(history, exports, state))
    return 0


def run_start(store: Store, which: str, starter: Starter, workflow: str, again: bool, out: TextIO) -> int:
    """Start what a payload should have, or a workflow; the exit code.

    :raises MonaiError: with the reason, when nothing is started.
    """
    found = find_payloads(store, which)
    if len(found) > 1:
        raise InvalidArgument(f"There are {len(found)} payloads of this study; name one: {', '.join(found)}.")
    for run in starter.start(found[0], workflow, again):
        print(f"{run.dag_id}: run {run.run_id} {'created' if run.created else 'was there already'}", file=out)
    return 0


def _cells(summary: PayloadSummary) -> tuple[str, ...]:
    return (
        summary.payload_id,
        summary.standing,
        summary.called_aet,
        ",".join(summary.calling_aets),
        str(summary.images),
        (summary.closed or "-")[:19],
        _workflows(summary),
    )


def _workflows(summary: PayloadSummary) -> str:
    by_hand = [f"{dag} (by hand)" for dag in summary.by_hand]
    if not summary.wanted:
        return ", ".join(by_hand) or ("-" if summary.wanted is None or summary.is_dataset else "none wants it")
    return ", ".join([*(f"{dag}{_run_state(summary, dag)}" for dag in summary.wanted), *by_hand])


def _run_state(summary: PayloadSummary, dag_id: str) -> str:
    """What to say of a run that does not exist."""
    if dag_id in summary.announced:
        return ""
    return " (not started)" if dag_id in summary.not_started else " (waiting)"


def _lines(
    history: PayloadHistory, exports: Sequence[ExportHistory] = (), state: RunState | None = None
) -> Iterator[str]:
    summary = history.summary
    yield f"Payload {summary.payload_id} ({summary.state})"
    yield f"  sent to {summary.called_aet} by {', '.join(summary.calling_aets) or '-'}, {summary.images} images"
    yield from _arrival_lines(history.arrival)
    why = _WHY_CLOSED.get(history.arrival.closed_because)
    yield f"  closed {summary.closed or '-'}{f': {why}' if why and summary.closed else ''}"
    yield from _kin_lines(history.kin)
    yield from _deletion_lines(history.deletion)
    yield (
        "Routing"
        if history.routing
        else "Routing: " + ("not decided yet" if history.routing is None else "no workflow")
    )
    for item in history.routing or ():
        mark = "wanted" if item["wanted"] else "not wanted"
        dag_id = item["dag_id"]
        given_up = summary.not_started.get(dag_id)
        waits = item["wanted"] and dag_id not in summary.announced and given_up is None
        yield f"  {item['workflow']}: {mark}{' (run not created yet)' if waits else ''}: {item['reason']}"
        if given_up is not None:
            yield f"    not started, and tried no more: {given_up}"
    for one in history.waiting:
        yield f"  {one.dag_id or 'it'} waits since {one.since[:19]}: {one.reason} (last tried {one.tried[:19]})"
    yield from _all_run_lines(history, state)
    for export in exports:
        yield from _export_lines(summary.payload_id, export)


def _arrival_lines(arrival: Arrival) -> Iterator[str]:
    if arrival.first:
        yield (
            f"  received {arrival.first[:19]} to {arrival.last[:19]}, {arrival.series} series, "
            f"{arrival.size / 1e6:.1f} MB"
        )
    elif arrival.opened:
        yield f"  receiving since {arrival.opened[:19]}"
    if arrival.duplicates:
        differing = f", {arrival.differing} of them with other content, which is not kept" if arrival.differing else ""
        yield f"  {arrival.duplicates} images came again{differing}"


def _all_run_lines(history: PayloadHistory, state: RunState | None) -> Iterator[str]:
    """Each run that was created, with its tasks; then those that something else has started."""
    by_place = {(run.dag, run.run): run for run in history.runs}
    for start in history.starts:
        run = by_place.pop((safe_name(start.dag_id), safe_name(start.run_id)), None)
        now = state(start.dag_id, start.run_id) if state else RunNow("")
        said = f", {now.said}" if now.said else ""
        by_hand = " by hand" if start.by_hand else ""
        yield f"Run {start.dag_id} {start.run_id}, created {start.time[:19]}{by_hand}{said}"
        if run:
            yield from _task_lines(run, now.cancelled)
    for run in by_place.values():
        yield f"Run {run.dag} {run.run}"
        yield from _task_lines(run)


def _export_lines(payload_id: str, export: ExportHistory) -> Iterator[str]:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(export.states.items()))
    last = f", last news {export.last[:19]}" if export.last else ""
    yield f"Export to {export.sink}: {counts or 'nothing yet'}{last}"
    for reason, count in export.refusals.items():
        yield f"  refused {reason}: {count}"
    if export.again:
        yield f"  {export.again} of them are sent once more, where their task still has them: a person wants it"
    elif export.states.get("accepted"):
        yield f"  if it has lost them: airflow monai payloads resend {payload_id} --sink {export.sink}"


def _deletion_lines(deletion: Deletion) -> Iterator[str]:
    if deletion.state is DeletionState.NO:
        return
    why = f": {deletion.reason}" if deletion.reason else ""
    yield f"  {deletion.by} wanted it deleted, {deletion.requested[:19]}{why}"
    if deletion.state is DeletionState.YES:
        yield f"  deleted {deletion.deleted[:19]}, {deletion.size / 1e6:.1f} MB of images and all results"
    else:
        yield f"  a gateway is to delete it{f'; not yet, since {deletion.error}' if deletion.error else ''}"


def _kin_lines(kin: PayloadKin) -> Iterator[str]:
    """What else there is of the same study, series or patient."""
    if kin.grouping != "study":
        yield f"  grouped by {kin.grouping}"
    if kin.includes:
        yield f"  the images of {', '.join(kin.includes)} together, the late ones last"
    if kin.follows:
        yield f"  its images came too late for {kin.follows}"
    if kin.included_in:
        yield f"  they are in {kin.included_in} too, together with all that came before"
    if kin.followed_by:
        yield f"  images that came too late for it are in {kin.followed_by}"


def _task_lines(run: RunHistory, cancelled: str = "") -> Iterator[str]:
    """
    :param cancelled: when somebody cancelled the run: what its tasks saw of that is no failure of theirs.
    """
    for record in run.tasks:
        if cancelled and record.status is TaskStatus.FAILED and _is_later(record.end_time or "", cancelled):
            record = replace(record, status=TaskStatus.CANCELED, error_msg="cancelled with its run")
        name = record.task_id if record.map_index < 0 else f"{record.task_id}[{record.map_index}]"
        times = f"{(record.start_time or '-')[:19]} - {(record.end_time or '-')[:19]}"
        yield f"  {name}  {record.status.value}  {times}  {record.error_msg or ''}".rstrip()
