"""Requests that nobody thought of, made from the APIs' own document: whatever is asked, the answer is one that the
document tells of, and never an error of the server.

``RANDOM_REQUESTS=500`` makes so many requests to each operation, instead of a few that fit into a test run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import SkipTest

import httpx
import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from airflow_monai.api.app import create_app
from airflow_monai.api.common.access import Caller, Right
from airflow_monai.store.callbacks import await_callback
from airflow_monai.store.giving import Waiting
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import instance_id_of, manifest_key, run_id_of
from airflow_monai.types import PatientDetails
from tests.api import airflow_rows
from tests.api.app_server import job_scene
from tests.api.mip import scene as mip_scene

Api = Callable[[str | None], TestClient]
REQUESTS = int(os.environ.get("RANDOM_REQUESTS", "3"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
APIS = ("app-server", "workflow-manager", "mip", "workload-manager", "callbacks")
PATIENT = "Planted"
"""Stands in the patient details, logs and results of the site."""
OPEN = {"POST /callbacks/{token}", "GET /workflow-manager/health"}
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
WORKFLOW = """
name: look
version: "1"
informatics_gateway: {ae_title: LOOK}
tasks:
  - {id: route, type: router, task_destinations: []}
"""


@schemathesis.serializer("multipart/related", "application/dicom", "application/zip", "application/yaml")
def _as_it_is(context: Any, value: Any) -> bytes:
    """A body of a kind that schemathesis does not know."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app().openapi()


@pytest.fixture
def known(api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names of parameters -> values of things that are there, on a site with a little of everything."""
    monkeypatch.setenv("AIRFLOW__MONAI__MIP_WORKFLOW", mip_scene.DAG)
    dag_id = airflow_rows.parse(WORKFLOW)
    label, dataset = job_scene.register(site_store), job_scene.dataset(site_store)
    manifest = site_store.read_json(manifest_key(dataset))
    patient = PatientDetails(name=PATIENT, id=f"{PATIENT}-1")
    site_store.write_json(manifest_key(dataset), {**manifest, "patient": asdict(patient)})
    airflow_rows.run(dag_id, run_id_of(dataset), partition_key=dataset)
    airflow_rows.run(dag_id, "going", state="running", partition_key=dataset)
    airflow_rows.parse(mip_scene.SPEC)
    (Path(os.environ["AIRFLOW__MONAI__WORKFLOW_FOLDER"]) / "chain.yaml").write_text(mip_scene.SPEC)
    mip_scene.dataset(site_store)
    admin = api("admin")
    token = secrets.token_urlsafe(32)
    await_callback(site_store, token, Waiting(dataset, dag_id, "going", "route", -1, 1, "callback"))
    job = admin.post(job_scene.URL, json={"map": label, "dataset": dataset})
    assert job.status_code == 201, job.text
    (started,) = job.json()["jobs"]
    job_scene.finish(site_store, started)
    assert admin.post("/workload-manager/sinks", json={"name": "OUTSIDE"}).is_success
    assert admin.post("/workflow-manager/credentials", json={"id": "c", "type": "http", "host": "x"}).is_success
    run = admin.post("/mip/runs", json={"job": "first", "modules": ["a"], "map": "PEACH", "force_rerun": False})
    workflows = [str(one.get("workflow_id")) for one in admin.get("/workflow-manager/workflows").json()]
    return {
        "id": ["c"], "payload_id": [dataset], "dataset_id": [dataset], "map_label": [label], "sink": ["OUTSIDE"],
        "study_instance_uid": ["1.2"], "sop_instance_uid": ["1.2.3.4"], "title": ["LOOK"], "token": [token],
        "instance_id": [instance_id_of(dag_id, "going"), instance_id_of(dag_id, run_id_of(dataset))],
        "job_id": [started["id"]], "job_name": ["first"], "module_name": ["a"], "number": ["0"],
        "run_id": [str(run.json().get("run_id"))] if run.is_success else [], "workflow_id": workflows,
        "task_id": ["route"], "execution_id": ["route"],
    }  # fmt: skip


@pytest.mark.parametrize("name", APIS)
def test_no_request_is_answered_otherwise_than_the_document_says(
    name: str, api: Api, known: dict[str, list[str]], document: dict[str, Any]
) -> None:
    client, faults, good = api("admin"), [], 0
    for operation in operations(document, f"^/{name}(/|$)"):
        for mode in MODES:
            for case, answer in answers(operation, client, known, mode):
                good += answer.is_success
                faults += [f"{operation.label}, {mode.value}: {one}" for one in faults_of(case, answer)]
    assert not faults, "\n\n" + "\n\n".join(dict.fromkeys(faults))
    assert good, "nothing that was asked is there"


def test_who_has_not_signed_in_gets_nothing(api: Api, known: dict[str, list[str]], document: dict[str, Any]) -> None:
    got = {
        (operation.label, answer.status_code)
        for operation in operations(document, ".")
        for _, answer in answers(operation, api(None), known, requests_made=2)
    }
    # 400: what is no JSON document is not even looked at
    assert {label for label, status in got if status not in (400, 401)} <= OPEN


def test_who_may_only_look_changes_nothing(api: Api, known: dict[str, list[str]], document: dict[str, Any]) -> None:
    got = {
        (operation.label, answer.status_code)
        for operation in operations(document, ".")
        if operation.method.lower() != "get"
        for _, answer in answers(operation, api("viewer"), known, requests_made=2)
    }
    done = {label for label, status in got if status < 400}
    assert done <= {"POST /callbacks/{token}", "POST /workflow-manager/workflows/validate"}
    assert sum(status == 403 for _, status in got) > 15


def test_who_may_not_read_data_is_told_nothing_of_a_patient(
    api: Api, known: dict[str, list[str]], document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def telling() -> set[str]:
        return {
            operation.label
            for operation in operations(document, ".")
            if operation.method.lower() == "get"
            for _, answer in answers(operation, api("admin"), known, requests_made=min(REQUESTS, 2))
            if PATIENT in answer.text
        }

    assert len(telling()) >= 3, "else nothing is proved"
    may = Caller.may

    def may_not_read(caller: Caller, right: Right, *name: str | None) -> bool:
        return right is not Right.READ_DATA and may(caller, right, *name)

    monkeypatch.setattr(Caller, "may", may_not_read)
    assert telling() == set()


def operations(document: dict[str, Any], path: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.include(path_regex=path).get_all_operations():
        yield result.ok()


def answers(
    operation: Any,
    client: TestClient,
    known: dict[str, list[str]],
    mode: GenerationMode = GenerationMode.POSITIVE,
    requests_made: int = REQUESTS,
) -> list[tuple[Any, httpx.Response]]:
    """Random requests of one kind, mostly about things that are there, and the answers to them."""
    found: list[tuple[Any, httpx.Response]] = []

    @given(
        case=operation.as_strategy(generation_mode=mode), choices=st.lists(st.integers(0, 3), min_size=8, max_size=8)
    )
    @settings(
        max_examples=requests_made,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any, choices: list[int]) -> None:
        parameters = case.path_parameters or {}
        for parameter, choice in zip(sorted(parameters), choices, strict=False):
            values = known.get(parameter, [])
            if choice and values:
                parameters[parameter] = values[choice % len(values)]
        found.append((case, sent(client, case)))

    try:
        ask()
    except (SkipTest, Unsatisfiable):
        assert mode is GenerationMode.NEGATIVE, operation.label  # nothing could be wrong with such a request
    return found


def faults_of(case: Any, answer: httpx.Response) -> Iterator[str]:
    """What is wrong with an answer, by the document; nothing where all is as it says."""
    try:
        case.validate_response(answer, checks=CHECKS)
    except FailureGroup as failures:
        request = answer.request
        said = "; ".join(f"{one.title}: {one.message[:200]}" for one in failures.exceptions)
        asked = f"{request.method} {request.url.raw_path[:200]!r} {request.content[:200]!r}"
        yield f"{answer.status_code} to {asked}: {said}: {answer.text[:300]}"


def sent(client: TestClient, case: Any) -> httpx.Response:
    made = case.as_transport_kwargs(base_url="http://testserver")
    made.pop("cookies", None)
    try:
        request = requests.Request(**made).prepare()
        headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
        body = request.body
        return client.request(request.method, request.url, headers=headers, content=body)  # type: ignore[arg-type]
    except (requests.RequestException, UnicodeError, httpx.InvalidURL):
        reject()  # no client could send it
