"""Nothing imports upwards: the domain knows nothing of what faces Airflow, and no entry point of another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_monai

ROOT = Path(airflow_monai.__file__).parent
ENTRY = {"api", "bundles", "cli", "gateway"}
FACING_AIRFLOW = {"factory", "hooks", "operators", "sensors", "triggers"}
DOMAIN = {
    "batches", "broker", "datasets", "gpu", "jobs", "lifecycle", "mip", "notifications", "pulls", "sinks", "specs",
    "store", "workflows",
}  # fmt: skip


def imported(package: str) -> Iterator[tuple[Path, str]]:
    """(file, package of ours that it imports), also within functions and for types only."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            if names == ["airflow_monai"] and isinstance(node, ast.ImportFrom):
                names = [f"airflow_monai.{name.name}" for name in node.names]
            yield from ((path, name.split(".")[1]) for name in names if name.startswith("airflow_monai."))


@pytest.mark.parametrize(
    ("packages", "above"),
    [(DOMAIN, FACING_AIRFLOW | ENTRY), (FACING_AIRFLOW, ENTRY), ({"api"}, ENTRY - {"api"})],
    ids=["domain", "facing Airflow", "api"],
)
def test_nothing_imports_upwards(packages: set[str], above: set[str]) -> None:
    every = [found for package in sorted(packages) for found in imported(package)]
    assert len(every) > 100
    assert [(str(path.relative_to(ROOT)), name) for path, name in every if name in above] == []
