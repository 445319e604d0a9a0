"""``airflow monai send``: what arrives, what a second run sends, and what is told."""

from __future__ import annotations

import io
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.cli.here import send as command
from airflow_monai.errors import DestinationError, InvalidArgument
from airflow_monai.sinks.dicom import DicomSink
from tests.gateway.studies import CT, study
from tests.sinks.difficult import Difficult, difficult

CONTEXTS = {CT: ["1.2.840.10008.1.2.1"]}


class Sent:
    """What the node got, and what the command said."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.err = code, err
        self.facts: dict[str, Any] = json.loads(out) if out.startswith("{") else {}
        self.out = out


def send(port: int, *paths: Path, ledger: Path, as_json: bool = True, **more: Any) -> Sent:
    out, err = io.StringIO(), io.StringIO()
    extra = {"response_timeout": 20, "query": "never", **more.pop("extra", {})}
    destination = command.destination_of(f"127.0.0.1:{port}", "PACS", "MONAI", extra)
    options = command.SendOptions(paths, destination, ledger, as_json=as_json, **more)
    return Sent(command.run(DicomSink(destination), options, out, err), out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PAUSE_SECONDS", 0.05)


def test_all_is_sent_once_and_a_second_run_sends_nothing(tmp_path: Path) -> None:
    files = study(tmp_path / "s", 5)
    (tmp_path / "s" / "README").write_text("hello")
    (tmp_path / "s" / "copy.dcm").write_bytes(files[0].read_bytes())
    got: Counter[str] = Counter()
    with difficult(_counting(got), contexts=CONTEXTS) as node:
        first = send(node.port, tmp_path / "s", ledger=tmp_path / "sent.jsonl")
        second = send(node.port, tmp_path / "s", ledger=tmp_path / "sent.jsonl")
        third = send(node.port, tmp_path / "s", ledger=tmp_path / "sent.jsonl", again=True)
    assert (first.code, first.facts["accepted"], first.facts["passed_over"], first.facts["duplicates"]) == (0, 5, 1, 1)
    assert (second.code, second.facts["accepted"], second.facts["accepted_before"]) == (0, 0, 5)
    assert (third.code, third.facts["accepted"]) == (0, 5)
    assert set(got.values()) == {2} and len(got) == 5
    assert os.stat(tmp_path / "sent.jsonl").st_mode & 0o077 == 0


def test_what_is_refused_is_counted_by_status_and_tried_with_the_next_run(tmp_path: Path) -> None:
    study(tmp_path / "s", 4)
    answers = iter([0x0000, 0x0122, 0xA900, 0x0000, *[0x0000] * 10])
    with difficult(lambda node, event: next(answers), contexts=CONTEXTS) as node:
        first = send(node.port, tmp_path / "s", ledger=tmp_path / "sent.jsonl", as_json=False, tries=1)
        second = send(node.port, tmp_path / "s", ledger=tmp_path / "sent.jsonl")
    assert first.code == 1
    assert "4 images: 2 accepted" in first.out
    assert "refused 0122: 1" in first.out and "refused A900: 1" in first.out
    assert "Run it again" in first.out
    assert (second.code, second.facts["accepted"], second.facts["accepted_before"]) == (0, 2, 2)


def test_a_node_that_drops_the_association_is_called_again(tmp_path: Path) -> None:
    study(tmp_path / "s", 6)
    got: Counter[str] = Counter()
    dropped: list[int] = []

    def behave(node: Difficult, event: Any) -> int:
        if len(node.seen) == 3 and not dropped:
            dropped.append(3)
            event.assoc.abort()
        got[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000

    with difficult(behave, contexts=CONTEXTS) as node:
        sent = send(node.port, tmp_path / "s", ledger=tmp_path / "sent.jsonl")
    assert (sent.code, sent.facts["accepted"]) == (0, 6)
    assert len(got) == 6 and sum(got.values()) <= 7


def test_a_ledger_line_that_was_cut_does_no_harm(tmp_path: Path) -> None:
    study(tmp_path / "s", 2)
    ledger = tmp_path / "sent.jsonl"
    ledger.write_text('{"sop_instance_uid": "1.2", "si')
    with difficult(lambda node, event: 0x0000, contexts=CONTEXTS) as node:
        assert send(node.port, tmp_path / "s", ledger=ledger).code == 0
        assert send(node.port, tmp_path / "s", ledger=ledger).facts["accepted"] == 0


def test_a_bad_file_is_named_and_the_others_are_sent(tmp_path: Path) -> None:
    files = study(tmp_path / "s", 3)
    files[1].write_bytes(files[1].read_bytes()[:150])
    with difficult(lambda node, event: 0x0000, contexts=CONTEXTS) as node:
        sent = send(node.port, tmp_path / "s", ledger=tmp_path / "sent.jsonl")
    assert (sent.code, sent.facts["accepted"]) == (1, 2)
    assert [item["name"] for item in sent.facts["bad_files"]] == [files[1].name]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        study(tmp_path / "in" / name, 1)
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith("in/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with difficult(lambda node, event: 0x0000, contexts=CONTEXTS) as node:
        sent = send(node.port, tmp_path / "in", ledger=tmp_path / "sent.jsonl")
    assert sent.code == 1 and sent.facts["accepted"] == 1
    assert [item["name"] for item in sent.facts["bad_files"]] == ["b"]


def test_ctrl_c_keeps_what_was_accepted(tmp_path: Path) -> None:
    study(tmp_path / "s", 5)

    class Interrupted(DicomSink):
        def send(self, instances: Any, on_result: Any) -> None:
            def result(delivery: Any) -> None:
                on_result(delivery)
                if delivery.state.value == "accepted":
                    raise KeyboardInterrupt

            super().send(instances, result)

    out, err = io.StringIO(), io.StringIO()
    with difficult(lambda node, event: 0x0000, contexts=CONTEXTS) as node:
        destination = command.destination_of(f"127.0.0.1:{node.port}", "PACS", "MONAI", {"query": "never"})
        options = command.SendOptions((tmp_path / "s",), destination, tmp_path / "sent.jsonl")
        assert command.run(Interrupted(destination), options, out, err) == 130
        assert "Run it again" in out.getvalue()
        again = send(node.port, tmp_path / "s", ledger=tmp_path / "sent.jsonl")
    assert (again.facts["accepted_before"], again.facts["accepted"]) == (1, 4)


def test_nothing_to_send_and_nobody_there(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(InvalidArgument, match="no DICOM image"):
        send(free_port, tmp_path / "s", ledger=tmp_path / "sent.jsonl")
    study(tmp_path / "s", 1)
    for _ in range(3):  # a host that is busy takes longer now and then
        began = time.monotonic()
        sent = send(free_port, tmp_path / "s", ledger=tmp_path / "sent.jsonl", tries=3)
        if (taken := time.monotonic() - began) < 1.0:
            break
    assert sent.code == 1 and taken < 1.0, "who sits before it does not have to wait"
    assert sent.err.count("\n") == 1 and "cannot be reached (Connection refused): is it running?" in sent.err


@pytest.mark.parametrize("to", ["pacs", "pacs:", ":104", "pacs:dicom", "pacs:70000"])
def test_a_node_is_a_host_and_a_port(to: str) -> None:
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        command.destination_of(to, "PACS", "MONAI", {})


def test_a_wrong_title_is_said_before_anything_is_sent() -> None:
    destination = command.destination_of("[::1]:104", "A-TITLE-THAT-IS-TOO-LONG", "MONAI", {"tls": False})
    assert destination.host == "::1"
    with pytest.raises(DestinationError, match="AE title"):
        DicomSink(destination)


def _counting(got: Counter[str]) -> Any:
    def behave(node: Difficult, event: Any) -> int:
        got[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000

    return behave
