"""The commands for workflow instances and their tasks, by the Workflow Manager API."""

from __future__ import annotations

from airflow_monai.cli.table import Topic, choice, flag, limit, option, positional

_INSTANCES = Topic("instances", "airflow_monai.cli.remote.instances")
_TASKS = Topic("tasks", "airflow_monai.cli.remote.instances")
_ID = "0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11"
_EXECUTION_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
_INSTANCE = positional("instance", "ID", "Of an instance, as 'instances list' shows it.")
_EXECUTION = positional("execution", "EXECUTION", "Execution id of a task, as 'instances show' tells it.")

INSTANCES = _INSTANCES.group(
    "Workflow instances: what runs and ran, what failed, and who took note of it.",
    "list --status Failed",
    _INSTANCES.asking(
        "list",
        "List the workflow instances, the newest first.",
        "--status Failed --json",
        choice("--status", ("Created", "Succeeded", "Failed"), "Only those that are so."),
        option("--payload", "ID", "Only those on this payload."),
        limit(),
        function="list_all",
    ),
    _INSTANCES.asking("show", "Show a workflow instance and its tasks.", _ID, _INSTANCE),
    _INSTANCES.asking("failed", "List the failed ones of which nobody has taken note.", ""),
    _INSTANCES.asking(
        "acknowledge",
        "Take note of the failure of a task.",
        f"{_ID} {_EXECUTION_ID}",
        _INSTANCE,
        positional("execution", "EXECUTION", "Of the task; where no task has failed, the instance's own id."),
    ),
)
_SINCE = option("--since", "WHEN", "From a date or time on, or for 90m, 12h, 3d.")
_UNTIL = option("--until", "WHEN", "Up to a date or time, or so long ago. Default: now.")

TASKS = _TASKS.group(
    "Tasks of workflow instances: those that run or ran, how many, how long; and ending one by hand.",
    "running",
    _TASKS.asking(
        "list",
        "List the tasks that ran within a time, those of the newest instances first.",
        "--since 3d --json",
        _SINCE,
        _UNTIL,
        limit(),
        function="list_tasks",
    ),
    _TASKS.asking(
        "stats",
        "Count the tasks that began within a time: how they ended, how long they took.",
        "--since 7d --workflow ct-lung --daily",
        _SINCE,
        _UNTIL,
        option("--workflow", "NAME|ID", "Only those of this workflow."),
        option("--task", "TASK", "Only those of this task id."),
        flag("--daily", "By day, the newest first."),
        flag("--each", "List the tasks, the newest first."),
        limit(),
        description="Count the tasks that began within a time: how many, how they ended, how many seconds they "
        "took on average. --daily counts those of each day (UTC), --each lists the tasks besides.",
    ),
    _TASKS.asking(
        "running",
        "List the tasks that have begun, or wait for a place, and have not ended.",
        "--json",
        limit(),
        function="running_tasks",
    ),
    _TASKS.asking("show", "Show a task.", _EXECUTION_ID, _EXECUTION, function="show_task"),
    _TASKS.asking(
        "set",
        "End a task by hand: what it runs is stopped.",
        f"{_EXECUTION_ID} --status Canceled",
        _EXECUTION,
        choice("--status", ("Succeeded", "Failed", "Canceled"), "What it shall be.", required=True),
        function="set_task",
        description="End a task by hand, as marking it in Airflow does: what it runs is stopped, and what comes "
        "after it goes on, or does not. Exit code 1: it has ended already, or may not be ended.",
    ),
)
