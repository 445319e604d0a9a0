"""Which workflows that are not registered any more still have runs.

Airflow leaves the runs of a DAG that is gone as they are for ever, so its DAG has to stay until the last has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_monai.specs.registered import Gone

GRACE = timedelta(seconds=15)
"""How long a DAG stays in any case: a gateway that has just routed to it may be about to create its run."""

log = logging.getLogger(__name__)


class EndingWorkflows:
    """Asks Airflow's database, and of each workflow not again once its last run has ended.

    Nothing can start it then but a person, and what a person started would fail.
    """

    def __init__(self) -> None:
        self._over: set[tuple[str, int]] = set()

    def __call__(self, gone: Sequence[Gone]) -> frozenset[str]:
        """The sources of those that still have runs; all where the database cannot be asked."""
        open_ones = [one for one in gone if (one.source, one.revision) not in self._over]
        asked = [one for one in open_ones if not _is_fresh(one)]
        if not asked:
            return frozenset(one.source for one in open_ones)
        unfinished = _unfinished(dag_id for one in asked for dag_id in one.dag_ids)
        self._over |= {(one.source, one.revision) for one in asked if unfinished.isdisjoint(one.dag_ids)}
        return frozenset(one.source for one in open_ones if (one.source, one.revision) not in self._over)


def _is_fresh(one: Gone) -> bool:
    return datetime.now(timezone.utc) - datetime.fromisoformat(one.changed_at) < GRACE


def _unfinished(dag_ids: Iterable[str]) -> frozenset[str]:
    """Those of the DAGs that have runs that have not ended."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    names, states = list(dag_ids), (DagRunState.QUEUED, DagRunState.RUNNING)
    try:
        with create_session() as session:
            found = session.scalars(
                select(DagRun.dag_id).where(DagRun.dag_id.in_(names), DagRun.state.in_(states)).distinct()
            )
            return frozenset(found)
    except (SQLAlchemyError, RuntimeError) as error:
        log.warning("Airflow's database does not tell which unregistered workflows still have runs: %s", error)
        return frozenset(names)
