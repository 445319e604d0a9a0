"""Options of Airflow that belong together."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from airflow_monai.local.environment import Layout, Ports, Secrets, airflow_environment
from airflow_monai.local.stack import project_folder


def _local() -> dict[str, str]:
    ports = Ports(ui=1, dicom=2, pacs=3, pacs_http=4)
    return airflow_environment(
        Layout(Path("/state")), ports, Secrets(), database_url="x", heartbeat_timeout=60, bundles=[]
    )


def _compose() -> dict[str, str]:
    return yaml.safe_load((project_folder() / "docker-compose.yaml").read_text())["x-airflow-environment"]


@pytest.mark.parametrize("environment", [_local, _compose])
def test_of_two_edits_the_second_is_not_passed_over(environment) -> None:
    """Airflow writes no DAG that it wrote so shortly before; the file is not looked at again for long."""
    options = environment()
    written = int(options["AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL"])
    assert written < int(options["AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL"])
