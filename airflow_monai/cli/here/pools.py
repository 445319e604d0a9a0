"""``airflow monai pools sync``: Airflow's pools become those of the GPU inventory."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from airflow_monai.cli.ending import ends, warn
from airflow_monai.cli.here.configured import this_store
from airflow_monai.errors import SettingsError
from airflow_monai.gpu.inventory import Inventory, load_inventory, save_inventory
from airflow_monai.gpu.pools import pools_of
from airflow_monai.gpu.sources import Sources, inventory_from
from airflow_monai.gpu.sync import Action, Change, ExistingPool, Waiting, changes
from airflow_monai.store.base import Store

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Manner:
    """How to synchronise. ``force``: also where tasks that have not ended could then never start."""

    dry_run: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    inventory: Inventory
    changes: tuple[Change, ...]
    done: bool


@ends()
def sync(args: Namespace) -> int:
    from airflow_monai import settings

    detected = nodes = None
    if args.detect:
        from airflow_monai.gpu.detect import detect

        detected = detect(warn)
    if args.kubernetes:
        from airflow_monai.gpu.kubernetes import hosts_of, read_nodes
        from airflow_monai.maps.runners.kubernetes import settings as kubernetes_settings
        from airflow_monai.maps.runners.kubernetes.cluster import Cluster

        nodes = hosts_of(read_nodes(Cluster(kubernetes_settings.load(settings.load().image_pull).conn_id).api))
    sources = Sources(args.inventory, detected, nodes, settings.load().gpu_host)
    return run(this_store(), sources, Manner(args.dry_run, args.force), sys.stdout)


def run(store: Store, sources: Sources, manner: Manner, out: TextIO) -> int:
    """Create and update the pools in Airflow's database, and keep the inventory in the store.

    Tasks that have not ended and could then never start are named, and nothing is changed unless it is forced.

    :raises InventoryError: when there is no usable inventory.
    :raises SettingsError: when Airflow's database cannot be used.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        plan = _sync(store, sources, manner)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
        raise SettingsError(
            f"Airflow's database cannot be used ({reason}): check [database] sql_alchemy_conn, and that "
            "`airflow db migrate` has run."
        ) from error
    _report(plan, manner, out)
    return 0 if plan.done or manner.dry_run else 1


def _sync(store: Store, sources: Sources, manner: Manner) -> _Plan:
    from airflow.utils.session import create_session

    with create_session() as session:
        _take_turns(session)
        inventory = inventory_from(sources, load_inventory(store), f"The store {store.url}")
        planned = changes(pools_of(inventory), _existing(session))
        stranded = any(change.stranded for change in planned)
        done = not manner.dry_run and (manner.force or not stranded)
        if done:
            _apply(planned, session)
            session.flush()
            save_inventory(store, inventory)
    return _Plan(inventory, planned, done)


def _take_turns(session: Session) -> None:
    """Let no other host add its cards to the same old inventory meanwhile: until the end of the transaction."""
    from airflow.models.pool import Pool as AirflowPool
    from sqlalchemy import select

    session.execute(select(AirflowPool.id).where(AirflowPool.pool == AirflowPool.DEFAULT_POOL_NAME).with_for_update())


def _existing(session: Session) -> dict[str, ExistingPool]:
    from airflow.models.pool import Pool as AirflowPool

    tasks = _unfinished(session)
    return {
        str(pool.pool): ExistingPool(
            pool.slots,
            pool.description or "",
            int(pool.occupied_slots(session=session)),
            tuple(tasks.get(str(pool.pool), ())),
        )
        for pool in AirflowPool.get_pools(session=session)
    }


def _unfinished(session: Session) -> dict[str, list[Waiting]]:
    """Pool of ours -> what has not ended of the runs that are under way."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import State
    from sqlalchemy import or_, select

    from airflow_monai.gpu.pools import POOL_PREFIX

    ti = TaskInstance
    unfinished = [state for state in State.unfinished if state is not None]
    query = (
        select(ti.pool, ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.state, ti.pool_slots)
        .join(DagRun, (DagRun.dag_id == ti.dag_id) & (DagRun.run_id == ti.run_id))
        .where(ti.pool.startswith(POOL_PREFIX, autoescape=True))
        .where(or_(ti.state.is_(None), ti.state.in_(unfinished)))
        .where(DagRun.state.in_(State.unfinished_dr_states))
        .order_by(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    )
    tasks: dict[str, list[Waiting]] = {}
    for pool, dag_id, run_id, task_id, map_index, state, slots in session.execute(query):
        waiting = Waiting(dag_id, run_id, task_id, map_index, str(state or "not scheduled yet"), slots)
        tasks.setdefault(pool, []).append(waiting)
    return tasks


def _apply(planned: Sequence[Change], session: Session) -> None:
    from airflow.models.pool import Pool as AirflowPool

    for change in planned:
        if change.action in (Action.CREATE, Action.UPDATE):
            AirflowPool.create_or_update_pool(
                change.pool.name,
                slots=change.pool.slots,
                description=change.pool.description,
                include_deferred=True,  # a GPU task of a hand-written DAG that defers keeps its card
                session=session,
            )


def _report(plan: _Plan, manner: Manner, out: TextIO) -> None:
    for host in plan.inventory.hosts:
        cards = ", ".join(f"{cards.count} x {cards.card_class} ({cards.slots} GiB)" for cards in host.cards)
        print(f"host    {host.name}  {cards}", file=out)
    for change in plan.changes:
        print(change, file=out)
    for change in plan.changes:
        if change.warning:
            print(f"warning: {change.warning}", file=out)
    stranded = [line for change in plan.changes for line in change.told()]
    if stranded:
        print("These tasks have not ended, and the new pools have no room for them:", file=out)
        print("\n".join(f"  {line}" for line in stranded), file=out)
    print(_last_words(plan, manner, bool(stranded)), file=out)


def _last_words(plan: _Plan, manner: Manner, stranded: bool) -> str:
    if plan.done:
        return "The pools are as the inventory says."
    if manner.dry_run:
        return "Nothing was changed (--dry-run)."
    return "Nothing was changed: let them end, clear or fail them first, or say --force."
