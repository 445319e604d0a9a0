"""The inventory: which cards, or MIG slices of cards, each host has.

A person writes it as YAML or JSON::

    hosts:
      gpu01:
        - {model: NVIDIA A100, memory: 40 GiB, count: 2}
        - {model: NVIDIA A100, memory: 10 GiB, mig: 1g.10gb, count: 7}
      gpu02:
        - {class: small, model: NVIDIA T4, memory: 15}

``memory`` is GiB where it has no unit. Cards of one class are interchangeable and so have the same memory: ``class`` is
made from model and MIG profile unless it is given. ``ids`` are those of the driver (``GPU-...``, ``MIG-...``), and
``indexes`` the numbers of the cards in its list; without them the cards of a host are numbered as they are listed.
``exclusive: true`` says that a card is one application's at a time, however little it needs. The store keeps the
checked inventory as ``gpu/inventory.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_monai.errors import InventoryError
from airflow_monai.specs.units import memory_bytes
from airflow_monai.store.base import Store

INVENTORY_KEY = "gpu/inventory.json"
EXAMPLE = "hosts: {gpu01: [{model: NVIDIA A100, memory: 40 GiB, count: 2}]}"
GIB = 1 << 30
MAX_FILE_BYTES = 1 << 20
MAX_CARDS_A_LINE = 1024
_CARD_KEYS = ("model", "class", "memory", "count", "mig", "ids", "indexes", "exclusive")
_ID = re.compile(r"(GPU|MIG)-[A-Za-z0-9/-]{1,120}\Z")
_CLASS = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards of one class in one host.

    :param card_class: name of the class, lower case, as in the pool ``gpu_<class>``.
    :param memory_bytes: of one card, or of one slice.
    :param mig: MIG profile when these are slices (``1g.10gb``), else None.
    :param ids: of each card, where they are known.
    :param indexes: of each card in the driver's list, where they are known; of slices never.
    :param exclusive: one application's at a time, however little it needs; slices always are.
    """

    card_class: str
    model: str
    memory_bytes: int
    count: int = 1
    mig: str | None = None
    ids: tuple[str, ...] = ()
    indexes: tuple[int, ...] = ()
    exclusive: bool = False

    @property
    def slots(self) -> int:
        """Whole GiB of one card: what is shared out of it."""
        return self.memory_bytes // GIB


@dataclass(frozen=True, slots=True)
class Host:
    """A host with cards. ``source``: ``detected`` or ``kubernetes`` where not a person wrote it."""

    name: str
    cards: tuple[Cards, ...]
    source: str = ""


@dataclass(frozen=True, slots=True)
class CardClass:
    """A class of interchangeable cards over all hosts.

    :param count: how many there are.
    :param most_on_a_host: how many of them one host has at most; a task cannot span hosts.
    """

    name: str
    model: str
    memory_bytes: int
    count: int
    most_on_a_host: int
    mig: str | None
    exclusive: bool = False

    @property
    def card_slots(self) -> int:
        """Slots of one card: its whole GiB."""
        return self.memory_bytes // GIB

    @property
    def slots(self) -> int:
        """Slots of all its cards."""
        return self.card_slots * self.count


@dataclass(frozen=True, slots=True)
class Inventory:
    """The cards of all hosts."""

    hosts: tuple[Host, ...]

    def classes(self) -> tuple[CardClass, ...]:
        """The classes of cards, the smallest card first."""
        names = sorted({cards.card_class for _, cards in self._lines()})
        return tuple(sorted((self._class(name) for name in names), key=lambda c: (c.memory_bytes, c.name)))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Inventory:
        """The inventory that ``to_dict`` made this of."""
        return cls(tuple(_kept_host(host) for host in data["hosts"]))

    def _lines(self) -> Iterator[tuple[Host, Cards]]:
        for host in self.hosts:
            for cards in host.cards:
                yield host, cards

    def _class(self, name: str) -> CardClass:
        lines = [(host, cards) for host, cards in self._lines() if cards.card_class == name]
        per_host = {host.name: sum(c.count for h, c in lines if h.name == host.name) for host, _ in lines}
        first = lines[0][1]
        return CardClass(
            name,
            first.model,
            first.memory_bytes,
            sum(per_host.values()),
            max(per_host.values()),
            first.mig,
            exclusive=bool(first.mig) or any(cards.exclusive for _, cards in lines),
        )


def read_inventory(path: str | Path) -> Inventory:
    """The inventory in a YAML or JSON file.

    :raises InventoryError: with the file and the place in it.
    """
    import yaml

    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InventoryError(f"The inventory {path} cannot be read: {error.strerror or error}.") from error
    if len(raw) > MAX_FILE_BYTES:
        raise InventoryError(f"The inventory {path} has more than {MAX_FILE_BYTES} bytes; this is no inventory.")
    try:
        data = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InventoryError(f"The inventory {path} is not YAML or JSON: {' '.join(str(error).split())}.") from error
    return parse_inventory(data, source=str(path))


def parse_inventory(data: object, *, source: str = "inventory") -> Inventory:
    """Check plain data (see the module's text for its form).

    :param source: name for messages.
    :raises InventoryError: naming the place, as in ``gpus.yaml: hosts.gpu01[0].memory``.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("hosts"), Mapping) or not data["hosts"]:
        raise InventoryError(f"{source}: expected 'hosts:' with a list of cards for each host, as in {EXAMPLE!r}.")
    extra = sorted(str(key) for key in data if key != "hosts")
    if extra:
        raise InventoryError(f"{source}: unknown field {extra[0]!r}; the only one at the top is 'hosts'.")
    inventory = Inventory(tuple(_host(name, cards, source) for name, cards in data["hosts"].items()))
    check_inventory(inventory, source)
    return inventory


def check_inventory(inventory: Inventory, source: str = "inventory") -> None:
    """Refuse one whose classes hold different cards, or that has a card twice."""
    _check_classes(inventory, source)
    _check_ids(inventory, source)


def with_hosts(inventory: Inventory | None, hosts: Iterable[Host], *, instead_of: str = "") -> Inventory:
    """The inventory with these hosts, in place of those of the same name.

    :param instead_of: the source whose other hosts are gone.
    """
    new = {host.name: host for host in hosts}
    kept = [host for host in (inventory.hosts if inventory else ()) if host.name not in new]
    kept = [host for host in kept if not instead_of or host.source != instead_of]
    return Inventory(tuple(sorted([*kept, *new.values()], key=lambda host: host.name)))


def load_inventory(store: Store) -> Inventory | None:
    """The inventory that ``airflow monai pools sync`` kept in the store; None when there is none yet."""
    if not store.exists(INVENTORY_KEY):
        return None
    try:
        return Inventory.from_dict(store.read_json(INVENTORY_KEY))
    except (ValueError, KeyError, TypeError) as error:
        raise InventoryError(
            f"{INVENTORY_KEY} in the store is damaged ({error}): run `airflow monai pools sync --inventory FILE` again."
        ) from error


def save_inventory(store: Store, inventory: Inventory) -> None:
    """Keep the inventory in the store, where the factory finds it."""
    store.write(INVENTORY_KEY, json.dumps(inventory.to_dict(), indent=2).encode())


def _kept_host(host: Mapping[str, Any]) -> Host:
    return Host(host["name"], tuple(_kept(cards) for cards in host["cards"]), host.get("source", ""))


def _kept(cards: Mapping[str, Any]) -> Cards:
    return Cards(**{**cards, "ids": tuple(cards.get("ids", ())), "indexes": tuple(cards.get("indexes", ()))})


def _host(name: object, lines: object, source: str) -> Host:
    place = f"{source}: hosts.{name}"
    if not isinstance(name, str) or not name.strip():
        raise InventoryError(f"{place}: a host's name must be text.")
    if not isinstance(lines, list) or not lines:
        raise InventoryError(f"{place}: expected a list of cards, as in '- {{model: NVIDIA T4, memory: 15 GiB}}'.")
    return Host(name, tuple(_cards(line, f"{place}[{index}]") for index, line in enumerate(lines)))


def _cards(line: object, place: str) -> Cards:
    if not isinstance(line, Mapping):
        raise InventoryError(f"{place}: expected a card with {', '.join(_CARD_KEYS)}.")
    unknown = sorted(str(key) for key in line if key not in _CARD_KEYS)
    if unknown:
        raise InventoryError(f"{place}: unknown field {unknown[0]!r}; a card has {', '.join(_CARD_KEYS)}.")
    model, mig = _text(line, "model", place), _text(line, "mig", place)
    ids, indexes = _ids(line, place), _indexes(line, place)
    given = len(ids or indexes) or 1
    cards = Cards(
        card_class=_class_name(_text(line, "class", place), model, mig, place),
        model=model or str(line["class"]),
        memory_bytes=_memory(line.get("memory"), f"{place}.memory"),
        count=_count(line.get("count", given), f"{place}.count"),
        mig=mig,
        ids=ids,
        indexes=indexes,
        exclusive=_flag(line, "exclusive", place),
    )
    for name, each in (("ids", ids), ("indexes", indexes)):
        if each and len(each) != cards.count:
            raise InventoryError(f"{place}.{name}: {len(each)} of them for {cards.count} cards.")
    return cards


def _flag(line: Mapping[str, Any], key: str, place: str) -> bool:
    value = line.get(key, False)
    if not isinstance(value, bool):
        raise InventoryError(f"{place}.{key}: expected true or false.")
    return value


def _ids(line: Mapping[str, Any], place: str) -> tuple[str, ...]:
    ids = line.get("ids") or []
    if not isinstance(ids, list) or not all(isinstance(id_, str) and _ID.match(id_) for id_ in ids):
        raise InventoryError(f"{place}.ids: expected a list of ids as `nvidia-smi -L` shows them, as in GPU-5a1c...")
    return tuple(ids)


def _indexes(line: Mapping[str, Any], place: str) -> tuple[int, ...]:
    indexes = line.get("indexes") or []
    if not isinstance(indexes, list) or not all(type(index) is int and 0 <= index < 4096 for index in indexes):
        raise InventoryError(f"{place}.indexes: expected a list of whole numbers from 0.")
    if indexes and line.get("mig"):
        raise InventoryError(f"{place}.indexes: a slice has no index of its own; give 'ids', as in MIG-5a1c...")
    return tuple(indexes)


def _text(line: Mapping[str, Any], key: str, place: str) -> str | None:
    value = line.get(key)
    if value is not None and not isinstance(value, str | int | float):
        raise InventoryError(f"{place}.{key}: expected a name, not {type(value).__name__}.")
    return str(value).strip() if value is not None else None


def _class_name(given: str | None, model: str | None, mig: str | None, place: str) -> str:
    if not given and not model:
        raise InventoryError(f"{place}: a card needs 'model' (or 'class').")
    name = given or class_name(model or "", mig or "")
    if not _CLASS.match(name):
        raise InventoryError(
            f"{place}.class: {name!r} cannot name a pool; use lower-case letters, digits, '.', '_' and '-'."
        )
    return name


def class_name(model: str, mig: str) -> str:
    """The class of cards of a model, or of its slices."""
    return re.sub(r"[^a-z0-9._]+", "-", f"{model} {mig}".lower()).strip("-._")[:100]


def _memory(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InventoryError(f"{place}: expected the memory of one card, as in '40 GiB' or 40 (GiB).")
    text = str(value).strip()
    try:
        size = memory_bytes(f"{text} Gi" if re.fullmatch(r"[0-9.]+", text) else text)
    except ValueError as error:
        raise InventoryError(f"{place}: {error}.") from None
    if not GIB <= size <= 1024 * GIB:
        raise InventoryError(f"{place}: {text!r} is not between 1 GiB and 1 TiB.")
    return size


def _count(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_CARDS_A_LINE:
        raise InventoryError(f"{place}: expected a whole number from 1 to {MAX_CARDS_A_LINE}, not {value!r}.")
    return value


def _check_ids(inventory: Inventory, source: str) -> None:
    """Refuse a card that is there twice: it would be given twice."""
    seen: set[object] = set()
    for host, cards in inventory._lines():
        for card in (*cards.ids, *((host.name, index) for index in cards.indexes)):
            if card in seen:
                name = card if isinstance(card, str) else f"index {card[1]}"  # type: ignore[index]
                raise InventoryError(f"{source}: hosts.{host.name}: the card {name} is there twice.")
            seen.add(card)


def _check_classes(inventory: Inventory, source: str) -> None:
    """Refuse a class whose cards differ: one could then not stand for another."""
    seen: dict[str, tuple[str, Cards]] = {}
    for host, cards in inventory._lines():
        other_host, other = seen.setdefault(cards.card_class, (host.name, cards))
        if (other.memory_bytes, other.mig) != (cards.memory_bytes, cards.mig):
            raise InventoryError(
                f"{source}: class {cards.card_class!r} has different cards on {other_host} "
                f"({other.memory_bytes / GIB:g} GiB{f', MIG {other.mig}' if other.mig else ''}) and {host.name} "
                f"({cards.memory_bytes / GIB:g} GiB{f', MIG {cards.mig}' if cards.mig else ''}): give them a 'class' "
                "of their own each."
            )
