"""Outputs get to a real HTTP service, a bucket and a folder, once, whatever fails in between."""

from __future__ import annotations

import base64
import io
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.gateway.mip import Clerk
from airflow_monai.mip import delivery
from airflow_monai.mip.delivery import Deliveries, State, told
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import Run, RunId
from airflow_monai.sinks.base import Destination
from airflow_monai.store.local import LocalStore
from airflow_monai.store.runs import RunFolder
from tests.mip.cases import PAYLOAD, asked_for, passed
from tests.mip.service import Service, result_service
from tests.s3_server import KEY, S3Server, s3  # noqa: F401 - a fixture


@pytest.fixture
def service() -> Iterator[Service]:
    with result_service() as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(timezone.utc)

    def __call__(self) -> datetime:
        return self.now


def test_a_service_gets_each_module_s_outputs_as_a_zip(store: LocalStore, service: Service) -> None:
    run = Ledger(store).submit(asked_for(), None)
    ended = passed(store, run, "a", "b")
    settled, news = Deliveries(store, service.destination).deliver(run, ended, ("CDR",))
    assert settled and [str(one) for one in news] == ["a to CDR: delivered", "b to CDR: delivered"]
    headers, body = service.got[0]
    assert headers["path"] == "/results"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"cdr:secret").decode()
    assert headers["Idempotency-Key"] == "alpha-1/a"
    assert (headers["X-Mip-Job"], headers["X-Mip-Module"]) == ("alpha", "a")
    assert headers["X-Mip-Map"] == "WY%20CO%2FPeach"
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"result/a.txt": b"made by a"}
    assert Deliveries(store, service.destination).deliver(run, ended, ("CDR",)) == (True, [])
    assert len(service.got) == 2, "nothing is sent twice"


def test_what_cannot_be_taken_now_is_sent_again_later(store: LocalStore, service: Service) -> None:
    run, clock = Ledger(store).submit(asked_for(), None), Clock()
    ended = passed(store, run, "a")
    service.statuses = [503, 429]
    deliveries = Deliveries(store, service.destination, clock)
    assert deliveries.deliver(run, ended, ("CDR",))[0] is False
    assert deliveries.deliver(run, ended, ("CDR",))[1] == [], "not at once"
    assert str(told(store, run.run_id)[0]) == "a to CDR: later, the service answered 503"
    clock.now += timedelta(seconds=11)
    assert deliveries.deliver(run, ended, ("CDR",))[0] is False
    clock.now += timedelta(seconds=11)
    assert deliveries.deliver(run, ended, ("CDR",))[1] == [], "the pauses grow"
    clock.now += timedelta(seconds=11)
    assert deliveries.deliver(run, ended, ("CDR",))[0] is True
    assert len({headers["Idempotency-Key"] for headers, _ in service.got}) == 1


def test_what_a_service_does_not_want_is_told_and_not_tried_again(store: LocalStore, service: Service) -> None:
    run = Ledger(store).submit(asked_for(), None)
    ended = passed(store, run, "a")
    service.statuses = [422]
    settled, news = Deliveries(store, service.destination).deliver(run, ended, ("CDR",))
    assert settled and news[0].state is State.REFUSED
    assert str(told(store, run.run_id)[0]) == "a to CDR: refused, the service answered 422"


def test_what_cannot_be_reached_for_a_day_is_given_up(store: LocalStore) -> None:
    run, clock = Ledger(store).submit(asked_for(), None), Clock()
    ended = passed(store, run, "a")
    deliveries = Deliveries(store, lambda name: Destination(name, "http", "http://127.0.0.1:9"), clock)
    assert deliveries.deliver(run, ended, ("CDR",))[0] is False
    clock.now += timedelta(days=1, seconds=1)
    settled, news = deliveries.deliver(run, ended, ("CDR",))
    assert settled and news[0].state is State.GIVEN_UP


def test_an_attempt_whose_gateway_died_is_made_again_later(store: LocalStore, service: Service) -> None:
    run, clock = Ledger(store).submit(asked_for(), None), Clock()
    ended = passed(store, run, "a")
    key = Ledger(store).key(run.run_id, "deliveries", "CDR", "a", "1.json")
    store.create_json(key, {"since": clock.now.isoformat()})  # and then it was killed
    deliveries = Deliveries(store, service.destination, clock)
    assert deliveries.deliver(run, ended, ("CDR",)) == (False, []), "it may be another gateway's, which is at it"
    clock.now += timedelta(hours=1)
    assert deliveries.deliver(run, ended, ("CDR",))[0] is True


def _delete_files(store: LocalStore, run: Run) -> None:
    store.delete_tree(RunFolder(store, PAYLOAD, run.dag_id, run.run_id.dag_run_id).output_key("a", -1, 1))


def _finalize(store: LocalStore, run: Run) -> None:
    folder = RunFolder(store, PAYLOAD, run.dag_id, run.run_id.dag_run_id)
    record = folder.record("a")
    assert record is not None
    _delete_files(store, run)
    folder.write_record(replace(record, artifacts={}, output_dir=None))


def _delete_payload(store: LocalStore, _: Run) -> None:
    store.write_json(f"payloads/{PAYLOAD}/deleted.json", {})


@pytest.mark.parametrize("lose", [_delete_files, _finalize, _delete_payload])
@pytest.mark.parametrize("kind", ["service", "folder"])
def test_results_that_are_gone_are_not_delivered_as_nothing(
    store: LocalStore, service: Service, tmp_path: Path, kind: str, lose: Callable[[LocalStore, Run], None]
) -> None:
    run = Ledger(store).submit(asked_for(), None)
    ended = passed(store, run, "a")
    lose(store, run)
    folder = Destination("DROP", "monai_folder", extra={"path": str(tmp_path)})
    deliveries = Deliveries(store, service.destination if kind == "service" else lambda _: folder)
    settled, (news,) = deliveries.deliver(run, ended, ("DROP",))
    assert settled and str(news) == "a to DROP: refused, its results are gone"
    assert service.got == []


@pytest.mark.parametrize("error", [StoreError("payloads/x/DOE^JANE.dcm is damaged"), OSError(28, "the disk is full")])
def test_files_that_cannot_be_read_are_tried_again_and_keep_no_other_run(
    store: LocalStore, service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ledger = Ledger(store)
    runs = [ledger.submit(asked_for(job), None) for job in ("alpha", "beta")]
    for run in runs:
        passed(store, run, "a")
    blocks = LocalStore.blocks

    def torn(self: LocalStore, key: str) -> Any:
        if "alpha" in key:
            raise error
        return blocks(self, key)

    monkeypatch.setattr(LocalStore, "blocks", torn)
    Clerk(store, lambda _: None, service.destination, lambda: ("CDR",)).deliver()
    assert ledger.open_runs() == [RunId("alpha", 1)] and len(service.got) == 1
    (news,) = told(store, RunId("alpha", 1))
    assert news.state is State.LATER and "JANE" not in news.reason


def test_a_run_that_is_damaged_keeps_no_other(store: LocalStore, service: Service) -> None:
    ledger = Ledger(store)
    for job in ("alpha", "beta"):
        passed(store, ledger.submit(asked_for(job), None), "a")
    store.write_json(ledger.key(RunId("alpha", 1), "run.json"), {})
    Clerk(store, lambda _: None, service.destination, lambda: ("CDR",)).deliver()
    assert len(service.got) == 1


def test_packing_counts_as_time_of_the_attempt(
    store: LocalStore, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Ledger(store).submit(asked_for(), None)
    ended = passed(store, run, "a")
    blocks = LocalStore.blocks

    def slow(self: LocalStore, key: str) -> Any:
        time.sleep(1.1)
        return blocks(self, key)

    monkeypatch.setattr(LocalStore, "blocks", slow)
    monkeypatch.setattr(delivery, "ATTEMPT_SECONDS", 1.0)
    _, (news,) = Deliveries(store, service.destination).deliver(run, ended, ("CDR",))
    assert news.state is State.LATER and service.got == []


def test_two_gateways_send_once(store: LocalStore, service: Service) -> None:
    run = Ledger(store).submit(asked_for(), None)
    ended = passed(store, run, "a")
    both = [
        threading.Thread(target=Deliveries(store, service.destination).deliver, args=(run, ended, ("CDR",)))
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(service.got) == 1


def test_a_folder_gets_the_files(store: LocalStore, tmp_path: Path) -> None:
    run = Ledger(store).submit(asked_for(), None)
    ended = passed(store, run, "a")
    (tmp_path / "drop").mkdir()
    folder = Destination("DROP", "monai_folder", extra={"path": str(tmp_path / "drop")})
    settled, news = Deliveries(store, lambda name: folder).deliver(run, ended, ("DROP",))
    assert settled, news
    found = {str(path.relative_to(tmp_path / "drop")) for path in (tmp_path / "drop").rglob("*") if path.is_file()}
    assert found == {"alpha/a/1/result/a.txt"}


def test_a_bucket_gets_the_files(store: LocalStore, s3: S3Server) -> None:  # noqa: F811
    from airflow_monai.store.s3_access import client_of

    client, bucket = client_of(s3.access), f"mip-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    run = Ledger(store).submit(asked_for(), None)
    ended = passed(store, run, "a")
    cloud = Destination("CLOUD", "monai_s3", bucket, extra={"endpoint_url": s3.url}, login=KEY, password=KEY)
    settled, news = Deliveries(store, lambda name: cloud).deliver(run, ended, ("CLOUD",))
    assert settled, news
    assert [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["alpha/a/1/result/a.txt"]


def test_the_clerk_asks_for_the_oldest_and_closes_what_is_delivered(store: LocalStore, service: Service) -> None:
    ledger, asked = Ledger(store), []
    runs: list[Run] = [ledger.submit(asked_for(job), None) for job in ("alpha", "alpha", "beta")]
    clerk = Clerk(store, asked.append, service.destination, lambda: ("CDR",))
    clerk.tend()
    assert asked == [RunId("alpha", 1), RunId("beta", 1)]
    clerk.tend()
    assert len(asked) == 2, "not as often as that"
    passed(store, runs[0], "a")
    clerk.deliver()
    assert ledger.open_runs() == [RunId("alpha", 2), RunId("beta", 1)]
    Clerk(store, asked.append, service.destination, lambda: ()).tend()
    assert asked[2:] == [RunId("alpha", 2), RunId("beta", 1)]
