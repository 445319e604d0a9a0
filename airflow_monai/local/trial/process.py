"""The process with Airflow in it, as the trial that started it sees it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from airflow_monai.local.processes import tail
from airflow_monai.local.trial.options import TrialError

GIVE_UP_SECONDS = 20


class Worker:
    """The process with Airflow in it.

    :param log: takes all that it prints.
    """

    def __init__(self, env: dict[str, str], log: Path, cwd: Path):
        self.log = log
        reader, writer = os.pipe()
        try:
            with log.open("ab") as output:
                self._popen = subprocess.Popen(
                    [sys.executable, "-c", _START, str(writer)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd=cwd,
                    pass_fds=(writer,),
                    start_new_session=True,  # Ctrl-C is for the trial, which ends this process in good order
                )
        finally:
            os.close(writer)
        self._answers = os.fdopen(reader, "rb")

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, value: dict[str, Any]) -> None:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps(value).encode() + b"\n")
            self._popen.stdin.flush()
        except OSError:
            pass  # it has ended, which the next look for its answer tells

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """What it came to, None when it has not within so many seconds.

        :raises TrialError: when it has ended without an answer.
        """
        ready, _, _ = select.select([self._answers], [], [], seconds)
        if not ready:
            return None
        line = self._answers.readline()
        if not line:
            raise TrialError(f"Airflow ended before the run did; its log {self.log} ends:\n{tail(self.log)}")
        return dict(json.loads(line))

    def show_log(self) -> None:
        """Copy the log to stderr while it is written."""
        threading.Thread(target=self._copy_log, daemon=True).start()

    def _copy_log(self) -> None:
        with self.log.open("rb") as file:
            while self._popen.poll() is None:
                if line := file.readline():
                    sys.stderr.write(line.decode("utf-8", "replace"))
                else:
                    time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, which is right when its run is over."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> None:
        """End it: an interrupted task stops and removes its container first."""
        if self._popen.poll() is None:
            self._popen.terminate()
        try:
            self._popen.wait(GIVE_UP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._answers.close()


_START = (
    "import os, sys; fd = int(sys.argv[1]); os.dup2(fd, 3) if fd != 3 else None; "
    "from airflow_monai.local.trial.worker import main; sys.exit(main())"
)
