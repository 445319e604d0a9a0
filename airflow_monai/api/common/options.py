"""Settings of the APIs, read when the app is made."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_monai import settings
from airflow_monai.errors import SettingsError
from airflow_monai.specs.units import memory_bytes

_RATE = re.compile(r"(?P<count>\d{1,6}(\.\d{1,3})?)\s*(/\s*(?P<unit>s|m|h))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What may be asked of one API server.

    :param rate: requests a second of one caller; 0 for no limit.
    :param burst: so many may come at once after a pause.
    :param max_body: bytes of a request that is no upload.
    """

    rate: float = 50.0
    burst: int = 200
    max_body: int = 4 * 1024 * 1024


def load() -> ApiOptions:
    """Read the options, or raise :class:`SettingsError` that names the one that cannot be used."""
    burst = settings._number("api_burst", 200)
    if burst != int(burst) or not 1 <= burst <= 1_000_000:
        raise SettingsError(f"[monai] api_burst = {burst:g}: write a whole number from 1 on.")
    try:
        max_body = memory_bytes(settings._text("api_max_body", "4Mi"))
    except ValueError as error:
        raise SettingsError(f"[monai] api_max_body: {error}.") from None
    return ApiOptions(parse_rate(settings._text("api_rate", "50/s")), int(burst), max_body)


def parse_rate(text: str) -> float:
    """Requests a second, from ``50/s``, ``600/m`` or ``10000/h``; 0 for ``0``.

    :raises SettingsError: for anything else.
    """
    found = _RATE.fullmatch(text.strip().lower())
    if found is None:
        raise SettingsError(f"[monai] api_rate = {text!r}: write requests in a time, as 50/s, 600/m or 10000/h, or 0.")
    return float(found["count"]) / _SECONDS[found["unit"] or "s"]
