"""Arguments of ``argo`` tasks: their published names and spellings, and the parameters of the workflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

OTHER_NAMES = {"priority_class": "priority", "memory_gb": "memory"}
"""What the published text calls arguments that the published program calls otherwise."""


def argument(args: Mapping[str, Any], name: str) -> str | None:
    """An argument by its own name, or by the other one that files use for it."""
    if name in args:
        return str(args[name]).strip()
    other = next((other for other, own in OTHER_NAMES.items() if own == name and other in args), "")
    if not other:
        return None
    value = str(args[other]).strip()
    return f"{value}Gi" if other == "memory_gb" else value


def parameters_of(value: Any) -> dict[str, str]:
    """The workflow's parameters from a mapping, or from a text that is one in JSON.

    :raises ValueError: when it is neither.
    """
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, dict):
        raise ValueError("it is no mapping")
    return {str(name): _text(item) for name, item in value.items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
