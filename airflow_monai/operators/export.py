"""The operator of ``export`` tasks: deliver results to their destinations, once, and prove it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import (
    DestinationError,
    ExportIncomplete,
    ExportInterrupted,
    ExportRefused,
    Fenced,
    MonaiError,
)
from airflow_monai.failures import Answer, FailureKind, kind_of
from airflow_monai.operators.base import MonaiOperator, Outcome, TaskRun
from airflow_monai.operators.export_files import ExportFile, collect, for_dicom
from airflow_monai.operators.orphan import watch_parent
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.ledger import Ledger, Recorder
from airflow_monai.sinks.registry import open_sink

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(slots=True)
class SinkReport:
    """How the delivery to one destination went.

    :param verdicts: identity -> latest news, for every instance that was to be delivered.
    :param sop_uids: identity -> SOP Instance UID, for those that are DICOM.
    :param before: how many had been accepted by an earlier try.
    :param problem: why the delivery ended before all had a verdict; ``problem_kind``: the kind of that failure.
    """

    sink: str
    verdicts: dict[str, Delivery] = field(default_factory=dict)
    sop_uids: dict[str, str] = field(default_factory=dict)
    before: int = 0
    skipped: int = 0
    problem: str = ""
    problem_kind: FailureKind | None = None

    @property
    def complete(self) -> bool:
        return not self.problem and all(news.state is DeliveryState.ACCEPTED for news in self.verdicts.values())

    def failed(self) -> dict[str, Delivery]:
        return {key: news for key, news in self.verdicts.items() if news.state is not DeliveryState.ACCEPTED}

    def kinds(self) -> Iterator[FailureKind]:
        """Why it is not complete."""
        if self.problem_kind is not None:
            yield self.problem_kind
        for news in self.failed().values():
            # an instance that has not had its turn says nothing beside the problem
            if news.state is not DeliveryState.PENDING or self.problem_kind is None:
                yield FailureKind.CONNECTION if news.retry else FailureKind.REFUSED

    def __str__(self) -> str:
        counts = Counter(news.state.value for news in self.verdicts.values())
        text = ", ".join(f"{counts[state.value]} {state.value}" for state in DeliveryState if counts[state.value])
        reasons = Counter(news.message for news in self.failed().values() if news.message)
        parts = [text or "nothing delivered", *(f"{count} x {reason}" for reason, count in reasons.most_common(5))]
        return f"{self.sink}: {'; '.join([*parts, self.problem] if self.problem else parts)}"


class ExportOperator(MonaiOperator):
    """Deliver the input artifacts to every destination, and keep a verdict on each instance in the store's ledger.

    Destinations are served one after another; one that fails does not stop the others, but fails the task at the end.
    A retry, or a cleared task, sends what the ledger does not hold as accepted. Only DICOM files go to a DICOM node,
    and only when all of them belong to the payload's study and patient; a folder takes every file.

    The return value says what became of each DICOM instance: ``exported`` is a list of ``sink``, ``SOPInstanceUID``,
    ``state`` and ``status`` (the far side's own code in hex).

    :param destinations: names of destinations: ids of Airflow connections of type ``dicom`` or ``monai_folder``.
    :param inputs: the artifacts to deliver: ``name``, ``value`` (``{{ context... }}``, resolved from the store while
        the task runs) and ``mandatory``.
    """

    spec_type = custom_operator_name = "export"
    type_policy = {FailureKind.TIMEOUT.value: Answer.RETRY.value}  # another try sends only what is missing
    ui_color = "#cfe8d5"

    def __init__(self, *, destinations: Sequence[str], inputs: Sequence[Mapping[str, Any]], **kwargs: Any):
        super().__init__(**kwargs)
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

            def still_ours() -> None:
                look()
                run.fence.check()

            files = collect(run, self.inputs, Path(scratch))
            reports = [self._delivered(run, name, files, still_ours) for name in self.destinations]
        if not all(report.complete for report in reports):
            raise self._failure(reports)
        accepted = {report.sink: len(report.verdicts) for report in reports}
        return Outcome(result={"accepted": accepted}, stats=_stats(reports), xcom={"exported": _rows(reports)})

    def _delivered(
        self, run: TaskRun, name: str, files: Sequence[ExportFile], still_ours: Callable[[], None]
    ) -> SinkReport:
        """Deliver to one destination; its failure is in the report, so that the others get their turn."""
        report = SinkReport(name)
        self._stop_when_killed()
        try:
            self._deliver(run, files, still_ours, report)
        except (Fenced, ExportInterrupted):
            raise
        except MonaiError as error:
            report.problem, report.problem_kind = str(error), kind_of(error)
        (self.log.info if report.complete else self.log.error)("%s", report)
        return report

    def _deliver(
        self, run: TaskRun, files: Sequence[ExportFile], still_ours: Callable[[], None], report: SinkReport
    ) -> None:
        from airflow_monai.hooks.base import destination

        target = destination(report.sink)
        sink = open_sink(target)
        instances = self._wanted(run, files, target) if sink.dicom_only else [file.instance for file in files]
        report.skipped = len(files) - len(instances)
        if report.skipped:
            self.log.info("%s: %d files are not DICOM and stay here", report.sink, report.skipped)
        by_identity = {sink.identity(instance): instance for instance in instances}
        report.sop_uids = {key: item.sop_instance_uid for key, item in by_identity.items() if item.sop_instance_uid}
        ledger = Ledger(run.store, run.payload.payload_id, report.sink)
        missing = _missing(ledger, by_identity, report)
        if not missing:
            return
        task = f"{run.folder.dag_id}/{run.folder.run_id}/{run.task_id}"
        digests = {identity: instance.digest for identity, instance in missing.items()}
        recorder = Recorder(ledger, digests, task=task, before_request=still_ours)

        def on_result(news: Delivery) -> None:
            if news.state is DeliveryState.SENT:
                self._stop_when_killed()
            recorder(news)

        try:
            with recorder:
                sink.send(list(missing.values()), on_result)
        finally:
            report.verdicts.update(recorder.verdicts)

    def _failure(self, reports: Sequence[SinkReport]) -> ExportRefused:
        """The task's error: of a kind that is tried again when some of what is missing may still be accepted."""
        text = " ".join(f"{str(report).rstrip('.')}." for report in reports)
        refused = {key: news.message or news.state.value for report in reports for key, news in report.failed().items()}
        kinds = list(dict.fromkeys(kind for report in reports for kind in report.kinds()))
        for kind in kinds:
            error = ExportIncomplete(
                f"Export task {self.task_id} is not complete: {text} A retry sends only what is missing.",
                refused=refused,
                failure=kind,
            )
            if self.is_retried(error):
                return error
        return ExportRefused(
            f"Export task {self.task_id} failed, and a retry would not help: {text}",
            refused=refused,
            failure=kinds[0] if kinds else FailureKind.REFUSED,
        )

    def _wanted(self, run: TaskRun, files: Sequence[ExportFile], target: Destination) -> list[Instance]:
        return for_dicom(files, run.payload, allow_other_study=target.flag("allow_other_study"))


class Hl7ExportOperator(ExportOperator):
    """Deliver files of any kind: as :class:`ExportOperator`, to destinations that take every file.

    A DICOM node takes DICOM only; where another file is among the inputs, nothing goes there, and the task says so.
    """

    spec_type = custom_operator_name = "export_hl7"

    def _wanted(self, run: TaskRun, files: Sequence[ExportFile], target: Destination) -> list[Instance]:
        others = [file for file in files if not (file.is_dicom or file.problem)]
        if others:
            raise DestinationError(
                f"{target.name} is a DICOM node and takes DICOM objects only, and {len(others)} of {len(files)} files "
                "are none, so none was sent there. Name a destination that takes every file, such as a folder, or use "
                "a task of type export for the DICOM objects."
            )
        return super()._wanted(run, files, target)


def _missing(ledger: Ledger, instances: Mapping[str, Instance], report: SinkReport) -> dict[str, Instance]:
    """Those instances that the ledger does not hold as accepted with this content; the others go into the report."""
    missing = {}
    known = ledger.known(instances)
    for identity, instance in instances.items():
        entry = known.get(identity)
        if entry is not None and entry.state is DeliveryState.ACCEPTED and entry.digest == instance.digest:
            report.verdicts[identity] = Delivery(identity, entry.state, entry.status, entry.message)
            report.before += 1
        else:
            report.verdicts[identity] = Delivery(identity, DeliveryState.PENDING, retry=True)
            missing[identity] = instance
    return missing


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
