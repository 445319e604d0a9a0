"""``airflow monai import``: DICOM files of this host into the store, as if they had been sent to an AE title."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from airflow_monai.cli.ending import ends, warn
from airflow_monai.cli.here.configured import this_store
from airflow_monai.cli.progress import Progress
from airflow_monai.errors import InvalidArgument
from airflow_monai.intake.deposit import Deposit, Depositor, DepositReport, Outcome, default_calling_aet
from airflow_monai.store.base import Store
from airflow_monai.store.history import history_of
from airflow_monai.store.intake import PENDING
from airflow_monai.store.payloads import run_id_of

SHOWN_REFUSALS = 20
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """
    :param wait_seconds: how long to wait for the runs; None: do not.
    """

    paths: tuple[Path, ...]
    called_aet: str
    calling_aet: str
    wait_seconds: float | None = None
    as_json: bool = False


SeeThrough = Callable[[str, float], bool]
"""Closes a payload and creates its runs: payload id and when to give up -> whether it is done."""


@ends(refused=2)
def import_files(args: Namespace) -> int:

    from airflow_monai.intake.here import IntakeHere

    options = ImportOptions(
        paths=tuple(map(Path, args.paths)),
        called_aet=args.called,
        calling_aet=args.calling or default_calling_aet(),
        wait_seconds=60.0 * args.timeout if args.wait or args.announce else None,
        as_json=args.json,
    )
    with IntakeHere(this_store()) as here:
        if problem := here.unheard(options.called_aet):
            warn(problem)
        announce = here.see_through if args.announce else None
        return run(here.depositor, options, sys.stdout, sys.stderr, announce)


def run(
    depositor: Depositor,
    options: ImportOptions,
    out: TextIO,
    err: TextIO,
    announce: SeeThrough | None = None,
) -> int:
    """Import; the exit code.

    :param announce: in place of a gateway.
    :raises MonaiError: when it cannot be done at all.
    """
    for path in options.paths:
        if not path.exists():
            raise InvalidArgument(f"There is no file or folder {path}.")
    deposit = depositor.begin(options.called_aet, options.calling_aet)
    progress = Progress(err)
    try:
        for path in options.paths:
            _put(deposit, path, progress)
    except KeyboardInterrupt:
        progress.clear()
        report = deposit.report()
        print(f"Stopped. {_counts(report)} Run it again: what is in the store is known.", file=err)
        return INTERRUPTED
    progress.clear()
    report = deposit.finish(whole=True)
    done = _see_to_it(depositor.intake.store, report, options, announce, progress)
    progress.clear()
    payloads = [history_of(depositor.intake.store, payload_id) for payload_id in report.payload_ids]
    if options.as_json:
        text = {**report.to_dict(), "payloads": [item.to_dict() for item in payloads]}
        print(json.dumps(text, indent=2), file=out)
    else:
        _print(report, [item.to_dict() for item in payloads], options.wait_seconds is not None, out)
    if report.is_empty:
        return 2
    return 0 if done and not report.refused else 1


def _put(deposit: Deposit, path: Path, progress: Progress) -> None:
    if not path.is_dir():
        deposit.file(path, path.name)
        return

    def each(file: Path, outcome: Outcome) -> None:
        progress.tell(_counts(deposit.report()))

    try:
        deposit.tree(path, each)
    except OSError as error:
        raise InvalidArgument(
            f"{error.filename or path} cannot be read: {error.strerror or error}. What was read is in the store; "
            "run it again."
        ) from error


def _see_to_it(
    store: Store,
    report: DepositReport,
    options: ImportOptions,
    announce: SeeThrough | None,
    progress: Progress,
) -> bool:
    """Wait, where that is wanted, until the payloads have their runs; whether they have."""
    if options.wait_seconds is None and announce is None:
        return True
    until = time.monotonic() + (600.0 if options.wait_seconds is None else options.wait_seconds)
    if announce:
        done = [announce(payload_id, until) for payload_id in report.payload_ids]  # each, whatever becomes of others
        return all(done)
    waiting = set(report.payload_ids)
    while waiting:
        waiting = {payload_id for payload_id in waiting if store.exists(f"{PENDING}/{payload_id}")}
        if waiting and time.monotonic() > until:
            return False
        if waiting:
            progress.tell(f"{len(waiting)} of {len(report.payload_ids)} payloads wait for a gateway")
            time.sleep(0.3)
    return True


def _counts(report: DepositReport) -> str:
    text = f"{report.images} images taken in"
    if report.duplicates:
        text += f", {report.duplicates} were there already"
    if report.passed_over_count:
        text += f", {report.passed_over_count} files passed over"
    return f"{text}, {len(report.refused)} refused." if report.refused else f"{text}."


def _print(report: DepositReport, payloads: Sequence[dict[str, Any]], waited: bool, out: TextIO) -> None:
    print(_counts(report), file=out)
    for item in report.refused[:SHOWN_REFUSALS]:
        print(f"  refused: {item.name}: {item.reason}", file=out)
    if len(report.refused) > SHOWN_REFUSALS:
        print(f"  and {len(report.refused) - SHOWN_REFUSALS} more; --json lists all", file=out)
    for payload in payloads:
        print(f"Payload {payload['payload_id']}: {payload['images']} images, {payload['state']}", file=out)
        if payload["wanted"] is None:
            if waited:
                print("  no gateway has routed it yet", file=out)
        elif not payload["wanted"]:
            print("  no workflow wants it: airflow monai payloads show says why", file=out)
        run = run_id_of(payload["payload_id"])
        for dag_id in payload["wanted"] or ():
            is_there = dag_id in payload["announced"]
            print(f"  {dag_id}: {f'run {run}' if is_there else 'run not created yet'}", file=out)
