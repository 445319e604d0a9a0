"""The commands for jobs, by the App Server API."""

from __future__ import annotations

from airflow_monai.cli.table import Topic, choice, flag, limit, option, positional, positive

_JOBS = Topic("jobs", "airflow_monai.cli.remote.jobs")
_ID = "0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11"
_DATASET_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
_JOB = positional("job", "ID", "Of a job, as 'jobs list' shows it.")
_MAP = option("--map", "NAME:VERSION", "A registered MAP.")
_TIMEOUT = option("--timeout", "MINUTES", "How long to wait; exit code 2 after it. Default: to the end.", type=positive)
_CODES = "Exit code 0: all have succeeded, 1: one has failed or was cancelled, 2: it could not be done."

JOBS = _JOBS.group(
    "Jobs: a MAP at work on a dataset. Run them, wait for them, fetch what they made.",
    f"run --map lung-seg:1.2.0 --dataset {_DATASET_ID} --wait",
    _JOBS.asking(
        "run",
        "Run a MAP on a dataset, or all MAPs that it is associated with.",
        f"--map lung-seg:1.2.0 --dataset {_DATASET_ID} --wait",
        option("--dataset", "ID", "Of a dataset, or any payload.", required=True),
        _MAP,
        choice("--priority", ("urgent", "routine", "batch"), "Default: routine.", default="routine"),
        option(
            "--key",
            "TEXT",
            "Idempotency-Key: the same text of the same person is the same jobs, however often it is asked for.",
        ),
        flag("--wait", "Until they have ended, with progress."),
        _TIMEOUT,
        description="Run a MAP on a dataset, or all MAPs that it is associated with. Ctrl-C ends the waiting, not "
        f"the job. {_CODES} Without --wait 0 says that they have begun.",
    ),
    _JOBS.asking(
        "wait",
        "Wait until jobs have ended.",
        _ID,
        positional("jobs", "ID", "Of jobs, as 'jobs list' shows them.", nargs="+"),
        _TIMEOUT,
        description=f"Wait until jobs have ended, with progress. Ctrl-C ends the waiting, not the jobs. {_CODES}",
    ),
    _JOBS.asking(
        "list",
        "List jobs, the newest first.",
        "--status RUNNING",
        choice(
            "--status",
            ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"),
            "Only those that are so.",
            type=str.upper,
        ),
        _MAP,
        option("--dataset", "ID", "Only those on this dataset."),
        limit(),
        function="list_all",
    ),
    _JOBS.asking(
        "show", "Tell how a job is: status, progress, place in the queue, resources, outputs.", f"{_ID} --json", _JOB
    ),
    _JOBS.asking("cancel", "Stop a job: its application is ended.", _ID, _JOB),
    _JOBS.asking(
        "results",
        "List the files that a job made, or fetch them.",
        f"{_ID} --output results/",
        _JOB,
        option("--output", "DIR|FILE.zip", "Fetch them into a folder, or as one archive.", default=""),
    ),
    _JOBS.asking(
        "logs",
        "Print what a job's application has printed. It may tell of the patient.",
        f"{_ID} --output log.txt",
        _JOB,
        option("--output", "FILE", "Default: standard output.", default=""),
    ),
    _JOBS.asking(
        "finalize", "Say that nobody needs a job's outputs any more: they are deleted after the site's time.", _ID, _JOB
    ),
    _JOBS.asking("delete-results", "Delete the files that a job made, now.", _ID, _JOB),
)
