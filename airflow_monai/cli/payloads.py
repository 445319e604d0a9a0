"""``airflow monai payloads``: what was received, and what became of it. Prints no patient data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TextIO

from airflow_monai.store.base import Store
from airflow_monai.store.history import PayloadHistory, PayloadKin, PayloadSummary, RunHistory, history_of, newest

_HEAD = ("PAYLOAD", "STATE", "AE TITLE", "FROM", "IMAGES", "CLOSED", "WORKFLOWS")


def run_list(store: Store, limit: int, as_json: bool, out: TextIO) -> int:
    """Print one line for each payload."""
    summaries = newest(store, limit)
    if as_json:
        _print_json([summary.to_dict() for summary in summaries], out)
    elif summaries:
        _print_table([_HEAD, *map(_cells, summaries)], out)
    else:
        print(f"The store {store.url} holds no payload yet.", file=out)
    return 0


def run_show(store: Store, payload_id: str, as_json: bool, out: TextIO) -> int:
    """Print all that is known of one payload.

    :raises PayloadNotFound: when there is none of this id.
    """
    history = history_of(store, payload_id)
    if as_json:
        _print_json(history.to_dict(), out)
    else:
        out.writelines(f"{line}\n" for line in _lines(history))
    return 0


def _cells(summary: PayloadSummary) -> tuple[str, ...]:
    return (
        summary.payload_id,
        summary.state,
        summary.called_aet,
        ",".join(summary.calling_aets),
        str(summary.images),
        (summary.closed or "-")[:19],
        _workflows(summary),
    )


def _workflows(summary: PayloadSummary) -> str:
    if summary.wanted is None:
        return "-"
    if not summary.wanted:
        return "none wants it"
    return ", ".join(f"{dag}{_run_state(summary, dag)}" for dag in summary.wanted)


def _run_state(summary: PayloadSummary, dag_id: str) -> str:
    """What to say of a run that does not exist."""
    if dag_id in summary.announced:
        return ""
    return " (not started)" if dag_id in summary.not_started else " (waiting)"


def _lines(history: PayloadHistory) -> Iterator[str]:
    summary = history.summary
    yield f"Payload {summary.payload_id} ({summary.state})"
    yield f"  sent to {summary.called_aet} by {', '.join(summary.calling_aets) or '-'}, {summary.images} images"
    yield f"  closed {summary.closed or '-'}"
    yield from _kin_lines(history.kin)
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
    for run in history.runs:
        yield from _run_lines(run)


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


def _run_lines(run: RunHistory) -> Iterator[str]:
    yield f"Run {run.dag} {run.run}"
    for record in run.tasks:
        name = record.task_id if record.map_index < 0 else f"{record.task_id}[{record.map_index}]"
        times = f"{(record.start_time or '-')[:19]} - {(record.end_time or '-')[:19]}"
        yield f"  {name}  {record.status.value}  {times}  {record.error_msg or ''}".rstrip()


def _print_table(rows: Sequence[Sequence[str]], out: TextIO) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip(), file=out)


def _print_json(value: object, out: TextIO) -> None:
    print(json.dumps(value, indent=2), file=out)
