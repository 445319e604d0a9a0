"""Run all benchmarks, or those named, print one table of ratios and write JSON.

python -m benchmarks [NAME...] [--json bench-report.json]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.table import Row, Unavailable, print_table

BENCHMARKS = {
    "yaml_to_dag": "YAML to DAG, against plain Python and dag-factory",
    "worker_load": "what a worker pays to load its one workflow among many, against the only one",
    "trial_start": "`airflow monai run` from the command to its first task, against importing Airflow alone",
    "map_overhead": "a MAP task against a bare `docker run` of the same image",
    "packing": "a simulated day on GPU cards, against the best possible and other ways to choose a card",
    "lease_cost": "taking a GPU card, in a process and as the first one of a process, against the limit",
    "receive": "C-STORE received, against dcmtk's storescp",
    "send": "C-STORE sent, against dcmtk's storescu",
    "stow": "STOW-RS sent, against plain requests, to a stub and to Orthanc",
    "upload": "datasets uploaded, against a plain FastAPI route that copies an UploadFile to disk",
    "api_lists": "lists and states of 10,000 jobs by HTTP, against the list of DAG runs of Airflow itself",
    "s3": "files to a store in a bucket and back, against plain boto3 in 16 threads",
    "chain": "announce to end of a 3-task workflow, against the same operators hand-written",
    "throughput": "studies an hour, against three no-op worker tasks hand-written",
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure ours beside a peer or a limit in one run; lower is better for ratios of seconds.",
        epilog="benchmarks: " + "; ".join(f"{name}: {text}" for name, text in BENCHMARKS.items()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones (default: all)")
    parser.add_argument("--json", default="bench-report.json", help="where the figures go (default: %(default)s)")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    rows: list[Row] = []
    failed = []
    for name in args.names or BENCHMARKS:
        print(f"\n{name}: {BENCHMARKS[name]}", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            rows += importlib.import_module(f"benchmarks.{name}").run()
        except Unavailable as reason:
            failed.append(f"{name}: {reason}")
            print(f"  not measured: {reason}", file=sys.stderr)
        except Exception as error:  # noqa: BLE001 - one that breaks must not cost the figures of the others
            traceback.print_exc()
            failed.append(f"{name}: {type(error).__name__}: {error}")
        print(f"  took {time.monotonic() - began:.0f} s", file=sys.stderr)
    print_table(rows)
    report = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "rows": rows,
        "not_measured": failed,
    }
    Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten to {args.json}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
