"""``airflow monai jobs``: MAPs at work on datasets, by the App Server API."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from pathlib import Path

from airflow_monai.cli.printing import print_json, text_of
from airflow_monai.cli.progress import Progress
from airflow_monai.cli.remote.asking import APP_SERVER, INTERRUPTED, NOT_DONE, OK, REFUSED, answer, asks, keyed
from airflow_monai.cli.remote.fetching import fetch, fetch_all
from airflow_monai.cli.remote.following import Job, follow, has_ended
from airflow_monai.client.server import Server, place

_COLUMNS = ("id", "map", "status", "priority", "created_at", "created_by")


@asks(APP_SERVER, refused=NOT_DONE)
def run(server: Server, args: Namespace) -> int:
    """Exit code 0: begun, with ``--wait`` succeeded; 1: one has failed or was cancelled; 2: it could not be done."""
    wanted = {"map": args.map, "dataset": args.dataset, "priority": args.priority}
    with keyed(args.key, "has begun is not begun") as key:
        jobs = server.call("POST", "/jobs", body=wanted, key=key)["jobs"]
    if args.wait:
        return _wait(server, jobs, args)
    if args.json:
        print_json({"jobs": jobs}, sys.stdout)
    else:
        _print_jobs(jobs)
    return OK


@asks(APP_SERVER, refused=NOT_DONE)
def wait(server: Server, args: Namespace) -> int:
    """Exit codes as of ``run --wait``."""
    return _wait(server, [server.call("GET", place("jobs", job)) for job in args.jobs], args)


@asks(APP_SERVER)
def list_all(server: Server, args: Namespace) -> int:
    asked = {"status": args.status, "map": args.map, "dataset": args.dataset}
    jobs = server.listed("/jobs", "jobs", most=args.limit, **asked)
    return answer(args, jobs, columns=_COLUMNS)


@asks(APP_SERVER)
def show(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place("jobs", args.job)))


@asks(APP_SERVER)
def cancel(server: Server, args: Namespace) -> int:
    job = server.call("POST", place("jobs", args.job, "cancel"))
    return answer(args, job, line=f"Cancelled {job['id']}.")


@asks(APP_SERVER)
def results(server: Server, args: Namespace) -> int:
    """List them; with ``--output`` fetch them, as files of a folder or as one archive."""
    path = place("jobs", args.job, "results")
    if args.output.lower().endswith(".zip"):
        files = [{"file": args.output, "size": fetch(server, f"{path}.zip", Path(args.output))}]
    else:
        files = server.listed(path, "files")
        if args.output:
            files = fetch_all(server, path, files, Path(args.output))
    return answer(args, files, columns=("file", "size") if args.output else ("number", "name", "size"))


@asks(APP_SERVER)
def logs(server: Server, args: Namespace) -> int:
    """All that the application printed, as it is."""
    path = place("jobs", args.job, "logs")
    if args.output:
        size = fetch(server, path, Path(args.output))
        return answer(args, {"file": args.output, "size": size}, line=f"{args.output}: {size} bytes")
    if args.json:
        return answer(args, {"id": args.job, "log": b"".join(server.stream(path)).decode(errors="replace")})
    for piece in server.stream(path):
        sys.stdout.buffer.write(piece)
    return OK


@asks(APP_SERVER)
def finalize(server: Server, args: Namespace) -> int:
    done = server.call("POST", place("jobs", args.job, "finalize"))
    return answer(args, done, line=f"Finalized {done['id']}: its outputs can be fetched until {done['until']}.")


@asks(APP_SERVER)
def delete_results(server: Server, args: Namespace) -> int:
    server.call("DELETE", place("jobs", args.job, "results"))
    return answer(args, {"id": args.job}, line=f"Deleted the results of {args.job}.")


def _wait(server: Server, jobs: list[Job], args: Namespace) -> int:
    progress, latest = Progress(sys.stderr), list(jobs)
    if not args.json:
        for job in jobs:
            print(f"{job['id']}  {job['map']}  {job['status']}", file=sys.stderr)
    try:
        until = time.monotonic() + 60.0 * args.timeout if args.timeout else None
        latest = follow(server, jobs, progress, until=until)
    except KeyboardInterrupt:
        progress.clear()
        ids = " ".join(job["id"] for job in jobs)
        print(f"Not waiting any more: the jobs go on. 'airflow monai jobs wait {ids}' waits again.", file=sys.stderr)
        return INTERRUPTED
    if args.json:
        print_json({"jobs": latest}, sys.stdout)
    else:
        _print_jobs(latest)
    if not all(map(has_ended, latest)):
        print(f"error: Not all have ended after {args.timeout} minutes: they go on.", file=sys.stderr)
        return NOT_DONE
    return OK if all(job["status"] == "SUCCEEDED" for job in latest) else REFUSED


def _print_jobs(jobs: list[Job]) -> None:
    for job in jobs:
        reason = f": {job['reason']}" if job.get("reason") else ""
        print(text_of(f"{job['id']}  {job['map']}  {job['status']}{reason}"))
