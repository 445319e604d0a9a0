"""What the process runner does where nobody can tell: of the sandbox, of cards, of an application that may run."""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_monai.errors import MapError, RunnerUnavailable
from airflow_monai.maps.runners import place
from airflow_monai.maps.runners.process import sandbox
from airflow_monai.maps.runners.process.runner import ProcessRunner
from airflow_monai.maps.runners.process.sandbox import Cards, start_of
from tests.maps.test_process import CARDS, DEVICES, isolated, job, plain, run  # noqa: F401

BUSY = "exec sleep 60"
SAYS = "echo 'bwrap: {}' >&2; exit 1"
NONE_LEFT = "Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)"
PROBES = {
    "it hangs": BUSY,
    "no process can be had": SAYS.format("Creating new namespace failed: Cannot allocate memory"),
    "all namespaces are in use": SAYS.format(NONE_LEFT),
    "all mounts are in use": SAYS.format("Cannot bind mount /oldroot/ on /newroot/: No space left on device"),
    "a mount went away": SAYS.format("Cannot remount readonly on /newroot/x: Invalid argument"),
    "it says what nobody knows": SAYS.format("Creating new namespace failed: Try again some other day"),
    "all namespaces are in use by then": f'case "$*" in *--proc*) {SAYS.format(NONE_LEFT)};; esac; exec {{real}} "$@"',
    "it is killed": "kill -9 $$",
    "no new proc for now": f'case "$*" in *--proc*) {BUSY};; esac; exec {{real}} "$@"',
}


def bwrap_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of bubblewrap's name before the real one."""
    folder.mkdir(exist_ok=True)
    program = folder / "bwrap"
    program.write_text(f"#!/bin/sh\n{does.replace('{real}', str(shutil.which('bwrap')))}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("probe", PROBES)
def test_a_host_that_is_too_busy_to_tell_whether_it_can_shut_in_lets_nothing_out_and_is_asked_again(
    probe: str,
    isolated: ProcessRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.proc_options.cache_clear()
    wanted = job(tmp_path, "import os; print(len([name for name in os.listdir('/proc') if name.isdigit()]))")
    with monkeypatch.context() as busy:
        bwrap_that(PROBES[probe], tmp_path / "bin", busy)
        busy.setattr(sandbox, "PROBE_SECONDS", 0.3)
        with pytest.raises(RunnerUnavailable, match="nothing is started"):
            isolated.run(wanted, on_line=lambda _: None, check=lambda: None)
    assert "Nobody can tell now whether bubblewrap works" in caplog.text
    assert not wanted.state.exists() and not list(wanted.state.parent.glob("*.place"))
    ended, lines = run(isolated, wanted)
    assert (ended.code, int(lines[0]) < 5) == (0, True), "shut in, with a /proc of its own"


@pytest.mark.parametrize(
    "says",
    [
        "No permissions to creating new namespace, likely because the kernel does not allow non-privileged user "
        "namespaces. On e.g. debian this can be enabled with sysctl kernel.unprivileged_userns_clone=1.",
        "No permissions to create new namespace, likely because the kernel does not allow non-privileged user "
        "namespaces. See <https://deb.li/bubblewrap> or <file:///usr/share/doc/bubblewrap/README.Debian.gz>.",
        "Creating new namespace failed, likely because the kernel does not support user namespaces.  bwrap must be "
        "installed setuid on such systems.",
        "Creating new namespace failed: Operation not permitted",
        "setting up uid map: Permission denied",
        "loopback: Failed RTM_NEWADDR: Operation not permitted",
        "Failed to make / slave: Permission denied",
        "pivot_root: Invalid argument",
        "Unknown option --unshare-all",
        "error while loading shared libraries: libcap.so.2: cannot open shared object file: No such file or directory",
    ],
)
def test_a_bubblewrap_that_says_no_is_believed(says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bwrap_that(SAYS.format(says), tmp_path / "bin", monkeypatch)
    assert not sandbox.bubblewrap_works()


@pytest.mark.parametrize("namespace", ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"])
def test_a_host_that_allows_no_namespace_of_a_kind_is_not_out_of_them_for_the_moment(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap_that(SAYS.format(NONE_LEFT), tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(sandbox, "LIMITS", str(tmp_path))
    (tmp_path / "max_time_namespaces").write_text("0\n")  # of which bubblewrap makes none
    for allowed in ("10\n", "3\n", "1\n"):
        (tmp_path / f"max_{namespace}_namespaces").write_text(allowed)
        with pytest.raises(RunnerUnavailable, match="namespaces; another try"):
            sandbox.bubblewrap_works()
    (tmp_path / f"max_{namespace}_namespaces").write_text("0\n")
    assert not sandbox.bubblewrap_works()


@pytest.mark.parametrize("file", ["exit.json", "lock"])
def test_an_application_of_which_nobody_can_tell_whether_it_runs_is_not_started_again(
    plain: ProcessRunner, tmp_path: Path, file: str
) -> None:
    wanted = job(tmp_path, "")
    wanted.state.mkdir(parents=True)
    (wanted.state / file).symlink_to(file)  # cannot be opened, and is there
    for act in (lambda: plain.run(wanted, on_line=lambda _: None, check=lambda: None), lambda: plain.discard(wanted)):
        with pytest.raises(RunnerUnavailable, match="cannot be told"):
            act()
    assert wanted.state.exists()
    assert plain.holds(wanted.name, wanted.state) is (file == "lock"), "it may have its card"


def test_hosts_that_cannot_tell_their_boot_are_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_text", lambda path: "")
    (name,) = place.host_names.__wrapped__()
    assert name.startswith("host ")


@pytest.mark.parametrize(
    ("leased", "told", "hidden"),
    [
        ("GPU-2", {"GPU-2": "/dev/nvidia1"}, ["/dev/nvidia0"]),  # of the other one the driver tells nothing
        ("GPU-2", CARDS, ["/dev/nvidia0"]),
        ("GPU-2", {}, []),
        ("MIG-3", CARDS, []),
    ],
)
def test_who_can_open_the_files_of_other_cards_is_told(
    leased: str,
    told: dict[str, str],
    hidden: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sandbox.glob, "glob", lambda pattern: list(DEVICES))
    monkeypatch.setattr(sandbox, "told_cards", lambda: Cards(told))
    argv = start_of(job(tmp_path, "", devices=(leased,), gpus=1), tmp_path, isolated=True).argv
    shown = [path for word, path in pairwise(argv) if word == "--dev-bind-try"]
    assert shown == [path for path in sorted(DEVICES) if path not in hidden]
    assert ("can open the device files of all 2 cards" in caplog.text) is not bool(hidden)


def test_a_leased_card_that_is_none_of_the_host_s_opens_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox.glob, "glob", lambda pattern: list(DEVICES))
    monkeypatch.setattr(sandbox, "told_cards", lambda: Cards(CARDS))
    with pytest.raises(MapError, match=r"card GPU-old, .* is none of this host's: .*GPU-1, GPU-2.*pools sync"):
        start_of(job(tmp_path, "", devices=("GPU-1", "GPU-old"), gpus=2), tmp_path, isolated=True)


INFORMATION = "Model: made\nGPU UUID: {}\nDevice Minor: {}\n"
BLANK = "GPU-????????-????-????-????-????????????"


def driver_of(folder: Path, *cards: str) -> Path:
    """What the driver tells of cards, one text each; no file where it is empty."""
    for number, text in enumerate(cards):
        (folder / f"0000:00:0{number}.0").mkdir(parents=True)
        if text:
            (folder / f"0000:00:0{number}.0" / "information").write_text(text)
    return folder


def shown_for(leased: str, driver: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The device files of cards that an application with one card can open."""
    real = sandbox.glob.glob
    devices = [*DEVICES, "/dev/nvidia2"]
    monkeypatch.setattr(sandbox.glob, "glob", lambda of: devices if of.startswith("/dev") else real(of))
    told = sandbox.told_cards(str(driver))
    monkeypatch.setattr(sandbox, "told_cards", lambda: told)
    wanted = job(folder, "", devices=(leased,), gpus=1)
    sandbox.check_cards(wanted)
    argv = start_of(wanted, folder, isolated=True).argv
    return [path for word, path in pairwise(argv) if word == "--dev-bind-try" and path[-1].isdigit()]


ONE, TWO = INFORMATION.format("GPU-1", 0), INFORMATION.format("GPU-2", 1)
SLEEPS = INFORMATION.format(BLANK, 2)
ALL = ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia2"]


@pytest.mark.parametrize(
    ("leased", "cards", "shown", "warned"),
    [
        ("GPU-3", (ONE, TWO, SLEEPS), ALL[2:], None),  # it can be no other one, and is used for the first time
        ("GPU-2", (ONE, TWO, SLEEPS), ALL[1:2], None),
        ("GPU-2", (ONE, SLEEPS.replace("2", "1"), SLEEPS), ALL[1:], "of 2 cards"),
        ("GPU-2", (SLEEPS, SLEEPS, SLEEPS), ALL, "of all 3 cards"),
        ("GPU-2", (ONE, "Model: made\n", SLEEPS), ALL[1:], "of 2 cards"),
        ("GPU-2", (ONE, INFORMATION.format("GPU-2", "?"), SLEEPS), ALL[1:], "of 2 cards"),
        ("GPU-2", (ONE, "", SLEEPS), ALL[1:], "of 2 cards"),
    ],
)
def test_a_card_of_which_the_driver_does_not_tell_yet_can_be_used(
    leased: str,
    cards: tuple[str, ...],
    shown: list[str],
    warned: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert shown_for(leased, driver_of(tmp_path / "gpus", *cards), tmp_path, monkeypatch) == shown
    assert (f"can open the device files {warned}" if warned else "") in caplog.text
    assert ("can open the device files" in caplog.text) is bool(warned)


def test_what_the_driver_tells_and_nobody_can_read_now_is_read_by_another_try(
    isolated: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_of(tmp_path / "gpus", ONE, "")
    (driver / "0000:00:01.0" / "information").symlink_to("information")  # reading it fails, and it is there
    assert shown_for("GPU-1", driver, tmp_path, monkeypatch) == ALL[:1], "the other one's does not matter"
    wanted = job(tmp_path, "", devices=("GPU-2",), gpus=1)
    with pytest.raises(RunnerUnavailable, match=r"card GPU-2, .* cannot be told now: .*information cannot be read"):
        isolated.run(wanted, on_line=lambda _: None, check=lambda: None)
    assert not wanted.state.exists() and not list(wanted.state.parent.glob("*.place"))
    (driver / "0000:00:01.0" / "information").unlink()
    (driver / "0000:00:01.0" / "information").write_text(TWO)
    monkeypatch.undo()
    assert sandbox.told_cards(str(driver)) == Cards(CARDS)
