"""When a study counts as complete, from the network to the run."""

from __future__ import annotations

from pathlib import Path

from airflow_monai.gateway.service import Gateway, GatewayOptions
from airflow_monai.gateway.shepherd import Patience
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_engine import AirflowEngine
from tests.conftest import require
from tests.gateway.conftest import Site, write_workflow
from tests.gateway.studies import storescu, study


def test_a_sender_that_ends_its_association_need_not_be_waited_for(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    write_workflow(site.workflows, quiet=60)
    options = GatewayOptions(
        str(site.workflows), "127.0.0.1", 0, 60, site.events_file, patience=Patience(association_end_seconds=0.3)
    )
    gateway = Gateway(site.store, options, AirflowEngine(AirflowApi("monai_airflow")))
    gateway.start()
    try:
        assert storescu(gateway.port, study(tmp_path / "s", 3)).returncode == 0
        (complete,) = site.wait_for_event("study-complete")
        assert complete["images"] == 3
        (run,) = site.wait_for_event("run-created")
    finally:
        gateway.stop()
    closing = site.store.read_json(f"payloads/{run['payload_id']}/closing.json")
    assert closing["reason"] == "association-end"
