"""What a sender sees, and what is in the store then."""

from __future__ import annotations

from pathlib import Path

import pydicom

from airflow_monai.store.payloads import load_payload, load_series_tags, run_id_of
from tests.conftest import require
from tests.gateway.conftest import Site, wait_for
from tests.gateway.studies import storescu, study


def test_a_study_becomes_one_payload_and_one_run(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    files = study(tmp_path / "in", 5, series=2)
    sent = storescu(gateway.port, files)
    assert sent.returncode == 0, sent.stderr
    (event,) = site.wait_for_event("run-created")
    payload = load_payload(site.store, event["payload_id"])
    assert len(payload.files) == 10
    assert (payload.called_aet, payload.calling_aets, payload.sequence) == ("CTLUNG", ("CT01",), 0)
    assert (payload.patient.id, payload.patient.name, payload.patient.dob) == ("SECRET-ID", "SECRET^NAME", "19700102")
    assert site.airflow.runs == {
        ("ct-lung", run_id_of(payload.payload_id)): {
            "dag_run_id": run_id_of(payload.payload_id),
            "partition_key": payload.payload_id,
            "logical_date": None,
            "conf": {},
        }
    }
    wait_for(lambda: not list(site.store.children("pending")))
    tags = load_series_tags(site.store, payload.payload_id)
    assert all(series["00080060"] == ["CT"] and series["00180050"] == ["1.6"] for series in tags.values())
    assert not site.unfinished()
    for file in files:
        ds = pydicom.dcmread(file)
        key = f"payloads/{payload.payload_id}/dcm/{ds.StudyInstanceUID}/{ds.SeriesInstanceUID}/{ds.SOPInstanceUID}.dcm"
        assert pydicom.dcmread(site.store.root / key).PixelData == ds.PixelData
