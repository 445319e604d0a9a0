"""The API server is killed while clients register, update and delete workflows: nothing half done, nothing lost."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import requests

from airflow_monai.local.stack import LocalStack
from airflow_monai.store import open_store
from airflow_monai.workflows.registry import WorkflowRegistry
from tests.chaos.conftest import amount, report
from tests.workflows.definitions import simple

CLIENTS, KILLS, SECONDS = 3, 3, 12
"""Clients, each with a name of its own; kills; seconds of work before each."""


@dataclass
class Client:
    """Works on one name without end, and notes what it was told.

    :ivar said: workflow id, revision and description of what was answered with 200.
    :ivar doubts: requests that were not answered.
    """

    url: str
    token: str
    name: str
    chance: random.Random
    said: list[tuple[str, int, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    doubts: int = 0

    def work(self, over: threading.Event) -> None:
        known, count = "", 0
        while not over.is_set():
            count += 1
            words = f"{self.name} {count}"
            try:
                if not known:
                    answer = self._ask("POST", "", {**simple(self.name, self.name.upper()), "description": words})
                    if answer.status_code == 409:  # one whose answer was lost
                        known = self._found()
                        continue
                    known = answer.json()["id"]
                    self.said.append((known, 1, words))
                elif self.chance.random() < 0.8:
                    answer = self._ask("PUT", f"/{known}", {"description": words})
                    if answer.status_code == 404:
                        known = ""
                        continue
                    self.said.append((known, int(answer.json()["version_id"]), words))
                else:
                    answer = self._ask("DELETE", f"/{known}")
                    if answer.status_code == 200:
                        self.deleted.append(known)
                    known = ""
            except requests.RequestException:
                self.doubts += 1
                time.sleep(0.2)

    def _found(self) -> str:
        page = self._ask("GET", f"/aetitle/{self.name.upper()}").json()
        return str(page["Data"][0]["workflow_id"]) if page.get("Data") else ""

    def _ask(self, method: str, path: str, json: Any = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.request(method, f"{self.url}{path}", json=json, headers=headers, timeout=20)
        if answer.status_code == 429 or answer.status_code >= 500:
            time.sleep(0.5)
            raise requests.RequestException(answer.text[:200])
        assert answer.status_code in (200, 404, 409), answer.text
        return answer


def test_a_killed_api_server_leaves_every_workflow_whole(stack: LocalStack) -> None:
    seed = amount("CHAOS_SEED", 1)
    chance = random.Random(seed)
    url = f"{stack.ui}/monai/workflow-manager/workflows"
    token = stack.api._bearer()
    clients = [Client(url, token, f"chaos{number}", random.Random(seed + number)) for number in range(CLIENTS)]
    over = threading.Event()
    threads = [threading.Thread(target=client.work, args=(over,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            time.sleep(SECONDS * (0.5 + chance.random()))
            stack.kill("api-server", group=True)
            stack.restart("api-server")
        time.sleep(SECONDS / 2)
    finally:
        over.set()
        for thread in threads:
            thread.join()

    registry = WorkflowRegistry(open_store(str(stack.layout.store)))
    assert registry.listing().damaged == {}
    objects = 0
    for client in clients:
        head = registry.of_name(client.name)
        assert head is not None and client.said and client.deleted
        every = [registry.read(client.name, number) for number in range(1, head.number + 1)]
        objects += len(every)
        for before, after in pairwise(every):
            if before.is_deleted:
                assert after.revision == 1 and before.workflow_id in after.former
            else:
                assert after.workflow_id == before.workflow_id
                assert after.revision == before.revision + (0 if after.is_deleted else 1)
        made = {(one.workflow_id, one.revision): one.text for one in every if not one.is_deleted}
        assert all(f'"{words}"' in made[known, revision] for known, revision, words in client.said)
        assert set(client.deleted) <= {one.workflow_id for one in every if one.is_deleted}
        changes = len(client.said) + len(client.deleted)
        assert changes <= len(every) <= changes + client.doubts
        shows = partial(is_there, stack, client.name, not head.is_deleted)
        stack.wait_for(shows, seconds=60, what=f"what holds of {client.name}")
        if not head.is_deleted:
            registry.delete(head.workflow_id, "")
    report(
        f"{KILLS} kills of the API server under {CLIENTS} clients: {objects} revisions and deletions in the store, "
        f"{sum(len(client.said) + len(client.deleted) for client in clients)} of them answered, "
        f"{sum(client.doubts for client in clients)} requests without an answer; none half done, lost or doubled."
    )


def is_there(stack: LocalStack, dag_id: str, wanted: bool) -> bool:
    """Whether Airflow has the DAG, or has it not, as is wanted."""
    dag = stack.api.dag(dag_id)
    return (dag is not None and not dag["is_stale"]) == wanted
