"""Workflow instances: how they look, who sees them, and taking note of failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import update

from airflow_monai.api.instances.starting import end_run
from airflow_monai.api.workflow_manager import executions, instances, rows
from airflow_monai.bundles.workflow_folder import WorkflowSpecBundle
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import instance_id_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.workflows.registry import WorkflowRegistry
from tests.api.airflow_rows import run, set_task
from tests.api.workflow_manager.scene import (
    BASE,
    NAME,
    events,
    of_instance,
    only,
    receive,
    statements,
    work_on,
    write_workflow,
)

Api = Callable[[str | None], TestClient]
PATH = f"{BASE}/workflowinstances"
NOTHING = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def dags(api: Api, site_store: LocalStore, tmp_path: Path) -> tuple[str, str]:
    return write_workflow(tmp_path / "workflows", "look"), write_workflow(tmp_path / "workflows", "other")


@pytest.fixture
def payload(site_store: LocalStore) -> str:
    return receive(site_store)


def test_an_instance_as_its_tasks_left_it(api: Api, dags: Any, site_store: LocalStore, payload: str) -> None:
    run_id = work_on(site_store, dags[0], payload)
    instance_id = instance_id_of(dags[0], run_id)
    found = api("viewer").get(f"{PATH}/{instance_id}").json()
    assert found == of_instance(api("viewer"), payload)
    assert (found["id"], found["status"], found["payload_id"]) == (instance_id, "Succeeded", payload)
    assert (found["workflow_name"], found["ae_title"]) == ("look", "LOOK")
    workflows = api("viewer").get(f"{BASE}/workflows").json()
    assert found["workflow_id"] in {one["workflow_id"] for one in workflows}
    tasks = {task["task_id"]: task for task in found["tasks"]}
    assert set(tasks) == {"route", "work", "send"}  # the node of the conditional way is none
    work = tasks["work"]
    assert (work["status"], work["reason"], work["task_type"], work["timeout_interval"]) == (
        "Succeeded", "None", "map", 30,
    )  # fmt: skip
    assert work["task_plugin_arguments"]["env_MODE"] == "fast" and "hunter2" not in str(found)
    assert work["previous_task_id"] == "route" and tasks["send"]["previous_task_id"] == "work"
    assert work["input_artifacts"] == {"study": f"payloads/{payload}/dcm"}
    assert tasks["send"]["input_artifacts"] == work["output_artifacts"] == {"seg": f"{work['output_directory']}/seg"}
    assert work["execution_stats"]["seconds"] == 2.5 and work["next_timeout"] is None
    assert work["result"] == {"volume": 7, "who": NAME}
    assert events()[-1][0] == "monai.result.read" and instance_id in str(events()[-1][2])


def test_results_are_for_those_who_may_read_data(
    api: Api, dags: Any, site_store: LocalStore, payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_on(site_store, dags[0], payload)
    client = api("viewer")
    with only(monkeypatch, dags[0], data=False):
        found = of_instance(client, payload)
    assert NAME not in str(found) and all(task["result"] is None for task in found["tasks"])
    assert not events()


def test_lists_are_pages_filtered_and_cheap(api: Api, dags: Any, site_store: LocalStore, payload: str) -> None:
    for number, state in enumerate(("success", "failed", "running", "queued", "success")):
        work_on(site_store, dags[number % 2], payload, state, f"r{number}")
    client = api("viewer")

    def ids(**query: Any) -> list[str]:
        return [one["status"] for one in client.get(PATH, params=query).json()["Data"]]

    assert ids() == ["Succeeded", "Created", "Created", "Failed", "Succeeded"]
    assert ids(status="Failed") == ["Failed"] and ids(status="Created") == ["Created"] * 2
    assert ids(payloadId=NOTHING) == [] and len(ids(payloadId=payload.upper())) == 5
    page = client.get(PATH, params={"pageNumber": 2, "pageSize": 2}).json()
    assert (page["TotalRecords"], page["TotalPages"], len(page["Data"])) == (5, 3, 2)
    assert page["NextPage"].endswith("pageNumber=3&pageSize=2")
    assert len(client.get(PATH, params={"disablePagination": True}).json()) == 5
    with statements() as said:
        client.get(PATH, params={"pageSize": 100})
    assert len(said) <= 8, said
    for bad in ({"status": "Ended"}, {"payloadId": "x"}, {"pageNumber": "x"}):
        answer = client.get(PATH, params=bad)
        assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request"), bad


def test_who_may_see_one_workflow_sees_its_instances_only(
    api: Api, dags: Any, site_store: LocalStore, payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [instance_id_of(dag_id, work_on(site_store, dag_id, payload, "failed")) for dag_id in dags]
    client = api("viewer")
    with only(monkeypatch, dags[1]):
        assert [one["id"] for one in client.get(PATH).json()["Data"]] == [ids[1]]
        assert [one["id"] for one in client.get(f"{PATH}/failed").json()] == [ids[1]]
        assert client.get(f"{PATH}/{ids[1]}").status_code == 200
        assert client.get(f"{PATH}/{ids[0]}").status_code == 404
        assert client.put(f"{PATH}/{ids[0]}/executions/{ids[0]}/acknowledge").status_code == 404
    assert {one["id"] for one in client.get(PATH).json()["Data"]} == set(ids)


def test_other_dags_are_no_workflows(api: Api, dags: Any, site_store: LocalStore) -> None:
    from airflow.models.dag import DagTag
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    run(dags[0], "r")
    with create_session() as session:
        session.execute(delete(DagTag).where(DagTag.dag_id == dags[0]))
    assert api("viewer").get(PATH).json()["Data"] == []
    assert api("viewer").get(f"{PATH}/{instance_id_of(dags[0], 'r')}").status_code == 404


def test_a_request_looks_at_the_site_s_workflows_once(
    api: Api, dags: Any, site_store: LocalStore, payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look lists every revision that was ever made."""
    work_on(site_store, dags[0], payload)
    looks: list[int] = []
    listing = WorkflowRegistry.listing
    monkeypatch.setattr(WorkflowRegistry, "listing", lambda self: looks.append(1) or listing(self))
    (found,) = api("viewer").get(PATH).json()["Data"]
    assert (found["workflow_name"], found["ae_title"], len(looks)) == ("look", "LOOK", 1)


def test_an_instance_is_told_by_the_version_of_the_workflow_that_it_runs(
    api: Api, dags: Any, site_store: LocalStore, payload: str, tmp_path: Path
) -> None:
    """Its file was changed since, and then removed."""
    bundle = WorkflowSpecBundle(name="workflows", path=tmp_path / "workflows", version=None)
    bundle.refresh()
    version = bundle.get_current_version()
    assert version is not None
    run_id = work_on(site_store, dags[0], payload)
    with create_session() as session:
        session.execute(update(DagRun).values(bundle_version=version.version))
    spec = tmp_path / "workflows" / "look.yaml"
    spec.write_text(spec.read_text().replace("env_MODE: fast", "env_MODE: slow").replace("LOOK", "SEE"))
    latest = work_on(site_store, dags[0], payload, run_id="latest")

    def told(run: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        found = api("viewer").get(f"{PATH}/{instance_id_of(dags[0], run)}").json()
        (work,) = [task for task in found["tasks"] if task["task_id"] == "work"]
        alone = api("viewer").get(f"{BASE}/tasks/{work['execution_id']}").json()
        assert alone["task_plugin_arguments"] == work["task_plugin_arguments"]
        return found["ae_title"], work["task_plugin_arguments"], work["input_artifacts"]

    before, after = told(run_id), told(latest)
    assert (before[0], before[1]["env_MODE"], list(before[2])) == ("LOOK", "fast", ["study"])
    assert (after[0], after[1]["env_MODE"]) == ("SEE", "slow")
    spec.unlink()
    assert told(run_id) == before and told(latest) == ("", {}, {})
    site_store.delete_tree("bundles")
    executions.past_plans.__init__()  # type: ignore[misc]
    assert told(run_id) == ("", {}, {})


def test_nobody_else(api: Api, dags: Any, site_store: LocalStore, payload: str) -> None:
    instance_id = instance_id_of(dags[0], work_on(site_store, dags[0], payload, "failed"))
    note = f"{PATH}/{instance_id}/executions/{instance_id}/acknowledge"
    for method, path in (("GET", PATH), ("GET", f"{PATH}/failed"), ("GET", f"{PATH}/{instance_id}"), ("PUT", note)):
        answer = api(None).request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json"), path
    assert api("viewer").put(note).status_code == 403
    for path, status in ((f"{PATH}/{NOTHING}", 404), (f"{PATH}/x", 400)):
        assert api("viewer").get(path).status_code == status


def test_a_failure_is_taken_note_of_once(api: Api, dags: Any, site_store: LocalStore, payload: str) -> None:
    instance_id = instance_id_of(dags[0], work_on(site_store, dags[0], payload, "failed"))
    client = api("op")
    (found,) = client.get(f"{PATH}/failed").json()
    tasks = {task["task_id"]: task for task in found["tasks"]}
    assert set(tasks) == {"route", "work"}
    work = tasks["work"]
    assert (work["status"], work["reason"]) == ("Failed", "PluginError")
    assert work["error_message"] == "it ended with exit code 1"

    def acknowledge(execution: str) -> Any:
        return client.put(f"{PATH}/{instance_id}/executions/{execution}/acknowledge")

    assert acknowledge(tasks["route"]["execution_id"]).status_code == 400
    assert acknowledge(NOTHING).status_code == acknowledge(instance_id).status_code == 404
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(acknowledge(work["execution_id"]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {200}
    told = acknowledge(work["execution_id"]).json()
    assert told["acknowledged_workflow_errors"] is not None
    assert [event for event, _, _ in events() if "acknowledge" in event] == ["monai.instance.acknowledge"]
    assert client.get(f"{PATH}/failed").json() == []
    good = instance_id_of(dags[1], work_on(site_store, dags[1], payload))
    assert client.put(f"{PATH}/{good}/executions/{good}/acknowledge").status_code == 400


def test_of_many_failures_none_is_hidden_behind_those_that_were_seen(
    api: Api, dags: Any, site_store: LocalStore, payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "MAX_FAILED", 3)
    monkeypatch.setattr(rows, "_AT_A_TIME", 2)
    names = [f"r{number}" for number in range(7)]
    ids = [instance_id_of(dags[0], work_on(site_store, dags[0], payload, "failed", name)) for name in names]
    client = api("op")

    def told(**query: Any) -> list[str]:
        found = client.get(f"{PATH}/failed", params=query).json()
        return [one["id"] for one in (found["Data"] if query else found)]

    def take_note(instance_id: str) -> None:
        one = client.get(f"{PATH}/{instance_id}").json()
        (failed,) = [task["execution_id"] for task in one["tasks"] if task["status"] == "Failed"]
        assert client.put(f"{PATH}/{instance_id}/executions/{failed}/acknowledge").status_code == 200

    assert told() == ids[:3:-1]
    for seen in ids[3:]:
        take_note(seen)
    assert told() == ids[2::-1]  # older than the newest three that failed
    first = client.get(f"{PATH}/failed", params={"pageSize": 2}).json()
    assert (first["TotalRecords"], first["TotalPages"]) == (3, 2)
    assert told(pageSize=2) + told(pageSize=2, pageNumber=2) == ids[2::-1]
    assert told(pageSize=2, pageNumber=3) == []
    # somebody died between the note of a failure and that of the instance
    for key in list(site_store.list("acknowledged")):
        site_store.delete(key)
    assert told() == ids[2::-1] and told(pageSize=9) == ids[2::-1]
    # it was cleared and has failed again
    again = datetime.now(timezone.utc) + timedelta(minutes=5)
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == "r5").values(end_date=again))
    folder = RunFolder(site_store, payload, dags[0], "r5")
    record = folder.record("work", -1)
    assert record is not None
    folder.write_record(replace(record, generation=2))
    assert told() == [ids[5], *ids[2:0:-1]]


def test_a_failure_is_told_without_where_the_engine_is(
    api: Api, dags: Any, site_store: LocalStore, payload: str
) -> None:
    run_id = work_on(site_store, dags[0], payload, "failed")
    folder = RunFolder(site_store, payload, dags[0], run_id)
    record = folder.record("work", -1)
    assert record is not None
    said = "The engine at tcp://10.1.2.3:2375 has lost /srv/site/maps/lung in between."
    folder.write_record(replace(record, error_msg=said))
    (found,) = api("viewer").get(f"{PATH}/failed").json()
    (message,) = {task["error_message"] for task in found["tasks"] if task["task_id"] == "work"}
    assert message == "The engine at (an address of this site) has lost (a path of this site) in between."


def test_a_run_that_failed_without_a_task(api: Api, dags: Any, site_store: LocalStore, payload: str) -> None:
    run_id = work_on(site_store, dags[0], payload, "queued")
    set_task(dags[0], run_id, "work", {"state": "queued"})
    assert end_run(dags[0], run_id, cancelled_by="anna")
    (found,) = api("op").get(f"{PATH}/failed").json()
    failed = [task["execution_id"] for task in found["tasks"] if task["status"] in ("Failed", "Canceled")]
    told = api("op").put(f"{PATH}/{found['id']}/executions/{(failed or [found['id']])[0]}/acknowledge")
    assert told.status_code == 200 and told.json()["acknowledged_workflow_errors"]


def test_tasks_that_a_cancelled_run_stopped_were_canceled(
    api: Api, dags: Any, site_store: LocalStore, payload: str
) -> None:
    run_id = work_on(site_store, dags[0], payload, "running")
    assert end_run(dags[0], run_id, cancelled_by="anna")
    tasks = {task["task_id"]: task["status"] for task in of_instance(api("viewer"), payload)["tasks"]}
    assert tasks == {"route": "Succeeded", "work": "Canceled"}
