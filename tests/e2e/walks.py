"""Pages of docs/ as somebody reads them who types what stands there.

``<!-- walk -->`` is before a block of commands that are typed, ``<!-- walk: name -->`` before a file that is written.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_STEP = re.compile(r"^<!-- walk(?:: (\S+))? -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STRICT = """set -e
curl() {
  case $1 in -sf*) mind= ;; *) mind=--fail-with-body ;; esac
  command curl $mind --max-time 60 -w '\\n' "$@"
}
"""
"""Where a person would see that a request is refused, a script has to be told to mind, where the page does not."""
_AIRFLOW = """#!/bin/sh
shift
exec {python} -m airflow_monai "$@"
"""
"""The same commands without Airflow's start-up time, two seconds of a core for each."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What a page has its reader write and type.

    :param files: name -> text.
    :param steps: commands, a text for each block.
    """

    files: Mapping[str, str]
    steps: Sequence[str]

    @classmethod
    def of(cls, page: str) -> Walk:
        found = _STEP.findall((DOCS / page).read_text("utf-8"))
        files = {name: text for name, _, text in found if name}
        steps = [_typed(text) if kind == "console" else text for name, kind, text in found if not name]
        return cls(files, steps)


def _typed(text: str) -> str:
    """Of a terminal what was typed into it."""
    return "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))


@dataclass(frozen=True, slots=True)
class Walker:
    """Walks in an empty folder of its own.

    :param instead: what stands on the pages -> what it is here, as addresses are.
    """

    folder: Path
    instead: Mapping[str, str]

    def start(self, files: Mapping[str, str], *steps: str) -> subprocess.Popen[str]:
        """What the steps print goes to ``said.txt``, and what they complain of too."""
        for name, text in files.items():
            (self.folder / name).write_text(self._here(text))
        programs = self.folder / "programs"
        programs.mkdir()
        _program(programs / "airflow", _AIRFLOW.format(python=sys.executable))
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        script = _STRICT + "\n".join(map(self._here, steps))
        with open(self.folder / "said.txt", "w") as said:
            return subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.folder,
                env={"PATH": path, "HOME": str(self.folder), "no_proxy": "*"},
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def _here(self, text: str) -> str:
        for there, here in self.instead.items():
            text = text.replace(there, here)
        return text


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
