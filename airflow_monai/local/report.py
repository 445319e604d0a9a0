"""What the demo found out, as ``demo-report.json`` and as the summary on the terminal."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Seconds:
    """Durations of the steps; None for one that was not reached.

    :param setup: making .venv, installing, building the MAP's image; ``start``: until everything is healthy.
    :param receive: from the first image sent until the study was complete (the quiet time is part of it).
    :param run: from there until the MAP had ended; ``deliver``: from there until the PACS held its result.
    """

    setup: float | None = None
    start: float | None = None
    receive: float | None = None
    run: float | None = None
    deliver: float | None = None


@dataclass(slots=True)
class DemoReport:
    """The fields of ``demo-report.json``.

    :param note: what went otherwise than usual in a demo that did not fail; not there where nothing did.
    :param error: why the demo failed; not there where it did not.
    """

    runner: str = ""
    runner_reason: str = ""
    payload_id: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    images_received: int = 0
    tasks: list[dict[str, Any]] = field(default_factory=list)
    exported: list[dict[str, Any]] = field(default_factory=list)
    picture: str | None = None
    seconds: Seconds = field(default_factory=Seconds)
    note: str | None = None
    error: str | None = None

    def write(self, path: Path) -> None:
        data = asdict(self)
        data["seconds"] = {name: _rounded(value) for name, value in data["seconds"].items()}
        for name in ("note", "error"):
            if data[name] is None:
                del data[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Access:
    """How a person looks at the run.

    :param url: of the run in Airflow's UI, while the stack runs.
    :param shell: the file that points a shell at the stack; ``kept``: whether the stack stays.
    """

    url: str
    user: str
    password: str
    shell: Path
    kept: bool


_LOOK = "to look at it there: KEEP=1 make demo, which ends with its address, user and password"


def summary(report: DemoReport, access: Access, *, segmentation: Path | None, report_path: Path) -> str:
    """The closing lines on the terminal."""
    steps = ", ".join(f"{name} {value:.1f} s" for name, value in asdict(report.seconds).items() if value is not None)
    rows = [
        ("workflow run", access.url if access.kept else f"{report.run_id} of {report.dag_id}; Airflow is stopped now"),
        ("", f"user {access.user}, password {access.password}" if access.kept else _LOOK),
        ("command line", shell_example(access.shell) if access.kept else ""),
        ("segmentation", str(segmentation or "")),
        ("picture", report.picture or ""),
        ("runner", f"{report.runner}: {report.runner_reason}"),
        ("delivered", _delivered(report)),
        ("time", steps),
        ("report", str(report_path)),
    ]
    return "\n".join(f"  {title:<13} {text}" for title, text in rows if text)


def shell_example(shell: Path, command: str = "payloads list") -> str:
    """How to run Airflow's commands on a stack that was left running."""
    program = shlex.quote(near(Path(sys.executable).parent / "airflow"))
    return f". {shlex.quote(near(shell))} && {program} monai {command}"


def near(path: Path) -> str:
    """The path from here where it is below, with a slash in it: a shell looks names without one up in PATH."""
    near = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    return near if "/" in near else f"./{near}"


def _delivered(report: DemoReport) -> str:
    sinks: dict[str, int] = {}
    for item in report.exported:
        sinks[item["sink"]] = sinks.get(item["sink"], 0) + 1
    return ", ".join(f"{count} to {sink}" for sink, count in sorted(sinks.items()))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
