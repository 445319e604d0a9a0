"""STOW-RS from clients that others have written: Orthanc's DICOMweb plug-in, and the sink of this package."""

from __future__ import annotations

from pathlib import Path

import requests

from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.sinks.base import DeliveryState, Destination, Instance
from airflow_monai.sinks.part10 import read_head
from airflow_monai.sinks.stow import StowSink
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import load_payload
from tests.api.app_server.conftest import Served, study_files
from tests.conftest import require
from tests.pacs import orthanc


def test_orthanc_sends_a_study(served: Served, site_store: LocalStore, tmp_path: Path) -> None:
    require("orthanc-dicomweb")
    files = study_files(5)
    with orthanc(tmp_path / "orthanc", dicomweb=True) as pacs:
        for data in files.values():
            assert requests.post(f"{pacs.http}/instances", data=data, timeout=30).ok
        us = {"Url": f"http://127.0.0.1:{served.port}/app-server/", "Username": "op", "Password": "op"}
        assert requests.put(f"{pacs.http}/dicom-web/servers/us", json=us, timeout=30).ok
        studies = requests.get(f"{pacs.http}/studies", timeout=30).json()
        wish = {"Resources": studies, "Synchronous": True}
        done = requests.post(f"{pacs.http}/dicom-web/servers/us/stow", json=wish, timeout=60)
    assert done.ok, done.text
    page = Datasets(site_store).page(0, 10)
    assert sum(dataset.files for dataset in page.datasets) == len(files)
    assert {dataset.source for dataset in page.datasets} == {"stow"}


def test_our_own_sink_sends_a_study_and_takes_its_word(served: Served, site_store: LocalStore, tmp_path: Path) -> None:
    sent = []
    for name, data in study_files(3).items():
        file = tmp_path / name
        file.write_bytes(data)
        head = read_head(file)
        sent.append(Instance(name, file, name, head.sop_instance_uid, head.sop_class_uid, head.transfer_syntax_uid))
    destination = Destination(
        "US", "dicomweb", schema="http", host="127.0.0.1", port=served.port, login="op", password="op",
        extra={"path": "/app-server", "query": False},
    )  # fmt: skip
    results: dict[str, DeliveryState] = {}
    StowSink(destination).send(sent, lambda news: results.update({news.identity: news.state}))
    assert set(results.values()) == {DeliveryState.ACCEPTED}
    (dataset,) = Datasets(site_store).page(0, 10).datasets
    assert len(load_payload(site_store, dataset.id).files) == 3
