"""Ends a stack whose owner died without ending it (kill -9, a closed terminal): a shell at the end of a pipe."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_SCRIPT = 'read -r word; [ "$word" = keep ] || exec "$@"'


class Guard:
    """As long as the owner lives it holds the pipe's other end."""

    def __init__(self, state: Path, env: Mapping[str, str]):
        stop = [sys.executable, "-m", "airflow_monai.local", "stop", "--state", str(state), "--quiet"]
        self._popen = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "guard", *stop],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(env), cwd="/", start_new_session=True,
        )  # fmt: skip

    def release(self) -> None:
        """Let the stack live on without its owner; also when the stack has been ended already."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(b"keep\n")
            self._popen.stdin.close()
        except OSError:
            pass  # the guard has been ended with the stack
        self._popen.wait(5)
