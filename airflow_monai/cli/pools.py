"""``airflow monai pools sync``: Airflow's pools become those of the GPU inventory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from airflow_monai.errors import InventoryError, SettingsError
from airflow_monai.gpu.inventory import EXAMPLE, Inventory, load_inventory, read_inventory, save_inventory
from airflow_monai.gpu.pools import Pool, pools_of
from airflow_monai.gpu.sync import Action, Change, ExistingPool, changes
from airflow_monai.store.base import Store

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def run(store: Store, inventory_file: str | None, dry_run: bool, out: TextIO) -> int:
    """Create and update the pools in Airflow's database, then keep the inventory in the store.

    The pools come first: a workflow that is checked against the inventory finds its pool there.

    :raises InventoryError: when there is no usable inventory.
    :raises SettingsError: when Airflow's database cannot be used.
    """
    from sqlalchemy.exc import SQLAlchemyError

    inventory = _inventory(store, inventory_file)
    try:
        planned = _sync(pools_of(inventory), dry_run)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
        raise SettingsError(
            f"Airflow's database cannot be used ({reason}): check [database] sql_alchemy_conn, and that "
            "`airflow db migrate` has run."
        ) from error
    if not dry_run:
        save_inventory(store, inventory)
    _report(planned, dry_run, out)
    return 0


def _sync(wanted: Sequence[Pool], dry_run: bool) -> tuple[Change, ...]:
    from airflow.utils.session import create_session

    with create_session() as session:
        planned = changes(wanted, _existing(session))
        if not dry_run:
            _apply(planned, session)
    return planned


def _inventory(store: Store, inventory_file: str | None) -> Inventory:
    if inventory_file:
        return read_inventory(inventory_file)
    inventory = load_inventory(store)
    if inventory is None:
        raise InventoryError(
            f"The store {store.url} has no GPU inventory yet: write one, as in {EXAMPLE!r}, and run "
            "`airflow monai pools sync --inventory FILE`."
        )
    return inventory


def _existing(session: Session) -> dict[str, ExistingPool]:
    from airflow.models.pool import Pool as AirflowPool

    return {
        str(pool.pool): ExistingPool(pool.slots, pool.description or "", int(pool.occupied_slots(session=session)))
        for pool in AirflowPool.get_pools(session=session)
    }


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


def _report(planned: Sequence[Change], dry_run: bool, out: TextIO) -> None:
    for change in planned:
        print(change, file=out)
    for change in planned:
        if change.warning:
            print(f"warning: {change.warning}", file=out)
    print("Nothing was changed (--dry-run)." if dry_run else "The pools are as the inventory says.", file=out)
