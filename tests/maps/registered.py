"""Registered MAPs for tests."""

from __future__ import annotations

import json
from typing import Any

from airflow_monai.maps.registry import MapKind, RegisteredMap

APP = {"command": "run", "input": {"path": "input/"}, "output": {"path": "output/"}, "timeout": 60, "version": "1.0.0"}
PKG: dict[str, Any] = {"resources": {"cpu": 1, "memory": "1Gi"}}


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def image_map(name: str = "lung", version: str = "1.0.0", content: str = "a", **more: Any) -> RegisteredMap:
    """An image as it is to be registered; ``content`` tells contents apart."""
    resources = more.pop("resources", PKG["resources"])
    known = {
        "kind": MapKind.IMAGE,
        "location": f"{name}:{version}",
        "digest": digest(content),
        "app": json.dumps(APP),
        "pkg": json.dumps({**PKG, "resources": resources}),
        "ae_title": name.upper(),
    }
    return RegisteredMap(name, version, **{**known, **more})
