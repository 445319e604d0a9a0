"""``airflow monai gateway``: runs the DICOM gateway until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--events", metavar="FILE", help="append one JSON line for each event to this file")
    parser.add_argument("--host", help="address to listen at ([monai] dicom_host)")
    parser.add_argument("--port", type=int, help="port to listen at, 0 for a free one ([monai] dicom_port)")


def gateway(args: argparse.Namespace) -> NoReturn:
    """The command; ends the process."""
    sys.exit(run(args))


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; the exit code, 1 when it cannot start."""
    from airflow_monai import settings as site
    from airflow_monai.errors import MonaiError
    from airflow_monai.gateway.dicom import metrics
    from airflow_monai.gateway.service import GatewayOptions, gateway_of

    _log_to_stderr()
    stop = threading.Event()

    def told_to_stop(signum: int, frame: FrameType | None) -> None:
        stop.set()

    try:
        settings = site.load()
        options = GatewayOptions.of(settings, host=args.host, port=args.port, events=args.events)
        metrics.begin()
        running = gateway_of(settings, options)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, told_to_stop)
        running.start()
    except MonaiError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 1
    except OSError as error:
        where = error.filename or f"{options.host}:{options.port}"
        sys.stderr.write(f"gateway: cannot listen at {where}: {error.strerror}.\n")
        return 1
    stop.wait()
    running.stop()
    return 0


def _log_to_stderr() -> None:
    """Our log lines, plain, whatever Airflow's logging is set to."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("airflow_monai.gateway")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="airflow monai gateway", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
