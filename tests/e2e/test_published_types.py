"""Files as MONAI Deploy's, in a real Airflow: docker tasks on a real engine, argo tasks on a server that stands in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.local.stack import LocalStack
from tests.argo_server import ArgoProcess, argo_server
from tests.conftest import require
from tests.e2e.helpers import (
    Auditor,
    Maps,
    containers,
    export,
    make_study,
    record,
    send,
    wait_for_runs,
    wait_for_state,
    workflow,
    write_spec,
)

MEASURES = """
found = sum(len(files) for _, _, files in os.walk(parameters["input-dicom"]))
os.makedirs(parameters["output_path"] + "/report")
open(parameters["output_path"] + "/report/report.txt", "w").write("report")
json.dump({"images": found}, open(parameters["output_path"] + "/metadata.json", "w"))
"""


@pytest.fixture(scope="module")
def argo(tmp_path_factory: pytest.TempPathFactory, stack: LocalStack) -> Iterator[ArgoProcess]:
    """A server, and Airflow's connection to it."""
    with argo_server(tmp_path_factory.mktemp("argo") / "cluster") as server:
        server.template("measure", MEASURES, parameters=["input-dicom", "output_path"])
        server.template("endless", seconds=600)
        connection = {"connection_id": "argo_e2e", "conn_type": "argo", "host": server.url, "password": server.token}
        stack.api.call("POST", "/connections", connection)
        yield server


def destination(name: str, condition: str) -> dict[str, Any]:
    return {"Name": name, "Conditions": [condition]}


def published_docker() -> str:
    """Tabs, capital letters, texts for everything: as the published samples are written."""
    result = "{{ context.executions.segment.result.volume_ml }}"
    route = {
        "id": "route",
        "type": "router",
        "task_destinations": [
            destination("segment", "{{ context.dicom.series.any('0008','0060')}} == 'CT'"),
            destination("archive", "{{context.dicom.series.all('0008','0060')}} == 'MR'"),
        ],
    }
    segment = {
        "id": "segment",
        "type": "docker",
        "args": {
            "container_image": "noop:1.0.0",
            "server_url": "unix:///var/run/docker.sock",
            "entrypoint": "/bin/sh,-c",
            "command": "python3 -u /opt/holoscan/app && touch /var/monai/scratch",
            "task_timeout_minutes": "5",
            "temp_storage_container_path": "/var/lib/mde/",
            "env_HOLOSCAN_INPUT_PATH": "/var/monai/input/",
            "env_HOLOSCAN_OUTPUT_PATH": "/var/monai/output/",
            "env_MONAI_WORKDIR": "/var/monai/",
            "env_NOOP_MODE": "leak",
        },
        "artifacts": {
            "input": [{"name": "env_HOLOSCAN_INPUT_PATH", "value": "{{ context.input.dicom }}"}],
            "output": [{"name": "env_HOLOSCAN_OUTPUT_PATH", "mandatory": True}],
        },
        "task_destinations": [destination("send", f"{result} > '500'"), destination("archive", f"{result} <= '500'")],
    }
    value = "{{ context.executions.segment.artifacts.env_HOLOSCAN_OUTPUT_PATH }}"
    send_on = export(artifacts={"input": [{"name": "export-dicom", "value": value, "mandatory": True}], "output": []})
    archive = export(
        "archive", ["ARCHIVE"], artifacts={"input": [{"name": "all", "value": "{{ context.input.dicom }}"}]}
    )
    return json.dumps(workflow("published-docker", "PUBDOCKER", route, segment, send_on, archive), indent="\t")


def argo_workflow() -> dict[str, Any]:
    images = "{{ context.executions.measure.result.images }}"
    received = {"input": [{"name": "input-dicom", "value": "{{ context.input.dicom }}"}]}
    measure = {
        "id": "measure",
        "type": "argo",
        "args": {"workflow_template_name": "measure", "connection": "argo_e2e", "allow_insecure": "true", "cpu": "1"},
        "artifacts": {**received, "output": [{"name": "report"}]},
        "task_destinations": [destination("few", f"{images} <= '3'"), destination("many", f"{images} > '3'")],
    }
    return workflow("argo", "ARGO", measure, {"id": "few", "type": "router"}, {"id": "many", "type": "router"})


def endless_workflow() -> dict[str, Any]:
    task = {
        "id": "endless",
        "type": "argo",
        "args": {"workflow_template_name": "endless", "connection": "argo_e2e"},
        "artifacts": {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]},
    }
    return workflow("argo-endless", "ENDLESS", task)


def test_a_published_workflow_with_docker_runs_and_delivers(
    stack: LocalStack, maps: Maps, auditor: Auditor, tmp_path: Path
) -> None:
    require("docker")
    write_spec(stack, published_docker(), "published-docker.json")
    stack.wait_for_dag("published-docker", seconds=180)
    study = make_study(tmp_path, "PUBDOCKER")
    send(stack, study)
    runs = wait_for_runs(stack, "published-docker", 1)
    assert runs[study.run_id]["state"] == "success"
    states = stack.states("published-docker", study.run_id)
    assert (states["segment"], states["send"], states["archive"]) == ("success", "success", "skipped")
    kept = record(stack, "published-docker", study, "segment")
    assert kept is not None and kept.task_type == "docker" and kept.result["volume_ml"] == 1234
    value = stack.api.xcom("published-docker", study.run_id, "segment")
    assert (value["image"], value["result"]) == ("noop:1.0.0", {"volume_ml": 1234})
    assert list(auditor.results([study]).values()) == [1]
    assert containers(stack, dag="published-docker") == []


def test_an_argo_task_runs_without_a_process_and_its_result_decides(
    stack: LocalStack, argo: ArgoProcess, tmp_path: Path
) -> None:
    write_spec(stack, argo_workflow())
    stack.wait_for_dag("argo", seconds=180)
    study = make_study(tmp_path, "ARGO", slices=3)
    send(stack, study)
    runs = wait_for_runs(stack, "argo", 1)
    assert runs[study.run_id]["state"] == "success"
    instances = {ti["task_id"]: ti for ti in stack.task_instances("argo", study.run_id)}
    assert (instances["few"]["state"], instances["many"]["state"]) == ("success", "skipped")
    assert not [task for task, ti in instances.items() if ti["pid"] or ti["hostname"]], "no worker process"
    kept = record(stack, "argo", study, "measure")
    assert kept is not None and kept.result == {"images": 3} and len(kept.artifacts["report"]) == 1
    (found,) = [one for one in argo.workflows() if one["metadata"]["labels"]["monai.dag"] == "argo"]
    page = f"{argo.url}/workflows/argo/{found['metadata']['name']}"
    links = stack.api.call("GET", f"/dags/argo/dagRuns/{study.run_id}/taskInstances/measure/links")
    assert links["extra_links"] == {"Argo workflow": page}
    assert study.uid not in json.dumps(found["metadata"])


def test_a_task_that_a_person_marks_failed_ends_its_workflow(
    stack: LocalStack, argo: ArgoProcess, tmp_path: Path
) -> None:
    write_spec(stack, endless_workflow())
    stack.wait_for_dag("argo-endless", seconds=180)
    study = make_study(tmp_path, "ENDLESS")
    send(stack, study)

    def phases() -> list[str]:
        mine = [one for one in argo.workflows() if one["metadata"]["labels"]["monai.dag"] == "argo-endless"]
        return [(one.get("status") or {}).get("phase", "") for one in mine]

    stack.wait_for(lambda: phases() == ["Running"], seconds=180, what="the workflow to run")
    wait_for_state(stack, "argo-endless", study.run_id, "endless", "deferred", "running")
    path = f"/dags/argo-endless/dagRuns/{study.run_id}/taskInstances/endless"
    stack.api.call("PATCH", path, {"new_state": "failed"})
    stack.wait_for(lambda: phases() == ["Failed"], seconds=180, what="the workflow to be terminated")
    assert wait_for_runs(stack, "argo-endless", 1)[study.run_id]["state"] == "failed"
    assert len(argo.asked("PUT", "/terminate")) == 1
