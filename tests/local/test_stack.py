"""The local stack: it starts, can be killed part by part, and nothing of it stays behind, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airflow_monai.local.pacs import PacsKind
from airflow_monai.local.ports import PortChooser
from airflow_monai.local.postgres import Cluster
from airflow_monai.local.processes import TOKEN_VARIABLE, Process, ProcessRef, marked, wait_until
from airflow_monai.local.record import StackRecord, teardown
from airflow_monai.local.stack import MARKER, LocalStack, StackError, StackOptions, make_state_folder

# the database and the PACS alone: ready in a second, and ended by the same code as the rest
SMALL = StackOptions(
    pacs=PacsKind.STORE,
    usual_ports=False,
    without=frozenset({"api-server", "scheduler", "triggerer", "dag-processor", "gateway"}),
)

OWNER = """
import sys, time
from pathlib import Path
from airflow_monai.local.stack import LocalStack
from tests.local.test_stack import SMALL
stack = LocalStack(Path(sys.argv[1]), SMALL)
try:
    stack.start()
    print("ready", flush=True)
    time.sleep(300)
finally:
    stack.stop()
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with LocalStack(tmp_path / "state", SMALL) as stack:
        yield stack


def pids_of(state: Path) -> dict[str, ProcessRef]:
    record = StackRecord.load(state)
    assert record is not None
    return record.processes


def ended(refs: dict[str, ProcessRef], seconds: float = 60) -> bool:
    return wait_until(lambda: not any(ref.alive() for ref in refs.values()), seconds)


def test_what_was_started_runs_and_then_nothing_of_it_is_left(tmp_path: Path) -> None:
    with LocalStack(tmp_path / "state", SMALL) as stack:
        refs = pids_of(stack.state)
        sockets = stack.cluster.socket_folder
        assert {name for name, ref in refs.items() if ref.alive()} == {"postgres", "pacs"}
        assert stack.cluster.execute("SELECT count(*) FROM dag_run") == [(0,)], "the database is migrated"
        assert stack.pacs_instances() == []
        assert stack.cluster.execute("SHOW dynamic_shared_memory_type") == [("mmap",)], "nothing in /dev/shm"
    assert not any(ref.alive() for ref in refs.values())
    assert marked(stack.secrets.token) == []
    assert sockets is not None and not sockets.exists()
    assert not (stack.state / "stack.json").exists()


def test_passwords_are_for_the_owner_only(stack: LocalStack) -> None:
    assert stat.S_IMODE(stack.layout.passwords.stat().st_mode) == 0o600
    assert json.loads(stack.layout.passwords.read_text()) == {"admin": stack.secrets.password}
    logs = "".join(path.read_text() for path in stack.logs.glob("*.log"))
    assert stack.secrets.password not in logs and stack.secrets.fernet_key not in logs


def test_a_part_is_killed_and_started_again(stack: LocalStack) -> None:
    pid = stack.kill("pacs")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    stack.check()  # a part that was killed on purpose is no error
    stack.restart("pacs")
    assert stack.processes["pacs"].pid != pid
    assert pids_of(stack.state)["pacs"].alive(), "it is ended with the rest"


def test_a_part_that_ends_by_itself_is_told_with_the_end_of_its_log(stack: LocalStack) -> None:
    process = stack.processes["pacs"]
    with process.log.open("a") as log:
        log.write("no space left\n")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(30)
    with pytest.raises(StackError, match=r"(?s)pacs ended with exit code -9.*no space left"):
        stack.check()


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_everything_ends_with_its_owner(tmp_path: Path, number: int) -> None:
    state = tmp_path / "state"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(state)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n", owner.communicate()[1].decode()
    record = StackRecord.load(state)
    assert record is not None and all(ref.alive() for ref in record.processes.values())
    owner.send_signal(number)
    owner.communicate(timeout=90)
    assert ended(record.processes)
    assert wait_until(lambda: marked(record.token) == [], 60)
    assert wait_until(lambda: not record.path.exists(), 60)


def test_what_a_part_left_behind_in_a_session_of_its_own_is_ended_too(stack: LocalStack) -> None:
    orphan = subprocess.Popen(["sleep", "300"], env=stack.env, start_new_session=True)
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        stack.stop()
        assert orphan.poll() is not None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_part_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    env = {**os.environ, TOKEN_VARIABLE: "stubborn"}
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ok', flush=True); time.sleep(99)"
    )
    process = Process("stubborn", [sys.executable, "-u", "-c", script], log=tmp_path / "log", env=env)
    process.start()
    assert wait_until(lambda: process.tail() == "ok", 60)
    assert process.ref is not None
    teardown(StackRecord(tmp_path, "stubborn", None, {"stubborn": process.ref}), grace=1)
    assert process.wait(30)


def test_a_stack_that_is_left_running_is_ended_by_the_stop_command(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path / "state", SMALL).start()
    refs = pids_of(stack.state)
    stack.leave_running()
    assert all(ref.alive() for ref in refs.values())
    with pytest.raises(StackError, match="make stop"):
        make_state_folder(stack.state)
    for said in ("the next start, which erases it", "nothing runs"):  # the second time there is nothing to do
        done = subprocess.run(
            [sys.executable, "-m", "airflow_monai.local", "stop", "--state", str(stack.state)], capture_output=True
        )
        assert done.returncode == 0
        assert said in done.stdout.decode()
    assert ended(refs)


def test_a_folder_with_something_else_in_it_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(StackError, match="not empty"):
        LocalStack(tmp_path, SMALL).start()
    assert (tmp_path / "thesis.txt").is_file()


def test_the_state_is_made_anew(tmp_path: Path) -> None:
    assert not make_state_folder(tmp_path / "state")
    (tmp_path / "state" / "old").touch()
    assert make_state_folder(tmp_path / "state"), "the caller can say that something was erased"
    assert [path.name for path in (tmp_path / "state").iterdir()] == [MARKER]


def test_a_failing_start_ends_what_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStack, "_wait_until_ready", lambda *_, **__: (_ for _ in ()).throw(StackError("no")))
    stack = LocalStack(tmp_path / "state", SMALL)
    with pytest.raises(StackError):
        stack.start()
    assert marked(stack.secrets.token) == []


def test_a_port_that_is_taken_is_left_to_its_owner() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = sock.getsockname()[1]
        assert PortChooser().choose(taken) != taken


def test_a_port_that_is_chosen_is_given_to_no_connection_before_its_server_listens() -> None:
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(limits.read_text().split()[0]) if limits.exists() else 49_152
    assert all(port < lowest for port in (PortChooser().choose() for _ in range(20)))


def test_two_stacks_that_start_at_once_do_not_choose_the_same_port(free_port: int) -> None:
    one, other = PortChooser(), PortChooser()
    assert one.choose(free_port) == free_port
    assert other.choose(free_port) != free_port
    assert one.choose(free_port) != free_port, "one stack does not choose a port twice"
    one.release()
    assert PortChooser().choose(free_port) == free_port


def test_the_database_starts_for_root_in_a_folder_that_others_may_not_enter(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    cluster = Cluster(locked / "data", log=tmp_path / "log", env=os.environ)
    cluster.create()
    cluster.start()
    try:
        assert cluster.execute("SELECT 1", database="postgres") == [(1,)]
    finally:
        cluster.stop()
    assert stat.S_IMODE(locked.stat().st_mode) == 0o700, "no folder's mode was changed"


_OWNER = """
import os, sys, time
from pathlib import Path
from airflow_monai.local.postgres import Cluster
folder = Path(sys.argv[1])
cluster = Cluster(folder / "data", log=folder / "log", env=os.environ, ends_with_owner=True)
cluster.create()
cluster.start()
print(cluster.process.pid, cluster.socket_folder, flush=True)
if sys.argv[2] == "stops":
    cluster.stop()
else:
    time.sleep(600)
"""


@pytest.mark.parametrize("end", ["stops", "is killed"])
def test_a_database_ends_with_the_process_that_owns_it(tmp_path: Path, end: str) -> None:
    words = [sys.executable, "-c", _OWNER, str(tmp_path), end]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, sockets = owner.stdout.readline().split()
        ref = ProcessRef.of(int(pid))
        if end == "is killed":
            assert ref and ref.alive()
            owner.kill()
        owner.wait(60)
    assert wait_until(lambda: not (ref and ref.alive()), 60)
    assert wait_until(lambda: not Path(sockets).exists(), 60)


@pytest.mark.skipif(os.geteuid() != 0, reason="all the other tests run as an ordinary user then")
def test_the_database_starts_for_an_ordinary_user(tmp_path: Path) -> None:
    import psycopg2  # noqa: F401 - before the user changes, who may not read every folder of Python

    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            cluster = Cluster(home / "data", log=home / "log", env=os.environ)
            cluster.create()
            cluster.start()
            code = 0 if cluster.execute("SELECT 1", database="postgres") == [(1,)] else 2
            cluster.stop()
        except BaseException:  # noqa: BLE001 - the other side of the fork must be told
            (home / "traceback").write_text(traceback.format_exc())
        finally:
            os._exit(code)
    deadline = time.monotonic() + 180
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.1)
    traces = [path.read_text() for path in home.glob("traceback")]
    assert os.waitstatus_to_exitcode(done[1]) == 0, traces


def test_what_gave_its_mark_away_is_ended_with_its_parent(stack: LocalStack) -> None:
    script = "env -i sleep 300 & wait"
    keeper = subprocess.Popen(["sh", "-c", script], env=stack.env, start_new_session=True)
    assert wait_until(lambda: bool(psutil.Process(keeper.pid).children()), 60)
    (child,) = psutil.Process(keeper.pid).children()
    ref = ProcessRef.of(child.pid)
    stack.stop()
    keeper.wait(60)
    assert wait_until(lambda: ref is None or not ref.alive(), 60)
