"""How Airflow wants an option described."""

from __future__ import annotations

from typing import Any


def option(description: str, *, default: str = "", example: str, type_: str = "string") -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": type_,
        "example": example,
        "default": default,
    }
