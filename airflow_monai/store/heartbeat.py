"""Gateways that are alive: each says so now and then.

gateways/<name>.json    when; removed when it stops in good order
"""

from __future__ import annotations

import time

from airflow_monai.store.base import Store

FOLDER = "gateways"
BEAT_SECONDS = 20.0
ALIVE_SECONDS = 90.0
_FORGOTTEN_SECONDS = 86400.0


def beat(store: Store, name: str) -> None:
    store.write_json(f"{FOLDER}/{name}.json", {"time": time.time()}, durable=False)


def leave(store: Store, name: str) -> None:
    store.delete(f"{FOLDER}/{name}.json")


def last_heartbeat(store: Store) -> float | None:
    """Seconds since the last sign of any gateway; None where there never was one, or all have ended in good order."""
    ages = [_age(entry.modified) for entry in store.entries(FOLDER)]
    return min(ages, default=None)


def forget_dead(store: Store) -> None:
    """Remove what gateways have left that were killed long ago."""
    for entry in list(store.entries(FOLDER)):
        if _age(entry.modified) > _FORGOTTEN_SECONDS:
            store.delete(entry.key)


def _age(moment: float) -> float:
    return max(0.0, time.time() - moment)
