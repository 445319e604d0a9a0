"""The process runner's own parts: the sandbox's command line, the keeper, and hosts without bubblewrap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_monai.errors import MapInterrupted, PolicyRefused, RunnerUnavailable
from airflow_monai.maps.manifest import MapResources, parse_manifest
from airflow_monai.maps.policy import Confinement
from airflow_monai.maps.runners.base import Exit, FoundMap, MapJob, Mount
from airflow_monai.maps.runners.process import keeper, sandbox
from airflow_monai.maps.runners.process import runner as process
from airflow_monai.maps.runners.process.runner import ProcessRunner
from airflow_monai.maps.runners.process.sandbox import Cards, start_of
from airflow_monai.settings import Settings
from airflow_monai.store import open_store
from tests.conftest import require


def job(tmp_path: Path, source: str, *, command: str = "python3 /opt/holoscan/app/main.py", **change: object) -> MapJob:
    folder = tmp_path / "maps" / "made"
    (folder / "app").mkdir(parents=True, exist_ok=True)
    (folder / "app" / "main.py").write_text(source)
    (tmp_path / "in").mkdir(exist_ok=True)
    manifest = parse_manifest(json.dumps({"command": command}).encode(), b"{}", where="made")
    output = tmp_path / "task" / "g1"
    fields: dict[str, object] = {
        "name": "monai-made",
        "found": FoundMap("made:1", str(folder), manifest),
        "labels": {},
        "task_labels": {},
        "environment": {"HOLOSCAN_INPUT_PATH": "/var/holoscan/input/", "HOLOSCAN_OUTPUT_PATH": "/var/holoscan/output/"},
        "mounts": (Mount(tmp_path / "in", manifest.input_path), Mount(output, manifest.output_path, read_only=False)),
        "output": output,
        "state": output.with_name("g1.run"),
        "resources": MapResources(),
    }
    return MapJob(**{**fields, **change})  # type: ignore[arg-type]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ProcessRunner:
    """The runner on a host without bubblewrap."""
    monkeypatch.setattr(process, "bubblewrap_works", lambda: False)
    site = Settings("s", "w", "process", (), "", "", "", "", "", 0, 0.0, "filtered")
    return ProcessRunner(site, open_store(str(tmp_path / "store")))


def run(runner: ProcessRunner, wanted: MapJob) -> tuple[Exit, list[str]]:
    lines: list[bytes] = []
    try:
        ended = runner.run(wanted, on_line=lines.append, check=lambda: None)
    finally:
        runner.discard(wanted)
    assert not wanted.state.exists()
    return ended, [line.decode() for line in lines]


def test_plain_process_finds_its_folders(plain: ProcessRunner, tmp_path: Path) -> None:
    (tmp_path / "in" / "x").parent.mkdir(exist_ok=True)
    (tmp_path / "in" / "x").write_text("from the input")
    source = (
        "import os, shutil\n"
        "shutil.copy(os.environ['HOLOSCAN_INPUT_PATH'] + 'x', os.environ['HOLOSCAN_OUTPUT_PATH'] + 'y')\n"
        "print(os.getcwd(), os.environ.get('AIRFLOW_HOME'))\n"
    )
    ended, lines = run(plain, job(tmp_path, source))
    assert ended.code == 0
    assert (tmp_path / "task" / "g1" / "y").read_text() == "from the input"
    assert lines == [f"{tmp_path}/task/g1.run/work None"]


def test_ended_while_it_is_being_started(plain: ProcessRunner, tmp_path: Path) -> None:
    """The keeper has not taken its lock yet, by which a discard knows it."""
    wanted = job(tmp_path, "import os; open(os.environ['HOLOSCAN_OUTPUT_PATH'] + 'ran', 'w').close()")

    def check() -> None:
        if (wanted.state / "job.json").exists():
            raise MapInterrupted("ended")

    begun = time.monotonic()
    with pytest.raises(MapInterrupted):
        plain.run(wanted, on_line=lambda _: None, check=check)
    plain.discard(wanted)
    assert time.monotonic() - begun < 20
    time.sleep(0.5)
    assert not wanted.state.exists()
    assert list(wanted.output.iterdir()) == []


def test_another_host_does_not_start_a_second_copy(
    plain: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(tmp_path, "print('ran')")

    def on(*names: str) -> ProcessRunner:
        monkeypatch.setattr(process, "host_names", lambda: names)
        return plain

    on("boot 1", "host a")
    process.PLACE.enter(wanted)  # and then its worker and its keeper were killed
    with pytest.raises(RunnerUnavailable, match="another host"):
        on("boot 2", "host b").run(wanted, on_line=lambda _: None, check=lambda: None)
    with pytest.raises(RunnerUnavailable, match="another host"):
        plain.discard(wanted)
    ended, lines = run(on("boot 3", "host a"), wanted)  # it has started anew: whatever ran there is gone
    assert (ended.code, lines) == (0, ["ran"])
    assert list(wanted.state.parent.glob("*.place")) == []


def test_plain_process_has_paths_replaced_in_shell_commands(plain: ProcessRunner, tmp_path: Path) -> None:
    command = "python3 /opt/holoscan/app/main.py > /var/holoscan/output/log && echo /opt/holoscan/application"
    ended, lines = run(plain, job(tmp_path, "print('hello')", command=command))
    assert ended.code == 0
    assert (tmp_path / "task" / "g1" / "log").read_text() == "hello\n"
    assert lines == ["/opt/holoscan/application"]  # another path that only begins alike


def test_memory_counts_for_all_processes_of_the_application(plain: ProcessRunner, tmp_path: Path) -> None:
    source = """
import subprocess, sys, time
hungry = "x = bytearray(70_000_000); import time; time.sleep(30)"
for _ in range(2):
    subprocess.Popen([sys.executable, "-c", hungry])
time.sleep(30)
"""
    limit = MapResources(memory_bytes=128 * 1024**2)
    ended, _ = run(plain, job(tmp_path, source, resources=limit))
    assert ended.oom and ended.code == 137


def test_deaf_application_is_killed_at_its_time_limit(plain: ProcessRunner, tmp_path: Path) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    source = f"import signal, time; {deaf}"
    ended, lines = run(plain, job(tmp_path, source, timeout_seconds=3, confinement=Confinement(grace_seconds=0.5)))
    assert ended.timed_out and 3.5 <= ended.seconds < 30
    assert ended.code == 137
    assert lines == ["deaf"]


def test_background_processes_end_with_the_application(plain: ProcessRunner, tmp_path: Path) -> None:
    source = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid)
"""
    ended, lines = run(plain, job(tmp_path, source))
    assert ended.code == 0
    deadline = time.monotonic() + 30
    while _lives(int(lines[0])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(int(lines[0]))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_signal_and_missing_program_become_exit_codes(plain: ProcessRunner, tmp_path: Path) -> None:
    ended, _ = run(plain, job(tmp_path, "import os; os.kill(os.getpid(), 9)"))
    assert ended.code == 137 and ended.killed
    ended, lines = run(plain, job(tmp_path, "", command="no-such-program"))
    assert ended.code == 127
    assert any("could not be started" in line for line in lines)


def test_a_fork_bomb_is_ended_and_not_tried_again(plain: ProcessRunner, tmp_path: Path) -> None:
    source = "import os, time\nwhile True:\n    time.sleep(0.01)\n    if os.fork() == 0: time.sleep(60)"
    ended, lines = run(plain, job(tmp_path, source, confinement=Confinement(pids=20)))
    assert ended.code == keeper.TOO_MANY_CODE and not ended.killed
    assert "more than the 20 processes that it may have" in lines[-1]


def test_killed_at_once_from_another_thread(plain: ProcessRunner, tmp_path: Path) -> None:
    wanted = job(tmp_path, "print('runs', flush=True); import time; time.sleep(60)")
    ended: list[Exit] = []
    waiting = threading.Thread(target=lambda: ended.append(run(plain, wanted)[0]))
    waiting.start()
    deadline = time.monotonic() + 40
    while waiting.is_alive() and time.monotonic() < deadline:
        plain.kill(wanted)
        time.sleep(0.05)
    waiting.join()
    assert ended[0].code == 137 and ended[0].seconds < 40


def test_use_is_measured_of_all_its_processes(plain: ProcessRunner, tmp_path: Path) -> None:
    source = """
import subprocess, sys, time
hog = "kept = bytearray(80 * 2**20)\\nimport time\\nwhile time.process_time() < 0.5: pass"
subprocess.run([sys.executable, "-c", hog])
while time.process_time() < 0.3: pass
"""
    ended, _ = run(plain, job(tmp_path, source))
    assert ended.usage.peak_memory_bytes is not None and 80 * 2**20 < ended.usage.peak_memory_bytes < 150 * 2**20
    assert ended.usage.cpu_seconds is not None and 0.75 < ended.usage.cpu_seconds < 10
    assert ended.usage.gpu_memory_bytes is None


def test_of_too_much_output_the_end_is_kept(
    plain: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_LOG_BYTES", 100_000)
    _, lines = run(plain, job(tmp_path, "for number in range(100_000): print(f'line {number:06}')"))
    assert lines[0] == "line 000000" and lines[-1] == "line 099999"
    told = [line for line in lines if "left out here" in line]
    assert len(told) == 1 and 10_000 < len(lines) < 40_000
    after = lines[lines.index(told[0]) + 1 :]
    assert all(len(line) == 11 for line in after), "the end begins with a whole line"


def test_second_keeper_of_a_folder_gives_way(plain: ProcessRunner, tmp_path: Path) -> None:
    wanted = job(tmp_path, "import time; time.sleep(60); open('/var/holoscan/output/x', 'a').write('1')")
    wanted.output.mkdir(parents=True)
    child = plain._start(wanted)
    deadline = time.monotonic() + 50
    while not (wanted.state / "pid.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)  # which of two keepers that start at once is the first is open
    command = [sys.executable, "-I", "-S", keeper.__file__, str(wanted.state)]
    second = subprocess.run(command, check=False, timeout=50)
    assert second.returncode == 0
    plain.discard(wanted)
    child.wait(60)


def test_sandbox_shows_nothing_of_the_host_but_what_is_listed(tmp_path: Path) -> None:
    start = start_of(job(tmp_path, ""), tmp_path, isolated=True)
    options = list(zip(start.argv, start.argv[1:], strict=False))
    shown = [path for word, path in options if word in ("--bind", "--ro-bind", "--ro-bind-try")]
    writable = [path for word, path in options if word == "--bind"]
    assert writable == [str(tmp_path / "task" / "g1")]
    assert "/" not in shown and "/etc" not in shown and "/home" not in shown and "/root" not in shown
    assert "--unshare-all" in start.argv
    assert start.argv[-2:] == (sys.executable, "/opt/holoscan/app/main.py")


CARDS = {"GPU-1": "/dev/nvidia0", "GPU-2": "/dev/nvidia1"}
DEVICES = [*CARDS.values(), "/dev/nvidia-caps", "/dev/nvidia-uvm", "/dev/nvidiactl"]


@pytest.mark.parametrize(
    ("leased", "told", "hidden"),
    [
        ((), CARDS, DEVICES),
        (("GPU-2",), CARDS, ["/dev/nvidia0"]),
        (("GPU-1", "GPU-2"), CARDS, []),
        (("MIG-3",), CARDS, []),  # a slice, of a card that nobody knows
        (("GPU-2",), {}, []),  # a driver that does not tell
    ],
)
def test_sandbox_shows_the_device_files_of_leased_cards_only(
    leased: tuple[str, ...],
    told: dict[str, str],
    hidden: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox.glob, "glob", lambda pattern: list(DEVICES))
    monkeypatch.setattr(sandbox, "told_cards", lambda: Cards(told))
    argv = start_of(job(tmp_path, "", devices=leased, gpus=len(leased)), tmp_path, isolated=True).argv
    shown = [path for word, path in pairwise(argv) if word == "--dev-bind-try"]
    assert shown == [path for path in sorted(DEVICES) if path not in hidden]


def test_device_files_are_what_the_driver_says_below_proc(tmp_path: Path) -> None:
    recorded = (Path(__file__).parents[1] / "gpu" / "machines" / "h100.information.txt").read_text()
    for bus, text in {"0000:00:06.0": recorded, "0000:00:07.0": "Model: another\n"}.items():
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(text)
    files = {"GPU-5d0c7f2e-6b1a-4c53-9e88-2f7a41c06b9d": "/dev/nvidia0"}
    assert sandbox.told_cards(str(tmp_path)) == Cards(files, untold=True)
    assert sandbox.told_cards(str(tmp_path / "none")) == Cards({})


HOSTILE = {"LD_PRELOAD": "/opt/holoscan/app/evil.so", "PATH": "/opt/holoscan/app", "PYTHONPATH": "/x"}


def test_bubblewrap_itself_gets_nothing_of_the_application_s_environment(tmp_path: Path) -> None:
    start = start_of(job(tmp_path, "", environment=HOSTILE), tmp_path, isolated=True)
    assert start.environment == {}
    assert Path(start.argv[0]).is_absolute()
    given = {start.argv[at + 1]: start.argv[at + 2] for at, word in enumerate(start.argv) if word == "--setenv"}
    assert given.items() >= HOSTILE.items()


def test_a_network_of_an_engine_is_not_the_whole_network_of_the_host(plain: ProcessRunner, tmp_path: Path) -> None:
    with pytest.raises(PolicyRefused, match=r"wants the network 'models' \(args\.network\).*this host or none"):
        run(plain, job(tmp_path, "", confinement=Confinement(network="models")))


@pytest.mark.parametrize(("network", "shared"), [("none", False), ("models", False), ("host", True)])
def test_only_who_has_the_host_s_network_is_given_it(tmp_path: Path, network: str, shared: bool) -> None:
    wanted = job(tmp_path, "", confinement=Confinement(network=network))
    assert ("--share-net" in start_of(wanted, tmp_path, isolated=True).argv) is shared


def test_plain_process_gets_nothing_that_steers_the_loader(tmp_path: Path) -> None:
    start = start_of(job(tmp_path, "", environment=HOSTILE), tmp_path, isolated=False)
    assert "LD_PRELOAD" not in start.environment
    assert start.environment["PYTHONPATH"] == "/x"


@pytest.fixture
def isolated(tmp_path: Path) -> ProcessRunner:
    require("bubblewrap")
    site = Settings("s", "w", "process", (), "", "", "", "", "", 0, 0.0, "filtered")
    return ProcessRunner(site, open_store(str(tmp_path / "store")))


def test_sandboxed_application_has_its_environment_and_no_other(
    isolated: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKERS_SECRET", "x")
    environment = {"LD_LIBRARY_PATH": "/opt/holoscan/app", "EMPTY": "", "A": "b c"}
    source = "import os, json; print(json.dumps(dict(os.environ)))"
    ended, lines = run(isolated, job(tmp_path, source, environment=environment))
    assert ended.code == 0
    seen = json.loads(lines[0])
    assert seen.items() >= environment.items()
    assert "WORKERS_SECRET" not in seen


def test_sandbox_hides_airflow_s_files_that_lie_among_programs(
    isolated: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", "/usr/share/doc")
    monkeypatch.setenv("AIRFLOW_CONFIG", "/usr/share/common-licenses/GPL-3")
    source = "import os; print(os.listdir('/usr/share/doc'), os.path.getsize('/usr/share/common-licenses/GPL-3'))"
    ended, lines = run(isolated, job(tmp_path, source))
    assert (ended.code, lines) == (0, ["[] 0"])


def test_sandbox_shows_programs_of_the_worker_s_environment_but_not_what_lies_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "airflow"
    (prefix / "lib").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setenv("AIRFLOW_HOME", str(prefix))
    argv = start_of(job(tmp_path, ""), tmp_path, isolated=True).argv
    assert str(prefix / "lib") in argv
    assert str(prefix) not in argv


def test_where_no_new_proc_can_be_had_the_sandbox_shows_the_container_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for an engine that hides parts of /proc; `make test-compose` has a real one."""
    monkeypatch.setattr(sandbox, "_sandbox_starts", lambda *options: "--proc" not in options)
    sandbox.proc_options.cache_clear()
    argv = start_of(job(tmp_path, ""), tmp_path, isolated=True).argv
    sandbox.proc_options.cache_clear()
    assert "--proc" not in argv and "--ro-bind /proc /proc --dev /dev" in " ".join(argv)


def test_an_application_that_sees_another_process_cannot_look_into_it(
    isolated: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "proc_options", lambda: ("--ro-bind", "/proc", "/proc"))
    source = f"""
import os
for name in ("environ", "mem", "maps"):
    try:
        open("/proc/{os.getpid()}/" + name, "rb").read(1)
        print(name, "was read")
    except PermissionError:
        print(name, "refused")
try:
    os.kill({os.getpid()}, 0)
except ProcessLookupError:
    print("nobody to signal")
"""
    ended, lines = run(isolated, job(tmp_path, source))
    assert ended.code == 0, lines
    assert lines == ["environ refused", "mem refused", "maps refused", "nobody to signal"]
