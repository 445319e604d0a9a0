"""Nothing imports upwards or sideways: the domain knows nothing of what faces Airflow, no entry point of another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import airflow_monai

ROOT = Path(airflow_monai.__file__).parent
ENTRY = {"api", "bundles", "cli", "gateway", "local"}
FACING_AIRFLOW = {"factory", "hooks", "intake", "operators", "sensors", "triggers"}
DOMAIN = {
    "argo", "batches", "broker", "client", "datasets", "gpu", "jobs", "lifecycle", "maps", "mip", "notifications",
    "pulls", "sinks", "specs", "store", "tasks", "workflows",
}  # fmt: skip
WHOLE = {"__init__", "__main__", "get_provider_info", "plugin"}
"""What names all the others to Airflow, or to Python."""
GROUND = {path.stem for path in ROOT.glob("*.py")} - WHOLE | {"options"}
WITH = {"cli": {"local"}}
"""`airflow monai run` is the command line of what runs one workflow here."""


@cache
def imported(package: str) -> tuple[tuple[Path, str], ...]:
    """(file, package of ours that it imports), also within functions and for types only."""
    return tuple(_imported(package))


def _imported(package: str) -> Iterator[tuple[Path, str]]:
    for path in (ROOT / package).rglob("*.py") if (ROOT / package).is_dir() else [ROOT / f"{package}.py"]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            if names == ["airflow_monai"] and isinstance(node, ast.ImportFrom):
                names = [f"airflow_monai.{name.name}" for name in node.names]
            yield from ((path, name.split(".")[1]) for name in names if name.startswith("airflow_monai."))


def test_every_package_has_its_layer() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == ENTRY | FACING_AIRFLOW | DOMAIN | GROUND & packages


@pytest.mark.parametrize(
    ("packages", "above"),
    [
        (GROUND, DOMAIN | FACING_AIRFLOW | ENTRY),
        (DOMAIN, FACING_AIRFLOW | ENTRY),
        ({"hooks"}, FACING_AIRFLOW - {"hooks"}),
        ({"operators", "sensors", "triggers"}, {"factory", "intake"}),
        (FACING_AIRFLOW, ENTRY),
        *(({entry}, ENTRY - {entry} - WITH.get(entry, set())) for entry in sorted(ENTRY)),
    ],
    ids=["ground", "domain", "hooks", "operators", "facing Airflow", *sorted(ENTRY)],
)
def test_nothing_imports_upwards_or_sideways(packages: set[str], above: set[str]) -> None:
    every = [found for package in sorted(packages) for found in imported(package)]
    assert len(every) > 3
    assert [(str(path.relative_to(ROOT)), name) for path, name in every if name in above] == []
