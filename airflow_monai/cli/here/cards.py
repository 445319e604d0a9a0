"""``airflow monai pools show``, ``detect`` and ``release``: the cards of hosts, who has them, and who waits."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from airflow_monai.cli.ending import ends, warn
from airflow_monai.cli.here.configured import this_store
from airflow_monai.errors import CapacityError, InventoryError, LeaseError
from airflow_monai.gpu.choice import Card
from airflow_monai.gpu.detect import detect as detected
from airflow_monai.gpu.here import cards_of, host_here
from airflow_monai.gpu.inventory import GIB, Cards, Host, Inventory, load_inventory
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.lease_state import Lease, State, Ticket
from airflow_monai.gpu.leases import release as released
from airflow_monai.gpu.sources import known_name
from airflow_monai.settings import Settings
from airflow_monai.store.base import Store


@ends()
def show(args: Namespace) -> int:
    from airflow_monai import settings

    return run_show(this_store(), settings.load(), args.json, sys.stdout)


@ends()
def detect(args: Namespace) -> int:
    from airflow_monai import settings

    return run_detect(settings.load(), sys.stdout, warn)


@ends()
def release(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.operators.cards import is_used

    return run_release(settings.load(), args.job, sys.stdout, force=args.force, is_used=is_used)


def run_show(store: Store, site: Settings, as_json: bool, out: TextIO) -> int:
    """Print the cards of the inventory and, of this host's, who has them and who waits.

    :raises InventoryError: when there is no inventory.
    """
    inventory = load_inventory(store)
    if inventory is None:
        raise InventoryError(
            f"The store {store.url} has no GPU inventory yet: run `airflow monai pools sync --detect` on each host "
            "that has cards, or `airflow monai pools sync --inventory FILE`."
        )
    shown = _shown(inventory, site)
    if as_json:
        json.dump(shown, out, indent=2)
        print(file=out)
    else:
        out.writelines(f"{line}\n" for line in _lines(shown))
    return 0


def run_detect(site: Settings, out: TextIO, say: Callable[[str], None]) -> int:
    """Print the cards of this host as an inventory file."""
    import yaml

    name = site.gpu_host or known_name(None)
    lines = [_as_written(cards) for cards in detected(say)]
    yaml.safe_dump({"hosts": {name: lines}}, out, sort_keys=False, default_flow_style=False)
    return 0


def run_release(
    site: Settings, name: str, out: TextIO, *, force: bool = False, is_used: Callable[[Lease], bool]
) -> int:
    """Take a lease away, or a place in the queue, whose process is dead and whose job is gone.

    :param force: although the job may still be there.
    :param is_used: whether the job of a lease may still use its cards.
    :raises LeaseError: when there is none, its process lives, or its job is not known to be gone.
    """
    folder = LeaseFolder(Path(site.gpu_lease_folder))
    state = folder.read()
    entry = state.lease(name) or state.ticket(name)
    if entry is None:
        raise LeaseError(f"{name} has no card of this host and waits for none (`airflow monai pools show`).")
    lease = state.lease(name)
    if lease is not None and not force and not folder.lives(lease.owner) and is_used(lease):
        raise LeaseError(
            f"{name} may still run and use its card ({lease.engine}), although its worker is dead: the task's next try "
            f"goes on with it. If nobody will, end it first (with Docker: docker rm -f {name}); --force gives the card "
            "away without asking."
        )
    released(folder, name)
    if folder.read().lease(name) or folder.read().ticket(name):
        raise LeaseError(f"{name} belongs to process {entry.pid}, which lives: end its task in Airflow.")
    print(f"Released {name}.", file=out)
    return 0


def _shown(inventory: Inventory, site: Settings) -> dict[str, Any]:
    """What is told, as plain data."""
    folder = LeaseFolder(Path(site.gpu_lease_folder))
    state = folder.read()
    try:
        here = host_here(inventory, site.gpu_host).name
    except CapacityError:
        here = ""
    return {
        "lease_folder": str(folder.path),
        "hosts": [_host(host, state, folder, here=host.name == here) for host in inventory.hosts],
        "waiting": [_ticket(ticket, folder) for ticket in sorted(state.tickets, key=lambda one: one.request.rank)],
    }


def _host(host: Host, state: State, folder: LeaseFolder, *, here: bool) -> dict[str, Any]:
    known = cards_of(host)
    state = state.renamed(known.aliases)
    shown: dict[str, Any] = {"name": host.name, "this_host": here, "source": host.source or "written"}
    return {**shown, "cards": [_card(card, state if here else None, folder) for card in known.cards]}


def _card(card: Card, state: State | None, folder: LeaseFolder) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": card.id, "class": card.card_class, "gib": card.slots}
    if state is None:
        return shown
    leases = [lease for lease in state.leases if card.id in lease.cards]
    free = max(0, card.slots - sum(lease.share for lease in leases))
    return {**shown, "free_gib": free, "leases": [_lease(lease, folder) for lease in leases]}


def _lease(lease: Lease, folder: LeaseFolder) -> dict[str, Any]:
    return {
        "job": lease.name,
        "gib": lease.share,
        "engine": lease.engine,
        "pid": lease.pid,
        "worker": "alive" if folder.lives(lease.owner) else "dead",
        "waited_seconds": lease.waited,
    }


def _ticket(ticket: Ticket, folder: LeaseFolder) -> dict[str, Any]:
    waits = "waits" if folder.lives(ticket.owner) else "comes back" if ticket.back_at is not None else "gone"
    return {
        "job": ticket.name,
        "class": ticket.card_class,
        "cards": ticket.count,
        "gib": ticket.share,
        "weight": ticket.weight,
        "pid": ticket.pid,
        "state": waits,
    }


def _lines(shown: dict[str, Any]) -> Iterator[str]:
    for host in shown["hosts"]:
        yield f"{host['name']}{' (this host)' if host['this_host'] else ''}"
        for card in host["cards"]:
            free = f", {card['free_gib']} GiB free" if "free_gib" in card else ""
            yield f"  {card['id']}  {card['class']}, {card['gib']} GiB{free}"
            for lease in card.get("leases", ()):
                dead = "" if lease["worker"] == "alive" else "; its worker is dead: free when the job is gone"
                yield f"    {lease['gib']} GiB  {lease['job']}{dead}"
    if not any(host["this_host"] for host in shown["hosts"]):
        yield "This host is none of them: run it on the host of the cards to see who has them."
    for position, ticket in enumerate(shown["waiting"], 1):
        wanted = f"{ticket['gib']} GiB on {ticket['cards']} x {ticket['class']}"
        yield f"waiting {position}: {ticket['job']} for {wanted} (weight {ticket['weight']}, {ticket['state']})"


def _as_written(cards: Cards) -> dict[str, Any]:
    """One line of an inventory file."""
    line: dict[str, Any] = {"model": cards.model, "class": cards.card_class}
    line["memory"] = f"{cards.memory_bytes // GIB} GiB"
    if cards.mig:
        line["mig"] = cards.mig
    line["ids"] = list(cards.ids)
    if cards.indexes:
        line["indexes"] = list(cards.indexes)
    return line
