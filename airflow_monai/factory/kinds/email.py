"""``email``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, light_arguments
from airflow_monai.specs.addresses import listed

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.email import EmailOperator

    args = {name.lower(): value for name, value in request.task.args.items()}
    return EmailOperator(
        recipient_emails=listed(args.get("recipient_emails")),
        recipient_roles=listed(args.get("recipient_roles")),
        metadata_values=listed(args.get("metadata_values")),
        subject=str(args.get("subject", "")),
        body=str(args.get("body", "")),
        **light_arguments(request),
        **request.common,
    )


KIND = TaskKind(make, light=True)
