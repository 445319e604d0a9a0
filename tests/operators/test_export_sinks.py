"""Export tasks with several destinations of different kinds: each has its own verdicts, whatever happens to another."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import ExportIncomplete
from airflow_monai.operators.export import Hl7ExportOperator
from airflow_monai.sinks.base import DeliveryState
from tests.conftest import require
from tests.operators.test_export import STUDY, Site, site  # noqa: F401 - a fixture
from tests.pacs import make_images, orthanc
from tests.s3_server import KEY, S3Server, s3  # noqa: F401 - a fixture
from tests.sinks.mllp_listener import Listener, ack, listening
from tests.sinks.stow_server import Behaviour, Reply, StowServer, good, report, stow_server

ACCEPTED = DeliveryState.ACCEPTED


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.sinks.tries.PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("airflow_monai.sinks.delivery.LOOKS", (0.0, 0.0))


def connect(site: Site, name: str, **connection: Any) -> None:  # noqa: F811
    site.monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))


def web(site: Site, server: StowServer, **extra: Any) -> None:  # noqa: F811
    extra = {"path": "/dicom-web", "response_timeout": 15, "connections": 2, "instances_per_request": 2, **extra}
    connect(site, "WEB", conn_type="monai_dicomweb", host="127.0.0.1", port=server.port, schema="http", extra=extra)


def cloud(site: Site, server: S3Server) -> str:  # noqa: F811
    bucket = server.bucket()
    connect(
        site, "CLOUD", conn_type="monai_s3", host=bucket, login=KEY, password=KEY, extra={"endpoint_url": server.url}
    )
    return bucket


def states(site: Site, sink: str) -> Counter[str]:  # noqa: F811
    return Counter(entry.state.value for entry in site.ledger(sink).values())


def results(site: Site, count: int = 5) -> list[Path]:  # noqa: F811
    paths = make_images(site.output, count, study=STUDY)
    site.made(*paths)
    return paths


def refusing(bad: str, until: int) -> Behaviour:
    """A server that is out of resources for one instance, until so many requests named it."""

    def behave(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        asked = sum(bad in request for request in server.requests)
        if bad not in dict(parts) or asked > until:
            return good(server, parts)
        server.store([part for part in parts if part[0] != bad])
        return Reply(202, report([uid for uid, _ in parts if uid != bad], {bad: 0xA700}))

    return behave


def test_a_retry_sends_each_destination_what_it_lacks(site: Site, s3: S3Server) -> None:  # noqa: F811
    paths = results(site)
    archive, bucket = site.archive(), cloud(site, s3)
    with stow_server(refusing(paths[0].stem, until=3)) as server:
        web(site, server)
        with pytest.raises(ExportIncomplete, match=r"WEB: 4 accepted, 1 refused; 1 x status A700: Out of resources"):
            site.export("WEB", "CLOUD", "ARCHIVE")
        assert (states(site, "WEB"), states(site, "CLOUD")) == ({"accepted": 4, "refused": 1}, {"accepted": 5})
        assert len(server.stored) == 4
        before = len(server.requests)
        written = [item["LastModified"] for item in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
        value = site.export("WEB", "CLOUD", "ARCHIVE", try_number=2)
        assert server.requests[before:] == [[paths[0].stem]], "only what is missing"
        assert sorted(server.stored) == sorted(path.stem for path in paths)
    again = [item["LastModified"] for item in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
    assert again == written
    rows = Counter((row["sink"], row["state"]) for row in value["exported"])
    assert rows == {("WEB", "accepted"): 5, ("CLOUD", "accepted"): 5, ("ARCHIVE", "accepted"): 5}
    assert len([path for path in archive.rglob("*") if path.is_file()]) == 5


def test_one_that_is_down_does_not_keep_the_others_from_their_share(site: Site, free_port: int) -> None:  # noqa: F811
    paths = results(site)
    archive = site.archive()
    connect(site, "WEB", conn_type="monai_dicomweb", host="127.0.0.1", port=free_port, schema="http")
    connect(site, "CLOUD", conn_type="monai_s3", host="a/b")
    with pytest.raises(ExportIncomplete) as caught:
        site.export("WEB", "CLOUD", "ARCHIVE")
    assert "WEB" in str(caught.value) and "cannot be reached" in str(caught.value)
    assert "CLOUD: host is no name of a bucket" in str(caught.value)
    assert len([path for path in archive.rglob("*") if path.is_file()]) == len(paths)
    assert states(site, "ARCHIVE") == {"accepted": 5}
    assert set(states(site, "WEB")) <= {"pending"}


def test_what_a_server_took_without_an_answer_is_asked_for_and_not_sent_again(site: Site) -> None:  # noqa: F811
    """All tries within the task go unanswered and the server has no time to be asked; the next try asks first."""
    results(site, 4)

    def deaf(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        server.store(parts)
        return Reply(0)

    with stow_server(deaf) as server:
        web(site, server, query=False)
        with pytest.raises(ExportIncomplete, match="4 unknown"):
            site.export("WEB")
        before = len(server.requests)
        web(site, server)
        value = site.export("WEB", try_number=2)
        assert len(server.requests) == before
        assert server.queries
    assert Counter(row["state"] for row in value["exported"]) == {"accepted": 4}


@pytest.mark.parametrize("reason", [0x0111, 0xB00E])
def test_a_duplicate_after_a_lost_answer_is_what_had_arrived(site: Site, reason: int) -> None:  # noqa: F811
    """From a server that cannot be asked: it refuses what it took without an answer (0111; B00E at Azure)."""
    paths = results(site, 4)

    def once(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        there = {uid: reason for uid, _ in parts if uid in server.stored}
        server.store(parts)
        if not there:
            return Reply(0)
        return Reply(409, report(failed=there))

    with stow_server(once) as server:
        web(site, server, query=False)
        value = site.export("WEB")
        assert len(server.requests) == 4, "two of two, each twice"
        assert sorted(server.stored) == sorted(path.stem for path in paths)
    assert Counter(row["state"] for row in value["exported"]) == {"accepted": 4}


def _export_and_die(site: Site) -> None:  # noqa: F811
    site.export("WEB")


def test_a_killed_task_sends_only_what_the_pacs_lacks(site: Site) -> None:  # noqa: F811
    """kill -9 in the midst of 60 to a real Orthanc: the next try sends the rest, and each is there once."""
    require("orthanc-dicomweb")
    paths = results(site, 60)
    with orthanc(site.folder / "pacs", dicomweb=True, OverwriteInstances=False) as pacs:
        extra = {"path": "/dicom-web", "instances_per_request": 2, "connections": 1, "max_mb_per_second": 0.1}
        connect(site, "WEB", conn_type="monai_dicomweb", host=pacs.http, extra=extra)
        child = multiprocessing.get_context("fork").Process(target=_export_and_die, args=(site,))
        child.start()
        end = time.monotonic() + 90
        while len(pacs.sop_uids()) < 10 and time.monotonic() < end:
            time.sleep(0.02)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        there = len(pacs.sop_uids())
        assert 10 <= there < 60
        connect(site, "WEB", conn_type="monai_dicomweb", host=pacs.http, extra=extra | {"max_mb_per_second": 100})
        value = site.export("WEB", try_number=2)
        assert pacs.sop_uids() == sorted(path.stem for path in paths)
        changes = pacs.rest("/changes?limit=10000")["Changes"]
        assert sum(change["ChangeType"] == "NewInstance" for change in changes) == 60
    assert Counter(row["state"] for row in value["exported"]) == {"accepted": 60}
    assert {entry.state for entry in site.ledger("WEB").values()} == {ACCEPTED}


def test_verification_by_query_sends_again_what_a_server_lost(site: Site) -> None:  # noqa: F811
    paths = results(site, 4)
    lost = paths[0].stem

    def forgetful(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
        first = sum(lost in request for request in server.requests) == 1
        server.store([part for part in parts if part[0] != lost or not first])
        return Reply(200, report([uid for uid, _ in parts]))

    with stow_server(forgetful) as server:
        web(site, server, verify="query")
        site.export("WEB")
        assert sorted(server.stored) == sorted(path.stem for path in paths)
        assert sum(lost in request for request in server.requests) == 2
    assert all(entry.verified for entry in site.ledger("WEB").values())


def test_hl7_messages_reach_the_listener_and_the_folder(site: Site) -> None:  # noqa: F811
    site.output.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(3):
        path = site.output / f"{number}.hl7"
        path.write_text(f"MSH|^~\\&|MONAI|S|HIS|H|2026||ORU^R01|ID{number}|P|2.5.1\nPID|1||P1||Doe^Jane\n")
        paths.append(path)
    site.made(*paths)
    archive = site.archive()

    def locked(listener: Listener, got: bytes) -> bytes:
        is_second = b"|ID1|" in got and listener.ids().count("ID1") <= 3
        return ack(got, "AE", "record of Doe^Jane", "ERR|||206|E") if is_second else ack(got)

    with listening(locked) as listener:
        connect(site, "HIS", conn_type="monai_mllp", host="127.0.0.1", port=listener.port)
        with pytest.raises(ExportIncomplete, match="AE: application error, application record locked") as caught:
            site.export("HIS", "ARCHIVE", operator_class=Hl7ExportOperator)
        assert "Jane" not in str(caught.value)
        assert listener.ids() == ["ID0", "ID1", "ID1", "ID1", "ID2"]
        value = site.export("HIS", "ARCHIVE", operator_class=Hl7ExportOperator, try_number=2)
        assert listener.ids() == ["ID0", "ID1", "ID1", "ID1", "ID2", "ID1"]
    assert len([path for path in archive.rglob("*") if path.is_file()]) == 3
    assert value["exported"] == [], "the rows are of DICOM instances"
    assert states(site, "HIS") == {"accepted": 3}


def test_what_is_no_message_fails_the_task_and_a_retry_would_not_help(site: Site) -> None:  # noqa: F811
    results(site, 1)
    with listening() as listener:
        connect(site, "HIS", conn_type="monai_mllp", host="127.0.0.1", port=listener.port)
        with pytest.raises(AirflowFailException, match="it is no HL7 v2 message"):
            site.export("HIS", operator_class=Hl7ExportOperator)
        assert listener.received == []
