"""The demo: a CT study is sent to the gateway, its workflow runs, its segmentation is in the PACS. All of it real."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from airflow_monai.errors import MonaiError
from airflow_monai.local import study as studies
from airflow_monai.local.environment import USER
from airflow_monai.local.follow import Follower
from airflow_monai.local.pacs import PacsKind, available_kind
from airflow_monai.local.processes import tail
from airflow_monai.local.report import Access, DemoReport, summary
from airflow_monai.local.results import RunResults
from airflow_monai.local.runner import choose_runner
from airflow_monai.local.stack import LocalStack, StackOptions, make_state_folder, project_folder
from airflow_monai.local.study import Study, StudyError

CALLED_AET = "CTLUNG"  # of workflow_specs/ct-lung.yaml
DAG_ID = "ct-lung"
_SITE = {"AIRFLOW__MONAI__MIP_WORKFLOW": DAG_ID}  # docs/mip.md can be followed, also with workflows beside it
MAP_TASK, ARTIFACT, EXPORT_TASK, SINK = "segment", "seg", "to-pacs", "PACS"
MODALITY = "CT"
RECEIVE_SECONDS = 120
RUN_SECONDS = 900
ERASED = "the state of the last start is erased"


class DemoFailed(MonaiError):
    """The PACS does not hold the result; the message says what failed."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user chose.

    :param state: state folder of the stack.
    :param study: folder of DICOM to send, None for a phantom.
    :param keep: leave all running at the end.
    :param runner: ``docker``, ``process``, or empty for the best that is possible.
    :param pacs: ``orthanc``, ``store``, ``none``, or empty for what is installed.
    :param report: where demo-report.json goes.
    :param setup_began: when `make` began to install, as seconds since the epoch; None for now.
    """

    state: Path
    study: Path | None = None
    keep: bool = False
    runner: str = ""
    pacs: str = ""
    report: Path = Path("demo-report.json")
    setup_began: float | None = None

    @classmethod
    def from_environment(cls, state: Path) -> DemoOptions:
        """The variables that `make demo` takes."""
        value = {name: os.environ.get(name, "").strip() for name in ("STUDY", "KEEP", "RUNNER", "PACS", "REPORT")}
        began = os.environ.get("MAKE_STARTED", "")
        return cls(
            state=state,
            study=Path(value["STUDY"]).expanduser() if value["STUDY"] else None,
            keep=value["KEEP"].lower() not in ("", "0", "no", "false"),
            runner=value["RUNNER"],
            pacs=value["PACS"],
            report=Path(value["REPORT"] or "demo-report.json"),
            setup_began=float(began) if began else None,
        )


@dataclass(slots=True)
class Demo:
    """One run of the demo."""

    options: DemoOptions
    report: DemoReport = field(default_factory=DemoReport)
    _began: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        """Run it; what was started is ended in any case.

        :returns: exit code 0 when the PACS holds the result, or the workflow's condition for sending it there was not
            met; else 1.
        """
        began = self.options.setup_began or time.time()
        study = self._study_of_user()
        options = stack_options(self.options.pacs)
        if make_state_folder(self.options.state.resolve()):
            self.say(ERASED)
        options = self._with_runner(options)
        study = study or self._phantom()
        self.report.seconds.setup = max(0.0, time.time() - began)
        stack = LocalStack(self.options.state, options, say=self.say)
        try:
            began_start = time.monotonic()
            stack.start(fresh=False)
            self.report.seconds.start = time.monotonic() - began_start
            code = self._through(stack, study)
            if self.options.keep:
                stack.leave_running()
                print("  all is left running; `make stop` ends it")
            return code
        finally:
            stack.stop()

    def say(self, line: str) -> None:
        """One event, with the time since the demo began."""
        seconds = int(time.monotonic() - self._began)
        print(f"{seconds // 60:3d}:{seconds % 60:02d}  {line}", flush=True)

    # -- before the start -------------------------------------------------------------------------------------------

    def _study_of_user(self) -> Study | None:
        if self.options.study is None:
            return None
        if self.options.study.resolve().is_relative_to(self.options.state.resolve()):
            raise StudyError(f"STUDY={self.options.study}: this folder is emptied by the demo; copy the study first.")
        study = studies.read(self.options.study)
        studies.require_modality(study, MODALITY)
        self.say(f"study: {len(study.files)} images in {study.folder}")
        return study

    def _phantom(self) -> Study:
        study = studies.phantom(self.options.state.resolve() / "phantom")
        self.say(f"study: a phantom of the chest, {len(study.files)} images in {study.folder}")
        return study

    def _with_runner(self, options: StackOptions) -> StackOptions:
        log = self.options.state.resolve() / "logs" / "image.log"
        choice = choose_runner(project_folder() / "examples" / "maps", self.options.runner, log, self.say)
        self.report.runner, self.report.runner_reason = choice.name, choice.reason
        self.say(f"runner: {choice.name} ({choice.reason})")
        return replace(options, runner=choice.name)

    # -- with the stack ---------------------------------------------------------------------------------------------

    def _through(self, stack: LocalStack, study: Study) -> int:
        follower = Follower(stack, len(study.files), self.say)
        try:
            self._receive(stack, study, follower)
            self._run(follower)
            results = self._deliver(stack, follower)
            self._draw(results)
        except MonaiError as error:
            self._failed(stack, follower, error)
            return 1
        finally:
            self._note(follower)
            self.report.write(self.options.report)
        segmentation = next(iter(results.artifact(MAP_TASK, ARTIFACT)), None)
        outcome = self.report.note or "The result is in the PACS."
        print(f"\n{outcome}\n{self._summary(stack, follower, segmentation)}", flush=True)
        return 0

    def _receive(self, stack: LocalStack, study: Study, follower: Follower) -> None:
        self.say(f"sending {len(study.files)} images to {CALLED_AET} at 127.0.0.1:{stack.ports.dicom}")
        began = time.monotonic()
        enough = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(studies.send, study, stack.ports.dicom, called_aet=CALLED_AET, stop=enough.is_set)
            try:
                self._follow(follower, lambda: follower.complete, began + RECEIVE_SECONDS + len(study.files), sending)
            finally:
                enough.set()
            sending.result()
        self.report.seconds.receive = time.monotonic() - began

    def _run(self, follower: Follower) -> None:
        began = time.monotonic()
        self._follow(follower, lambda: self._map_ended(follower) or follower.ended, began + RUN_SECONDS)
        self.report.seconds.run = time.monotonic() - began

    def _deliver(self, stack: LocalStack, follower: Follower) -> RunResults:
        """Wait for the end of the run and look into the PACS for each instance that was due to it."""
        began = time.monotonic()
        self._follow(follower, lambda: follower.ended, began + RUN_SECONDS)
        assert follower.payload_id and follower.dag_id and follower.run_id
        results = RunResults(stack.layout.store, follower.payload_id, follower.dag_id, follower.run_id)
        self.report.exported = list(results.exported())
        if follower.run["state"] != "success":
            raise DemoFailed(f"The run of workflow {follower.dag_id} ended as {follower.run['state']}.")
        if follower.state(EXPORT_TASK) == "skipped":
            self._nothing_due(follower)
        else:
            self._look_into(stack)
        self.report.seconds.deliver = time.monotonic() - began
        return results

    def _look_into(self, stack: LocalStack) -> None:
        """Raise :class:`DemoFailed` unless the PACS holds what was delivered to it."""
        delivered = [item["SOPInstanceUID"] for item in self.report.exported if item["sink"] == SINK]
        if not delivered:
            raise DemoFailed("The PACS does not hold the result: the run succeeded, but sent nothing to it.")
        missing = [uid for uid in delivered if not stack.pacs.holds(uid)]
        if missing:
            raise DemoFailed(
                f"The PACS does not hold the result: it lacks {len(missing)} of {len(delivered)} instances."
            )
        self.say(f"PACS ({stack.pacs.kind.value}): holds {len(delivered)} instances of the result")

    def _nothing_due(self, follower: Follower) -> None:
        self.report.note = (
            f"The run succeeded, and nothing was due to the PACS: the condition of workflow {follower.dag_id} for task "
            f"{EXPORT_TASK} was not met, so it was skipped."
        )
        self.say(f"PACS: nothing was due, as the condition for task {EXPORT_TASK} was not met")

    def _draw(self, results: RunResults) -> None:
        from airflow_monai.local.picture import overlay

        for segmentation in results.artifact(MAP_TASK, ARTIFACT)[:1]:
            picture = self.options.state.resolve().parent / "picture.png"
            self.report.picture = str(overlay(results.images(), segmentation, picture))

    def _follow(
        self, follower: Follower, done: Callable[[], bool], deadline: float, sending: Future[None] | None = None
    ) -> None:
        while True:
            follower.step()
            if done():
                return
            if sending is not None and sending.done():
                sending.result()
            if time.monotonic() > deadline:
                raise DemoFailed("The study did not get on in time.")
            time.sleep(0.3)

    @staticmethod
    def _map_ended(follower: Follower) -> bool:
        return follower.state(MAP_TASK) == "success"

    # -- the end ----------------------------------------------------------------------------------------------------

    def _note(self, follower: Follower) -> None:
        report = self.report
        report.payload_id, report.dag_id, report.run_id = follower.payload_id, follower.dag_id, follower.run_id
        report.images_received = follower.images
        report.tasks = [
            {"id": item["task_id"], "state": item["state"], "start": item["start_date"], "end": item["end_date"]}
            for item in sorted(follower.tasks.values(), key=lambda item: item["start_date"] or "9")
        ]

    def _summary(self, stack: LocalStack, follower: Follower, segmentation: Path | None) -> str:
        url = f"{stack.ui}/dags/{follower.dag_id}/runs/{follower.run_id}"
        access = Access(url, USER, stack.secrets.password, stack.layout.shell, self.options.keep)
        return summary(self.report, access, segmentation=segmentation, report_path=self.options.report)

    def _failed(self, stack: LocalStack, follower: Follower, error: MonaiError) -> None:
        """Say what failed, with the end of the logs that tell why."""
        reasons = [str(error)]
        try:
            follower.step()
        except MonaiError:
            pass  # it is the error that is being told
        for instance in follower.failed_tasks():
            reason = _reason(stack, follower, instance)
            reasons.append(f"task {instance['task_id']}: {instance['state'] or 'not run'}{reason}")
        self.report.error = "; ".join(line.splitlines()[0] for line in reasons)
        print("\nThe demo failed. " + "\n  ".join(reasons))
        for log in _telling_logs(stack, follower):
            print(f"\n--- the end of {log}\n{_readable(log)}")
        print(f"\nAll logs: {stack.logs}", flush=True)


def stack_options(pacs: str) -> StackOptions:
    """Options of a stack whose PACS is the one named; a name that there is not raises :class:`MonaiError`."""
    if pacs == "none":  # to see what a failure looks like
        return StackOptions(environment=_SITE, without=frozenset({"pacs"}))
    if pacs not in ("", *(kind.value for kind in PacsKind)):
        raise MonaiError(f"PACS={pacs}: choose orthanc, store or none.")
    kind = PacsKind(pacs) if pacs else available_kind()
    if kind is PacsKind.ORTHANC and available_kind() is not kind:
        raise MonaiError("PACS=orthanc: Orthanc is not installed here (apt-get install orthanc).")
    return StackOptions(environment=_SITE, pacs=kind)


def _telling_logs(stack: LocalStack, follower: Follower) -> Iterator[Path]:
    """Logs of the failed tasks; where none failed, those of the parts that take part."""
    found = False
    for instance in follower.failed_tasks():
        folder = f"dag_id={follower.dag_id}/run_id={follower.run_id}/task_id={instance['task_id']}"
        logs = sorted((stack.logs / "tasks" / folder).rglob("attempt=*.log"))
        if logs and instance["state"] in ("failed", "up_for_retry"):
            found = True
            yield logs[-1]
    if not found:
        yield from (stack.logs / f"{name}.log" for name in ("gateway", "scheduler"))


def _reason(stack: LocalStack, follower: Follower, instance: Mapping[str, Any]) -> str:
    """What the task's record in the store says of its failure."""
    if not (follower.payload_id and follower.dag_id and follower.run_id):
        return ""
    results = RunResults(stack.layout.store, follower.payload_id, follower.dag_id, follower.run_id)
    record = results.record(instance["task_id"])
    return f": {record.error_msg}" if record and record.error_msg else ""


def _readable(log: Path, lines: int = 12) -> str:
    """The last lines of a log; of Airflow's JSON lines their text only."""
    texts = [_event(line) for line in tail(log, 4 * lines).splitlines()]
    return "\n".join(f"    {text}" for text in [text for text in texts if not text.startswith("::")][-lines:])


def _event(line: str) -> str:
    try:
        record = json.loads(line)
        details = record.get("error_detail") or []
        causes = [f"{item.get('exc_type')}: {item.get('exc_value')}" for item in details]
        return " | ".join([str(record["event"]), *causes])
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
