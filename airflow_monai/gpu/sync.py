"""What must change for Airflow's pools to be those of an inventory: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from airflow_monai.gpu.pools import POOL_DESCRIPTION, Pool

TOLD = 20


class Action(Enum):
    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task instance that has not ended, and the slots that it takes or will take."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str
    slots: int

    def __str__(self) -> str:
        series = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id} / {self.run_id} / {self.task_id}{series}: {self.state}, {self.slots} slots"


@dataclass(frozen=True, slots=True)
class ExistingPool:
    """A pool as Airflow has it.

    :param occupied: slots that running and queued tasks hold now.
    :param tasks: what has not ended yet of the runs that are under way.
    """

    slots: int
    description: str
    occupied: int = 0
    tasks: tuple[Waiting, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one pool. ``before`` is None for a new pool, ``warning`` is empty when all is well.

    :param stranded: tasks that could then never start.
    """

    action: Action
    pool: Pool
    before: int | None = None
    warning: str = ""
    stranded: tuple[Waiting, ...] = ()

    def __str__(self) -> str:
        slots = f"{self.pool.slots} slots"
        if self.action is Action.UPDATE and self.before != self.pool.slots:
            slots = f"{self.before} -> {slots}"
        return f"{self.action.value:<7} {self.pool.name}  {slots}  {self.pool.description}"

    def told(self) -> Iterator[str]:
        """The stranded ones, a line each."""
        yield from (f"{self.pool.name}: {task}" for task in self.stranded[:TOLD])
        if len(self.stranded) > TOLD:
            yield f"{self.pool.name}: and {len(self.stranded) - TOLD} more"


def changes(wanted: Sequence[Pool], existing: Mapping[str, ExistingPool]) -> tuple[Change, ...]:
    """What to do for each wanted pool, then the pools of ours that are wanted no more (they are left as they are)."""
    return (*(_change(pool, existing.get(pool.name)) for pool in wanted), *_gone(wanted, existing))


def _change(pool: Pool, before: ExistingPool | None) -> Change:
    if before is None:
        return Change(Action.CREATE, pool)
    same = (before.slots, before.description) == (pool.slots, pool.description)
    warning = ""
    if pool.slots < before.occupied:
        warning = (
            f"pool {pool.name} shrinks to {pool.slots} slots while tasks hold {before.occupied}: nothing new starts "
            "in it until enough of them have ended"
        )
    stranded = () if same else tuple(task for task in before.tasks if task.slots > pool.slots)
    return Change(Action.KEEP if same else Action.UPDATE, pool, before.slots, warning, stranded)


def _gone(wanted: Sequence[Pool], existing: Mapping[str, ExistingPool]) -> Iterator[Change]:
    names = {pool.name for pool in wanted}
    for name, before in sorted(existing.items()):
        if name in names or not before.description.startswith(POOL_DESCRIPTION):
            continue
        held = f" ({before.occupied} of its slots are held now)" if before.occupied else ""
        warning = (
            f"pool {name} is not in the inventory any more{held}: it is left as it is; when no workflow uses it, "
            f"remove it with `airflow pools delete {name}`"
        )
        pool = Pool(name, before.slots, before.description)
        yield Change(Action.GONE, pool, before.slots, warning, before.tasks)
