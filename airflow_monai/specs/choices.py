"""The closed choices of the workflow language, and the names it knows but this version does not run."""

from __future__ import annotations

from airflow_monai.specs.plan import TaskType

TASK_TYPES = tuple(kind.value for kind in TaskType)
# Published types, and those that this project adds to them, which a later version runs.
LATER_TASK_TYPES = (
    "aide_clinical_review", "argo", "clinical_review", "docker", "email", "export_hl7", "http", "http_async", "notify",
    "remote_app_execution",
)  # fmt: skip

# Fields that published files carry and that mean nothing here.
IGNORED_FIELDS = frozenset({"ref", "input_parameters"})
SCHEMA_FIELD = "$schema"  # by which an editor finds the JSON Schema
# Fields of the language that a later version reads.
LATER_FIELDS = frozenset(
    {"for_each", "retry_delay", "grouping", "late_images", "priority", "on_failure", "resume", "notifications"}
)

ARTIFACT_TYPES = (
    "Unset", "Folder", "HL7", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CR", "CT", "DG", "DOC", "DX", "ECG", "EPS",
    "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS", "MG", "MR", "NM", "OAM",
    "OCT", "OP", "OPM", "OPT", "OPV", "OSS", "OT", "PLAN", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE",
    "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF", "STAIN", "TG", "US", "VA",
    "XA", "XC",
)  # fmt: skip
