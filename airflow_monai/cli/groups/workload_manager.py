"""The commands of the Workload Manager API: sinks, and export tasks that clients fetch."""

from __future__ import annotations

from airflow_monai.cli.model import AT, JSON, SECRET, Argument, Command, Group, limit, port, positive, repeated

_EXPORTS = "airflow_monai.cli.remote.exports"
_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
_SINK = Argument(("sink",), {"metavar": "SINK", "help": "Name of the sink."})
_TASK = Argument(("task",), {"metavar": "TASK", "help": "Id of the export task."})
_LEASE = Argument(
    ("--lease",),
    {
        "metavar": "TEXT",
        "default": "",
        "help": "That 'take' has printed. Default: MONAI_LEASE, which others of this host do not see.",
    },
)
_LEASE_SECONDS = Argument(
    ("--lease-seconds",),
    {"metavar": "SECONDS", "type": positive, "default": 300, "help": "After them others may take it. Default: 300."},
)

SINKS = Group(
    name="sinks",
    help="Sinks: where results are delivered to, as Airflow connections.",
    example="airflow monai sinks create OUTSIDE",
    commands=(
        Command(
            name="create",
            help="Create a sink.",
            description="Create a sink: an Airflow connection that workflows name as a destination. From one of the "
            "type monai_pull clients fetch.",
            function=f"{_EXPORTS}.create_sink",
            example="airflow monai sinks create PACS --type dicom --host pacs.hospital.example --port 104 "
            "--extra called_aet=PACS",
            arguments=(
                _SINK,
                Argument(("--type",), {"default": "monai_pull", "help": "Of the connection. Default: monai_pull."}),
                Argument(("--host",), {"default": "", "help": "Where it is."}),
                Argument(("--port",), {"type": port, "help": "Its port."}),
                Argument(("--login",), {"default": "", "help": "User name there; the secret is its password."}),
                repeated("--extra", "NAME=VALUE", "More of the connection, no secrets"),
                Argument(("--description",), {"default": "", "help": "For people."}),
                *SECRET,
                *AT,
                JSON,
            ),
        ),
        Command(
            name="list",
            help="List the sinks, without their secrets.",
            function=f"{_EXPORTS}.list_sinks",
            example="airflow monai sinks list",
            arguments=(*AT, JSON),
        ),
        Command(
            name="delete",
            help="Delete a sink: export tasks that name it fail from then on.",
            function=f"{_EXPORTS}.delete_sink",
            example="airflow monai sinks delete OUTSIDE",
            arguments=(_SINK, *AT, JSON),
        ),
    ),
)

EXPORT_TASKS = Group(
    name="export-tasks",
    help="What waits at a sink for clients that fetch: take it, download it, report on it.",
    example="airflow monai export-tasks take OUTSIDE --count 5 --json",
    commands=(
        Command(
            name="list",
            help="List the export tasks that nobody has reported on, the oldest first.",
            function=f"{_EXPORTS}.list_tasks",
            example="airflow monai export-tasks list OUTSIDE",
            arguments=(_SINK, limit(100, ", 100 at most"), *AT, JSON),
        ),
        Command(
            name="show",
            help="Show an export task, and who has it.",
            function=f"{_EXPORTS}.show_task",
            example=f"airflow monai export-tasks show OUTSIDE {_ID} --json",
            arguments=(_SINK, _TASK, *AT, JSON),
        ),
        Command(
            name="take",
            help="Take the oldest that nobody has; each is printed with its lease.",
            function=f"{_EXPORTS}.take",
            example="airflow monai export-tasks take OUTSIDE --count 5 --json",
            arguments=(
                _SINK,
                Argument(("--count",), {"type": positive, "default": 1, "help": "How many at most. Default: 1."}),
                _LEASE_SECONDS,
                Argument(("--client",), {"default": "", "help": "Name of the client. Default: who asks."}),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="download",
            help="Download the files of an export task.",
            function=f"{_EXPORTS}.download",
            example=f"airflow monai export-tasks download OUTSIDE {_ID} --output outgoing/",
            arguments=(
                _SINK,
                _TASK,
                Argument(
                    ("--output",),
                    {"default": "", "metavar": "DIR|FILE.zip", "help": "A folder, or an archive. Default: <TASK>.zip."},
                ),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="report",
            help="Say what became of an export task that was taken.",
            description="Say what became of an export task that was taken. The first report counts. Exit code 1: "
            "another client has taken it since, or the lease is none.",
            function=f"{_EXPORTS}.report",
            example=f"airflow monai export-tasks report OUTSIDE {_ID} --status Success",
            arguments=(
                _SINK,
                _TASK,
                Argument(
                    ("--status",),
                    {
                        "choices": ("Success", "PartialFailure", "Failure", "Unknown"),
                        "required": True,
                        "help": "Of the whole task.",
                    },
                ),
                repeated("--file", "PATH=STATUS", "Of a file, by its path, as Success or ServiceError"),
                Argument(("--message",), {"default": "", "help": "For people; name no patient in it."}),
                _LEASE,
                *AT,
                JSON,
            ),
        ),
        Command(
            name="renew",
            help="Keep an export task for longer.",
            function=f"{_EXPORTS}.renew",
            example=f"airflow monai export-tasks renew OUTSIDE {_ID} --lease-seconds 600",
            arguments=(_SINK, _TASK, _LEASE, _LEASE_SECONDS, *AT, JSON),
        ),
        Command(
            name="return",
            help="Give an export task back, so that another client can take it at once.",
            function=f"{_EXPORTS}.give_back",
            example=f"airflow monai export-tasks return OUTSIDE {_ID}",
            arguments=(_SINK, _TASK, _LEASE, *AT, JSON),
        ),
    ),
)
