"""docs/workflow-manager.md has every route of workflows. Its commands run in tests/e2e/test_walks.py."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_monai.api.workflow_manager.workflows import router

PAGE = (Path(__file__).parents[3] / "docs" / "workflow-manager.md").read_text("utf-8")


def test_every_route_is_in_the_table() -> None:
    table = re.findall(r"^\| `([A-Z]+) (/\S*?)(?:\?\S*)?` ", PAGE, re.MULTILINE)
    for route in router.routes:
        path = route.path.removeprefix("/workflow-manager").replace("{workflow_id}", "{id}")  # type: ignore[attr-defined]
        for method in route.methods:  # type: ignore[attr-defined]
            assert (method, path) in table
