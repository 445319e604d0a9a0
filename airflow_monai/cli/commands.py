"""Which commands there are, as plain data: Airflow's parser and our own are both made from it.

A command's function is named, not imported, so that ``--help`` costs nothing of what the commands need.
"""

from __future__ import annotations

from airflow_monai.cli.groups.argo import ARGO
from airflow_monai.cli.groups.authoring import EXPLAIN, RUN, SCHEMA, VALIDATE
from airflow_monai.cli.groups.credentials import CREDENTIALS
from airflow_monai.cli.groups.datasets import DATASETS
from airflow_monai.cli.groups.dicom import GATEWAY, IMPORT, SEND
from airflow_monai.cli.groups.events import EVENTS
from airflow_monai.cli.groups.exports import EXPORT_TASKS, SINKS
from airflow_monai.cli.groups.handlers import HANDLERS
from airflow_monai.cli.groups.health import HEALTH
from airflow_monai.cli.groups.instances import INSTANCES, TASKS
from airflow_monai.cli.groups.jobs import JOBS
from airflow_monai.cli.groups.maps import MAP, MAPS
from airflow_monai.cli.groups.payloads import PAYLOADS
from airflow_monai.cli.groups.pools import POOLS
from airflow_monai.cli.groups.workflows import BATCH, WORKFLOWS
from airflow_monai.cli.model import Group

MONAI = Group(
    name="monai",
    help="Clinical imaging-AI workflows.",
    example="airflow monai validate workflow_specs/",
    commands=(
        VALIDATE,
        SCHEMA,
        EXPLAIN,
        RUN,
        GATEWAY,
        IMPORT,
        SEND,
        POOLS,
        PAYLOADS,
        EVENTS,
        MAPS,
        MAP,
        WORKFLOWS,
        DATASETS,
        JOBS,
        HANDLERS,
        INSTANCES,
        TASKS,
        HEALTH,
        CREDENTIALS,
        SINKS,
        EXPORT_TASKS,
        ARGO,
        BATCH,
    ),
)
