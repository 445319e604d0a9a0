"""A damaged object of one payload, as a power cut leaves it, fails no list of the API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient

from airflow_monai.store.local import LocalStore
from tests.api.workflow_manager.scene import BASE, receive, work_on, write_workflow

Api = Callable[[str | None], TestClient]
LISTS = ("payload", "workflowinstances", "workflowinstances/failed", "tasks", "tasks/running", "tasks/stats")
DAMAGE = (b"", b"{", b"[]", b"{}", b"7", b'{"result": 7, "stats": [], "task_id": null}')


def keys_of(store: LocalStore, payload_id: str) -> list[str]:
    keys = [*store.list(f"payloads/{payload_id}"), *store.list("deletions"), *store.list("acknowledgements")]
    return [key for key in keys if not key.endswith(".dcm")]


def test_no_list_fails_for_one_payload(api: Api, site_store: LocalStore, tmp_path: Path) -> None:
    dag_id = write_workflow(tmp_path / "workflows", "look")
    broken, whole = receive(site_store, "1.2.3"), receive(site_store, "1.2.4")
    for payload_id in (broken, whole):
        work_on(site_store, dag_id, payload_id, "failed")
    client = api("op")
    assert client.delete(f"{BASE}/payload/{broken}").status_code == 202
    (instance,) = [one for one in client.get(f"{BASE}/workflowinstances").json()["Data"] if one["payload_id"] == broken]
    (task,) = [one for one in instance["tasks"] if one["status"] == "Failed"]
    acknowledged = f"{BASE}/workflowinstances/{instance['id']}/executions/{task['execution_id']}/acknowledge"
    assert client.put(acknowledged).status_code == 200
    site_store.write_json(f"payloads/{broken}/request.json", {})
    failed = []
    for key in keys_of(site_store, broken):
        before = site_store.read(key)
        for damage in DAMAGE:
            site_store.write(key, damage)
            for path in LISTS:
                answer = client.get(f"{BASE}/{path}")
                lists_it = path.split("/")[0] in ("payload", "workflowinstances")
                if answer.status_code != 200 or (lists_it and whole not in answer.text):
                    failed.append(f"{path}: {key.rpartition('/')[2]} {damage!r}: {answer.status_code}")
        site_store.write(key, before)
    assert len(keys_of(site_store, broken)) > 8 and failed == []
