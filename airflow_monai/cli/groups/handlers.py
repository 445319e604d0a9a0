"""The commands for notification handlers, by the App Server API."""

from __future__ import annotations

from airflow_monai.cli.table import SECRET, Topic, limit, option, positional, repeated

_HANDLERS = Topic("handlers", "airflow_monai.cli.remote.handlers")
_ID = "3f0c6a52-5f0b-4c9e-9d7e-0c1a4a4a7d55"
_HANDLER = positional("handler", "ID", "Of a handler, as 'handlers list' shows it.")

HANDLERS = _HANDLERS.group(
    "Notification handlers: addresses that are told what happens to jobs and workflow instances.",
    "register https://ris.hospital.example/monai",
    _HANDLERS.asking(
        "register",
        "Have an address told of the end of jobs and workflow instances.",
        "https://ris.hospital.example/monai --events workflow.completed",
        positional("handler_url", "URL", "Where notifications are posted."),
        option(
            "--events",
            "EVENT",
            "workflow.started, task.started, task.updated, task.completed, workflow.completed. Default: the last.",
            nargs="+",
        ),
        repeated("--map", "NAME:VERSION", "Only of jobs of this MAP"),
        repeated("--workflow", "NAME", "Only of this workflow"),
        repeated("--job", "ID", "Only of this job or workflow instance"),
        option("--description", "", "For people.", default=""),
        option(
            "--key",
            "TEXT",
            "Idempotency-Key: the same text of the same person is the same handler, however often it is asked for.",
        ),
        *SECRET,
        description="Have an address told of jobs and workflow instances: all that end, unless it is said which. "
        "What is posted is signed with a secret; without one here, one is made and printed once.",
    ),
    _HANDLERS.asking("list", "List the handlers, and how they are.", "", function="list_all"),
    _HANDLERS.asking("show", "Show a handler, and how it is.", _ID, _HANDLER),
    _HANDLERS.asking("test", "Post a test to a handler now. Exit code 1: it did not take it.", _ID, _HANDLER),
    _HANDLERS.asking("unregister", "Have a handler told nothing more, also not what waits for it.", _ID, _HANDLER),
    _HANDLERS.asking(
        "deliveries",
        "List what failed, what waits and why, what is to come, and what was delivered.",
        _ID,
        _HANDLER,
        limit(200, ", 1,000 at most"),
    ),
    _HANDLERS.asking(
        "retry",
        "Deliver what was given up all the same. Exit code 1: nothing was.",
        _ID,
        _HANDLER,
        positional("events", "EVENT", "These. Default: all.", nargs="*"),
    ),
)
