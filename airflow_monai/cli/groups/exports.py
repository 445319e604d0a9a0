"""The commands for sinks, and for export tasks that clients fetch, by the Workload Manager API."""

from __future__ import annotations

from airflow_monai.cli.table import SECRET, Topic, choice, limit, option, port, positional, positive, repeated

_SINKS = Topic("sinks", "airflow_monai.cli.remote.exports")
_WAITING = Topic("export-tasks", "airflow_monai.cli.remote.exports")
_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
_SINK = positional("sink", "SINK", "Name of the sink.")
_TASK = positional("task", "TASK", "Id of the export task.")
_LEASE = option(
    "--lease",
    "TEXT",
    "That 'take' has printed. Default: MONAI_LEASE, which others of this host do not see.",
    default="",
)
_LEASE_SECONDS = option(
    "--lease-seconds", "SECONDS", "After them others may take it. Default: 300.", type=positive, default=300
)

SINKS = _SINKS.group(
    "Sinks: where results are delivered to, as Airflow connections.",
    "create OUTSIDE",
    _SINKS.asking(
        "create",
        "Create a sink.",
        "PACS --type dicom --host pacs.hospital.example --port 104 --extra called_aet=PACS",
        _SINK,
        option("--type", "", "Of the connection. Default: monai_pull.", default="monai_pull"),
        option("--host", "", "Where it is.", default=""),
        option("--port", "", "Its port.", type=port),
        option("--login", "", "User name there; the secret is its password.", default=""),
        repeated("--extra", "NAME=VALUE", "More of the connection, no secrets"),
        option("--description", "", "For people.", default=""),
        *SECRET,
        function="create_sink",
        description="Create a sink: an Airflow connection that workflows name as a destination. From one of the "
        "type monai_pull clients fetch.",
    ),
    _SINKS.asking("list", "List the sinks, without their secrets.", "", function="list_sinks"),
    _SINKS.asking(
        "delete",
        "Delete a sink: export tasks that name it fail from then on.",
        "OUTSIDE",
        _SINK,
        function="delete_sink",
    ),
)

EXPORT_TASKS = _WAITING.group(
    "What waits at a sink for clients that fetch: take it, download it, report on it.",
    "take OUTSIDE --count 5 --json",
    _WAITING.asking(
        "list",
        "List the export tasks that nobody has reported on, the oldest first.",
        "OUTSIDE",
        _SINK,
        limit(100, ", 100 at most"),
        function="list_tasks",
    ),
    _WAITING.asking(
        "show", "Show an export task, and who has it.", f"OUTSIDE {_ID} --json", _SINK, _TASK, function="show_task"
    ),
    _WAITING.asking(
        "take",
        "Take the oldest that nobody has; each is printed with its lease.",
        "OUTSIDE --count 5 --json",
        _SINK,
        option("--count", "", "How many at most. Default: 1.", type=positive, default=1),
        _LEASE_SECONDS,
        option("--client", "", "Name of the client. Default: who asks.", default=""),
    ),
    _WAITING.asking(
        "download",
        "Download the files of an export task.",
        f"OUTSIDE {_ID} --output outgoing/",
        _SINK,
        _TASK,
        option("--output", "DIR|FILE.zip", "A folder, or an archive. Default: <TASK>.zip.", default=""),
    ),
    _WAITING.asking(
        "report",
        "Say what became of an export task that was taken.",
        f"OUTSIDE {_ID} --status Success",
        _SINK,
        _TASK,
        choice("--status", ("Success", "PartialFailure", "Failure", "Unknown"), "Of the whole task.", required=True),
        repeated("--file", "PATH=STATUS", "Of a file, by its path, as Success or ServiceError"),
        option("--message", "", "For people; name no patient in it.", default=""),
        _LEASE,
        description="Say what became of an export task that was taken. The first report counts. Exit code 1: "
        "another client has taken it since, or the lease is none.",
    ),
    _WAITING.asking(
        "renew",
        "Keep an export task for longer.",
        f"OUTSIDE {_ID} --lease-seconds 600",
        _SINK,
        _TASK,
        _LEASE,
        _LEASE_SECONDS,
    ),
    _WAITING.asking(
        "return",
        "Give an export task back, so that another client can take it at once.",
        f"OUTSIDE {_ID}",
        _SINK,
        _TASK,
        _LEASE,
        function="give_back",
    ),
)
