"""``airflow monai payloads resend``: what a destination had accepted is sent once more, because a person wants it."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from pathlib import Path

import pytest

from airflow_monai.cli.here import resend as command
from airflow_monai.errors import InvalidArgument
from airflow_monai.hooks.airflow_api import Cleared
from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.ledger.again import ExportTask
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_id_of, payload_key

PAYLOAD = payload_id_of("1.2.3", "CTLUNG", 0)
RUN = f"monai__{PAYLOAD}"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path)
    store.write_json(payload_key(PAYLOAD, "open.json"), {"called_aet": "CTLUNG", "sequence": 0, "opened": ""})
    accepted = Entry(DeliveryState.ACCEPTED, "0000", time="2026-01-02T03:04:05+00:00", attempts=1)
    page = {f"1.2.{number}": accepted for number in range(300)}
    Ledger(store, PAYLOAD, "MAINPACS").write_page(
        "a",
        {name: Entry.from_dict({**entry.to_dict(), "task": f"ct/{RUN}/send"}) for name, entry in page.items()}
        | {"1.3": Entry(DeliveryState.REFUSED, "0122", attempts=1, task=f"ct/{RUN}/send")}
        | {"1.4": Entry.from_dict({**accepted.to_dict(), "task": f"mr/{RUN}/more"})},
    )
    return store


def resent(store: LocalStore, task: str = "", says: Cleared = Cleared.YES) -> tuple[int, str, list[ExportTask]]:
    """The exit code, what is printed, and what was cleared."""
    cleared: list[ExportTask] = []

    def clear(task: ExportTask, note: str) -> Cleared:
        assert "the disk has burnt" in note
        cleared.append(task)
        return says

    out = io.StringIO()
    code = command.run(command.what(store, PAYLOAD, "MAINPACS", task), clear, "the disk has burnt", False, out)
    return code, out.getvalue(), cleared


def states(store: LocalStore) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, entry in Ledger(store, PAYLOAD, "MAINPACS").entries():
        found[entry.state.value] = found.get(entry.state.value, 0) + 1
    return found


def pages(store: LocalStore) -> set[str]:
    return set(store.children(payload_key(PAYLOAD, "exports", "MAINPACS")))


def test_what_was_accepted_is_to_be_sent_again_by_the_tasks_that_delivered_it(store: LocalStore) -> None:
    code, told, cleared = resent(store)
    assert code == 0
    assert "MAINPACS: 301 objects are to be sent again" in told
    assert "the disk has burnt" in told
    assert cleared == [ExportTask("ct", RUN, "send"), ExportTask("mr", RUN, "more")]
    assert states(store) == {"pending": 301, "refused": 1}
    before = pages(store)
    assert resent(store)[2] == cleared  # the first was killed before it had cleared, say
    assert pages(store) == before


def test_one_task_s_can_be_sent_again(store: LocalStore) -> None:
    assert resent(store, "more")[2] == [ExportTask("mr", RUN, "more")]
    assert states(store) == {"pending": 1, "accepted": 300, "refused": 1}


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (Cleared.RUNNING, "is running now\n    It may have begun without them: do this again, with --task send,"),
        (Cleared.GONE, "is not in Airflow any more\n    Any other task"),
    ],
)
def test_a_task_that_cannot_send_now_is_told(store: LocalStore, says: Cleared, words: str) -> None:
    code, told, _ = resent(store, says=says)
    assert code == 1
    assert f"send of ct {RUN}: {words}" in told


def test_a_program_is_told_the_same(store: LocalStore) -> None:
    out, found = io.StringIO(), command.what(store, PAYLOAD, "MAINPACS", "more")
    assert command.run(found, lambda task, note: Cleared.COMING, "", True, out) == 0
    assert json.loads(out.getvalue()) == {
        "payload_id": PAYLOAD,
        "sink": "MAINPACS",
        "objects": 1,
        "tasks": [{"dag_id": "mr", "run_id": RUN, "task_id": "more", "state": "Waits"}],
    }


def test_nothing_to_send_again_is_told(store: LocalStore) -> None:
    with pytest.raises(InvalidArgument, match="There are: MAINPACS"):
        command.what(store, PAYLOAD, "OTHER")
    with pytest.raises(InvalidArgument, match="has accepted nothing of this payload of what task 'other' delivered"):
        command.what(store, PAYLOAD, "MAINPACS", "other")


def test_it_asks_before_it_does_anything(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "this_store", lambda: store)
    monkeypatch.delenv("MONAI_URL", raising=False)
    args = Namespace(
        payload=PAYLOAD, sink="MAINPACS", task=None, reason=None, yes=False, url=None, key=None, json=False
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))  # no terminal: nobody has read the question
    with pytest.raises(SystemExit) as ended:
        command.resend(args)
    assert ended.value.code == 1
    assert "Say --yes" in capsys.readouterr().err
    assert states(store) == {"accepted": 301, "refused": 1}
