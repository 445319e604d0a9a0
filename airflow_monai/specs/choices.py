"""The closed choices of the workflow language, and the names it knows but this version does not run."""

from __future__ import annotations

from airflow_monai.specs.plan import TaskType

TASK_TYPES = tuple(kind.value for kind in TaskType)
# Other spellings of types in published files and texts.
TASK_TYPE_ALIASES = {
    "aide_clinical_review": TaskType.CLINICAL_REVIEW.value,
    "aide-clinical-review": TaskType.CLINICAL_REVIEW.value,
    "clinical-review": TaskType.CLINICAL_REVIEW.value,
    "http-async": TaskType.HTTP_ASYNC.value,
    "export-hl7": TaskType.EXPORT_HL7.value,
    "remote-app-execution": TaskType.REMOTE_APP_EXECUTION.value,
}
# Proposed types that a later version runs.
LATER_TASK_TYPES = ("notify",)

# Fields that published files and the published text have and that mean nothing, there and here -> what to write.
IGNORED_FIELDS = {
    "ref": "",
    "input_parameters": "",
    "task_templates": "write the fields at each task, or share them by an anchor (&name and *name)",
    "timeout_retries": "write retries: 1 for one more try",
    "retention_policy": "write dataRetentionDays",
    "retention_policies": "write dataRetentionDays",
}
# Unknown fields whose most similar known one is not what is meant -> what to write.
OTHER_PLACES = {
    "conditions": "conditions stand at a destination in task_destinations",
    "depends_on": "name this task in the task_destinations of the one before it",
    "needs": "name this task in the task_destinations of the one before it",
    "next": "name the tasks that follow in task_destinations: [{name: <id of the task>}]",
    "if": "conditions stand at a destination in task_destinations",
    "when": "conditions stand at a destination in task_destinations",
    "trigger_rule": "on_failure: continue lets a task run after a failure; a join waits for all ways that were taken",
    "map": "write args: {map: name:version}",
    "memory": "write resources: {memory: 8Gi}",
    "cpu": "write resources: {cpu: 2}",
    "gpu": "write resources: {gpu: 1}",
    "env": "write args: {env_NAME: value}",
    "environment": "write args: {env_NAME: value}",
    "image": "write args: {map: name:version}, or container_image in the args of a docker task",
    "cron": "write schedule: {cron: ...}",
    "timeout": "write timeout_minutes",
}
SCHEMA_FIELD = "$schema"  # by which an editor finds the JSON Schema
# Fields of the language that a later version reads.
LATER_FIELDS = frozenset({"resume", "notifications"})

ARTIFACT_TYPES = (
    "Unset", "Folder", "HL7", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CR", "CT", "DG", "DOC", "DX", "ECG", "EPS",
    "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS", "MG", "MR", "NM", "OAM",
    "OCT", "OP", "OPM", "OPT", "OPV", "OSS", "OT", "PLAN", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE",
    "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF", "STAIN", "TG", "US", "VA",
    "XA", "XC",
)  # fmt: skip
