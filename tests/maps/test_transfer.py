"""The two steps of a pod that shares no folder with the workers, against a bucket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.maps import transfer
from airflow_monai.maps.handover import Answer, Ask, Handover, Plan
from airflow_monai.store.s3 import S3Store
from airflow_monai.store.s3_errors import NoSuchObject
from tests.maps.pods_here import wait_until
from tests.s3_server import KEY, S3Server, s3  # noqa: F401

OUTPUT_KEY = "payloads/p/runs/r/g1"


class Stopped(BaseException):
    """The container was ended."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(transfer, "PATIENCE_SECONDS", 2.0)


@pytest.fixture
def handover(s3: S3Server, tmp_path: Path) -> Handover:  # noqa: F811
    return Handover(s3.store(tmp_path), OUTPUT_KEY)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "files"
    (folder / "seg").mkdir(parents=True)
    (folder / "seg" / "a.dcm").write_bytes(b"a" * 100)
    (folder / "metadata.json").write_text("{}")
    return folder


@pytest.fixture
def publishing(handover: Handover, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """The step runs in a thread until the end of the test; what ended it, if anything did before."""
    over, ended = threading.Event(), []

    def sleep(seconds: float) -> None:
        if over.wait(seconds):
            raise Stopped

    def run() -> None:
        try:
            transfer.publish(handover, outputs, "pod")
        except BaseException as error:  # noqa: BLE001
            ended.append(error)

    monkeypatch.setattr(transfer.time, "sleep", sleep)
    thread = threading.Thread(target=run)
    thread.start()
    yield ended
    over.set()
    thread.join(90)
    assert not thread.is_alive()


def answer_to(handover: Handover, ask: Ask) -> Answer:
    handover.ask(ask)
    found: list[Answer] = []

    def look() -> bool:
        answer = handover.answered(ask)
        found.extend([answer] if answer else [])
        return bool(found)

    wait_until(look)
    return found[0]


def published(handover: Handover, to: str) -> dict[str, int]:
    folder = f"{handover.key}/{to}"
    return {entry.key[len(folder) + 1 :]: entry.size for entry in handover.store.entries(folder)}


def test_input_is_laid_out_as_the_worker_planned_it(handover: Handover, tmp_path: Path) -> None:
    for number in range(3):
        handover.store.write(f"payloads/p/dcm/{number}.dcm", b"image %d" % number)
    files = [(f"payloads/p/dcm/{number}.dcm", f"study/{number}.dcm") for number in range(3)]
    handover.lay_out(Plan(files, inputs=["study", "empty"], outputs=["seg"]))
    inputs, outputs = tmp_path / "input" / "files", tmp_path / "output" / "files"
    transfer.fetch(handover, inputs, outputs)
    assert {path.name: path.read_bytes() for path in (inputs / "study").iterdir()} == {
        f"{number}.dcm": b"image %d" % number for number in range(3)
    }
    assert (inputs / "empty").is_dir() and (outputs / "seg").is_dir()


def test_an_input_that_is_not_there_is_not_waited_for(handover: Handover, tmp_path: Path) -> None:
    handover.lay_out(Plan([("payloads/p/dcm/gone.dcm", "gone.dcm")]))
    with pytest.raises(NoSuchObject):
        transfer.fetch(handover, tmp_path / "input", tmp_path / "output")


def test_no_plan_leads_out_of_the_input_folder(handover: Handover, tmp_path: Path) -> None:
    handover.store.write("payloads/p/dcm/0.dcm", b"image")
    handover.lay_out(Plan([("payloads/p/dcm/0.dcm", "../../0.dcm")]))
    with pytest.raises(StoreError, match="not a safe store key"):
        transfer.fetch(handover, tmp_path / "a" / "b" / "input", tmp_path / "output")
    assert not (tmp_path / "a" / "0.dcm").exists()


@pytest.mark.usefixtures("publishing")
def test_nothing_is_published_before_somebody_asks(handover: Handover, outputs: Path) -> None:
    (outputs / "late").write_text("written after the step began")
    assert published(handover, "t1") == {}
    answer = answer_to(handover, Ask("pod", "t1", 1 << 20, 100))
    assert (answer.files, answer.problem) == (3, "")
    assert published(handover, "t1") == {"late": 28, "metadata.json": 2, "seg/a.dcm": 100}


@pytest.mark.usefixtures("publishing")
def test_what_is_asked_of_another_pod_is_not_for_this_one(handover: Handover) -> None:
    handover.ask(Ask("another", "t1"))
    assert answer_to(handover, Ask("pod", "t2")).files == 2
    assert published(handover, "t1") == {}


@pytest.mark.usefixtures("publishing")
def test_a_new_try_gets_what_an_older_one_had_got(handover: Handover) -> None:
    assert answer_to(handover, Ask("pod", "t1")).files == 2
    assert answer_to(handover, Ask("pod", "t2")).files == 2
    assert published(handover, "t1") == published(handover, "t2")


def test_a_newer_ask_ends_the_upload_for_an_older_one(
    handover: Handover, outputs: Path, publishing: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, original = threading.Event(), S3Store.put_tree

    def put_tree(store: S3Store, folder: Path, prefix: str, check: Callable[[], None] = lambda: None) -> None:
        if prefix.endswith("/t1"):
            store.write(f"{prefix}/half", b"half")
            begun.set()
            while True:
                check()
                transfer.time.sleep(0.05)
        original(store, folder, prefix, check)

    monkeypatch.setattr(S3Store, "put_tree", put_tree)
    first = Ask("pod", "t1")
    handover.ask(first)
    assert begun.wait(60)
    assert answer_to(handover, Ask("pod", "t2")).files == 2
    assert handover.answered(first) is None and publishing == []


@pytest.mark.usefixtures("publishing")
@pytest.mark.parametrize(
    ("limits", "problem"), [((50, 100), "more than the 0 MiB"), ((1 << 20, 1), "more than the 1 files")]
)
def test_more_than_the_quota_is_not_published(handover: Handover, limits: Sequence[int], problem: str) -> None:
    answer = answer_to(handover, Ask("pod", "t1", *limits))
    assert answer.too_large and problem in answer.problem
    assert published(handover, "t1") == {}


@pytest.mark.usefixtures("publishing")
def test_a_link_out_of_the_output_is_not_followed(handover: Handover, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the node")
    (outputs / "out").symlink_to(tmp_path / "secret")
    (outputs / "in").symlink_to(outputs / "metadata.json")
    assert answer_to(handover, Ask("pod", "t1")).files == 3
    assert set(published(handover, "t1")) == {"in", "metadata.json", "seg/a.dcm"}


def failing(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uploads fail so many times."""
    original, left = S3Store.put_tree, [times]

    def put_tree(*arguments: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise StoreError("The store cannot handle 'payloads/p/1.2.3.dcm': it gave no answer.")
        original(*arguments)

    monkeypatch.setattr(S3Store, "put_tree", put_tree)


def test_a_bucket_that_is_away_for_a_while_is_asked_again(
    handover: Handover,
    publishing: list[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(3, monkeypatch)
    assert answer_to(handover, Ask("pod", "t1")).files == 2
    assert "1.2.3" not in capsys.readouterr().err, "the pod's status repeats it"
    assert publishing == []


def test_a_bucket_that_stays_away_ends_the_step(
    handover: Handover, publishing: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(10_000, monkeypatch)
    handover.ask(Ask("pod", "t1"))
    wait_until(lambda: publishing)
    assert isinstance(publishing[0], StoreError)


def test_all_is_forgotten_at_the_end(handover: Handover) -> None:
    handover.lay_out(Plan())
    handover.ask(Ask("pod", "t1"))
    handover.answer(Answer("pod", "t1"))
    handover.forget()
    assert list(handover.store.list("payloads")) == []


def test_the_environment_says_where_the_bucket_is(
    s3: S3Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = s3.store(tmp_path)
    Handover(store, OUTPUT_KEY).lay_out(Plan(inputs=["here"]))
    monkeypatch.setattr(transfer, "INPUT", str(tmp_path / "input"))
    monkeypatch.setattr(transfer, "OUTPUT", str(tmp_path / "output"))
    monkeypatch.setattr(transfer.signal, "signal", lambda *_: None)
    for name, value in {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}.items():
        monkeypatch.setenv(name, value)
    environment = {"AWS_ENDPOINT_URL_S3": s3.url, "AWS_REGION": "us-east-1"}
    assert transfer.main(["fetch", store.url, OUTPUT_KEY], environment) == 0
    assert (tmp_path / "input" / "files" / "here").is_dir()


def test_a_bucket_that_is_not_there_is_told_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfer, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(transfer.signal, "signal", lambda *_: None)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    environment = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
    assert transfer.main(["fetch", "s3://nowhere/site", OUTPUT_KEY], environment) == 1
    told = capsys.readouterr().err
    assert "http://127.0.0.1:9 gave no answer" in told and OUTPUT_KEY not in told
