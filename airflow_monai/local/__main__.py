"""``python -m airflow_monai.local up|demo|stop``: what `make up`, `make demo` and `make stop` call."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from airflow_monai.errors import MonaiError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except MonaiError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started has been ended", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from airflow_monai.local.stack import project_folder

    parser = argparse.ArgumentParser(prog="python -m airflow_monai.local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("up", _up, "start the stack and leave it running"),
        ("stop", _stop, "end a stack that was left running"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        command.add_argument("--state", type=Path, default=project_folder() / ".demo" / "state", help="state folder")
        command.add_argument("--quiet", action="store_true", help="print nothing but errors")
        command.add_argument("--without", action="append", default=[], metavar="PART", help="leave a part out")
    return parser


def _up(options: argparse.Namespace) -> int:
    from airflow_monai.local.stack import LocalStack, StackOptions

    chosen = StackOptions(without=frozenset(options.without))
    stack = LocalStack(options.state, chosen, say=lambda line: None if options.quiet else print(f"  {line}", flush=True))
    stack.start()
    print(f"Airflow: {stack.ui}  user admin, password {stack.secrets.password}")
    print(f"gateway: 127.0.0.1:{stack.ports.dicom}   PACS: 127.0.0.1:{stack.ports.pacs}   state: {stack.state}")
    stack.leave_running()
    return 0


def _stop(options: argparse.Namespace) -> int:
    from airflow_monai.local.record import StackRecord, teardown

    record = StackRecord.load(options.state.resolve())
    if record is None:
        print(f"nothing runs in {options.state}")
        return 0
    teardown(record)
    if not options.quiet:
        print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
