"""The cards of this host, as leases know them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_monai.errors import CapacityError
from airflow_monai.gpu.choice import Card
from airflow_monai.gpu.inventory import Cards, Host, Inventory


@dataclass(frozen=True, slots=True)
class HostCards:
    """Cards of one host.

    :param aliases: what a card was called while its id was not known (its index) -> its id.
    """

    host: str
    cards: tuple[Card, ...]
    aliases: dict[str, str]


def host_here(inventory: Inventory, name: str = "") -> Host:
    """The host of the inventory that this one is.

    :param name: as the site's settings say it; else this host's own, with or without its domain. A single host needs
        no name: workers in containers have one of their own.
    :raises CapacityError: when there is none such.
    """
    hosts = {host.name: host for host in inventory.hosts}
    own = platform.node()
    short = {host.partition(".")[0]: host for host in hosts}
    for wanted in (name,) if name else (own, short.get(own.partition(".")[0], "")):
        if wanted in hosts:
            return hosts[wanted]
    if len(hosts) == 1 and not name:
        return inventory.hosts[0]
    raise CapacityError(
        f"The GPU inventory has no host {name or own} (it has {', '.join(sorted(hosts)) or 'none'}): run `airflow "
        "monai pools sync --detect` here, or set [monai] gpu_host to this host's name in it."
    )


def cards_of(host: Host) -> HostCards:
    """The cards of a host, each with the id by which it is given out."""
    cards: list[Card] = []
    aliases: dict[str, str] = {}
    for line, index, id_ in _numbered(host):
        if id_ is not None and index is not None:
            aliases[str(index)] = id_
        known = id_ or (str(index) if index is not None else "")
        if known:
            cards.append(Card(known, line.card_class, line.slots))
    return HostCards(host.name, tuple(cards), aliases)


def slices_without_ids(host: Host, card_class: str) -> bool:
    """Whether a class has slices that cannot be given out, as nobody knows what the driver calls them."""
    return any(line.mig and not line.ids and line.card_class == card_class for line in host.cards)


def _numbered(host: Host) -> Iterator[tuple[Cards, int | None, str | None]]:
    """Each card with its index and its id, as far as they are known."""
    count = 0
    for line in host.cards:
        for position in range(line.count):
            index = None if line.mig else line.indexes[position] if line.indexes else count
            count += 0 if line.mig else 1
            yield line, index, line.ids[position] if line.ids else None
