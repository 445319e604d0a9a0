"""``argo`` tasks against a server that behaves as Argo's: started once, followed, ended, whatever dies in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from airflow_monai.errors import InvalidArgument
from airflow_monai.hooks.argo import argo_site
from airflow_monai.local.processes import wait_until
from airflow_monai.operators.argo import ArgoOperator
from airflow_monai.store import Store
from airflow_monai.store.payloads import manifest_key, payload_key
from airflow_monai.triggers import argo as argo_trigger
from airflow_monai.triggers import light as trigger_light
from airflow_monai.types import PatientDetails, Payload, PayloadFile, TaskRecord, TaskStatus
from tests.argo_server import ArgoProcess, argo_server
from tests.triggers.conftest import PAYLOAD_ID, SECRET, Tries

STUDY = {"name": "input-dicom", "value": "{{ context.input.dicom }}"}
REPORT = {"name": "report", "type": "Folder"}
WRITES = """
found = sum(len(files) for _, _, files in os.walk(parameters["input-dicom"]))
os.makedirs(parameters["output_path"] + "/report/deep")
open(parameters["output_path"] + "/report/a.txt", "a").write("a")
json.dump({"files": found}, open(parameters["output_path"] + "/report/deep/metadata.json", "w"))
"""


@pytest.fixture
def argo(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArgoProcess]:
    """A server, a connection to it, and a payload that has a file."""
    monkeypatch.setattr(argo_trigger, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(argo_trigger, "LONGEST_WAIT", 0.3)
    file = PayloadFile("dcm/1.2.3/1.2.3.1/1.2.3.1.1.dcm", 1, "1.2.3.1.1", "1.2", "1.2.3.1", "1.2.840.10008.1.2")
    times = dict.fromkeys(("received_first", "received_last", "closed"), "2026-01-01T00:00:00+00:00")
    patient = PatientDetails(id="A/1 2", name=SECRET)
    payload = Payload(PAYLOAD_ID, "1.2.3", "CTLUNG", ("CT01",), 0, (file,), **times, patient=patient)
    store.write(payload_key(PAYLOAD_ID, file.path), b"x")
    store.write_json(manifest_key(PAYLOAD_ID), payload.to_dict())
    with argo_server(tmp_path / "cluster") as server:
        monkeypatch.setenv("AIRFLOW_CONN_ARGO_DEFAULT", server.connection())
        yield server


def task(template: str, *, retries: int = 2, **arguments: Any) -> ArgoOperator:
    with DAG("ct", schedule=None):
        return ArgoOperator(
            **{
                "task_id": "measure",
                "template": template,
                "inputs": [STUDY],
                "outputs": [REPORT],
                "result_keys": ("files",),
                "retries": retries,
                **arguments,
            }
        )


def succeeded(tries: Tries, operator: ArgoOperator) -> TaskRecord:
    event = tries.event(operator)
    assert isinstance(event, TaskSuccessEvent), event.payload
    return record(tries, operator)


def failed(tries: Tries, operator: ArgoOperator) -> tuple[str, bool, str]:
    """The kind of the failure, whether Airflow is to try again, and what is told of it."""
    event = tries.event(operator)
    assert not isinstance(event, TaskSuccessEvent)
    kept = record(tries, operator)
    assert kept.status is TaskStatus.FAILED
    return kept.stats["error_kind"], isinstance(event, TaskFailedEvent), kept.error_msg or ""


def record(tries: Tries, operator: ArgoOperator) -> TaskRecord:
    kept = tries.record(operator)
    assert kept is not None
    return kept


def started(argo: ArgoProcess) -> int:
    return len(argo.workflows())


def test_a_workflow_carries_what_the_task_says_and_its_results_are_the_tasks(tries: Tries, argo: ArgoProcess) -> None:
    operator = task(
        argo.template("measure", WRITES, parameters=["input-dicom", "output_path", "patient"]),
        namespace="clinic",
        parameters={"patient": "<{{ context.input.patient_details.name }}>", "threshold": "0.5"},
        limits={"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"},
        priority_class="high",
        timeout_minutes=10,
    )
    event = tries.event(operator)
    assert isinstance(event, TaskSuccessEvent)
    (workflow,) = argo.workflows()
    spec, name = workflow["spec"], workflow["metadata"]["name"]
    folder = tries.store.local_path(record(tries, operator).output_dir or "")
    assert {one["name"]: one["value"] for one in spec["arguments"]["parameters"]} == {
        "patient": f"<{SECRET}>",
        "threshold": "0.5",
        "input-dicom": str(tries.store.local_path(f"payloads/{PAYLOAD_ID}/dcm")),
        "output_path": str(folder),
    }
    assert spec["workflowTemplateRef"] == {"name": "measure"}
    assert (spec["activeDeadlineSeconds"], spec["podPriorityClassName"]) == (600, "high")
    limits = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert json.loads(spec["podSpecPatch"]) == {"containers": [{"name": "main", "resources": {"limits": limits}}]}
    labels = workflow["metadata"]["labels"]
    assert (labels["monai.dag"], labels["monai.task"], labels["monai.payload"]) == ("ct", "measure", PAYLOAD_ID)
    assert (labels["monai.run"], labels["monai.generation"]) == (tries.run_id, "1")
    assert SECRET not in json.dumps(workflow["metadata"])

    kept = record(tries, operator)
    assert (kept.result, len(kept.artifacts["report"])) == ({"files": 1}, 2)
    assert kept.stats["argo_workflow"] == name and kept.stats["phase"] == "Succeeded"
    page = f"{argo.url}/workflows/clinic/{name}"
    assert event.xcoms["return_value"]["result"] == {"files": 1}
    assert event.xcoms["_link_ArgoWorkflowLink"] == event.xcoms["return_value"]["argo_url"] == page
    assert len(argo.asked("POST")) == 1


def test_paths_are_told_as_the_pods_see_them(tries: Tries, argo: ArgoProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", argo.connection(store_path="/mnt/monai/", namespace="of-connection"))
    assert failed(tries, task(argo.template("none"), connection="elsewhere"))[0] == "missing_output"
    (workflow,) = argo.workflows()
    given = {one["name"]: one["value"] for one in workflow["spec"]["arguments"]["parameters"]}
    assert given["input-dicom"] == f"/mnt/monai/payloads/{PAYLOAD_ID}/dcm"
    assert given["output_path"].startswith(f"/mnt/monai/payloads/{PAYLOAD_ID}/workflows/ct/{tries.run_id}/measure/g1")
    assert workflow["metadata"]["namespace"] == "of-connection"


@pytest.mark.parametrize(
    ("template", "arguments", "kind", "is_retried", "told"),
    [
        ({"script": "sys.exit('no lung found')"}, {}, "exit_code", False, r"node 'segment' (Error (exit code 1)"),
        ({"script": f"sys.exit('{SECRET} A/1 2')"}, {}, "exit_code", False, "[masked]"),
        ({"error": "pod deleted"}, {}, "interrupted", True, "ended with an error of the cluster: pod deleted"),
        ({"seconds": 30}, {"deadline_seconds": 1}, "timeout", False, "ended by Argo because its time was over"),
        ({"script": ""}, {}, "missing_output", False, "without its mandatory artifact 'report'"),
        ({"parameters": ["mask"]}, {}, "refused", False, "spec.arguments.mask.value"),
    ],
)
def test_failures(
    tries: Tries, argo: ArgoProcess, template: Any, arguments: Any, kind: str, is_retried: bool, told: str
) -> None:
    operator = task(argo.template("bad", **template), **arguments)
    found = failed(tries, operator)
    assert found[:2] == (kind, is_retried)
    assert told in found[2]
    assert "Doe" not in found[2] and "A/1 2" not in found[2]


def test_what_the_server_refuses_is_final_and_says_what_to_do(
    tries: Tries, argo: ArgoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, is_retried, told = failed(tries, task("no-such"))
    assert (kind, is_retried) == ("refused", False)
    assert 'workflowtemplates.argoproj.io "no-such" not found' in told
    monkeypatch.setenv("AIRFLOW_CONN_ARGO_DEFAULT", json.dumps({"conn_type": "argo", "host": argo.url}))
    kind, is_retried, told = failed(tries.next(), task("no-such"))
    assert (kind, is_retried) == ("refused", False)
    assert "HTTP 401: token not valid" in told and "the password of the Airflow connection" in told


def test_a_server_that_hides_what_it_may_not_show_is_not_believed(
    tmp_path: Path, tries: Tries, argo: ArgoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workflow that a token may not see is not one that is gone."""
    operator = task(argo.template("slow", WRITES, seconds=2))
    life = tries.living(operator)
    assert wait_until(lambda: "Running" in argo.phases(), 60)
    life.kill()
    with argo_server(argo.folder, "--unsure") as unsure:
        monkeypatch.setenv(
            "AIRFLOW_CONN_ARGO_DEFAULT", json.dumps({"conn_type": "argo", "host": unsure.url, "password": "old"})
        )
        assert failed(tries, operator)[0] == "refused"
    assert started(argo) == 1


def test_a_retry_after_a_bad_end_starts_another_one(tries: Tries, argo: ArgoProcess) -> None:
    operator = task(argo.template("changing", error="node lost"))
    assert failed(tries, operator)[:2] == ("interrupted", True)
    argo.template("changing", WRITES)
    assert failed(tries, operator)[:2] == ("interrupted", True), "the same try, taken up by another triggerer"
    assert started(argo) == 1
    succeeded(tries.next(), operator)
    first, second = (workflow["metadata"]["name"] for workflow in argo.workflows())
    assert second == f"{first}-2"


def test_what_a_bad_end_left_does_not_mix_in(tries: Tries, argo: ArgoProcess) -> None:
    half = 'os.makedirs(parameters["output_path"] + "/report/old"); sys.exit(1)'
    operator = task(argo.template("changing", half), failure_policy={"exit_code": "retry"})
    assert failed(tries, operator)[:2] == ("exit_code", True)
    argo.template("changing", WRITES)
    folder = tries.store.local_path(succeeded(tries.next(), operator).output_dir or "")
    assert folder is not None and not (folder / "report" / "old").exists()


PHASES: dict[str, Callable[[ArgoProcess], bool]] = {
    "asked": lambda argo: bool(argo.asked("GET")),
    "pending": lambda argo: {*argo.phases()} & {"Pending", "Running", "Succeeded"} != set(),
    "running": lambda argo: {*argo.phases()} & {"Running", "Succeeded"} != set(),
    "ended": lambda argo: "Succeeded" in argo.phases(),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_triggerer_killed_in_any_phase_leaves_one_workflow(tries: Tries, argo: ArgoProcess, phase: str) -> None:
    operator = task(argo.template("measure", WRITES, seconds=1.0))
    life = tries.living(operator)
    assert wait_until(lambda: PHASES[phase](argo), 60)
    life.kill()
    life.join()
    succeeded(tries, operator)
    assert started(argo) == 1
    assert (tries.store.local_path(record(tries, operator).output_dir or "") / "report" / "a.txt").read_text() == "a"  # type: ignore[operator]


def test_two_triggerers_at_once_start_one(tries: Tries, argo: ArgoProcess) -> None:
    operator = task(argo.template("measure", WRITES, seconds=0.5))
    lives = [tries.living(operator) for _ in range(3)]
    for life in lives:
        life.join(120)
    assert started(argo) == 1
    assert argo.phases() == ["Succeeded"]


def test_a_server_that_is_away_for_a_while(tries: Tries, argo: ArgoProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = task(argo.template("measure", WRITES, seconds=1.5))
    life = tries.living(operator)
    assert wait_until(lambda: "Running" in argo.phases(), 60)
    argo.kill()
    time.sleep(1)
    argo.start()
    life.join(120)
    assert record(tries, operator).status is TaskStatus.SUCCEEDED
    argo.kill()
    monkeypatch.setattr("airflow_monai.triggers.patience.PATIENCE", 0.5)
    assert failed(tries.next().next().next(), operator)[:2] == ("connection", True)


def test_a_workflow_that_somebody_deletes(tries: Tries, argo: ArgoProcess) -> None:
    import urllib.request

    operator = task(argo.template("slow", seconds=30))

    async def run() -> Any:
        trigger = tries.trigger(operator)
        events = asyncio.ensure_future(anext(trigger.run()))
        while "Running" not in argo.phases():
            await asyncio.sleep(0.1)
        name = argo.workflows()[0]["metadata"]["name"]
        request = urllib.request.Request(f"{argo.url}/api/v1/workflows/argo/{name}", method="DELETE")
        request.add_header("Authorization", f"Bearer {argo.token}")
        await asyncio.to_thread(lambda: urllib.request.urlopen(request).close())
        return await asyncio.wait_for(events, 60)

    assert isinstance(asyncio.run(run()), TaskFailedEvent)
    assert record(tries, operator).stats["error_kind"] == "interrupted"


def test_somebody_who_ends_the_task_ends_the_workflow(tries: Tries, argo: ArgoProcess) -> None:
    operator = task(argo.template("slow", seconds=30))

    async def run(until: Callable[[], bool]) -> None:
        trigger = tries.trigger(operator)
        events = asyncio.ensure_future(anext(trigger.run()))
        while not until():
            await asyncio.sleep(0.02)
        events.cancel()
        ending = asyncio.ensure_future(asyncio.wait_for(trigger.on_kill(), 30))
        while not ending.done():  # as Airflow does
            await asyncio.sleep(0.5)
            ending.cancel()
        while trigger_light._ENDING:
            await asyncio.sleep(0.1)

    asyncio.run(run(lambda: "Running" in argo.phases()))
    assert wait_until(lambda: argo.phases() == ["Failed"], 60)
    assert record(tries, operator).status is TaskStatus.CANCELED
    (put,) = argo.asked("PUT")
    assert put["path"].endswith("/terminate")


def test_the_time_limit_ends_the_workflow(tries: Tries, argo: ArgoProcess) -> None:
    operator = task(argo.template("slow", seconds=30), timeout_minutes=0.05, deadline_seconds=600)
    kind, is_retried, told = failed(tries, operator)
    assert (kind, is_retried) == ("timeout", False)
    assert "longer than its time limit of 0.05 minutes" in told
    assert wait_until(lambda: argo.phases() == ["Failed"], 60)


def test_clearing_ends_what_was_started_before(tries: Tries, argo: ArgoProcess) -> None:
    operator = task(argo.template("changing", WRITES, seconds=30))
    life = tries.living(operator)
    assert wait_until(lambda: "Running" in argo.phases(), 60)
    life.kill()  # so that nobody ends it
    argo.template("changing", WRITES)
    cleared = tries.next().next().next()
    kept = succeeded(cleared, operator)
    assert kept.generation == 2
    assert sorted(argo.phases()) == ["Failed", "Succeeded"]


@pytest.mark.parametrize("braces", [2, 3, 4, 5])
def test_what_a_study_holds_is_no_template_of_argo(tries: Tries, argo: ArgoProcess, braces: int) -> None:
    value = "{{ context.input.patient_details.id }}"
    payload = json.loads(tries.store.read(manifest_key(PAYLOAD_ID)))
    payload["patient"]["id"] = "{" * braces + "workflow.parameters.secret}}"
    tries.store.write_json(manifest_key(PAYLOAD_ID), payload)
    succeeded(tries, task(argo.template("measure", WRITES), parameters={"id": value}))
    given = {one["name"]: one["value"] for one in argo.workflows()[0]["spec"]["arguments"]["parameters"]}
    assert given["id"] == " ".join("{" * braces) + "workflow.parameters.secret}}"


def test_a_token_goes_to_its_own_server_only(argo: ArgoProcess) -> None:
    async def headers(**arguments: Any) -> dict[str, str]:
        return dict((await argo_site(**arguments)).endpoint.headers)

    own = {"Authorization": f"Bearer {argo.token}"}
    assert asyncio.run(headers()) == own
    assert asyncio.run(headers(connection="argo_default", server_url=f"{argo.url}/")) == own
    assert asyncio.run(headers(connection="argo_default", server_url="https://elsewhere.example")) == {}
    assert asyncio.run(headers(server_url="https://elsewhere.example")) == {}
    assert asyncio.run(headers(server_url="https://elsewhere.example", token="Bearer v2:x")) == {
        "Authorization": "Bearer v2:x"
    }
    with pytest.raises(InvalidArgument, match="There is no Airflow connection 'nowhere'"):
        asyncio.run(headers(connection="nowhere"))
