"""The commands for registered workflows, and for the batches of scheduled ones."""

from __future__ import annotations

from airflow_monai.cli.table import ELSEWHERE, JSON, Topic, positional

_REGISTRY = Topic("workflows", "airflow_monai.cli.workflows")
_SCHEDULE = Topic("", "airflow_monai.cli.here.batch")
_WORKFLOW = positional("workflow", "NAME|ID", "As `airflow monai workflows list` shows it.")
_DEFINITION = positional("file", "FILE", "YAML or JSON; - reads standard input.")

WORKFLOWS = _REGISTRY.group(
    "Registered workflows: those that are in no file of the site.",
    "register ct-lung.yaml",
    _REGISTRY.command(
        "register",
        "Register a workflow.",
        "ct-lung.yaml --url https://airflow.hospital.example",
        _DEFINITION,
        *ELSEWHERE,
        description="Register a workflow: it is a DAG some seconds later. Exit code 1: it is refused, 2: nothing "
        "could be done.",
    ),
    _REGISTRY.command(
        "update",
        "Make a new revision of a registered workflow.",
        "ct-lung ct-lung.yaml",
        _WORKFLOW,
        _DEFINITION,
        *ELSEWHERE,
        description="Make a new revision of a registered workflow. The file may name some of its attributes only: "
        "the others stay. Runs under way go on as they began. Exit codes as for register.",
    ),
    _REGISTRY.command(
        "delete",
        "Have nothing start a registered workflow any more; what runs ends normally.",
        "ct-lung",
        _WORKFLOW,
        *ELSEWHERE,
    ),
    _REGISTRY.command(
        "list",
        "List all workflows: registered ones, those in files, those of MAPs.",
        "--json",
        *ELSEWHERE,
        function="list_all",
    ),
    _REGISTRY.command("show", "Show a workflow's definition and its revisions.", "ct-lung", _WORKFLOW, *ELSEWHERE),
    _REGISTRY.command(
        "validate",
        "Check whether definitions could be registered.",
        "ct-lung.yaml",
        positional("files", "FILE", "YAML or JSON.", nargs="+"),
        *ELSEWHERE,
        description="Check whether definitions could be registered beside what there is. Exit code 1: one could "
        "not, 2: it cannot be said. `airflow monai validate` checks files without asking what there "
        "is.",
    ),
)

BATCH = _SCHEDULE.command(
    "batch",
    "Tell which payloads the next batch of a workflow would take.",
    "bone-age --json",
    positional("workflow", "WORKFLOW", "Name of a workflow with a schedule."),
    JSON,
    description="Tell which payloads of the store the schedule of a workflow would take now, and why not the "
    "others. Nothing is started: for that, trigger the DAG <workflow>.batch.",
)
