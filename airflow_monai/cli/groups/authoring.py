"""The commands for those who write workflows: check one, see its language, explain it, try it."""

from __future__ import annotations

from airflow_monai.cli.table import JSON, Topic, choice, flag, option, positional, repeated

_CHECKING = Topic("", "airflow_monai.cli.here.validate")
_LANGUAGE = Topic("", "airflow_monai.cli.here.schema")
_EXPLAINING = Topic("", "airflow_monai.cli.here.explain")
_TRYING = Topic("", "airflow_monai.cli.here.trial")

VALIDATE = _CHECKING.command(
    "validate",
    "Check workflow specs.",
    "workflow_specs/ --json",
    positional("paths", "PATH", "Files, or folders with files.", nargs="+"),
    option(
        "--root",
        "FOLDER",
        "Folder up to which defaults files are looked for. Default: workflow_folder of section monai "
        "for what lies below it, else the folder given or, as long as it has defaults, the one above.",
    ),
    flag("--site", "Also warn of what this site lacks: cards, connections of destinations, applications."),
    flag("--strict", "Exit code 1 also when there are warnings only."),
    JSON,
    description="Check workflow specs (YAML or JSON). Exit code 0: all can be used, 1: one has an error.",
)

SCHEMA = _LANGUAGE.command(
    "schema",
    "Print the JSON Schema of workflow files, for editors.",
    "--output workflow_specs/workflow.schema.json",
    option("--output", "FILE", "Write to this file. Default: standard output."),
    description="Print the JSON Schema of workflow files. An editor with a YAML language server completes and "
    "checks a file whose first line is '# yaml-language-server: $schema=FILE' (a path relative to "
    "the workflow file, or a file:// or https:// address); a JSON file says it in its field "
    "$schema.",
)
_CALLED = option("--called", "AE", "AE title that the study is sent to. Default: each that is listened to.")
_CALLING = option("--calling", "AE", "AE title that the study comes from. Default: one that is accepted.")

EXPLAIN = _EXPLAINING.command(
    "explain",
    "Say which workflows would run for a study, and why the others would not.",
    "--study ./study --called CTLUNG --specs workflow_specs/",
    option("--study", "DIR", "Folder with DICOM files, of one study or several."),
    option("--payload", "ID", "A payload of the store, in place of a folder."),
    _CALLED,
    _CALLING,
    option("--specs", "PATH", "Folder of workflows, or one file. Default: workflow_folder of section monai."),
    JSON,
    description="Say which workflows would run for a study, why each other one would not, and which ways "
    "their conditions would take, without running anything. It shows values of the study. Exit "
    "code 0: a workflow wants the study, 1: none does, 2: it cannot be said.",
)

RUN = _TRYING.command(
    "run",
    "Try a workflow on a folder of DICOM.",
    "workflow_specs/ct-lung.yaml --study ./study --runner process --map-path examples/maps",
    positional("spec", "SPEC", "Workflow file."),
    option("--study", "DIR", "Folder with the DICOM files of a study.", required=True),
    option("--store", "DIR", "Keep payload and results in this store."),
    choice("--runner", ("process", "docker"), "What runs MAPs. Default: the site's."),
    option(
        "--map-path",
        "DIR",
        "Folder of unpacked MAPs for the process runner; may be repeated. Default: the site's.",
        default=[],
        action="append",
    ),
    option("--called", "AE", "AE title that it is sent to. Default: the workflow's."),
    option("--calling", "AE", "AE title that it comes from. Default: one it accepts."),
    repeated("--param", "NAME=VALUE", "Value of a parameter of the workflow"),
    flag("--approve", "Accept at each review. Default: ask on the terminal."),
    flag("--reject", "Reject at each review."),
    flag("--deliver", "Deliver exports to the destinations whose connections are in the environment."),
    flag("--send-email", "Send e-mails. Default: keep them as files."),
    flag("--keep", "Never remove this run's folder, its database too."),
    option("--state", "DIR", "In place of .monai.", default=".monai"),
    flag("--verbose", "Show Airflow's log on stderr."),
    JSON,
    description="Run one workflow on a folder of DICOM without a scheduler, on a throw-away database. What it "
    "makes is in a new folder below .monai/runs; the newest five stay. Exports go to folders, "
    "e-mails to files, nothing is retried; http and argo tasks call the services that "
    "AIRFLOW_CONN_... variables name. Exit code 0: the run ended well, 1: it failed, 2: it cannot "
    "be made.",
)
