"""The commands of the App Server API: jobs and notification handlers."""

from __future__ import annotations

from airflow_monai.cli.model import AT, JSON, SECRET, Argument, Command, Group, limit, positive, repeated

_JOBS = "airflow_monai.cli.remote.jobs"
_ID = "0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11"
_DATASET_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
_JOB = Argument(("job",), {"metavar": "ID", "help": "Of a job, as 'jobs list' shows it."})
_MAP = Argument(("--map",), {"metavar": "NAME:VERSION", "help": "A registered MAP."})
_TIMEOUT = Argument(
    ("--timeout",),
    {"metavar": "MINUTES", "type": positive, "help": "How long to wait; exit code 2 after it. Default: to the end."},
)
_CODES = "Exit code 0: all have succeeded, 1: one has failed or was cancelled, 2: it could not be done."

JOBS = Group(
    name="jobs",
    help="Jobs: a MAP at work on a dataset. Run them, wait for them, fetch what they made.",
    example=f"airflow monai jobs run --map lung-seg:1.2.0 --dataset {_DATASET_ID} --wait",
    commands=(
        Command(
            name="run",
            help="Run a MAP on a dataset, or all MAPs that it is associated with.",
            description=f"Run a MAP on a dataset, or all MAPs that it is associated with. Ctrl-C ends the waiting, not "
            f"the job. {_CODES} Without --wait 0 says that they have begun.",
            function=f"{_JOBS}.run",
            example=f"airflow monai jobs run --map lung-seg:1.2.0 --dataset {_DATASET_ID} --wait",
            arguments=(
                Argument(("--dataset",), {"metavar": "ID", "required": True, "help": "Of a dataset, or any payload."}),
                _MAP,
                Argument(
                    ("--priority",),
                    {"choices": ("urgent", "routine", "batch"), "default": "routine", "help": "Default: routine."},
                ),
                Argument(
                    ("--key",),
                    {
                        "metavar": "TEXT",
                        "help": "Idempotency-Key: the same text of the same person is the same jobs, however often it "
                        "is asked for.",
                    },
                ),
                Argument(("--wait",), {"action": "store_true", "help": "Until they have ended, with progress."}),
                _TIMEOUT,
                *AT,
                JSON,
            ),
        ),
        Command(
            name="wait",
            help="Wait until jobs have ended.",
            description=f"Wait until jobs have ended, with progress. Ctrl-C ends the waiting, not the jobs. {_CODES}",
            function=f"{_JOBS}.wait",
            example=f"airflow monai jobs wait {_ID}",
            arguments=(
                Argument(("jobs",), {"nargs": "+", "metavar": "ID", "help": "Of jobs, as 'jobs list' shows them."}),
                _TIMEOUT,
                *AT,
                JSON,
            ),
        ),
        Command(
            name="list",
            help="List jobs, the newest first.",
            function=f"{_JOBS}.list_all",
            example="airflow monai jobs list --status RUNNING",
            arguments=(
                Argument(
                    ("--status",),
                    {
                        "choices": ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"),
                        "type": str.upper,
                        "help": "Only those that are so.",
                    },
                ),
                _MAP,
                Argument(("--dataset",), {"metavar": "ID", "help": "Only those on this dataset."}),
                limit(),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="show",
            help="Tell how a job is: status, progress, place in the queue, resources, outputs.",
            function=f"{_JOBS}.show",
            example=f"airflow monai jobs show {_ID} --json",
            arguments=(_JOB, *AT, JSON),
        ),
        Command(
            name="cancel",
            help="Stop a job: its application is ended.",
            function=f"{_JOBS}.cancel",
            example=f"airflow monai jobs cancel {_ID}",
            arguments=(_JOB, *AT, JSON),
        ),
        Command(
            name="results",
            help="List the files that a job made, or fetch them.",
            function=f"{_JOBS}.results",
            example=f"airflow monai jobs results {_ID} --output results/",
            arguments=(
                _JOB,
                Argument(
                    ("--output",),
                    {"default": "", "metavar": "DIR|FILE.zip", "help": "Fetch them into a folder, or as one archive."},
                ),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="logs",
            help="Print what a job's application has printed. It may tell of the patient.",
            function=f"{_JOBS}.logs",
            example=f"airflow monai jobs logs {_ID} --output log.txt",
            arguments=(
                _JOB,
                Argument(("--output",), {"default": "", "metavar": "FILE", "help": "Default: standard output."}),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="finalize",
            help="Say that nobody needs a job's outputs any more: they are deleted after the site's time.",
            function=f"{_JOBS}.finalize",
            example=f"airflow monai jobs finalize {_ID}",
            arguments=(_JOB, *AT, JSON),
        ),
        Command(
            name="delete-results",
            help="Delete the files that a job made, now.",
            function=f"{_JOBS}.delete_results",
            example=f"airflow monai jobs delete-results {_ID}",
            arguments=(_JOB, *AT, JSON),
        ),
    ),
)

_HANDLERS = "airflow_monai.cli.remote.handlers"
_HANDLER_ID = "3f0c6a52-5f0b-4c9e-9d7e-0c1a4a4a7d55"
_HANDLER = Argument(("handler",), {"metavar": "ID", "help": "Of a handler, as 'handlers list' shows it."})

HANDLERS = Group(
    name="handlers",
    help="Notification handlers: addresses that are told what happens to jobs and workflow instances.",
    example="airflow monai handlers register https://ris.hospital.example/monai",
    commands=(
        Command(
            name="register",
            help="Have an address told of the end of jobs and workflow instances.",
            description="Have an address told of jobs and workflow instances: all that end, unless it is said which. "
            "What is posted is signed with a secret; without one here, one is made and printed once.",
            function=f"{_HANDLERS}.register",
            example="airflow monai handlers register https://ris.hospital.example/monai --events workflow.completed",
            arguments=(
                Argument(("handler_url",), {"metavar": "URL", "help": "Where notifications are posted."}),
                Argument(
                    ("--events",),
                    {
                        "nargs": "+",
                        "metavar": "EVENT",
                        "help": "workflow.started, task.started, task.updated, task.completed, workflow.completed. "
                        "Default: the last.",
                    },
                ),
                repeated("--map", "NAME:VERSION", "Only of jobs of this MAP"),
                repeated("--workflow", "NAME", "Only of this workflow"),
                repeated("--job", "ID", "Only of this job or workflow instance"),
                Argument(("--description",), {"default": "", "help": "For people."}),
                *SECRET,
                *AT,
                JSON,
            ),
        ),
        Command(
            name="list",
            help="List the handlers, and how they are.",
            function=f"{_HANDLERS}.list_all",
            example="airflow monai handlers list",
            arguments=(*AT, JSON),
        ),
        Command(
            name="show",
            help="Show a handler, and how it is.",
            function=f"{_HANDLERS}.show",
            example=f"airflow monai handlers show {_HANDLER_ID}",
            arguments=(_HANDLER, *AT, JSON),
        ),
        Command(
            name="test",
            help="Post a test to a handler now. Exit code 1: it did not take it.",
            function=f"{_HANDLERS}.test",
            example=f"airflow monai handlers test {_HANDLER_ID}",
            arguments=(_HANDLER, *AT, JSON),
        ),
        Command(
            name="unregister",
            help="Have a handler told nothing more, also not what waits for it.",
            function=f"{_HANDLERS}.unregister",
            example=f"airflow monai handlers unregister {_HANDLER_ID}",
            arguments=(_HANDLER, *AT, JSON),
        ),
        Command(
            name="deliveries",
            help="List what failed, what waits and why, what is to come, and what was delivered.",
            function=f"{_HANDLERS}.deliveries",
            example=f"airflow monai handlers deliveries {_HANDLER_ID}",
            arguments=(_HANDLER, limit(200, ", 1,000 at most"), *AT, JSON),
        ),
        Command(
            name="retry",
            help="Deliver what was given up all the same. Exit code 1: nothing was.",
            function=f"{_HANDLERS}.retry",
            example=f"airflow monai handlers retry {_HANDLER_ID}",
            arguments=(
                _HANDLER,
                Argument(("events",), {"nargs": "*", "metavar": "EVENT", "help": "These. Default: all."}),
                *AT,
                JSON,
            ),
        ),
    ),
)
