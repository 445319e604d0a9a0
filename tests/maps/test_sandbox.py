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
from airflow_monai.maps.runners.process.sandbox import start_of
from tests.maps.test_process import CARDS, DEVICES, isolated, job, plain, run  # noqa: F401

BUSY = "exec sleep 60"
PROBES = {
    "it hangs": BUSY,
    "no process can be had": "echo 'bwrap: Creating new namespace failed: Cannot allocate memory' >&2; exit 1",
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


def test_a_bubblewrap_that_says_no_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "echo 'bwrap: No permissions to create a new namespace' >&2; exit 1"
    bwrap_that(says, tmp_path / "bin", monkeypatch)
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
    monkeypatch.setattr(sandbox, "device_files", lambda: told)
    argv = start_of(job(tmp_path, "", devices=(leased,), gpus=1), tmp_path, isolated=True).argv
    shown = [path for word, path in pairwise(argv) if word == "--dev-bind-try"]
    assert shown == [path for path in sorted(DEVICES) if path not in hidden]
    assert ("can open the device files of all 2 cards" in caplog.text) is not bool(hidden)


def test_a_leased_card_that_is_none_of_the_host_s_opens_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox.glob, "glob", lambda pattern: list(DEVICES))
    monkeypatch.setattr(sandbox, "device_files", lambda: CARDS)
    with pytest.raises(MapError, match=r"card GPU-old, .* is none of this host's: .*GPU-1, GPU-2.*pools sync"):
        start_of(job(tmp_path, "", devices=("GPU-1", "GPU-old"), gpus=2), tmp_path, isolated=True)
