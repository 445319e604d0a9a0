"""A DICOMweb server with a bad day: whatever it does, what is accepted is there, and is never sent again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from airflow_monai.errors import MonaiError
from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.delivery import Deliverer
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.sinks.report import SinkReport
from airflow_monai.sinks.stow import StowSink
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_key
from tests.sinks.stow_server import Behaviour, Reply, StowServer, report, stow_server
from tests.sinks.test_stow import images, uids

PAYLOAD = "0f8fad5b-d9cb-469f-a165-70867728950e"
TRIES = 15
"""Of the task; far more than are ever needed."""
Parts = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def no_pauses_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.sinks.tries.PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("airflow_monai.sinks.delivery.LOOKS", (0.0,))


def moody(chance: random.Random, sent_again: list[str], ledger: Ledger) -> Behaviour:
    """A server that does one of many things with each request, good ones more often than bad ones."""

    def some(parts: Parts) -> Parts:
        return [part for part in parts if chance.random() < 0.5]

    def behave(server: StowServer, parts: Parts) -> Reply:
        names = [uid for uid, _ in parts]
        sent_again.extend(uid for uid, entry in ledger.known(names).items() if entry.state is DeliveryState.ACCEPTED)
        mood = chance.randrange(10)
        if mood == 0:
            return Reply(0)  # hangs up and has nothing
        if mood == 1:
            server.store(parts)
            return Reply(0)  # hangs up and has all
        if mood == 2:
            server.store(some(parts))
            return Reply(chance.choice((0, 500, 502)))  # has some, and does not say which
        if mood == 3:
            return Reply(chance.choice((503, 429)))
        if mood == 4:
            server.store(some(parts))
            return Reply(200)  # claims all
        if mood == 5:
            return Reply(200, b"<html>maintenance</html>", "text/html")
        if mood == 6:
            there = some(parts)
            server.store(there)
            failed = {uid: 0xA700 for uid in names if uid not in dict(there)}
            return Reply(202, report([uid for uid, _ in there], failed))
        if mood == 7 and len(parts) > 1:
            return Reply(413)
        server.store(parts)
        return Reply(200, report(names))

    return behave


@pytest.mark.parametrize("seed", range(4))
def test_what_is_accepted_is_there_and_is_not_sent_again(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    instances = {str(one.sop_instance_uid): one for one in images(tmp_path, 60)}
    store = LocalStore(tmp_path / "store")
    (store.root / payload_key(PAYLOAD)).mkdir(parents=True)
    ledger = Ledger(store, PAYLOAD, "WEB")
    sent_again: list[str] = []
    with stow_server(moody(chance, sent_again, ledger)) as server:
        for _ in range(TRIES):
            sink = StowSink(server.destination(instances_per_request=8, connections=3))
            task_report = SinkReport("WEB")
            delivery = Deliverer(sink, instances, ledger, task_report, task="d/r/t", before_request=lambda: None)
            try:
                delivery.run()
            except MonaiError as error:
                assert type(error).__name__ == "SinkUnavailable", error
            accepted = {uid for uid, entry in ledger.entries() if entry.state is DeliveryState.ACCEPTED}
            assert accepted <= set(server.stored), "nothing counts as accepted that is not there"
            if task_report.complete:
                break
        assert task_report.complete
        assert sorted(server.stored) == sorted(uids(list(instances.values())))
        assert sent_again == []
