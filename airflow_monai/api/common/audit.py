"""Who changed what, and who read of whom: entries of Airflow's audit log, beside those of Airflow itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_monai.api.common.access import Caller


def note(
    caller: Caller | str | None,
    event: str,
    *,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: int = -1,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Enter it, committed when this returns.

    :param caller: a name, where who called is not here any more; None for a service that was let in by a secret of its
        own and has no name here.
    :param event: as ``monai.job.cancel``.
    :param extra: ids and counts; never an attribute of a patient, a file's name or a secret.
    """
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    name = caller if isinstance(caller, str) else caller.name if caller else "monai"
    with create_session() as session:
        session.add(
            Log(
                event=event,
                owner=name,
                owner_display_name=name,
                extra=json.dumps(dict(extra)) if extra else None,
                dag_id=dag_id,
                run_id=run_id,
                task_id=task_id,
                map_index=map_index,
            )
        )
