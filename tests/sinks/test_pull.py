"""Deliveries by clients that fetch: the export task waits for their report, and offers again what was missing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_monai.errors import SinkUnavailable
from airflow_monai.pulls.tasks import PullTask, PullTasks, Report
from airflow_monai.sinks import asked as module
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination
from airflow_monai.sinks.delivery import Deliverer
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.sinks.order import ExportOrder
from airflow_monai.sinks.pull import PullSink
from airflow_monai.sinks.registry import open_sink
from airflow_monai.sinks.report import SinkReport
from airflow_monai.store.local import LocalStore
from airflow_monai.store.runs import Fence, RunFolder
from tests.gateway.conftest import wait_for
from tests.sinks.test_broker import PAYLOAD, instances


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def folder(store: LocalStore) -> RunFolder:
    return RunFolder(store, PAYLOAD, "ct-lung", f"monai__{PAYLOAD}")


def sink(store: LocalStore, generation: int = 1, **extra: object) -> PullSink:
    made = open_sink(Destination("OUTSIDE", "monai_pull", extra=extra))
    assert isinstance(made, PullSink)
    made.order = ExportOrder(folder(store), "to-pacs", -1, generation)
    return made


class Client(threading.Thread):
    """Takes one task and reports on it."""

    def __init__(self, store: LocalStore, verdict: Callable[[PullTask], Report]):
        super().__init__()
        self.tasks, self.verdict, self.took = PullTasks(store, "OUTSIDE"), verdict, None

    def run(self) -> None:
        found: list = []
        wait_for(lambda: found.extend(self.tasks.take("client", 1, 60)) or bool(found), 60)
        self.took, take = found[0]
        self.tasks.report(self.took, take.lease, self.verdict(self.took))


def deliver(store: LocalStore, names: tuple[str, ...], **extra: object) -> list[Delivery]:
    news: list[Delivery] = []
    sink(store, **extra).send(instances(store, *names), news.append)
    return [item for item in news if item.state is not DeliveryState.SENT]


def test_the_report_of_the_client_decides(store: LocalStore) -> None:
    def verdict(task: PullTask) -> Report:
        assert task.destinations == ("PACS2", "PACS3")
        one, other = (file.path for file in task.files)
        return Report("PartialFailure", {one: "Success", other: "ServiceError"})

    client = Client(store, verdict)
    client.start()
    news = deliver(store, ("a", "bb"), destinations="PACS2, PACS3")
    client.join()
    assert [item.state for item in news] == [DeliveryState.ACCEPTED, DeliveryState.REFUSED]
    assert news[1].retry and client.took is not None
    again = Client(store, lambda task: Report("Success", {}))
    again.start()
    assert [item.state for item in deliver(store, ("bb",))] == [DeliveryState.ACCEPTED]
    again.join()
    assert again.took is not None and len(again.took.files) == 1


def test_a_try_that_waited_in_vain_leaves_its_offer_to_the_next(store: LocalStore) -> None:
    with pytest.raises(SinkUnavailable, match="export clients"):
        deliver(store, ("a",), wait_minutes=0.01)
    client = Client(store, lambda task: Report("Success", {}))
    client.start()
    assert [item.state for item in deliver(store, ("a",))] == [DeliveryState.ACCEPTED]
    client.join()
    assert len(list(store.children("pulls/OUTSIDE"))) == 1


def test_offered_is_enough_where_nobody_waits(store: LocalStore) -> None:
    assert [item.state for item in deliver(store, ("a",), wait=False)] == [DeliveryState.ACCEPTED]
    (offered,) = list(PullTasks(store, "OUTSIDE").open_ones())
    assert offered.waiting is None and offered.files[0].size == 1


def test_a_report_that_a_dead_server_did_not_hand_over_is_found(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Client):
        def run(self) -> None:
            self.tasks._finish = lambda task: None  # type: ignore[method-assign]
            super().run()

    client = Killed(store, lambda task: Report("Success", {}))
    client.start()
    assert [item.state for item in deliver(store, ("a",))] == [DeliveryState.ACCEPTED]
    client.join()


def test_a_cleared_task_takes_back_what_nobody_waits_for_any_more(store: LocalStore) -> None:
    with pytest.raises(SinkUnavailable, match="export clients"):
        deliver(store, ("a",), wait_minutes=0.01)
    Fence(folder(store), "to-pacs", -1, try_number=2).claim(2)  # somebody has cleared it
    with pytest.raises(SinkUnavailable, match="export clients"):
        sink(store, generation=2, wait_minutes=0.01).send(instances(store, "a"), lambda news: None)
    (offered,) = PullTasks(store, "OUTSIDE").open_ones()
    assert offered.waiting is not None and offered.waiting.generation == 2


def attempt(store: LocalStore, generation: int, minutes: float, **extra: object) -> SinkReport:
    """What one try of an export task does."""
    report = SinkReport("OUTSIDE")
    target = sink(store, generation, wait_minutes=minutes, **extra)
    wanted = {str(one.sop_instance_uid): one for one in instances(store, "a", "bb")}
    ledger = Ledger(store, PAYLOAD, "OUTSIDE")
    deliverer = Deliverer(target, wanted, ledger, report, task="ct-lung/run/to-pacs", before_request=lambda: None)
    with suppress(SinkUnavailable):
        deliverer.run()
    return report


def test_what_was_exported_after_its_task_had_given_up_is_not_offered_again(store: LocalStore) -> None:
    told = {"1.2.1": "Success", "1.2.2": "ServiceError"}
    assert not attempt(store, 1, 0.01).complete
    late = Client(store, lambda task: Report("PartialFailure", {x.path: told[x.sop_instance_uid] for x in task.files}))
    late.start()
    late.join()
    report = attempt(store, 2, 0.01)
    assert report.verdicts["1.2.1"].state is DeliveryState.ACCEPTED
    assert report.verdicts["1.2.2"].state is not DeliveryState.ACCEPTED
    (offered,) = PullTasks(store, "OUTSIDE").open_ones()
    assert [file.sop_instance_uid for file in offered.files] == ["1.2.2"]


@pytest.mark.parametrize("waits", [True, False])
def test_a_try_that_was_killed_before_the_ledger_had_its_verdicts_leaves_nothing_to_offer_again(
    store: LocalStore, waits: bool
) -> None:
    client = Client(store, lambda task: Report("Success", {}))
    client.start()
    assert attempt(store, 1, 1, wait=waits).complete
    client.join()
    ledger = Ledger(store, PAYLOAD, "OUTSIDE")
    for name in list(store.children(ledger.key())):  # as the kill leaves them: what was sent, and no verdict
        page = store.read_json(ledger.key(name))
        store.write_json(ledger.key(name), {uid: {**entry, "state": "sent"} for uid, entry in page.items()})
    assert attempt(store, 1, 0.01, wait=waits).complete
    assert len(list(store.children("pulls/OUTSIDE"))) == 1
