"""The folder sink copies whole files, once, and never replaces anything unasked."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from airflow_monai.errors import DeadlinePassed, DestinationError, SinkUnavailable, StoreError
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.folder import FolderSink


def sink(path: Path, **extra: object) -> FolderSink:
    path.mkdir(exist_ok=True)
    return not_made(path, **extra)


def not_made(path: Path, **extra: object) -> FolderSink:
    return FolderSink(Destination("ARCHIVE", "monai_folder", extra={"path": str(path), **extra}))


def source(tmp_path: Path, content: bytes, name: str = "payload/dag/task/seg/seg.dcm") -> Instance:
    path = tmp_path / f"source-{len(content)}-{content[:8].hex()}"
    path.write_bytes(content)
    return Instance("key", path, name)


def deliver(target: FolderSink, instance: Instance) -> Delivery:
    news: list[Delivery] = []
    target.send([instance], news.append)
    assert [item.state for item in news[:1]] == [DeliveryState.SENT]
    assert {item.identity for item in news} == {target.identity(instance)}
    return news[-1]


def test_a_file_is_copied_under_its_name_and_nothing_else_is_left(tmp_path: Path) -> None:
    assert deliver(sink(tmp_path / "out"), source(tmp_path, b"abc")).state is DeliveryState.ACCEPTED
    files = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files == ["payload/dag/task/seg/seg.dcm"]
    assert (tmp_path / "out" / files[0]).read_bytes() == b"abc"


def test_the_same_content_again_is_fine(tmp_path: Path) -> None:
    target = sink(tmp_path / "out")
    deliver(target, source(tmp_path, b"abc"))
    again = deliver(target, source(tmp_path, b"abc"))
    assert (again.state, again.message) == (DeliveryState.ACCEPTED, "was there already")


def test_what_an_earlier_attempt_may_not_have_flushed_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(sink(tmp_path / "out"), source(tmp_path, b"result"))
    flushed: list[Path] = []
    monkeypatch.setattr("airflow_monai.sinks.folder.fsync_folder", flushed.append)
    assert deliver(sink(tmp_path / "out"), source(tmp_path, b"result")).message == "was there already"
    assert flushed == [tmp_path / "out" / "payload/dag/task/seg"]


def test_other_content_is_refused_unless_overwriting_is_allowed(tmp_path: Path) -> None:
    place = tmp_path / "out/payload/dag/task/seg/seg.dcm"
    deliver(sink(tmp_path / "out"), source(tmp_path, b"abc"))
    refused = deliver(sink(tmp_path / "out"), source(tmp_path, b"defg"))
    assert refused.state is DeliveryState.REFUSED
    assert "set overwrite" in refused.message
    assert place.read_bytes() == b"abc"
    assert deliver(sink(tmp_path / "out", overwrite=True), source(tmp_path, b"defg")).state is DeliveryState.ACCEPTED
    assert place.read_bytes() == b"defg"


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    target = sink(tmp_path / "out")
    assert deliver(target, source(tmp_path, b"abc")).state is DeliveryState.ACCEPTED
    assert deliver(target, source(tmp_path, b"defg")).state is DeliveryState.REFUSED


@pytest.mark.parametrize("name", ["../escape", "/etc/x", "a//b", "a/../../b", ""])
def test_a_name_never_leaves_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a safe store key"):
        sink(tmp_path / "out").send([source(tmp_path, b"abc", name)], lambda _: None)
    assert not (tmp_path / "escape").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SinkUnavailable, match=r"cannot be written to \(Not a directory\)"):
        not_made(tmp_path / "file" / "out").send([source(tmp_path, b"abc")], lambda _: None)
    with pytest.raises(SinkUnavailable, match="cannot be written to"):
        not_made(tmp_path / "file" / "out").test()


def test_the_test_button_leaves_nothing(tmp_path: Path) -> None:
    assert sink(tmp_path / "out").test().endswith("can be written to.")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(DestinationError, match="'results' is no absolute folder"):
        FolderSink(Destination("ARCHIVE", "monai_folder", extra={"path": "results"}))


def test_what_is_there_can_be_asked(tmp_path: Path) -> None:
    target = sink(tmp_path / "out")
    there, missing = source(tmp_path, b"abc"), source(tmp_path, b"abc", "payload/other")
    deliver(target, there)
    assert target.ask([there, missing]) == {target.identity(there): True, target.identity(missing): False}
    changed = source(tmp_path, b"xyz")
    assert target.ask([changed]) == {target.identity(changed): False}, "other content is not this instance"
    with pytest.raises(SinkUnavailable):
        not_made(tmp_path / "not-mounted").ask([there])


def test_a_bandwidth_limit_and_a_deadline_are_kept(tmp_path: Path) -> None:
    target = sink(tmp_path / "out", max_mb_per_second=10)
    began = time.monotonic()
    deliver(target, source(tmp_path, bytes(4_000_000)))
    assert 0.2 < time.monotonic() - began < 20
    target.deadline = Deadline(0.1)
    with pytest.raises(DeadlinePassed):
        deliver(target, source(tmp_path, bytes(8_000_000), "payload/large"))
    assert [path.name for path in (tmp_path / "out/payload").iterdir() if path.is_file()] == [], "no half of a file"


def test_a_share_that_is_not_mounted_is_not_made_on_the_local_disk(tmp_path: Path) -> None:
    target = not_made(tmp_path / "share" / "results")
    for act in (target.test, lambda: deliver(target, source(tmp_path, b"abc"))):
        with pytest.raises(SinkUnavailable, match="it is not made here"):
            act()
    assert not (tmp_path / "share").exists()
    (tmp_path / "share" / "results").mkdir(parents=True)
    assert deliver(target, source(tmp_path, b"abc")).state is DeliveryState.ACCEPTED
