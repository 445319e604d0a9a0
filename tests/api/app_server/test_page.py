"""docs/app-server.md has the limits and routes of datasets and studies. Its commands run in tests/e2e/test_walks.py."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[3] / "docs" / "app-server.md").read_text("utf-8")


def test_the_page_has_the_limits_and_routes_of_the_code() -> None:
    from airflow_monai.api.app_server import associations, datasets, studies
    from airflow_monai.get_provider_info import get_provider_info

    options = get_provider_info()["config"]["monai"]["options"]
    for name in (name for name in options if name.startswith("upload_")):
        assert f"`{name}`" in PAGE
    for router in (datasets.router, associations.router, studies.router):
        for route in router.routes:
            path = route.path.removeprefix("/app-server")  # type: ignore[attr-defined]
            shown = re.sub(r"\{[^}]*\}", "{", path)
            assert shown in re.sub(r"\{[^}]*\}", "{", PAGE), path
