"""Gateways whose store is in a bucket: the same promises, with a folder of the host only for what is coming in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_monai.gateway import shepherd
from airflow_monai.store.payloads import load_payload, load_series_tags
from airflow_monai.store.s3_transfer import LARGE_BYTES
from tests.conftest import require
from tests.gateway import rawscu
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.rawscu import RawScu
from tests.gateway.standin import StandInAirflow
from tests.gateway.stormy import CONTEXTS, goes_on_after_the_kill, kill_in_mid_image, send
from tests.gateway.studies import image, storescu, study
from tests.s3_server import S3Server, s3, s3_server  # noqa: F401


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[S3Server]:
    """One that a test may end."""
    require("moto")
    with s3_server(tmp_path) as server:
        yield server


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, airflow: StandInAirflow) -> Iterator[Site]:
    server = request.getfixturevalue("own_server" if "own_server" in request.fixturenames else "s3")
    store = server.store(tmp_path)
    more = {
        "AIRFLOW__MONAI__STORE_CONN_ID": "monai_store",
        "AIRFLOW__MONAI__SPOOL_FOLDER": str(tmp_path / "spool"),
        "AIRFLOW_CONN_MONAI_STORE": server.connection,
    }
    site = Site(tmp_path, airflow, store, more)
    write_workflow(site.workflows, quiet=1.0)
    yield site
    site.close()


def test_a_study_becomes_one_payload_and_one_run(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    large = tmp_path / "large.dcm"
    image("1.2.3", "1.2.3.4", 1, PixelData=bytes(LARGE_BYTES + 64_000)).save_as(large, enforce_file_format=True)
    files = [*study(tmp_path / "in", 4, size=30_000), large]
    assert storescu(gateway.port, files).returncode == 0
    runs = site.wait_for_event("run-created", 2, seconds=60)
    payloads = sorted((load_payload(site.store, run["payload_id"]) for run in runs), key=lambda one: len(one.files))
    assert [len(payload.files) for payload in payloads] == [1, 4]
    assert payloads[0].files[0].size > LARGE_BYTES and payloads[1].patient.sex == "F"
    (tags,) = load_series_tags(site.store, payloads[1].payload_id).values()
    assert tags["00080060"] == ["CT"]
    assert storescu(gateway.port, files[:2]).returncode == 0
    duplicates = f"payloads/{payloads[1].payload_id}/duplicates.jsonl"
    assert [line.count(b'"identical": true') for line in site.store.read(duplicates).splitlines()] == [1, 1]
    wait_for(lambda: not list(site.store.children("pending")))
    assert not site.unfinished() and len(site.airflow.runs) == 2


def test_kill_9_in_mid_association_loses_and_doubles_nothing(site: Site, tmp_path: Path, free_port: int) -> None:
    write_workflow(site.workflows, quiet=3.0)
    kill_in_mid_image(site, tmp_path, free_port)
    assert len(site.files()) == 11, "what a sender heard success for is in the bucket"
    goes_on_after_the_kill(site, free_port)


def test_two_gateways_on_one_bucket_make_one_payload(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shepherd, "RESCAN_SECONDS", 1.0)
    one, two = site.gateway(), site.gateway()
    files = study(tmp_path / "in", 12)
    with ThreadPoolExecutor(4) as pool:
        parts = [(one.port, files[::2]), (two.port, files[1::2]), (one.port, files[3:9]), (two.port, files[2:6])]
        list(pool.map(lambda part: send(*part), parts))
    wait_for(lambda: not list(site.store.children("pending")), 60)
    ids = list(site.store.children("payloads"))
    listed = [file.sop_instance_uid for pid in ids for file in load_payload(site.store, pid).files]
    assert len(listed) == len(set(listed)) == 12 == len(site.files())
    assert {run["partition_key"] for run in site.airflow.runs.values()} == set(ids)


def test_no_sender_hears_success_while_the_bucket_is_away(site: Site, own_server: S3Server, tmp_path: Path) -> None:
    gateway = site.gateway()
    first, second = study(tmp_path / "in", 2)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        scu.send(rawscu.store_file(1, first))
        assert scu.status() == 0
        os.kill(own_server.pid, signal.SIGKILL)
        scu.send(rawscu.store_file(1, second))
        assert scu.status() & 0xFF00 in (0x0100, 0xA700)
    (refused,) = site.events("image-refused")
    assert refused["reason"] and not site.unfinished()
