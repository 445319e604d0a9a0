"""The prefixes of a bucket as a way in, against a server that speaks S3."""

from __future__ import annotations

import io
import signal
import threading
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import SettingsError, StoreError
from airflow_monai.gateway import bucket_inbox as module
from airflow_monai.gateway import configured
from airflow_monai.gateway.bucket_inbox import BucketInbox, BucketOptions
from airflow_monai.gateway.bucket_place import BucketPlace
from airflow_monai.intake.deposit import Depositor
from airflow_monai.intake.events import EventLog
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.history import newest
from airflow_monai.store.intake import Intake
from airflow_monai.store.local import LocalStore
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.stormy import TAKES_ITS_TIME
from tests.gateway.studies import study
from tests.s3_server import S3Server, s3  # noqa: F401 - a fixture

TODAY = datetime.now(timezone.utc).strftime("%Y%m%d")


class _Workflows:
    def __init__(self) -> None:
        self.titles = ["CTLUNG"]

    def ae_titles(self) -> list[str]:
        return self.titles


class Bench:
    """A bucket and a watcher of it, which looks when it is told to."""

    def __init__(self, folder: Path, server: S3Server, pattern: str = "in/{ae}/{date}/", delete: bool = False):
        self.client = server.client()
        self.bucket = server.bucket()
        self.store = LocalStore(folder / "store")
        self.file = folder / "events.jsonl"
        self.options = BucketOptions((BucketPlace(self.bucket, pattern),), "CLOUD", delete)
        self.workflows = _Workflows()
        self.lists = 0
        self.client.meta.events.register("before-call.s3.ListObjectsV2", self._count)

    def _count(self, **_: Any) -> None:
        self.lists += 1

    def watcher(self, **more: Any) -> BucketInbox:
        depositor = Depositor(Intake(self.store), self.store.spool(), grouping=lambda called: Grouping.STUDY, **more)
        events = EventLog(self.file)
        return BucketInbox(self.options, self.client, self.store, depositor, self.workflows, events)  # type: ignore[arg-type]

    def put(self, name: str, data: bytes, day: str = TODAY) -> str:
        key = f"in/CTLUNG/{day}/{name}" if self.options.places[0].is_dated else f"in/CTLUNG/{name}"
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)
        return key

    def keys(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [entry["Key"] for entry in found]

    def images(self) -> int:
        return sum(summary.images for summary in newest(self.store, 100))


@pytest.fixture
def bench(tmp_path: Path, s3: S3Server) -> Iterator[Bench]:  # noqa: F811
    yield Bench(tmp_path, s3)


def zipped(files: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for file in files:
            out.write(file, file.name)
    return buffer.getvalue()


def test_files_and_archives_are_taken_once(bench: Bench, tmp_path: Path) -> None:
    files = study(tmp_path / "a", 3)
    for file in files:
        bench.put(f"study/{file.name}", file.read_bytes())
    bench.put("b.zip", zipped(study(tmp_path / "b", 4)))
    watcher = bench.watcher()
    watcher.look()
    assert bench.images() == 7 and len(bench.keys()) == 4
    assert {summary.calling_aets for summary in newest(bench.store, 9)} == {("CLOUD",)}
    intake = Intake(bench.store)
    whole = [state.images for state in map(intake.look, intake.pending()) if state and state.whole]
    assert whole == [4], "only what came as an archive is known to be all of it"
    for again in (watcher, bench.watcher()):
        again.look()
    assert bench.file.read_text().count("files-taken") == 1
    assert list(bench.store.spool().iterdir()) == []


def test_names_that_come_out_of_order_and_new_content_of_a_name_are_found(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", -5.0)
    monkeypatch.setattr(module, "RECONCILE_SECONDS", 0.0)
    files = study(tmp_path / "a", 3)
    watcher = bench.watcher()
    bench.put("5.dcm", files[0].read_bytes())
    watcher.look()
    bench.put("3.dcm", files[1].read_bytes())
    watcher.look()
    bench.put("5.dcm", files[2].read_bytes())
    watcher.look()
    assert bench.images() == 3


def test_ten_thousand_names_are_not_listed_with_every_look(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", -5.0)
    names = [f"{number:05}" for number in range(10_000)]
    when = datetime.now(timezone.utc)

    class Many:
        """Answers listings as a bucket of ten thousand objects does, without a server to keep them."""

        def get_paginator(self, name: str) -> Many:
            return self

        def paginate(self, Prefix: str, StartAfter: str = "", **_: Any) -> Iterator[dict[str, Any]]:
            keys = [f"{Prefix}{name}" for name in names if TODAY in Prefix and f"{Prefix}{name}" > StartAfter]
            for start in range(0, max(len(keys), 1), 1000):
                bench.lists += 1
                page = keys[start : start + 1000]
                yield {"Contents": [{"Key": key, "ETag": "x", "LastModified": when} for key in page]}

    bench.client = Many()
    watcher = bench.watcher()
    monkeypatch.setattr(watcher, "_put", lambda known, found: bench.watcher()._depositor.begin("A", "B").report())
    monkeypatch.setattr(watcher, "_claim", lambda key: True)
    monkeypatch.setattr(bench.store, "create_json", lambda key, value: True)
    watcher.look()
    first, bench.lists = bench.lists, 0
    assert first >= 10
    watcher.look()  # learns up to where all is done
    bench.lists = 0
    for _ in range(5):
        watcher.look()
    assert bench.lists <= 5 * 3, "one for each of the days that images may be coming in on"


def test_what_is_in_the_store_is_deleted_where_that_is_wanted(tmp_path: Path, s3: S3Server) -> None:  # noqa: F811
    bench = Bench(tmp_path, s3, "in/{ae}/", delete=True)
    files = study(tmp_path / "a", 2)
    bench.put("1.dcm", files[0].read_bytes())
    bench.put("a.zip", zipped(files))
    kept = [bench.put("half.dcm", files[1].read_bytes()[:-9]), bench.put("README", b"hello")]
    watcher = bench.watcher()
    watcher.look()
    assert set(bench.keys()) == set(kept)
    watcher.look()
    assert bench.images() == 2
    assert bench.file.read_text().count("files-refused") == 1
    done = [bench.store.read_json(key) for key in bench.store.list("inbox") if "/done/" in key]
    reasons = [item["refused"][0]["reason"] for item in done]
    assert sorted(reason.split(":")[0] for reason in reasons) == ["it breaks off", "it is no DICOM image"]


def test_two_gateways_take_each_object_once(bench: Bench, tmp_path: Path) -> None:
    for file in study(tmp_path / "a", 30):
        bench.put(file.name, file.read_bytes())
    threads = [threading.Thread(target=bench.watcher().look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.images() == 30
    assert not [key for key in bench.store.list("payloads") if key.endswith("duplicates.jsonl")]


def test_a_claim_of_a_gateway_that_died_is_taken_over_in_the_end(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = study(tmp_path / "a", 1)
    bench.put(file.name, file.read_bytes())
    dead, alive = bench.watcher(), bench.watcher()

    def killed(known: Any, found: Any) -> Any:
        raise SystemExit

    monkeypatch.setattr(dead, "_put", killed)
    with pytest.raises(SystemExit):
        dead.look()
    alive.look()
    assert bench.images() == 0
    monkeypatch.setattr(module, "CLAIM_SECONDS", 0.0)
    monkeypatch.setattr(module, "RECONCILE_SECONDS", 0.0)
    alive.look()
    assert bench.images() == 1


def test_days_on_which_no_gateway_ran_are_caught_up_with(bench: Bench, tmp_path: Path) -> None:
    files = study(tmp_path / "a", 2)
    bench.watcher().look()
    (since,) = [key for key in bench.store.list("inbox") if key.endswith("since.json")]
    earlier = datetime.now(timezone.utc) - timedelta(days=5)
    bench.store.write_json(since, {"date": earlier.date().isoformat()})
    bench.put("1.dcm", files[0].read_bytes(), (earlier + timedelta(days=2)).strftime("%Y%m%d"))
    bench.put("2.dcm", files[1].read_bytes())
    old = f"{since.rsplit('/', 1)[0]}/2020-01-01/done/x"
    bench.store.write_json(old, {})
    bench.watcher().look()
    assert bench.images() == 2
    assert not bench.store.exists(old)


def test_a_bucket_that_is_away_is_told_without_names(bench: Bench) -> None:
    bench.client.delete_bucket(Bucket=bench.bucket)
    with pytest.raises(StoreError, match="cannot be listed: NoSuchBucket"):
        bench.watcher().look()


@pytest.mark.parametrize(
    "url",
    [
        "in/{ae}/",
        "s3://bucket/in/",
        "s3:///{ae}/",
        "s3://b/{ae}/{ae}/",
        "s3://b/{ae}/{day}/",
        "s3://b/{ae}/{date}{date}",
    ],
)
def test_a_place_must_name_bucket_and_ae_title(url: str) -> None:
    with pytest.raises(SettingsError, match="inbox_s3"):
        BucketPlace.parse(url)


def test_prefixes_have_the_day_as_the_site_writes_it() -> None:
    place = BucketPlace.parse("s3://b/in/{date:%Y/%m/%d}/{ae}")
    assert place.prefix("CT LUNG", date(2026, 1, 2)) == "in/2026/01/02/CT LUNG/"
    noon = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
    assert list(place.days(noon)) == [date(2026, 1, day) for day in (1, 2, 3)]
    assert len(list(place.days(noon, date(2020, 1, 1)))) == 32
    assert len(list(BucketPlace.parse("s3://b/{ae}/").days(noon))) == 1


def test_a_prefix_that_grows_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__INBOX_S3", "s3://b/in/{ae}/")
    with pytest.raises(SettingsError, match=r"inbox_s3_taken = delete"):
        configured.load()
    monkeypatch.setenv("AIRFLOW__MONAI__INBOX_S3_TAKEN", "delete")
    loaded = configured.load().bucket
    assert loaded is not None and loaded.delete


def test_a_gateway_that_is_killed_loses_and_doubles_nothing(site: Site, tmp_path: Path, s3: S3Server) -> None:  # noqa: F811
    write_workflow(site.workflows, quiet=60)
    client, bucket = s3.client(), s3.bucket()
    count = 120
    body = zipped(study(tmp_path / "a", count, size=65536))
    environment = {
        "AIRFLOW__MONAI__INBOX_S3": f"s3://{bucket}/in/{{ae}}/",
        "AIRFLOW__MONAI__INBOX_S3_TAKEN": "delete",
        "AIRFLOW__MONAI__INBOX_S3_CONN_ID": "cloud",
        "AIRFLOW_CONN_CLOUD": s3.connection,
    }
    code = (
        "import sys; from airflow_monai.gateway import bucket_inbox; from airflow_monai.gateway import command\n"
        "bucket_inbox.CLAIM_SECONDS = 0.0\n"
        f"sys.exit(command.main(['--host', '127.0.0.1', '--port', '0', '--events', {str(site.events_file)!r}]))"
    )
    client.put_object(Bucket=bucket, Key="in/CTLUNG/a.zip", Body=body)
    process = site.process(0, code=TAKES_ITS_TIME + code, **environment)
    wait_for(lambda: len(site.files()) > 3, pause=0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(site.files()) < count
    site.process(0, code=code, **environment)
    site.wait_for_event("run-created")
    assert [(item.images, item.state) for item in newest(site.store, 5)] == [(count, "closed")]
    assert wait_for(lambda: not client.list_objects_v2(Bucket=bucket).get("Contents"))
    assert site.unfinished() == []


@pytest.mark.parametrize("when", ["before it is read", "before it is deleted"])
def test_an_object_that_was_replaced_while_it_was_taken_is_taken_too(
    tmp_path: Path,
    s3: S3Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    bench = Bench(tmp_path, s3, "in/{ae}/", delete=True)
    first, second = study(tmp_path / "in", 2)
    bench.put("latest.dcm", first.read_bytes())
    method = "_put" if when == "before it is read" else "_delete"
    real = getattr(BucketInbox, method)

    def replaced(*args: Any) -> Any:
        monkeypatch.setattr(BucketInbox, method, real)
        bench.put("latest.dcm", second.read_bytes())
        return real(*args)

    monkeypatch.setattr(BucketInbox, method, replaced)
    watcher = bench.watcher()
    watcher.look()
    assert len(bench.keys()) == 1
    watcher.look()
    assert bench.images() == (1 if when == "before it is read" else 2) and bench.keys() == []


def test_what_came_while_its_workflow_was_away_for_days_is_taken_when_it_is_back(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0]

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=passed[0])

    monkeypatch.setattr(module, "datetime", Later)
    bench.workflows.titles = ["CTLUNG", "OTHER"]
    bench.watcher().look()
    (file,) = study(tmp_path / "in", 1)
    bench.put("x.dcm", file.read_bytes(), f"{Later.now(timezone.utc) + timedelta(days=1):%Y%m%d}")
    bench.workflows.titles = ["OTHER"]
    for passed[0] in (1, 2, 3, 4):
        bench.watcher().look()
    assert bench.images() == 0
    bench.workflows.titles = ["CTLUNG", "OTHER"]
    bench.watcher().look()
    assert bench.images() == 1


def test_an_object_that_cannot_be_handled_keeps_no_other_from_its_turn(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yesterday = f"{datetime.now(timezone.utc) - timedelta(days=1):%Y%m%d}"
    bad, good = study(tmp_path / "in", 2)
    bench.put("Doe^Jane.dcm", bad.read_bytes(), yesterday)
    bench.put("good.dcm", good.read_bytes())
    real = BucketInbox._put

    def put(self: BucketInbox, known: Any, found: Any) -> Any:
        if "Jane" in found.name:
            raise LookupError(found.name)
        return real(self, known, found)

    monkeypatch.setattr(BucketInbox, "_put", put)
    bench.watcher().look()
    told = bench.file.read_text()
    assert bench.images() == 1 and "internal error: LookupError" in told and "Jane" not in told
