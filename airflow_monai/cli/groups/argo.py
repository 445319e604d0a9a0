"""The commands for an Argo cluster."""

from __future__ import annotations

from airflow_monai.cli.table import JSON, Topic, flag, option, positional, repeated

_CLUSTER = Topic("argo", "airflow_monai.cli.here.argo")
_CONNECTION = option(
    "--conn-id", "ID", "Airflow connection of the Argo Server. Default: argo_default.", default="argo_default"
)
_NAME = positional("name", "NAME", "Of the execution, as 'launch' prints it.")

ARGO = _CLUSTER.group(
    "WorkflowTemplates of an Argo cluster.",
    "register template.yaml",
    _CLUSTER.command(
        "register",
        "Register a WorkflowTemplate.",
        "template.yaml",
        positional("file", "FILE", "The template; - for standard input."),
        _CONNECTION,
        JSON,
        description="Check a WorkflowTemplate (YAML or JSON) and give it to the Argo Server, in place of the one "
        "of its name. Tasks of type argo name it in args.template.",
    ),
    _CLUSTER.command(
        "delete",
        "Delete a WorkflowTemplate.",
        "segment",
        positional("template", "NAME|FILE", "Its name, or the file that has it."),
        _CONNECTION,
        JSON,
    ),
    _CLUSTER.command(
        "launch",
        "Start a WorkflowTemplate by hand, to try it.",
        "segment --param input=/data/in --wait",
        positional("template", "NAME", "Of the template."),
        repeated("--param", "NAME=VALUE", "A parameter of the workflow"),
        option("--name", "NAME", "Of the execution. Default: a new one.", default=""),
        flag("--wait", "Until it has ended; exit code 1 if it failed."),
        _CONNECTION,
        JSON,
    ),
    _CLUSTER.command("status", "Say how an execution is.", "monai-by-hand-0123456789ab", _NAME, _CONNECTION, JSON),
    _CLUSTER.command("cancel", "End an execution.", "monai-by-hand-0123456789ab", _NAME, _CONNECTION, JSON),
)
