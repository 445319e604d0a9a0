"""The cards of an application's task: leased before it runs, given back when it is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import CapacityError, CardsBusy, LeaseError

if TYPE_CHECKING:
    from airflow_monai.gpu.inventory import CardClass, Inventory
    from airflow_monai.gpu.lease_folder import LeaseFolder
    from airflow_monai.gpu.lease_state import Lease
    from airflow_monai.gpu.leases import Holder, Leased, Leases, Want
    from airflow_monai.maps.runners.base import MapJob, Runner
    from airflow_monai.operators.application import ApplicationOperator
    from airflow_monai.tasks.run import TaskRun


@dataclass(slots=True)
class JobCards:
    """What a job has to do with the cards of this host.

    :param leased: its cards, once it has them.
    """

    leases: Leases
    want: Want
    holder: Holder
    holds: Callable[[Lease], bool]
    wait_seconds: float
    total_seconds: float
    leased: Leased | None = None

    def lease(self, job: MapJob, *, check: Callable[[], None], say: Callable[[str], None]) -> MapJob:
        """The job with its cards, waited for if need be.

        :param say: told what it waits for.
        :raises NoCard: when it has waited as long as it may in all.
        :raises AirflowRescheduleException: when it has waited as long as it may at a time: Airflow takes the task's
            slots back and starts it again later, as the same try.
        """
        from airflow.sdk.exceptions import AirflowRescheduleException

        try:
            self.leased = self.leases.acquire(
                self.want,
                self.holder,
                wait_seconds=self.wait_seconds,
                total_seconds=self.total_seconds,
                holds=self.holds,
                check=check,
                on_wait=lambda waiting: say(waiting.text[0].upper() + waiting.text[1:]),
            )
        except CardsBusy as busy:
            say(str(busy))
            later = datetime.now(timezone.utc) + timedelta(seconds=busy.back_in_seconds)
            raise AirflowRescheduleException(later) from None
        cards, kept = ",".join(self.leased.cards), self.leased.keep_open
        say(f"{'Found again' if self.leased.found_again else 'Got'} {cards} ({self.leased.share} GiB each)")
        return replace(
            job,
            gpus=len(self.leased.cards),
            devices=self.leased.cards,
            keep_open=() if kept is None else (kept,),
        )

    def facts(self) -> dict[str, Any]:
        """For statistics: which cards, how much of each, and how long it waited for them."""
        if self.leased is None:
            return {}
        return {
            "cards": list(self.leased.cards),
            "card_class": self.want.card_class,
            "card_gib": self.leased.share,
            "wait_seconds": self.leased.wait_seconds,
        }


def cards_for(
    operator: ApplicationOperator, run: TaskRun, runner: Runner, job: MapJob, folder: LeaseFolder
) -> JobCards | None:
    """The lease that a job needs; None where it needs no card, or where the engine chooses cards.

    Whoever has an inventory has leases: also a task that was sent around the pools must not use a card of another.

    :raises CapacityError: when this host is not in the inventory, or can never give what is wanted.
    """
    from airflow_monai import settings
    from airflow_monai.gpu.here import cards_of, host_here, slices_without_ids
    from airflow_monai.gpu.inventory import load_inventory
    from airflow_monai.gpu.leases import Holder, Leases

    if not job.gpus or not runner.leases_cards:
        return None
    inventory = load_inventory(run.store)
    if inventory is None:
        return None
    site = settings.load_gpu()
    host = host_here(inventory, site.host)
    want = _want(operator, run, job, inventory)
    if slices_without_ids(host, want.card_class):
        raise CapacityError(
            f"The GPU inventory does not say what the slices {want.card_class} of {host.name} are called, so none can "
            "be given out: run `airflow monai pools sync --detect` there, or add their 'ids' to the inventory."
        )
    here = cards_of(host)
    leases = Leases(folder, here.cards, here.host, here.aliases)
    holder = Holder(job.name, runner.engine_names()[0], str(job.state))
    return JobCards(
        leases,
        want,
        holder,
        holds=lambda lease: _holds(lease, runner),
        wait_seconds=site.wait_minutes * 60,
        total_seconds=site.wait_total_minutes * 60,
    )


def _holds(lease: Lease, runner: Runner) -> bool:
    """Whether the job of a lease may still use its cards: also when nobody can tell."""
    from airflow_monai.errors import MonaiError

    try:
        if lease.engine not in runner.engine_names():
            return is_used(lease)
        return runner.holds(lease.name, Path(lease.state))
    except MonaiError:
        return True


def is_used(lease: Lease) -> bool:
    """Whether the job of a lease may still use its cards, by the engine that it runs on; true when nobody can tell."""
    from airflow_monai import settings
    from airflow_monai.errors import MonaiError
    from airflow_monai.maps.runners import create_runner
    from airflow_monai.store import open_store

    try:
        site = settings.load()
        runner = create_runner(lease.engine.partition(" ")[0], site, open_store(site.store))
        return lease.engine not in runner.engine_names() or runner.holds(lease.name, Path(lease.state))
    except MonaiError:
        return True


def _want(operator: ApplicationOperator, run: TaskRun, job: MapJob, inventory: Inventory) -> Want:
    from airflow_monai.gpu.leases import Want
    from airflow_monai.gpu.pools import GpuRequest, gpu_request

    named = gpu_request(operator.resources_wanted)
    request = GpuRequest(job.gpus, named.memory if named else job.resources.gpu_memory_bytes or None)
    card = _class(operator.pool, request, inventory)
    return Want(card.name, request.count, request.share(card), weight_of(operator, run.folder.run_id))


def _class(pool: str, request: Any, inventory: Inventory) -> CardClass:
    """The class of the task's pool; of a task in another pool the one that it should be in."""
    from airflow_monai.gpu.pools import pool_name, smallest_class

    ours = {pool_name(card.name): card for card in inventory.classes()}
    return ours[pool] if pool in ours else smallest_class(request, inventory)


def weight_of(operator: ApplicationOperator, run_id: str) -> int:
    """The task's weight as the scheduler counts it."""
    from types import SimpleNamespace

    from airflow_monai.priorities import STRATEGIES, strategy_name

    rules = {strategy_name(name): strategy for name, strategy in STRATEGIES.items()}
    rule = operator.weight_rule
    name = rule if isinstance(rule, str) else f"{type(rule).__module__}.{type(rule).__qualname__}"
    strategy = rules.get(name)
    if strategy is None:
        return operator.priority_weight
    ti: Any = SimpleNamespace(task=operator, run_id=run_id)
    return strategy().get_weight(ti)


def give_back(folder: LeaseFolder, name: str, say: Callable[[str], None]) -> None:
    """Give the cards of a job that is gone back; if that cannot be done now, they are found to be free later."""
    from airflow_monai.gpu.leases import release

    try:
        release(folder, name)
    except LeaseError as error:
        say(f"The cards of {name} could not be given back now: {error}")
