"""The cards of this host as its driver knows them: by NVML where its Python module is installed, else by nvidia-smi."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from airflow_monai.errors import InventoryError
from airflow_monai.gpu.inventory import GIB, Cards, class_name

MIB = 1 << 20
QUERY = ("--query-gpu=index,uuid,name,memory.total,mig.mode.current", "--format=csv")
SECONDS = 60
"""The driver of a host with many cards, and no process that keeps it awake, takes its time."""

_GPU = re.compile(r"GPU (?P<index>\d+): (?P<name>.+) \(UUID: (?P<uuid>GPU-[^)]+)\)\s*\Z")
_SLICE = re.compile(r"\s+MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)]+)\)\s*\Z")
_PROFILE_MEMORY = re.compile(r"\.(\d+)gb")
_USABLE_PART = 0.95
"""Of the memory in a profile's name: 4.75 GiB of 1g.5gb. NVML tells the exact size, nvidia-smi's list does not."""


@dataclass(frozen=True, slots=True)
class Found:
    """A card or a slice that the driver shows.

    :param index: in the driver's list; of a slice, that of its card.
    """

    id: str
    model: str
    memory_bytes: int
    index: int
    profile: str | None = None


def detect(say: Callable[[str], None] = lambda _: None) -> tuple[Cards, ...]:
    """The cards of this host.

    :param say: told of what is left out.
    :raises InventoryError: when there is no driver, or no card.
    """
    found = _by_nvml() or parse_smi(_smi(*QUERY), _smi("-L"), say)
    if not found:
        raise InventoryError("The driver of this host shows no usable card (`nvidia-smi -L`).")
    return as_lines(found)


def as_lines(found: Iterable[Found]) -> tuple[Cards, ...]:
    """Cards that are alike as one line of an inventory. Their memory is whole GiB, which is what is shared out."""

    def kind(card: Found) -> tuple[str, int, str]:
        return card.model, card.memory_bytes // GIB, card.profile or ""

    def line(cards: list[Found]) -> Cards:
        model, memory, profile = kind(cards[0])
        indexes = () if profile else tuple(card.index for card in cards)
        ids = tuple(card.id for card in cards)
        return Cards(class_name(model, profile), model, memory * GIB, len(cards), profile or None, ids, indexes)

    groups = groupby(sorted(found, key=lambda card: (*kind(card), card.index)), key=kind)
    lines = [line(list(cards)) for _, cards in groups]
    # the same model with more and with less memory: two classes
    names = [cards.card_class for cards in lines]
    return tuple(
        cards
        if names.count(cards.card_class) == 1
        else replace(cards, card_class=f"{cards.card_class}-{cards.slots}gib")
        for cards in lines
    )


def parse_smi(query: str, listing: str, say: Callable[[str], None] = lambda _: None) -> list[Found]:
    """What nvidia-smi prints for :data:`QUERY` and for ``-L``.

    :raises InventoryError: when it is something else.
    """
    slices = _slices(listing)
    head, *rows = [line for line in query.splitlines() if line.strip()] or [""]
    if not head.startswith("index, uuid, name, memory.total"):
        raise InventoryError(f"nvidia-smi printed what is no list of cards: {head[:200]!r}.")
    return [found for row in rows for found in _cards_of_row(row, slices, say)]


def _cards_of_row(row: str, slices: dict[str, list[tuple[str, str]]], say: Callable[[str], None]) -> Iterator[Found]:
    parts = [part.strip() for part in row.split(",")]
    if len(parts) < 5 or not parts[0].isdigit() or not parts[1].startswith("GPU-"):
        raise InventoryError(f"nvidia-smi printed what is no card: {row[:200]!r}.")
    index, uuid, *name, memory, mig = parts
    size = re.fullmatch(r"(\d+) MiB", memory)
    model = ", ".join(name)
    if mig == "Enabled":
        if not slices.get(uuid):
            say(f"card {index} ({model}) is left out: MIG is on, and it is not cut into slices (`nvidia-smi mig -cgi`)")
        for profile, id_ in slices.get(uuid, ()):
            yield Found(id_, model, _profile_bytes(profile), int(index), profile)
    elif size is None or int(size[1]) * MIB < GIB:
        say(f"card {index} ({model}) is left out: the driver does not tell its memory ({memory})")
    else:
        yield Found(uuid, model, int(size[1]) * MIB, int(index))


def _slices(listing: str) -> dict[str, list[tuple[str, str]]]:
    """UUID of a card -> profile and UUID of each of its slices."""
    slices: dict[str, list[tuple[str, str]]] = {}
    card = ""
    for line in listing.splitlines():
        if gpu := _GPU.match(line):
            card = gpu["uuid"]
        elif part := _SLICE.match(line):
            slices.setdefault(card, []).append((part["profile"], part["uuid"]))
    return slices


def _profile_bytes(profile: str) -> int:
    size = _PROFILE_MEMORY.search(profile)
    if size is None:
        raise InventoryError(f"nvidia-smi shows a slice of an unknown profile: {profile!r}.")
    return int(int(size[1]) * _USABLE_PART * GIB)


def _smi(*options: str) -> str:
    try:
        done = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise InventoryError(
            "There is no nvidia-smi on this host, so no driver of NVIDIA cards. Run this on the host that has the "
            "cards, or write the inventory by hand (`airflow monai pools sync --inventory FILE`)."
        ) from None
    except subprocess.TimeoutExpired:
        raise InventoryError(
            f"nvidia-smi did not end within {SECONDS} s: see what the driver of this host does."
        ) from None
    if done.returncode != 0:
        words = " ".join((done.stdout + done.stderr).split())[:400]
        raise InventoryError(f"nvidia-smi failed (exit code {done.returncode}): {words}")
    return done.stdout


def _by_nvml() -> list[Found]:
    """Cards as NVML tells them; none where its module or the driver is not there."""
    try:
        import pynvml  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # nvidia-smi says what is the matter
    try:
        return [found for index in range(pynvml.nvmlDeviceGetCount()) for found in _nvml_cards(pynvml, index)]
    except pynvml.NVMLError as error:
        raise InventoryError(f"NVML does not tell the cards of this host: {error}.") from error
    finally:
        pynvml.nvmlShutdown()


def _nvml_cards(nvml: Any, index: int) -> Iterator[Found]:
    card = nvml.nvmlDeviceGetHandleByIndex(index)
    model = _text(nvml.nvmlDeviceGetName(card))
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(card)
    except nvml.NVMLError:
        current = 0  # cards that cannot be cut say that they do not know the question
    if not current:
        yield Found(_text(nvml.nvmlDeviceGetUUID(card)), model, nvml.nvmlDeviceGetMemoryInfo(card).total, index)
        return
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number)
        except nvml.NVMLError:
            continue  # fewer than there could be
        attributes = nvml.nvmlDeviceGetAttributes(part)
        profile = f"{attributes.gpuInstanceSliceCount}g.{round(attributes.memorySizeMB / 1024)}gb"
        memory = nvml.nvmlDeviceGetMemoryInfo(part).total
        yield Found(_text(nvml.nvmlDeviceGetUUID(part)), model, memory, index, profile)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
