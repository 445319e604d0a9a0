"""The commands of the Workflow Manager API: instances, tasks, payloads, credentials."""

from __future__ import annotations

from airflow_monai.cli.model import AT, JSON, SECRET, Argument, Command, Group, limit, port, repeated

_INSTANCES = "airflow_monai.cli.remote.instances"
_PAYLOADS = "airflow_monai.cli.remote.payloads"
_CREDENTIALS = "airflow_monai.cli.remote.credentials"
_ID = "0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11"
_EXECUTION_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
_INSTANCE = Argument(("instance",), {"metavar": "ID", "help": "Of an instance, as 'instances list' shows it."})
_EXECUTION = {
    "metavar": "EXECUTION",
    "help": "Execution id of a task, as 'instances show' tells it.",
}

INSTANCES = Group(
    name="instances",
    help="Workflow instances: what runs and ran, what failed, and who took note of it.",
    example="airflow monai instances list --status Failed",
    commands=(
        Command(
            name="list",
            help="List the workflow instances, the newest first.",
            function=f"{_INSTANCES}.list_all",
            example="airflow monai instances list --status Failed --json",
            arguments=(
                Argument(
                    ("--status",), {"choices": ("Created", "Succeeded", "Failed"), "help": "Only those that are so."}
                ),
                Argument(("--payload",), {"metavar": "ID", "help": "Only those on this payload."}),
                limit(),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="show",
            help="Show a workflow instance and its tasks.",
            function=f"{_INSTANCES}.show",
            example=f"airflow monai instances show {_ID}",
            arguments=(_INSTANCE, *AT, JSON),
        ),
        Command(
            name="failed",
            help="List the failed ones of which nobody has taken note.",
            function=f"{_INSTANCES}.failed",
            example="airflow monai instances failed",
            arguments=(*AT, JSON),
        ),
        Command(
            name="acknowledge",
            help="Take note of the failure of a task.",
            function=f"{_INSTANCES}.acknowledge",
            example=f"airflow monai instances acknowledge {_ID} {_EXECUTION_ID}",
            arguments=(
                _INSTANCE,
                Argument(
                    ("execution",),
                    {**_EXECUTION, "help": "Of the task; where no task has failed, the instance's own id."},
                ),
                *AT,
                JSON,
            ),
        ),
    ),
)

_SINCE = Argument(("--since",), {"metavar": "WHEN", "help": "From a date or time on, or for 90m, 12h, 3d."})
_UNTIL = Argument(("--until",), {"metavar": "WHEN", "help": "Up to a date or time, or so long ago. Default: now."})

TASKS = Group(
    name="tasks",
    help="Tasks of workflow instances: those that run or ran, how many, how long; and ending one by hand.",
    example="airflow monai tasks running",
    commands=(
        Command(
            name="list",
            help="List the tasks that ran within a time, those of the newest instances first.",
            function=f"{_INSTANCES}.list_tasks",
            example="airflow monai tasks list --since 3d --json",
            arguments=(_SINCE, _UNTIL, limit(), *AT, JSON),
        ),
        Command(
            name="stats",
            help="Count the tasks that began within a time: how they ended, how long they took.",
            description="Count the tasks that began within a time: how many, how they ended, how many seconds they "
            "took on average. --daily counts those of each day (UTC), --each lists the tasks besides.",
            function=f"{_INSTANCES}.stats",
            example="airflow monai tasks stats --since 7d --workflow ct-lung --daily",
            arguments=(
                _SINCE,
                _UNTIL,
                Argument(("--workflow",), {"metavar": "NAME|ID", "help": "Only those of this workflow."}),
                Argument(("--task",), {"metavar": "TASK", "help": "Only those of this task id."}),
                Argument(("--daily",), {"action": "store_true", "help": "By day, the newest first."}),
                Argument(("--each",), {"action": "store_true", "help": "List the tasks, the newest first."}),
                limit(),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="running",
            help="List the tasks that have begun, or wait for a place, and have not ended.",
            function=f"{_INSTANCES}.running_tasks",
            example="airflow monai tasks running --json",
            arguments=(limit(), *AT, JSON),
        ),
        Command(
            name="show",
            help="Show a task.",
            function=f"{_INSTANCES}.show_task",
            example=f"airflow monai tasks show {_EXECUTION_ID}",
            arguments=(Argument(("execution",), _EXECUTION), *AT, JSON),
        ),
        Command(
            name="set",
            help="End a task by hand: what it runs is stopped.",
            description="End a task by hand, as marking it in Airflow does: what it runs is stopped, and what comes "
            "after it goes on, or does not. Exit code 1: it has ended already, or may not be ended.",
            function=f"{_INSTANCES}.set_task",
            example=f"airflow monai tasks set {_EXECUTION_ID} --status Canceled",
            arguments=(
                Argument(("execution",), _EXECUTION),
                Argument(
                    ("--status",),
                    {"choices": ("Succeeded", "Failed", "Canceled"), "required": True, "help": "What it shall be."},
                ),
                *AT,
                JSON,
            ),
        ),
    ),
)

HEALTH = Command(
    name="health",
    help="Tell whether what a site needs can be reached: store, Airflow's database, gateway, broker.",
    description="Tell whether what a site needs can be reached: store, Airflow's database, gateway, broker. It need "
    "not be said who asks. Exit code 0: all is well, 1: it is not, 2: the server does not answer.",
    function="airflow_monai.cli.remote.health.health",
    example="airflow monai health --url http://localhost:8080",
    arguments=(*AT, JSON),
)

_PAYLOAD = Argument(("payload",), {"metavar": "ID", "help": "Of a payload."})
PATIENT = (
    Argument(("--patient-id",), {"metavar": "PART", "help": "Only those with this in the patient id (--url)."}),
    Argument(("--patient-name",), {"metavar": "PART", "help": "Only those with this in the patient's name (--url)."}),
    Argument(("--accession",), {"metavar": "PART", "help": "Only those with this in the accession number (--url)."}),
)
"""By which a server looks for payloads."""

PAYLOADS_ELSEWHERE = (
    Command(
        name="upload",
        help="Have files arrive at a server as if they had been sent to an AE title.",
        description="Upload files, folders and zip archives to a server, where they arrive as if they had been sent to "
        "an AE title: the workflows that listen to it run on them. To do it again does no harm. Exit code 1: a file is "
        "refused (the others are taken), or all is. 2: nothing could be done.",
        function=f"{_PAYLOADS}.upload",
        example="airflow monai payloads upload study/ --called CTLUNG --complete",
        arguments=(
            Argument(("paths",), {"nargs": "+", "metavar": "PATH", "help": "File, folder or zip archive."}),
            Argument(("--called",), {"metavar": "AE", "required": True, "help": "AE title that they are for."}),
            Argument(("--calling",), {"metavar": "AE", "help": "AE title that they are from. Default: UPLOAD."}),
            Argument(("--complete",), {"action": "store_true", "help": "Nothing more comes: do not wait for more."}),
            *AT,
            JSON,
        ),
    ),
    Command(
        name="download",
        help="Download a payload's images from a server, as a zip archive.",
        function=f"{_PAYLOADS}.download",
        example=f"airflow monai payloads download {_EXECUTION_ID} --output study.zip",
        arguments=(
            _PAYLOAD,
            Argument(("--output",), {"default": "", "metavar": "FILE", "help": "Default: <ID>.zip."}),
            *AT,
            JSON,
        ),
    ),
    Command(
        name="delete",
        help="Have a server delete a payload: images, results, what is known of the patient.",
        description="Have a server delete a payload: images, results, logs, what is known of the patient. A gateway "
        "does it some seconds later. Exit code 1: instances work on it, or it was deleted.",
        function=f"{_PAYLOADS}.delete",
        example=f"airflow monai payloads delete {_EXECUTION_ID} --reason mistake",
        arguments=(
            _PAYLOAD,
            Argument(("--reason",), {"default": "", "help": "Is kept; name no patient in it."}),
            *AT,
            JSON,
        ),
    ),
)

_CREDENTIAL = Argument(("credential",), {"metavar": "ID", "help": "What workflows name it by."})
_TYPE = "basic, bearer, header, http, or the type of an Airflow connection."
_VALUES = (
    Argument(("--host",), {"help": "Where the secret is shown, as https://ai.hospital.example."}),
    Argument(("--port",), {"type": port, "help": "Its port, where the host does not say it."}),
    Argument(("--login",), {"help": "User name, of type basic."}),
    Argument(("--header",), {"help": "Name of the header, of type header."}),
    Argument(("--description",), {"help": "For people."}),
    repeated("--option", "NAME=VALUE", "More of the connection's extra, no secrets"),
    *SECRET,
    *AT,
    JSON,
)

CREDENTIALS = Group(
    name="credentials",
    help="Secrets that tasks show to services; they can be written, and are never told again.",
    example="airflow monai credentials list",
    commands=(
        Command(
            name="create",
            help="Create a credential.",
            description="Create a credential. Its secret comes from an environment variable or from standard input.",
            function=f"{_CREDENTIALS}.create",
            example="airflow monai credentials create segmenter --type bearer --host https://ai.hospital.example "
            "--secret-env SEGMENTER_TOKEN",
            arguments=(_CREDENTIAL, Argument(("--type",), {"required": True, "help": _TYPE}), *_VALUES),
        ),
        Command(
            name="list",
            help="List the credentials, without their secrets.",
            function=f"{_CREDENTIALS}.list_all",
            example="airflow monai credentials list --type bearer",
            arguments=(Argument(("--type",), {"help": "Of this type only."}), *AT, JSON),
        ),
        Command(
            name="show",
            help="Show a credential, without its secret.",
            function=f"{_CREDENTIALS}.show",
            example="airflow monai credentials show segmenter",
            arguments=(_CREDENTIAL, *AT, JSON),
        ),
        Command(
            name="update",
            help="Change a credential; what is not said stays, the secret too.",
            function=f"{_CREDENTIALS}.update",
            example="airflow monai credentials update segmenter --secret-stdin",
            arguments=(_CREDENTIAL, Argument(("--type",), {"help": _TYPE}), *_VALUES),
        ),
        Command(
            name="delete",
            help="Delete a credential: tasks that name it fail from then on.",
            function=f"{_CREDENTIALS}.delete",
            example="airflow monai credentials delete segmenter",
            arguments=(_CREDENTIAL, *AT, JSON),
        ),
    ),
)
