"""One trial from the workflow file to the exit code."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from airflow_monai.errors import SpecError
from airflow_monai.local.environment import Layout, Secrets, base_environment
from airflow_monai.local.guard import Guard
from airflow_monai.local.postgres import Cluster, programs
from airflow_monai.local.processes import ProcessRef
from airflow_monai.local.record import StackRecord, teardown
from airflow_monai.local.template import ensure_template, template_folder
from airflow_monai.local.trial import connections
from airflow_monai.local.trial.deposit import choose, deposit
from airflow_monai.local.trial.folders import RunFolder, cache_folder, new_run
from airflow_monai.local.trial.mail import MailDesk
from airflow_monai.local.trial.options import TrialError, TrialOptions, params_of
from airflow_monai.local.trial.process import Worker
from airflow_monai.local.trial.registered import registered_at_site
from airflow_monai.local.trial.report import TaskReport, TrialReport, task_report
from airflow_monai.local.trial.reviews import ReviewDesk
from airflow_monai.local.trial.watch import WAITS_FOR_PERSON, TaskState, Watcher
from airflow_monai.local.trial.why import why_skipped
from airflow_monai.specs.plan import TaskType, WorkflowPlan
from airflow_monai.specs.problems import Problem
from airflow_monai.specs.routing import decide
from airflow_monai.store import runs as store_runs
from airflow_monai.store.local import LocalStore
from airflow_monai.store.study_folder import read_folder, tags_of
from airflow_monai.types import Payload

LOOK_SECONDS = 0.2
SUCCESS, FAILED, INTERRUPTED = 0, 1, 130


def run(options: TrialOptions) -> int:
    """Run the trial.

    :return: exit code: 0 when the run ended well, 1 when it failed, 130 when it was interrupted.
    :raises MonaiError: when it cannot be made: a bad file, folder or option, or no database.
    """
    plan, notes = read_plan(options.spec)
    conf = params_of(plan, options.params)
    desk = ReviewDesk(plan, options.approve)
    programs()  # says what to install where there is no PostgreSQL
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    folder = new_run(options.state, plan.dag_id)
    trial = Trial(options, plan, folder, desk, conf, list(notes))
    try:
        return trial.run()
    except KeyboardInterrupt:
        trial.say(f"interrupted: everything that was started has been ended; what it left lies in {folder.path}")
        return INTERRUPTED


def read_plan(path: Path) -> tuple[WorkflowPlan, list[str]]:
    """The plan of a workflow file, and the warnings about it; without retries, which an author does not wait for.

    :raises SpecError: with its problems.
    """
    from airflow_monai.specs.compile import plan_of
    from airflow_monai.specs.problems import errors_of
    from airflow_monai.specs.reading import check_file

    spec, problems = check_file(path)
    if spec is None:
        told = "\n".join(str(problem) for problem in errors_of(problems))
        raise SpecError(f"{path} cannot be used:\n{told}", problems=tuple(problems))
    plan = plan_of(spec)
    tasks = tuple(replace(task, retries=0) for task in plan.tasks)
    return replace(plan, tasks=tasks), [_warning(problem) for problem in problems]


def _warning(problem: Problem) -> str:
    return f"{problem.file}:{problem.line}: {problem.message}"


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@dataclass(slots=True)
class Trial:
    """A trial in its folder."""

    options: TrialOptions
    plan: WorkflowPlan
    folder: RunFolder
    reviews: ReviewDesk
    conf: dict[str, Any]
    notes: list[str]
    secrets: Secrets = field(default_factory=Secrets)
    began: float = field(default_factory=time.monotonic)
    start_seconds: float = 0.0
    _record: StackRecord | None = None

    def run(self) -> int:
        mail = MailDesk(self.folder.mail.resolve())
        cluster = self._cluster()
        worker: Worker | None = None
        try:
            with self._recorded():
                worker = self._started(cluster, mail.start())
                payload = self._payload()
                self._start_database(cluster)
                self._note("postgres", cluster.process.ref if cluster.process else None)
                answer = self._watched(worker, cluster, payload)
                report = self._report(answer, cluster, payload, mail)
                worker.kill()  # it has said all that it had to say
                if not self.options.keep:
                    _throw_away(cluster)
        finally:
            mail.stop()
            if worker is not None:
                worker.stop()
            cluster.stop()
            self.folder.release(self.options.keep)
        self._tell(report)
        return SUCCESS if report.state == "success" else FAILED

    def say(self, line: str) -> None:
        """A line of progress; on stderr when stdout is for JSON."""
        print(line, file=sys.stderr if self.options.as_json else sys.stdout, flush=True)

    # -- start ------------------------------------------------------------------------------------------------------

    def _cluster(self) -> Cluster:
        env = base_environment(Layout(self.folder.work.resolve()), self.secrets.token)
        log = self.folder.logs.resolve() / "postgres.log"
        return Cluster(self.folder.work.resolve() / "postgres", log=log, env=env)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """While the trial runs, what it has started is known to whoever must end it should this process be killed."""
        store = str((self.options.store or self.folder.store).resolve())
        state = self.folder.path.resolve()
        self._record = StackRecord(state, self.secrets.token, ProcessRef.of(os.getpid()), store=store)
        self._record.save()
        guard = Guard(state, base_environment(Layout(self.folder.work.resolve()), self.secrets.token))
        try:
            yield
        finally:
            _let_nothing_interrupt()
            if self.options.store is not None:
                self._record.store = None  # containers of others may use it; the worker has removed its own
            teardown(self._record, grace=4)
            guard.release()

    def _note(self, name: str, ref: ProcessRef | None) -> None:
        if self._record is not None and ref is not None:
            self._record.processes[name] = ref
            self._record.save()

    def _started(self, cluster: Cluster, mail_port: int) -> Worker:
        """The process that imports Airflow, which takes as long as all else together."""
        self._tell_plan()
        cluster.make_socket_folder()
        assert self._record is not None
        self._record.socket_folder = str(cluster.socket_folder)
        (self.folder.work / "airflow").mkdir(exist_ok=True)
        (self.folder.work / "airflow" / "airflow.cfg").touch()  # else Airflow writes one with all its defaults
        env = connections.environment(
            self.plan, self.options, self.folder, token=self.secrets.token, database=cluster.url, mail_port=mail_port
        )
        worker = Worker(env, self.folder.logs.resolve() / "airflow.log", self.folder.work.resolve())
        if self.options.verbose:
            worker.show_log()
        self._note("worker", ProcessRef.of(worker.pid))
        return worker

    def _tell_plan(self) -> None:
        """What is not as it would be at the site."""
        places = connections.destinations_of(self.plan, self.options, self.folder)
        for path in places.folders.values():
            path.mkdir(exist_ok=True)
        for name in places.folders if self.options.deliver else ():
            self.notes.append(f"{name}: there is no connection AIRFLOW_CONN_{name.upper()}; a folder takes its exports")
        if places.real:
            self.notes.append(f"exports are delivered to {', '.join(places.real)}")
        calling = [task.id for task in self.plan.tasks if task.type in connections.CALLING_OUT]
        if calling:
            self.notes.append(f"these tasks call services outside: {', '.join(calling)}")
        if self.options.send_email and any(task.type is TaskType.EMAIL for task in self.plan.tasks):
            self.notes.append("e-mails are sent")
        for note in self.notes:
            self.say(f"note: {note}")

    def _payload(self) -> Payload:
        content = read_folder(self.options.study)
        series = choose(content, self.plan, self.options.study)
        for bad in content.bad:
            self._add_note(f"{bad.path}: {bad.problem}{'' if bad.used else ' (not used)'}")
        called = (self.options.called or self.plan.ae_title).strip(" ")
        calling = (self.options.calling or next(iter(self.plan.data_origins), "TRIAL")).strip(" ")
        store = LocalStore((self.options.store or self.folder.store).resolve())
        if self.options.store is None:
            for label, place in registered_at_site(store, self.plan):
                self.say(f"{label} is what is registered in {place}")
        payload = deposit(store, series, called, (calling,))
        (decision,) = decide(payload, tags_of(series), [self.plan])
        if not decision.wanted:
            self._add_note(f"it would not run for this study by itself: {decision.reason}")
        return payload

    def _add_note(self, note: str) -> None:
        self.notes.append(note)
        self.say(f"note: {note}")

    def _start_database(self, cluster: Cluster) -> None:
        cache = cache_folder(self.options.state).resolve()
        if not template_folder(cache).is_dir():
            self.say("making the database (once)")
        template = ensure_template(cache, env=cluster.env, log=self.folder.logs.resolve() / "migrate.log")
        cluster.copy_from(template)
        cluster.start()

    # -- the run ----------------------------------------------------------------------------------------------------

    def _watched(self, worker: Worker, cluster: Cluster, payload: Payload) -> dict[str, Any]:
        """Let the worker run the workflow, and tell what becomes of its tasks."""
        conf = {"payload_id": payload.payload_id, **self.conf}
        worker.send({"plan": self.plan.to_dict(), "conf": conf})
        watcher = Watcher(cluster, self.plan)
        while (answer := worker.answer(LOOK_SECONDS)) is None:
            self._look(watcher, worker, payload)
        if "error" in answer:
            if answer.get("ours"):
                raise TrialError(answer["error"].partition(": ")[2])
            raise TrialError(f"Airflow could not run it: {answer['error']}. Its log: {worker.log}")
        self._look(watcher, worker, payload)
        return answer

    def _look(self, watcher: Watcher, worker: Worker, payload: Payload) -> None:
        states = watcher.states()
        if states and not self.start_seconds:
            self.start_seconds = time.monotonic() - self.began
        for item in watcher.news():
            if item.state == WAITS_FOR_PERSON:
                answer = self.reviews.answer(item, watcher.question(item), self.say)
                worker.send({**answer, "run_id": item.run_id, "task_id": item.task_id, "map_index": item.map_index})
                continue
            self._tell_task(self._task(item, states, payload))

    def _tell_task(self, task: TaskReport) -> None:
        seconds = f"{task.seconds:.1f} s" if task.seconds is not None and task.state != "skipped" else ""
        why = f"  {task.why[0]}" if task.why else ""
        self.say(f"{time.monotonic() - self.began:6.1f} s  {task.name:<20} {task.state:<15} {seconds}{why}".rstrip())

    def _instance(self, payload: Payload, run_id: str) -> store_runs.RunFolder:
        store = LocalStore((self.options.store or self.folder.store).resolve())
        return store_runs.RunFolder(store, payload.payload_id, self.plan.dag_id, run_id)

    # -- end --------------------------------------------------------------------------------------------------------

    def _report(self, answer: dict[str, Any], cluster: Cluster, payload: Payload, mail: MailDesk) -> TrialReport:
        watcher = Watcher(cluster, self.plan)
        order = {task.id: index for index, task in enumerate(self.plan.tasks)}
        states = watcher.states()
        own = watcher.own(states, lambda task: order.get(task, len(order)))
        places = connections.destinations_of(self.plan, self.options, self.folder)
        return TrialReport(
            workflow=self.plan.name,
            version=self.plan.version,
            state=answer["state"],
            payload_id=payload.payload_id,
            images=len(payload.files),
            start_seconds=self.start_seconds,
            seconds=time.monotonic() - self.began,
            tasks=tuple(self._task(state, states, payload) for state in own),
            exports={name: _files_below(path) for name, path in places.folders.items()},
            mails=tuple(mail.mails),
            folder=self.folder.path.resolve(),
            airflow_log=self.folder.logs.resolve() / "airflow.log",
            notes=tuple(self.notes),
        )

    def _task(self, state: TaskState, states: Sequence[TaskState], payload: Payload) -> TaskReport:
        instance = self._instance(payload, state.run_id)
        why: Sequence[str] = ()
        if state.state == "skipped":
            why = why_skipped(state, states, self.plan, instance, payload, self.conf)
        return task_report(state, self.plan, instance, why)

    def _tell(self, report: TrialReport) -> None:
        (self.folder.path / "run.json").write_text(report.to_json(), encoding="utf-8")
        if self.options.as_json:
            sys.stdout.write(report.to_json())
        else:
            for line in report.lines():
                print(line)


def _throw_away(cluster: Cluster) -> None:
    """End a server whose data nobody will look at again."""
    if cluster.process is not None:
        cluster.process.signal(signal.SIGQUIT)
        cluster.process.wait(5)


def _files_below(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(str(path) for path in folder.rglob("*") if path.is_file())) if folder.is_dir() else ()


def _let_nothing_interrupt() -> None:
    """While everything is being ended, a second Ctrl-C must not cut that short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
