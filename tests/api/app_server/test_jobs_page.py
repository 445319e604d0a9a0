"""docs/app-server.md has every route of MAPs, jobs and results. Its commands run in tests/e2e/test_walks.py."""

from __future__ import annotations

import re

from tests.api.app_server.test_page import PAGE


def test_the_page_has_every_route() -> None:
    from airflow_monai.api.app_server import jobs, maps, results

    table = re.findall(r"^\| `([A-Z]+) (/\S*?)(?:\?\S*)?` ", PAGE, re.MULTILINE)
    for router in (jobs.router, maps.router, results.router):
        for route in router.routes:
            path = route.path.removeprefix("/app-server")  # type: ignore[attr-defined]
            for method in route.methods:  # type: ignore[attr-defined]
                assert (method, path) in table
