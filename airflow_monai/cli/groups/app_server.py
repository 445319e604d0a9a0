"""The commands of the App Server API: jobs and notification handlers."""

from __future__ import annotations

from airflow_monai.cli.model import AT, JSON, Argument, Command, Group, positive

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
                Argument(("--limit",), {"type": positive, "default": 50, "help": "How many at most. Default: 50."}),
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
