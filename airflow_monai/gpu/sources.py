"""Where an inventory comes from: files, this host's driver, a cluster's nodes, and what the store had."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_monai.errors import InventoryError
from airflow_monai.gpu.inventory import EXAMPLE, Cards, Host, Inventory, check_inventory, read_inventory, with_hosts

DETECTED = "detected"


@dataclass(frozen=True, slots=True)
class Sources:
    """What a new inventory is made of.

    :param files: together they are the whole inventory; none: the store's goes on.
    :param detected: the cards of this host, in place of what was known of it.
    :param nodes: the nodes of a cluster, in place of all that were known of it.
    :param host: this host's name in the inventory; its own when empty.
    """

    files: Sequence[str] = ()
    detected: tuple[Cards, ...] | None = None
    nodes: tuple[Host, ...] | None = None
    host: str = ""


def inventory_from(sources: Sources, kept: Inventory | None, store: str = "the store") -> Inventory:
    """The new inventory.

    :param kept: what the store has.
    :raises InventoryError: when there is nothing, or what there is does not fit together.
    """
    from airflow_monai.gpu.kubernetes import SOURCE as KUBERNETES

    inventory = _of_files(sources.files) if sources.files else kept
    if sources.detected is not None:
        here = Host(sources.host or known_name(inventory), sources.detected, DETECTED)
        inventory = with_hosts(inventory, [here])
    if sources.nodes is not None:
        inventory = with_hosts(inventory, sources.nodes, instead_of=KUBERNETES)
    if inventory is None:
        raise InventoryError(
            f"{store} has no GPU inventory yet: run `airflow monai pools sync --detect` on each host that has cards, "
            f"or write one, as in {EXAMPLE!r}, and run `airflow monai pools sync --inventory FILE`."
        )
    check_inventory(inventory)
    return inventory


def known_name(inventory: Inventory | None) -> str:
    """This host's name, in the form in which the inventory has it."""
    own = platform.node()
    names = [host.name for host in inventory.hosts] if inventory else []
    if own in names:
        return own
    alike = [name for name in names if name.partition(".")[0] == own.partition(".")[0]]
    return alike[0] if len(alike) == 1 else own


def _of_files(files: Sequence[str]) -> Inventory:
    inventory = None
    seen: dict[str, str] = {}
    for file in files:
        more = read_inventory(file)
        for host in more.hosts:
            if host.name in seen:
                raise InventoryError(f"Both {seen[host.name]} and {file} say what cards the host {host.name} has.")
            seen[host.name] = file
        inventory = with_hosts(inventory, more.hosts)
    assert inventory is not None
    return inventory
