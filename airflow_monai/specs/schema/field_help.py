"""What each field of a workflow file means, in a sentence: for the JSON Schema, so that editors show it, and the docs.

One entry for each field of each object of :mod:`airflow_monai.specs.model`, by the field's name in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Help:
    """Help for one field.

    :param examples: values of it.
    """

    text: str
    examples: tuple[Any, ...] = ()


_INPUT = "{{ context.input.dicom }}"
_CONDITION = "{{ context.executions.segment.result.volume_ml }} > '500'"
_PREDICATE = "{{ context.dicom.series.any('0008','0060') }} == 'CT'"

FIELD_HELP: Mapping[str, Mapping[str, Help]] = {
    "WorkflowSpec": {
        "name": Help("Name of the workflow, unique in its folder; the DAG is called so too.", ("ct-lung",)),
        "version": Help("Version of the workflow; any text.", ("1.0.0",)),
        "description": Help("What the workflow is for, shown in the UI."),
        "informatics_gateway": Help("Who may send studies to the workflow, and where its results may go."),
        "predicate": Help(
            "Conditions on the study, all of which must hold; else the workflow does not run for it.", ((_PREDICATE,),)
        ),
        "priority": Help("Which of several waiting tasks goes first; of all tasks that do not say their own."),
        "params": Help(
            "Values that whoever triggers a run may give, by name: {{ context.params.<name> }}. The UI shows a form."
        ),
        "schedule": Help("Starts runs on payloads that are in the store already."),
        "data_retention_days": Help("Read for published files; this version deletes nothing."),
        "tasks": Help("The tasks. The first one is the root; each other one is named in somebody's task_destinations."),
    },
    "InformaticsGateway": {
        "ae_title": Help("Called AE title that the workflow listens to.", ("CTLUNG",)),
        "data_origins": Help("Calling AE titles that it accepts; none for all.", (("CT01",),)),
        "export_destinations": Help(
            "Names of the destinations that its tasks may use: ids of Airflow connections.", (("PACS",),)
        ),
        "quiet_seconds": Help("A study is complete when no image came for so long, in seconds."),
        "grouping": Help("What becomes one payload: a study (the default), each series, or all of a patient."),
        "late_images": Help(
            "What becomes of images that come after a study was complete: a payload of their own (the default), "
            "nothing, or a new run on all images together."
        ),
    },
    "InputArtifactSpec": {
        "name": Help("Name under which the task gets it.", ("study",)),
        "value": Help(
            "Where it comes from: {{ context.input.dicom }}, {{ context.executions.<task>.artifacts.<name> }} or "
            "{{ context.executions.<task>.output_dir }}, each with a /path behind it if wanted.",
            (_INPUT, "{{ context.executions.segment.artifacts.seg }}"),
        ),
        "mandatory": Help("Whether the task fails when it is not there."),
    },
    "OutputArtifactSpec": {
        "name": Help("Name by which later tasks ask for it.", ("seg",)),
        "type": Help("A DICOM modality, Folder, HL7, or Unset for any file."),
        "value": Help("Where it lies in the task's output folder; by default it is found by its name and type."),
        "mandatory": Help("Whether the task fails when it did not make it."),
    },
    "Artifacts": {
        "input": Help("What the task reads."),
        "output": Help("What the task makes, as far as later tasks need it or it must be there."),
    },
    "TaskDestination": {
        "name": Help("Id of the task that follows."),
        "conditions": Help(
            "Conditions under which it follows; all of them must hold. None: it always follows.", ((_CONDITION,),)
        ),
    },
    "ExportDestination": {"name": Help("A destination of informatics_gateway.export_destinations.", ("PACS",))},
    "ResourcesSpec": {
        "cpu": Help("Cores.", (2,)),
        "memory": Help("Memory that it may use, else it is ended.", ("8Gi",)),
        "shared_memory": Help("Size of /dev/shm.", ("1Gi",)),
        "gpu": Help("Whole cards; 0 for none, also where the application asks for one.", (1,)),
        "gpu_memory": Help("Memory of a card that it shares with others.", ("6Gi",)),
    },
    "TaskSpec": {
        "id": Help("Id of the task: 1 to 100 letters, digits, '-' and '_'.", ("segment",)),
        "type": Help("What kind of task it is; its args depend on it."),
        "description": Help("What the task is for, shown in the UI."),
        "args": Help("Arguments of the task's type."),
        "artifacts": Help("What it reads and what it makes."),
        "task_destinations": Help("Tasks that may follow it, each with its conditions."),
        "export_destinations": Help("Where an export task delivers to."),
        "timeout_minutes": Help("It is ended after this time; -1 for the default of its type, 0 for no limit.", (30,)),
        "retries": Help("How often it is tried again after a failure that another try may mend."),
        "retry_delay": Help("How long to wait before the first retry; later ones wait longer.", ("30s", "5m")),
        "retry_policy": Help(
            "Kind of failure: retry or fail, in place of the default. Kinds: connection, interrupted, exit_code, "
            "out_of_memory, timeout, missing_output, refused, not_found, no_card, not_started, policy, invalid, "
            "internal.",
            ({"exit_code": "retry"},),
        ),
        "for_each": Help("Runs the task once for each series of the study."),
        "on_failure": Help(
            "Whether the task runs although something before it failed: stop (the default), or continue with what "
            "there is."
        ),
        "priority": Help("Which of several waiting tasks goes first; by default as the workflow."),
        "resources": Help("What the task may use, in place of what its application asks for."),
    },
    "ParamSpec": {
        "type": Help("Type of the value: string, number, integer or boolean."),
        "default": Help("Value when none is given; without one it has to be given."),
        "title": Help("Label in the form."),
        "description": Help("Help below the field of the form."),
        "choices": Help("The values that may be chosen from."),
        "minimum": Help("Smallest value of a number."),
        "maximum": Help("Largest value of a number."),
    },
    "SelectSpec": {
        "ae_titles": Help("Called AE titles of the payloads; by default that of the workflow."),
        "data_origins": Help("Calling AE titles of the payloads; none for all."),
        "received_within": Help("Complete for at most so long, when the batch starts.", ("24h", "7d")),
        "received_after": Help("Complete since then, ISO 8601.", ("2026-01-31T00:00:00+00:00",)),
        "received_before": Help("Complete before then, ISO 8601.", ("2026-02-28T00:00:00+00:00",)),
        "conditions": Help("Conditions on the study, all of which must hold.", ((_PREDICATE,),)),
        "study_instance_uids": Help("Only these studies."),
        "include_processed": Help("Also those for which this version of the workflow has run already."),
    },
    "ScheduleSpec": {
        "cron": Help("When the batch starts: a cron expression or a preset.", ("0 2 * * *", "@daily")),
        "timezone": Help("Time zone of the cron expression.", ("Europe/Berlin",)),
        "select": Help("Which payloads it takes: those that meet everything that is said here."),
        "max_active": Help("How many runs of the batch may be under way at once."),
        "limit": Help("How many payloads one batch takes at most."),
        "priority": Help("Which of several waiting tasks goes first; by default batch, behind all others."),
    },
}
