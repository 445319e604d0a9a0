"""Who changed what, and who read of whom: entries of Airflow's audit log, beside those of Airflow itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_monai.api.common.access import Caller


def note(
    caller: Caller,
    event: str,
    *,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: int = -1,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Enter it, committed when this returns.

    :param event: as ``monai.job.cancel``.
    :param extra: ids and counts; never an attribute of a patient, a file's name or a secret.
    """
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(
            Log(
                event=event,
                owner=caller.name,
                owner_display_name=caller.name,
                extra=json.dumps(dict(extra)) if extra else None,
                dag_id=dag_id,
                run_id=run_id,
                task_id=task_id,
                map_index=map_index,
            )
        )
