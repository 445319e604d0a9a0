"""Base of the operators that run an application: a MAP, or any container image.

A subclass says what the application is and how it sees its inputs and outputs (:meth:`ApplicationOperator.job_of`);
that it is started once, found again, stopped, judged and published is the same for all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRescheduleException, AirflowTaskTimeout

from airflow_monai.errors import (
    Fenced,
    LeaseError,
    MapError,
    MapFailed,
    MapInterrupted,
    MapNotStarted,
    MapOutOfMemory,
    MapTimedOut,
    MonaiError,
    OutputTooLarge,
    RunnerUnavailable,
    StoreError,
)
from airflow_monai.operators.base import MonaiOperator
from airflow_monai.operators.facts import told_with
from airflow_monai.tasks.run import Outcome, TaskRun, condition_context, one_line

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_monai.gpu.lease_folder import LeaseFolder
    from airflow_monai.maps.job import Wish
    from airflow_monai.maps.logs import TaskLog
    from airflow_monai.maps.quota import OutputWatch
    from airflow_monai.maps.runners.base import Exit, MapJob, Runner
    from airflow_monai.maps.staging import NamedInput
    from airflow_monai.operators.cards import JobCards
    from airflow_monai.operators.progress import Board

DEFAULT_POOL = "default_pool"
DEFAULT_INPUTS: tuple[Mapping[str, Any], ...] = ({"name": "study", "value": "{{ context.input.dicom }}"},)
LAST_WORDS = 200
"""Characters of an application's last line that the error of its task repeats, filtered as the task log is."""
OUR_NOTE = "[airflow-monai:"
"""Begins what a runner itself adds to an application's log."""
TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: an application that ends so asks for another try."""


def _leases_for(job: MapJob) -> LeaseFolder | None:
    """Where its cards are leased; None for a job without cards on a host that has never leased one."""
    from airflow_monai import settings

    path = settings.load_gpu().lease_folder
    if not job.gpus and not path.is_dir():
        return None
    from airflow_monai.gpu.lease_folder import LeaseFolder

    return LeaseFolder(path)


@dataclass(frozen=True, slots=True)
class _Held:
    """What this process has started and must not leave behind."""

    run: TaskRun
    runner: Runner
    job: MapJob
    leases: LeaseFolder | None


class ApplicationOperator(MonaiOperator):
    """
    Run an application over the run's payload and publish what it makes.

    The application is durable: it is named after the task, not after the try, and goes on when this worker is killed.
    The next try finds it, follows it or takes its verdict; it is never started a second time beside itself. It is
    stopped and removed when the task ends, fails, is cleared or marked by a person.

    Airflow's retries are for trouble around the application: an engine out of reach, a worker or a host that died, an
    application that was killed from outside or that asks for another try by its exit code. What the application itself
    did - another exit code, too much memory or time, no output - and one that is missing or unusable fail the task at
    once, because another try would only repeat it; ``failure_policy`` may say otherwise for a kind of failure.

    None of the arguments is an Airflow template: values such as ``{{ context.input.dicom }}`` are resolved from the
    store while the task runs, so that nothing about the patient gets into Airflow's database.

    :param application: reference of the application.
    :param inputs: input artifacts, each with ``name``, ``value`` (``{{ context.input.dicom }}``,
        ``{{ context.executions.<task>.artifacts.<name> }}`` or ``{{ context.executions.<task>.output_dir }}``) and
        ``mandatory`` (default True).
    :param outputs: declared artifacts, each with ``name``, ``type`` (a modality, Folder, HL7 or Unset), ``value`` (a
        path below the output folder) and ``mandatory`` (default True); how their files are found says
        :func:`airflow_monai.maps.outputs.collect`.
    :param resources: ``cpu``, ``memory``, ``shared_memory``, ``gpu``, ``gpu_memory``.
    :param timeout_minutes: the application is stopped after this time. Counted from its start, whichever try that was
        in. 0 or None: no limit.
    :param runner: ``docker``, ``kubernetes`` or ``process``; the site's setting when None.
    :param environment: more environment variables for the application; their values may hold ``{{ context... }}``. They
        are plain text: no secrets here.
    :param sandbox: what it asks for beyond that, of which the site's policy says what it may have: ``network``,
        ``capabilities``, ``mounts`` (``/host/folder:/container/folder``, to be read), and, to narrow the policy,
        ``pids`` and ``output_quota``.
    :param retry_exit_codes: exit codes by which the application asks for another try.
    """

    noun = "application"
    """What the application is called in the task's return value and statistics."""

    def __init__(
        self,
        *,
        application: str,
        inputs: Sequence[Mapping[str, Any]] = DEFAULT_INPUTS,
        outputs: Sequence[Mapping[str, Any]] = (),
        resources: Mapping[str, Any] | None = None,
        timeout_minutes: float | None = None,
        runner: str | None = None,
        environment: Mapping[str, str] | None = None,
        sandbox: Mapping[str, Any] | None = None,
        retry_exit_codes: Sequence[int] = (TRY_AGAIN,),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.application = application
        self.inputs = [dict(item) for item in inputs]
        self.outputs = [dict(item) for item in outputs]
        self.resources_wanted = dict(resources or {})
        self.timeout_minutes = timeout_minutes
        self.runner = runner
        self.environment = dict(environment or {})
        self.sandbox = dict(sandbox or {})
        self.retry_exit_codes = tuple(retry_exit_codes)
        self._held: _Held | None = None
        self._cards: JobCards | None = None
        self._killed = False
        self._waits_for: str | None = None
        """What, as long as the application has not begun."""
        self._begun_at = datetime.now(timezone.utc)

    @abstractmethod
    def job_of(self, run: TaskRun, runner: Runner, inputs: list[NamedInput]) -> MapJob:
        """The application as a job for the runner.

        :param inputs: the input artifacts that are there.
        """

    def execute(self, context: Context) -> Any:
        from airflow_monai.operators.orphan import watch_parent

        self._held = None
        self._begun_at = datetime.now(timezone.utc)
        with watch_parent(), self._let_go_at_end(context):
            return super().execute(context)

    def _view(self, context: Context) -> TaskRun:
        """With what tells that a person may have wanted the application ended whose worker died: to begin anew costs no
        more than its time. What an export has sent or offered cannot be taken back, so that a retry goes on with it."""
        return replace(super()._view(context), clears=getattr(context["dag_run"], "clear_number", None))

    def perform(self, run: TaskRun, context: Context) -> Outcome:
        from airflow_monai.maps.following import following
        from airflow_monai.operators.progress import progress_board
        from airflow_monai.operators.sweep import sweep_now_and_then

        with following(run), self._told_when_not_begun(run):
            self._waits_for = "its inputs and its image"
            runner, job = self._prepare(run)
            self._check(run)
            self._held = held = _Held(run, runner, job, _leases_for(job))
            done = self._already_done(run)
            if done is not None:
                return done
            if run.generation > 1:
                self.log.info("Generation %s of this task: what an earlier one left here is ended", run.generation)
                runner.discard_other_generations(job)
            sweep_now_and_then(run.store, runner, job, context["ti"], say=self.log.info, warn=self.log.warning)
            with progress_board(run, context, self.log) as board:
                self._waits_for = "a card"
                job = self._with_cards(held, board)
                self._waits_for = "its start"
                return self._run(run, runner, job, board)

    @contextmanager
    def _told_when_not_begun(self, run: TaskRun) -> Iterator[None]:
        """Airflow's time limit says something about the application only once that has begun."""
        try:
            yield
        except AirflowTaskTimeout as error:
            if self._waits_for is None:
                raise
            limit = self.execution_timeout.total_seconds() / 60 if self.execution_timeout else 0.0
            raise MapNotStarted(
                f"Task {run.task_id}: the {limit:g} minutes that it may take in all (execution_timeout) were over "
                f"before {self.application} began: it was waiting for {self._waits_for}. What took the time stands in "
                "the log above: mend that, raise timeout_minutes, or leave it to another try, which begins with what "
                "is there by now."
            ) from error

    def _has_begun(self) -> None:
        self._waits_for = None

    def _run(self, run: TaskRun, runner: Runner, job: MapJob, board: Board) -> Outcome:
        with self._logs(run, board) as (task_log, on_line), self._last_words(run, task_log):
            location = job.found.location
            self.log.info("Running %s (%s) as %s with the %s runner", self.application, location, job.name, runner.name)
            with self._output_watched(run, runner, job) as watch:
                ended = runner.run(job, on_line=on_line, check=watch.check)
                watch.settle()
            self.log.info("%s ended with exit code %s after %.1f s", self.application, ended.code, ended.seconds)
            facts = self._facts(run, runner, job, ended)
            with told_with(facts):
                self._judge(run, job, ended)
                return self._publish(run, facts)

    def _with_cards(self, held: _Held, board: Board) -> MapJob:
        """The job with the cards that it may use, as far as it needs any. What it waits for is shown on the board."""
        from airflow_monai.maps.progress import Progress
        from airflow_monai.operators.cards import cards_for

        run = held.run
        if held.leases is None:
            return held.job
        if held.job.gpus:
            held.runner.require_here(held.job)
        self._cards = cards_for(self, run, held.runner, held.job, held.leases)
        if self._cards is None:
            return held.job

        def say(text: str) -> None:
            self.log.info("%s", text)
            board.show(Progress(stage=text))

        return self._cards.lease(held.job, check=lambda: self._check(run), say=say)

    def card_facts(self) -> dict[str, Any]:
        """For statistics: the cards of this try's application and how long it waited for them; empty without any."""
        return self._cards.facts() if self._cards else {}

    @contextmanager
    def _output_watched(self, run: TaskRun, runner: Runner, job: MapJob) -> Iterator[OutputWatch]:
        """Stop an application that writes more than it may, and remove what it wrote."""
        from airflow_monai.maps.quota import OutputWatch

        def stop() -> None:
            try:
                runner.kill(job)
            except MapError as error:  # the next check ends it
                self.log.warning("%s", error)

        try:
            what = f"{self.application} of task {run.task_id}"
            with OutputWatch(job.output, job.confinement, what, stop, lambda: self._check(run)) as watch:
                yield watch
        except OutputTooLarge:
            run.fence.check()
            try:
                runner.discard(job)
                runner.remove_output(job)
            except (MapError, OSError) as error:
                self.log.warning("What was written could not be removed: %s", one_line(error))
            raise

    @contextmanager
    def _last_words(self, run: TaskRun, task_log: TaskLog) -> Iterator[None]:
        """Add to what goes wrong in the block what the application said last, and where its whole log is."""
        try:
            yield
        except MapError as error:
            error.log_tail = tail = task_log.filtered_tail()
            said = next((line.strip() for line in reversed(tail) if line.strip() and OUR_NOTE not in line), "")
            if said:
                log = run.folder.log_key(run.task_id, run.map_index, run.generation)
                error.args = (f"{error} It last said: {said[:LAST_WORDS]!r}. Its whole log: {log}.",)
            raise

    def on_kill(self) -> None:
        """Stop and remove the application, unless a newer try has taken it over.

        Airflow calls this in the middle of whatever the task is doing, which then goes on: it may be just about to
        start the application, so it stays held, and the next check ends the task.
        """
        self._killed = True
        self._discard()

    def _check(self, run: TaskRun) -> None:
        """Raise when this process must not start an application or wait for one any more."""
        run.fence.check()
        if self._killed:
            raise MapInterrupted(f"Task {run.task_id} was ended from outside.")

    def _prepare(self, run: TaskRun) -> tuple[Runner, MapJob]:
        from airflow_monai import settings
        from airflow_monai.maps.job import bare_job
        from airflow_monai.maps.runners import create_runner
        from airflow_monai.maps.staging import present_inputs

        site = settings.load()
        runner = create_runner(self.runner or site.runner, site, run.store)
        runner.check = lambda: self._check(run)
        runner.begun = self._has_begun
        runner.for_job = bare = bare_job(run)
        try:
            if bare.notes is not None:
                bare.notes.require_here(bare.name)
            return runner, self._with_extras(run, self.job_of(run, runner, present_inputs(run, self.inputs)))
        except BaseException:
            self._held = _Held(run, runner, bare, _leases_for(bare))  # an earlier try may have started it
            raise

    def _with_extras(self, run: TaskRun, job: MapJob) -> MapJob:
        """The job with what the run adds to it, where the mip job server has made the run."""
        from airflow_monai.mip.model import RunId

        if RunId.of_dag_run(run.folder.run_id) is None:
            return job
        from airflow.sdk.log import mask_secret

        from airflow_monai import settings
        from airflow_monai.hooks.fernet import AirflowFernet
        from airflow_monai.mip.extras import extras_of

        variable = settings.load_mip().key_variable
        extras = extras_of(run.store, run.folder.run_id, run.task_id, variable, AirflowFernet().decrypt)
        for secret in extras.secrets.values():
            mask_secret(secret)
        manifest = replace(job.found.manifest, command=job.command + extras.words)
        return replace(job, found=replace(job.found, manifest=manifest), secrets=extras.secrets)

    def wish(self, run: TaskRun, runner: Runner, user: str = "") -> Wish:
        """What the task says about how its application is run.

        :param user: ``uid:gid`` that it runs as; the site's setting when empty.
        """
        from airflow_monai import settings
        from airflow_monai.maps.job import Wish
        from airflow_monai.maps.policy import Asked, Policy
        from airflow_monai.maps.runners.folders import default_user

        site = settings.load()
        return Wish(
            resources=self.resources_wanted,
            timeout_seconds=(self.timeout_minutes or 0) * 60 or None,
            environment=self.resolved(run, self.environment),
            in_gpu_pool=self.pool != DEFAULT_POOL,
            card_class=self.pool.removeprefix("gpu_") if self.pool != DEFAULT_POOL else "",
            user=user or default_user(site.container_user),
            asked=Asked.of(self.sandbox),
            fetches_inputs=runner.fetches_inputs,
            policy=Policy.of(site),
        )

    def resolved(self, run: TaskRun, value: Any) -> Any:
        """An argument with its ``{{ context... }}`` replaced by what they stand for."""
        from airflow_monai.specs.arguments import resolved

        return resolved(value, condition_context(run))

    def _already_done(self, run: TaskRun) -> Outcome | None:
        """What an earlier try of this generation made, when Airflow did not hear of it or could not keep it."""
        record = run.folder.record(run.task_id, run.map_index)
        if record is None or record.generation != run.generation or record.output_dir is None:
            return None
        self.log.info("Try %s had already finished this task's application; its results stand", record.try_number)
        facts = {name: value for name, value in record.stats.items() if name != "error_kind"}  # of what came after it
        return Outcome(record.result, record.artifacts, facts, record.output_dir, xcom=facts)

    @contextmanager
    def _logs(self, run: TaskRun, board: Board) -> Iterator[tuple[TaskLog, Any]]:
        """The task log's filter and the function that takes the application's lines."""
        from airflow_monai import settings
        from airflow_monai.maps.logs import LogFilter, TaskLog
        from airflow_monai.maps.progress import ProgressReader
        from airflow_monai.maps.workspace import stored_log
        from airflow_monai.store.payloads import load_series_tags

        key = run.folder.log_key(run.task_id, run.map_index, run.generation)
        tags = load_series_tags(run.store, run.payload.payload_id)
        stored = stored_log(run.store, key, run.fence.check)
        mode = settings.load().task_log
        log_filter = LogFilter(run.payload, tags)
        shown = TaskLog(mode, log_filter, lambda line: self.log.info("%s", line), key)
        progress = ProgressReader(log_filter, with_stages=mode != "none")

        def on_line(line: bytes) -> None:
            line = self._without_secrets(line)
            stored.line(line)
            shown.line(line)
            if (news := progress.line(line)) is not None:
                board.show(news)

        failed = True
        try:
            yield shown, on_line
            failed = False
        finally:
            stored.close()
            shown.close(failed=failed)

    def _without_secrets(self, line: bytes) -> bytes:
        """A line of the application without what it must not print."""
        from airflow_monai.maps.logs import MASK

        for secret in self._held.job.secrets.values() if self._held else ():
            line = line.replace(secret.encode(), MASK.encode())
        return line

    def _judge(self, run: TaskRun, job: MapJob, ended: Exit) -> None:
        """Raise what the application's end amounts to, unless it ended well."""
        if ended.code == 0 and not ended.timed_out:
            return
        kind, reason = self._verdict(job, ended)
        raise kind(f"Task {run.task_id}: {self.application} {reason}", exit_code=ended.code)

    def _verdict(self, job: MapJob, ended: Exit) -> tuple[type[MapFailed], str]:
        if ended.timed_out:
            return MapTimedOut, (
                f"was stopped because it ran longer than its time limit of {job.timeout_seconds:g} s. Raise "
                "timeout_minutes of the task and timeout in app.json if it needs more."
            )
        if ended.oom:
            return MapOutOfMemory, (
                f"was killed because it used more than its memory limit of {job.resources.memory_bytes // 2**20} MiB. "
                "Raise resources.memory of the task or in pkg.json if it needs more."
            )
        if ended.code in self.retry_exit_codes:
            return MapInterrupted, f"ended with exit code {ended.code}, which asks for another try."
        if ended.killed:
            return MapInterrupted, f"was ended from outside (exit code {ended.code})."
        return MapFailed, f"ended with exit code {ended.code}."

    def _facts(self, run: TaskRun, runner: Runner, job: MapJob, ended: Exit) -> dict[str, Any]:
        """What the task tells of this run beside its results."""
        from airflow_monai.operators.facts import facts_of, queue_seconds

        waited = queue_seconds(run, self._previous_task_id(), self._begun_at)
        known = {"runner": runner.name, self.noun: self.application, "queue_seconds": waited}
        return (
            {name: value for name, value in known.items() if value is not None}
            | facts_of(job, ended)
            | self.card_facts()
        )

    def _publish(self, run: TaskRun, facts: Mapping[str, Any]) -> Outcome:
        from airflow_monai.maps.outputs import collect
        from airflow_monai.maps.workspace import local, publish

        what = f"{self.application} of task {run.task_id}"
        collected = collect(local(run.store, run.output_key), self.outputs, what=what)
        folder = publish(run)
        artifacts = {name: tuple(f"{folder}/{path}" for path in paths) for name, paths in collected.artifacts.items()}
        return Outcome(collected.result, artifacts, facts, folder, xcom=facts)

    @contextmanager
    def _let_go_at_end(self, context: Context) -> Iterator[None]:
        """Leave no application behind, however the task ends."""
        try:
            yield
        except Fenced:
            self._held = None  # it belongs to the newer try
            raise
        except AirflowRescheduleException:
            self._held = None  # nothing runs; its place in the queue for cards is kept
            raise
        except (RunnerUnavailable, LeaseError, StoreError):
            ti = context["ti"]
            if self._killed or ti.try_number > ti.max_tries:
                self._let_go()
            raise  # else the next try finds the application where it is
        except BaseException:
            self._let_go()
            raise
        else:
            self._let_go()

    def _let_go(self) -> None:
        self._discard()
        self._held = None

    def _discard(self) -> None:
        import shutil

        from airflow_monai.maps.following import let_go
        from airflow_monai.maps.job import staging_folder
        from airflow_monai.maps.workspace import clear

        held = self._held
        if held is None:
            return
        try:
            held.run.fence.check()
            held.runner.discard(held.job)
            if held.leases is not None:
                from airflow_monai.operators.cards import give_back

                give_back(held.leases, held.job.name, self.log.warning)
            shutil.rmtree(staging_folder(held.run), ignore_errors=True)
            clear(held.run.store, held.run.output_key)
        except Fenced:
            self.log.info("A newer try has taken over %s; it is left alone", held.job.name)
        except (MonaiError, OSError) as error:  # what cannot be removed now must not change what became of the task
            self.log.warning("%s could not be removed: %s", held.job.name, one_line(error))
            with suppress(MonaiError, OSError):
                let_go(held.run)
