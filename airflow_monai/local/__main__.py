"""``python -m airflow_monai.local demo|up|stop``: what `make demo`, `make up` and `make stop` call."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from airflow_monai.errors import MonaiError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 1 (the demo failed), 2 (cannot start), 130 (interrupted)."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return options.run(options)
    except MonaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: everything that was started has been ended", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_monai.local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("demo", _demo, "send a study through the whole chain; STUDY, KEEP, RUNNER, PACS, REPORT are variables"),
        ("up", _up, "start the stack and leave it running"),
        ("stop", _stop, "end a stack that was left running"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        command.add_argument("--state", type=Path, default=Path(".demo/state"), help="state folder (%(default)s)")
        command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    commands.choices["up"].add_argument(
        "--without", action="append", default=[], metavar="PART", help="do not start this part (gateway, pacs...)"
    )
    return parser


def _demo(options: argparse.Namespace) -> int:
    from airflow_monai.local.demo import Demo, DemoOptions

    return Demo(DemoOptions.from_environment(options.state)).run()


def _up(options: argparse.Namespace) -> int:
    from airflow_monai.local.up import up

    return up(options.state, without=frozenset(options.without))


def _stop(options: argparse.Namespace) -> int:
    from airflow_monai.local.record import StackRecord, teardown

    record = StackRecord.load(options.state.resolve())
    if record is not None:
        teardown(record)
    if not options.quiet:
        print(_stopped(options.state) if record else f"nothing runs in {options.state}")
    return 0


def _stopped(state: Path) -> str:
    return f"stopped; what it made stays in {state} until the next start, which erases it: copy what is to be kept"


if __name__ == "__main__":
    sys.exit(main())
