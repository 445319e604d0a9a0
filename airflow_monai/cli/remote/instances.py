"""``airflow monai instances`` and ``tasks``: what runs and ran, by the Workflow Manager API."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from airflow_monai.cli.moments import moment
from airflow_monai.cli.progress import Progress
from airflow_monai.cli.remote.asking import WORKFLOW_MANAGER, answer, asks
from airflow_monai.client.server import Server, place
from airflow_monai.errors import SettingsError

_AT = "workflowinstances"
_COLUMNS = ("id", "workflow_name", "ae_title", "status", "start_time", "payload_id")
_COUNTS = ("TotalExecutions", "TotalSucceeded", "TotalFailures", "TotalInprogress")
_RAN = ("StartedAt", "WorkflowInstanceId", "TaskId", "MapIndex", "TaskType", "Status", "ExecutionDurationSeconds")
_TASK = ("execution_id", "task_id", "map_index", "task_type", "status", "reason", "task_start_time")


@asks(WORKFLOW_MANAGER)
def list_all(server: Server, args: Namespace) -> int:
    found = _first(server, place(_AT), args.limit, "instances", status=args.status, payloadId=args.payload)
    return answer(args, found, columns=_COLUMNS)


@asks(WORKFLOW_MANAGER)
def show(server: Server, args: Namespace) -> int:
    found = server.call("GET", place(_AT, args.instance))
    return answer(args, found, table="tasks", columns=(*_TASK, "error_message"))


@asks(WORKFLOW_MANAGER)
def failed(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place(_AT, "failed")), columns=_COLUMNS)


@asks(WORKFLOW_MANAGER)
def acknowledge(server: Server, args: Namespace) -> int:
    found = server.call("PUT", place(_AT, args.instance, "executions", args.execution, "acknowledge"))
    return answer(args, found, line=f"Acknowledged {args.execution} of {found['id']}.")


@asks(WORKFLOW_MANAGER)
def running_tasks(server: Server, args: Namespace) -> int:
    found = _first(server, place("tasks", "running"), args.limit, "tasks")
    return answer(args, found, columns=("workflow_instance_id", *_TASK))


@asks(WORKFLOW_MANAGER)
def list_tasks(server: Server, args: Namespace) -> int:
    found = _first(server, place("tasks"), args.limit, "tasks", **_period(args))
    return answer(args, found, columns=("workflow_instance_id", *_TASK, "task_end_time"))


@asks(WORKFLOW_MANAGER)
def stats(server: Server, args: Namespace) -> int:
    if args.daily and args.each:
        raise SettingsError("Say --daily or --each, not both.")
    asked = {**_period(args), "workflowId": args.workflow, "taskId": args.task}
    if args.daily:
        return answer(args, server.call("GET", place("tasks", "dailystats"), **asked), columns=("Date", *_COUNTS))
    if args.each:
        return answer(args, _first(server, place("tasks", "stats"), args.limit, "tasks", **asked), columns=_RAN)
    return answer(args, server.call("GET", place("tasks", "statsoverview"), **asked))


@asks(WORKFLOW_MANAGER)
def show_task(server: Server, args: Namespace) -> int:
    return answer(args, server.call("GET", place("tasks", args.execution)))


@asks(WORKFLOW_MANAGER)
def set_task(server: Server, args: Namespace) -> int:
    found = server.call("PUT", place("tasks", args.execution), body={"status": args.status})
    return answer(args, found, line=f"{found['task_id']} of {found['workflow_instance_id']} is {found['status']}.")


def _period(args: Namespace) -> dict[str, str | None]:
    """
    :raises InvalidArgument: for what is no time.
    """
    return {
        "startTime": moment(args.since) if args.since else None,
        "endTime": moment(args.until, "--until") if args.until else None,
    }


def _first(server: Server, path: str, most: int, what: str, **asked: Any) -> list[dict[str, Any]]:
    progress, found = Progress(sys.stderr), list[dict[str, Any]]()
    for data, total in server.pages(path, **asked):
        found += data
        progress.tell(f"{len(found)} of {total} {what}")
        if len(found) >= most:
            break
    progress.clear()
    return found[:most]
