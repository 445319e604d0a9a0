"""Airflow, its database, the gateway and a receiving PACS on this machine: for the demo, the tests and the benchmarks.

Every part is a process of its own that can be killed and started again by itself. All state lies in one folder and is
made anew at each start; everything listens on the loopback interface only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from airflow_monai.errors import MonaiError
from airflow_monai.local import environment
from airflow_monai.local.airflow_api import AirflowApi
from airflow_monai.local.environment import USER, Layout, Ports, Secrets
from airflow_monai.local.guard import Guard
from airflow_monai.local.pacs import Pacs, PacsKind, available_kind
from airflow_monai.local.ports import LOOPBACK, PortChooser
from airflow_monai.local.postgres import Cluster
from airflow_monai.local.processes import Process, ProcessRef, wait_until
from airflow_monai.local.record import StackRecord, teardown
from airflow_monai.local.template import ensure_template, template_folder

MARKER = ".airflow-monai-state"
AIRFLOW_PARTS = ("api-server", "scheduler", "triggerer", "dag-processor")
_HEALTH_OF = {"scheduler": "scheduler", "triggerer": "triggerer", "dag-processor": "dag_processor"}
T = TypeVar("T")


class StackError(MonaiError):
    """The local stack does not start, or a part of it ended by itself."""


def project_folder() -> Path:
    """The checkout that this package is installed from (editable); its specs, DAGs and sample MAPs."""
    return Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What may differ between stacks.

    :param workflows: folder of workflow specs; ``dags``: folder of hand-written DAGs, or None.
    :param runner: of MAPs, ``docker`` or ``process``; ``map_path``: where the process runner finds them.
    :param pacs: kind of the receiving PACS; None: what is installed here.
    :param heartbeat_timeout: seconds after which Airflow takes a task without heartbeat for dead.
    :param environment: more variables for all that is started (Airflow options, connections); an empty value unsets.
    :param cache: folder of the migrated database that starts copy.
    :param usual_ports: try the usual ports (UI 8080, gateway 11112, PACS 4242 and 8042) before free ones.
    :param without: parts not to start (``gateway``, ``pacs``, ``dag-processor``...).
    :param start_seconds: how long the start may take.
    """

    workflows: Path = field(default_factory=lambda: project_folder() / "workflow_specs")
    dags: Path | None = field(default_factory=lambda: project_folder() / "dags")
    runner: str = "process"
    map_path: tuple[Path, ...] = field(default_factory=lambda: (project_folder() / "examples" / "maps",))
    pacs: PacsKind | None = None
    heartbeat_timeout: int = 60
    environment: Mapping[str, str] = field(default_factory=dict)
    cache: Path = field(default_factory=lambda: project_folder() / ".demo" / "cache")
    usual_ports: bool = True
    without: frozenset[str] = frozenset()
    start_seconds: float = 180.0


class LocalStack:
    """The stack in one state folder; a context manager that ends it in any case.

    :param state: state folder; what an earlier stack left there is removed at start.
    :param say: called with one line for each step of the start.
    """

    def __init__(self, state: Path, options: StackOptions | None = None, *, say: Callable[[str], None] | None = None):
        self.options = options or StackOptions()
        self.layout = Layout(state.resolve())
        self.secrets = Secrets()
        self.say = say or (lambda line: None)
        self.env: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        self._killed: set[str] = set()
        self._record: StackRecord | None = None
        self._guard: Guard | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self, *, fresh: bool = True) -> LocalStack:
        """Start all parts and wait until they are healthy.

        :param fresh: make the state folder anew; False when :func:`make_state_folder` has been called already.
        :raises StackError: when a part does not come up; everything has been ended then.
        """
        if fresh:
            make_state_folder(self.layout.state)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End everything that was started, in any state it is in."""
        if self._record is not None:
            with _interrupts_ignored():
                teardown(self._record)
            self._record = None
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def leave_running(self) -> None:
        """Let the stack live on when this process ends; `make stop` ends it."""
        assert self._record is not None and self._guard is not None, "the stack does not run"
        self._record.owner = None
        self._record.save()
        self._guard.release()
        self._record = self._guard = None

    def __enter__(self) -> LocalStack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- parts ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        return self.layout.state

    @property
    def ui(self) -> str:
        """URL of Airflow's UI and API."""
        return f"http://{LOOPBACK}:{self.ports.ui}"

    @property
    def logs(self) -> Path:
        """Folder of one log file for each part, and of Airflow's task logs below ``tasks/``."""
        return self.layout.logs

    def restart(self, name: str) -> None:
        """Start a part again that was killed (or still runs: then it is killed first) and wait until it is ready."""
        process = self.processes[name]
        if process.alive():
            self.kill(name)
        process.start()
        self._killed.discard(name)
        self._note(process)
        self._wait_until_ready((name,), seconds=self.options.start_seconds)

    def kill(self, name: str, sig: int = signal.SIGKILL, *, group: bool = False) -> int:
        """Signal a part (or all of its process group) and wait until it has ended; returns the pid it had."""
        process = self.processes[name]
        pid = process.pid
        self._killed.add(name)
        process.signal(sig, group=group)
        if not process.wait(60):
            raise StackError(f"{name} (pid {pid}) still runs 60 s after signal {sig}.")
        return pid

    # -- questions --------------------------------------------------------------------------------------------------

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All DAG runs of a workflow, the oldest first; empty while Airflow does not know it."""
        return self.api.runs(dag_id) if self.api.dag(dag_id) else []

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return self.api.task_instances(dag_id, run_id)

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Task id -> state, for a run without mapped tasks."""
        return {ti["task_id"]: ti["state"] for ti in self.task_instances(dag_id, run_id)}

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What the gateway has reported so far, all or the events of one name."""
        if not self.layout.events.is_file():
            return []
        lines = self.layout.events.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.endswith("}")]  # the last line may be half written
        return [event for event in found if name is None or event["event"] == name]

    def pacs_instances(self) -> list[str]:
        """SOP Instance UIDs that the receiving PACS holds."""
        return self.pacs.instances()

    def wait_for(self, question: Callable[[], T], *, seconds: float, what: str, every: float = 0.5) -> T:
        """The first answer that counts as true.

        :raises StackError: when there was none in so many seconds, or a part has ended meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            answer = question()
            if answer:
                return answer
            self.check()
            if time.monotonic() > deadline:
                raise StackError(f"Waited {seconds:g} s in vain for {what}. The logs are in {self.logs}.")
            time.sleep(every)

    def wait_for_dag(self, dag_id: str, *, seconds: float = 60) -> dict[str, Any]:
        """The DAG of a workflow as soon as Airflow knows it."""
        return self.wait_for(lambda: self.api.dag(dag_id), seconds=seconds, what=f"DAG {dag_id}") or {}

    def wait_for_run(self, dag_id: str, run_id: str, *, seconds: float = 120) -> dict[str, Any]:
        """The run when it has ended, in whatever state."""

        def ended() -> dict[str, Any] | None:
            found = [run for run in self.runs(dag_id) if run["dag_run_id"] == run_id]
            return found[0] if found and found[0]["state"] in ("success", "failed") else None

        return self.wait_for(ended, seconds=seconds, what=f"the end of run {run_id} of {dag_id}") or {}

    def check(self) -> None:
        """Raise :class:`StackError` when a part has ended by itself, with the end of its log."""
        for process in self.processes.values():
            code = process.returncode
            if code is not None and process.name not in self._killed:
                log = f"its log {process.log} ends:\n{process.tail()}"
                raise StackError(f"{process.name} ended with exit code {code}; {log}")

    # -- start ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        chooser = PortChooser()
        try:
            self._start_on(chooser)
        finally:
            chooser.release()

    def _start_on(self, chooser: PortChooser) -> None:
        usual = (8080, 11112, 4242, 8042) if self.options.usual_ports else (0, 0, 0, 0)
        self.ports = Ports(*(chooser.choose(port) for port in usual))
        self.api = AirflowApi(self.ui, USER, self.secrets.password)
        self.env = environment.base_environment(self.layout, self.secrets.token)
        owner = ProcessRef.of(os.getpid())
        self._record = StackRecord(self.state, self.secrets.token, owner, store=str(self.layout.store), ui=self.ui)
        self._record.save()
        self._guard = Guard(self.state, self.env)
        self._make_folders()
        cluster = self._start_database()
        self.env |= self._environment(cluster.url)
        environment.write_shell(self.layout.shell, self.env)
        self.pacs = self._make_pacs()
        for process in (*self._airflow_parts(), self._gateway(), self.pacs.process):
            if process.name not in self.options.without:
                self._launch(process)
        ports = f"the gateway on port {self.ports.dicom}, the PACS on {self.ports.pacs}"
        self.say(f"starting Airflow on {self.ui}, {ports}")
        self._wait_until_ready(tuple(self.processes), seconds=self.options.start_seconds)

    def _make_folders(self) -> None:
        for folder in (self.layout.airflow_home, self.layout.store, self.layout.archive, self.layout.logs):
            folder.mkdir(parents=True, exist_ok=True)
        # an empty file: else every part of Airflow would write one with the defaults, all at once
        (self.layout.airflow_home / "airflow.cfg").touch()
        self.secrets.keep(self.layout.passwords)

    def _start_database(self) -> Cluster:
        if not template_folder(self.options.cache).is_dir():
            self.say("making the database (once)")
        template = ensure_template(self.options.cache, env=self.env, log=self.logs / "migrate.log")
        cluster = Cluster(self.layout.database, log=self.logs / "postgres.log", env=self.env)
        cluster.copy_from(template)
        cluster.start()
        assert cluster.process is not None and self._record is not None
        self._record.socket_folder = str(cluster.socket_folder)
        self.processes["postgres"] = cluster.process
        self._note(cluster.process)
        self.cluster = cluster
        return cluster

    def _environment(self, database_url: str) -> dict[str, str]:
        options = self.options
        return {
            **environment.airflow_environment(
                self.layout, self.ports, self.secrets, database_url=database_url,
                heartbeat_timeout=options.heartbeat_timeout,
                bundles=environment.bundles(options.workflows, options.dags),
            ),
            **environment.monai_environment(
                self.layout, self.ports, self.secrets,
                workflows=options.workflows, runner=options.runner, map_path=options.map_path,
            ),
            **options.environment,
        }  # fmt: skip

    def _airflow_parts(self) -> list[Process]:
        words = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}
        return [self._process(part, ["airflow", part, *words.get(part, [])]) for part in AIRFLOW_PARTS]

    def _gateway(self) -> Process:
        return self._process("gateway", ["airflow", "monai", "gateway", "--events", str(self.layout.events)])

    def _make_pacs(self) -> Pacs:
        kind = self.options.pacs or available_kind()
        return Pacs(kind, self.layout.pacs, self.ports, log=self.logs / "pacs.log", env=self.env)

    def _process(self, name: str, words: list[str]) -> Process:
        argv = [sys.executable, "-m", *words]
        return Process(name, argv, log=self.logs / f"{name}.log", env=self.env, cwd=self.state)

    def _launch(self, process: Process) -> None:
        process.start()
        self.processes[process.name] = process
        self._note(process)

    def _note(self, process: Process) -> None:
        if self._record is not None and process.ref is not None:
            self._record.processes[process.name] = process.ref
            self._record.save()

    def _wait_until_ready(self, names: tuple[str, ...], *, seconds: float) -> None:
        waiting = set(names)
        deadline = time.monotonic() + seconds
        while waiting:
            health = self.api.health() if waiting & {*AIRFLOW_PARTS} else {}
            ready = {name for name in waiting if self._is_ready(name, health)}
            for name in sorted(ready):
                self.say(f"{name} is ready")
            waiting -= ready
            self.check()
            if waiting and time.monotonic() > deadline:
                raise self._not_ready(sorted(waiting), seconds)
            time.sleep(0.2)

    def _is_ready(self, name: str, health: Mapping[str, str]) -> bool:
        if name == "gateway":
            # not by a connection: one without an association would keep a thread of the gateway waiting
            return len(self.events("gateway-started")) >= self.processes[name].starts
        if name == "pacs":
            return self.pacs.ready()
        if name == "postgres":
            return True  # its start waits for the first answer
        if name == "api-server":
            return health.get("metadatabase") == "healthy" and self.api.warm_up()
        return health.get(_HEALTH_OF[name]) == "healthy"

    def _not_ready(self, names: list[str], seconds: float) -> StackError:
        tails = "\n".join(f"--- {self.processes[name].log}\n{self.processes[name].tail()}" for name in names)
        return StackError(f"Not ready after {seconds:g} s: {', '.join(names)}.\n{tails}")


def make_state_folder(state: Path) -> bool:
    """Make the folder anew; True when that erased what an earlier stack had left in it.

    Only a folder that a stack made before is ever emptied, and none whose stack still runs.

    :raises StackError: when the folder holds something else, or a running stack.
    """
    record = StackRecord.load(state)
    if record is not None:
        if record.running() and (record.owner is None or record.owner.alive()):
            raise StackError(f"A stack already runs in {state} ({record.ui}). End it first: make stop")
        teardown(record)  # its owner was killed
    if state.is_dir() and any(state.iterdir()) and not (state / MARKER).is_file():
        raise StackError(f"The folder {state} is not empty and was not made by this command. Choose another one.")
    erased = state.is_dir()
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True, exist_ok=True)
    (state / MARKER).write_text("made by airflow_monai.local; emptied at each start\n")
    return erased


class _interrupts_ignored:
    """While everything is being ended, a second Ctrl-C must not cut that short."""

    def __enter__(self) -> None:
        self._old: dict[int, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._old[number] = signal.signal(number, signal.SIG_IGN)
        except ValueError:
            pass  # not in the main thread: signals do not arrive here

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


__all__ = ["LocalStack", "StackError", "StackOptions", "make_state_folder", "project_folder", "wait_until"]
