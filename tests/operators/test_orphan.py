"""An orphaned task process ends itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TASK = """
import os, sys, time
from airflow_monai.operators.orphan import watch_parent
with watch_parent(interval=0.05):
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(60)
"""
WORKER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"


def test_a_task_ends_when_its_worker_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, TASK, str(pid_file)])
    pid = int(_wait_for(lambda: pid_file.exists() and pid_file.read_text()))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    _wait_for(lambda: _gone(pid))


def test_the_watch_ends_with_its_block() -> None:
    import threading

    from airflow_monai.operators.orphan import watch_parent

    with watch_parent(interval=0.01):
        assert any(thread.name == "watch-parent" for thread in threading.enumerate())
    assert not any(thread.name == "watch-parent" for thread in threading.enumerate())


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def _wait_for(condition, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("did not happen in time")
