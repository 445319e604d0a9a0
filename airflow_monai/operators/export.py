"""The operator of ``export`` tasks: deliver results to their destinations, once, and prove it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import (
    DestinationError,
    ExportIncomplete,
    ExportInterrupted,
    ExportOverdue,
    ExportRefused,
    Fenced,
    MonaiError,
)
from airflow_monai.failures import Answer, FailureKind
from airflow_monai.operators.base import MonaiOperator
from airflow_monai.operators.export_files import OTHER_STUDY, RECEIVED_SERIES, ExportFile, collect, for_dicom
from airflow_monai.operators.orphan import watch_parent
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance, Sink
from airflow_monai.sinks.delivery import Deliverer, DeliveryTime, told
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.sinks.order import ExportOrder
from airflow_monai.sinks.registry import open_sink
from airflow_monai.sinks.report import SinkReport
from airflow_monai.tasks.run import Outcome, TaskRun

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_SINKS = 8
"""Destinations that are served side by side."""
REMOTE_SECONDS = 1.0
"""How often a task looks whether it is still the newest try, where each look is a request to the store."""


class ExportOperator(MonaiOperator):
    """Deliver the input artifacts to every destination, and keep a verdict on each instance in the store's ledger.

    Destinations are served side by side; one that fails does not stop the others, but fails the task at the end.
    A retry, or a cleared task, sends what the ledger does not hold as accepted. Only DICOM files go to a DICOM node,
    and only when all of them belong to the payload's study and patient; a folder takes every file.

    The return value says what became of each DICOM instance: ``exported`` is a list of ``sink``, ``SOPInstanceUID``,
    ``state`` and ``status`` (the far side's own code in hex).

    :param destinations: names of destinations: ids of Airflow connections of a type that
        :data:`airflow_monai.sinks.registry.SINKS` has.
    :param inputs: the artifacts to deliver: ``name``, ``value`` (``{{ context... }}``, resolved from the store while
        the task runs) and ``mandatory``.
    :param deadline_minutes: after so many minutes from the task's first try nothing more is sent, and the verdict is
        final; None for what the destination or the site says, 0 for no limit. Clearing the task begins anew.
    """

    spec_type = custom_operator_name = "export"
    type_policy = {FailureKind.TIMEOUT.value: Answer.RETRY.value}  # another try sends only what is missing
    ui_color = "#cfe8d5"

    def __init__(
        self,
        *,
        destinations: Sequence[str],
        inputs: Sequence[Mapping[str, Any]],
        deadline_minutes: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.deadline_minutes = deadline_minutes
        self.destinations = list(dict.fromkeys(destinations))
        self.inputs = [dict(artifact) for artifact in inputs]
        self._killed = False

    def on_kill(self) -> None:
        """Send nothing more: Airflow lets the task go on for some seconds after it was marked failed or timed out."""
        self._killed = True

    def _stop_when_killed(self) -> None:
        if self._killed:
            raise ExportInterrupted(
                f"Export task {self.task_id} was ended from outside; a retry sends what is missing."
            )

    def perform(self, run: TaskRun, context: Context) -> Outcome:
        with watch_parent() as look, TemporaryDirectory(prefix="monai-export-") as scratch:
            still_ours = _Ownership(run, look)
            files = collect(run, self.inputs, Path(scratch))
            deliveries = [self._prepared(run, name, files, still_ours) for name in self.destinations]
            self._run_all(deliveries)
        reports = [delivery.report for delivery in deliveries]
        if not all(report.complete for report in reports):
            raise self._failure(reports)
        accepted = {report.sink: len(report.verdicts) for report in reports}
        return Outcome(result={"accepted": accepted}, stats=_stats(reports), xcom={"exported": _rows(reports)})

    def _prepared(
        self, run: TaskRun, name: str, files: Sequence[ExportFile], still_ours: Callable[[], None]
    ) -> _Delivery:
        """The delivery to one destination; why it cannot be made is in the report, so that the others get theirs."""
        delivery = _Delivery(SinkReport(name))
        self._stop_when_killed()
        try:
            delivery.work = self._deliverer(run, files, still_ours, delivery.report).run
        except (Fenced, ExportInterrupted):
            raise
        except MonaiError as error:
            told(delivery.report, error)
        return delivery

    def _deliverer(
        self, run: TaskRun, files: Sequence[ExportFile], still_ours: Callable[[], None], report: SinkReport
    ) -> Deliverer:
        from airflow_monai.hooks.base import destination

        target = destination(report.sink)
        sink = open_sink(target)
        sink.order = ExportOrder(run.folder, run.task_id, run.map_index, run.generation, run.run_started)
        instances = self._wanted(run, files, target) if sink.dicom_only else _all_of(files, sink)
        report.skipped = len(files) - len(instances)
        if report.skipped:
            self.log.info("%s: %d files are not DICOM and stay here", report.sink, report.skipped)
        by_identity = _each_its_own(sink, instances)
        report.sop_uids = {key: item.sop_instance_uid for key, item in by_identity.items() if item.sop_instance_uid}
        return Deliverer(
            sink,
            by_identity,
            Ledger(run.store, run.payload.payload_id, report.sink),
            report,
            task=f"{run.folder.dag_id}/{run.folder.run_id}/{run.task_id}",
            before_request=still_ours,
            on_news=self._stop_before_a_request,
            time=delivery_time(run, target, self.deadline_minutes),
        )

    def _stop_before_a_request(self, news: Delivery) -> None:
        if news.state is DeliveryState.SENT:
            self._stop_when_killed()

    def _run_all(self, deliveries: Sequence[_Delivery]) -> None:
        """Deliver to all destinations, side by side, so that one that hangs does not take the others' time."""
        ready = [delivery for delivery in deliveries if delivery.work is not None]
        if len(ready) == 1:
            ready[0].run()
        elif ready:
            with ThreadPoolExecutor(min(len(ready), MAX_SINKS), thread_name_prefix="export") as pool:
                try:
                    running = [pool.submit(delivery.run) for delivery in ready]
                    for done in running:
                        done.exception()
                except BaseException:  # Airflow's time limit
                    self._killed = True
                    raise
            for done in running:
                done.result()
        for delivery in deliveries:
            report = delivery.report
            (self.log.info if report.complete else self.log.error)("%s", report)

    def _failure(self, reports: Sequence[SinkReport]) -> ExportRefused:
        """The task's error: of a kind that is tried again when some of what is missing may still be accepted."""
        text = " ".join(f"{str(report).rstrip('.')}." for report in reports)
        open_ones = [report for report in reports if not report.overdue]
        refused = {key: news.message or news.state.value for report in reports for key, news in report.failed().items()}
        kinds = list(dict.fromkeys(kind for report in reports for kind in report.kinds()))
        for kind in dict.fromkeys(kind for report in open_ones for kind in report.kinds()):
            error = ExportIncomplete(
                f"Export task {self.task_id} is not complete: {text} A retry sends only what is missing.",
                refused=refused,
                failure=kind,
            )
            if self.is_retried(error):
                return error
        final = f"Export task {self.task_id} failed, and a retry would not help: {text}"
        if len(open_ones) < len(reports):
            return ExportOverdue(final, refused=refused)
        return ExportRefused(final, refused=refused, failure=kinds[0] if kinds else FailureKind.REFUSED)

    def is_retried(self, error: BaseException) -> bool:
        return not isinstance(error, ExportOverdue) and super().is_retried(error)

    def _wanted(self, run: TaskRun, files: Sequence[ExportFile], target: Destination) -> list[Instance]:
        return for_dicom(files, _permits_of(target))


class Hl7ExportOperator(ExportOperator):
    """Deliver files of any kind: as :class:`ExportOperator`, to destinations that take such files.

    A DICOM node or DICOMweb server takes DICOM only; where another file is among the inputs, nothing goes there, and
    the task says so. An HL7 v2 listener takes messages only; what is none is refused there, file by file.
    """

    spec_type = custom_operator_name = "export_hl7"

    def _wanted(self, run: TaskRun, files: Sequence[ExportFile], target: Destination) -> list[Instance]:
        others = [file for file in files if not (file.is_dicom or file.problem)]
        if others:
            raise DestinationError(
                f"{target.name} takes DICOM objects only, and {len(others)} of {len(files)} files are none, so none "
                "was sent there. Name a destination that takes every file, such as a folder, or use a task of type "
                "export for the DICOM objects."
            )
        return super()._wanted(run, files, target)


@dataclass(slots=True)
class _Delivery:
    """The delivery to one destination; ``work`` is None where it cannot be made."""

    report: SinkReport
    work: Callable[[], None] | None = None

    def run(self) -> None:
        assert self.work is not None
        try:
            self.work()
        except (Fenced, ExportInterrupted):
            raise
        except MonaiError as error:
            told(self.report, error)


class _Ownership:
    """Raises :class:`Fenced` when a newer try has the task; looks as often as it costs little."""

    def __init__(self, run: TaskRun, look: Callable[[], None]):
        self._look = look
        self._check = run.fence.check
        self._seconds = 0.0 if run.store.local_path("payloads") else REMOTE_SECONDS
        self._next = 0.0

    def __call__(self) -> None:
        self._look()
        if time.monotonic() >= self._next:
            self._check()
            self._next = time.monotonic() + self._seconds


def delivery_time(run: TaskRun, target: Destination, minutes: float | None) -> DeliveryTime | None:
    """The time that is left for a destination, counted from the first try of this generation; None for no limit.

    :param minutes: the task's own deadline; without one that of the connection counts (``deadline_minutes``), without
        that the site's (``[monai] export_deadline_minutes``). 0 is no limit.
    """
    from airflow_monai import settings

    if minutes is None:
        site = settings.load_export_deadline_minutes()
        minutes = target.number("deadline_minutes", site, 0, 525_600)
    began = run.note("delivery")
    if began is None:
        began = {"started": datetime.now(timezone.utc).isoformat()}
        run.write_note("delivery", began)
    if not minutes:
        return None
    gone = datetime.now(timezone.utc) - datetime.fromisoformat(began["started"])
    told_as = f"the deadline of {minutes:g} minutes after the first try"
    return DeliveryTime(minutes * 60 - gone.total_seconds(), told_as)


def _permits_of(target: Destination) -> set[str]:
    return {name for name in (OTHER_STUDY, RECEIVED_SERIES) if target.flag(name)}


def _all_of(files: Sequence[ExportFile], sink: Sink) -> list[Instance]:
    """The files for a sink that takes every file; where it is on the way to a DICOM node, DICOM files as for one."""
    if not sink.leads_to_dicom:
        return [file.instance for file in files]
    dicom = [file for file in files if file.is_dicom or file.problem]
    others = [file.instance for file in files if not (file.is_dicom or file.problem)]
    return [*for_dicom(dicom, _permits_of(sink.destination)), *others]


def _each_its_own(sink: Sink, instances: Sequence[Instance]) -> dict[str, Instance]:
    """The instances by their identity at the sink.

    :raises ExportRefused: when two files would be one there, and so one of them lost.
    """
    found: dict[str, Instance] = {}
    for instance in instances:
        identity = sink.identity(instance)
        other = found.setdefault(identity, instance)
        if other is not instance and (not other.digest or other.digest != instance.digest):
            raise ExportRefused(
                f"{sink.destination.name}: two different files would have one name there, so none was sent. Give the "
                "inputs of the task names of their own.",
                refused={identity: "two different files"},
            )
    return found


def _rows(reports: Sequence[SinkReport]) -> list[dict[str, str]]:
    return [
        {
            "sink": report.sink,
            "SOPInstanceUID": report.sop_uids[identity],
            "state": news.state.value,
            "status": news.status,
        }
        for report in reports
        for identity, news in report.verdicts.items()
        if identity in report.sop_uids
    ]


def _stats(reports: Sequence[SinkReport]) -> dict[str, dict[str, int]]:
    return {
        report.sink: {"delivered": len(report.verdicts), "before": report.before, "skipped": report.skipped}
        for report in reports
    }
