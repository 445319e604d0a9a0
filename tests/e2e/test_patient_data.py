"""Patient data stays in the store: names and ids planted everywhere are found nowhere in Airflow's database and no log.

The study says in every element that may do so whose it is, its application prints names and fails with them, a service
gets and answers them, a destination refuses with them, files in the inbox are called by them. Afterwards all that
anybody but the store keeps is searched: each table of the database, each log file, the gateway's events, all metrics.
"""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from airflow_monai.local.phantom import generate
from airflow_monai.local.stack import LocalStack
from tests.e2e.helpers import (
    Maps,
    Study,
    add_workflows,
    export,
    record,
    send,
    storescu,
    wait_for_runs,
    work,
    workflow,
)
from tests.e2e.metrics import Metrics
from tests.http_service import HttpService, http_service
from tests.sinks.difficult import difficult

FAMILY, GIVEN, ID, ACCESSION, OTHER = "Quasselstrippe", "Wendelin", "ZQ4711-PLANTED", "ACC77889911", "Zwirbelbart"
PLANTED = (FAMILY, GIVEN, ID, ACCESSION, OTHER)
ANY_CASE = re.compile("|".join(map(re.escape, PLANTED)), re.IGNORECASE)
NAME = "{{ context.input.patient_details.name }}"
PATIENT_ID = "{{ context.input.patient_details.id }}"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PASSED, TOLD, CRASHED, REFUSED = "planted-passed", "planted-told", "planted-crashed", "planted-refused"
BY_FOLDER = "planted-by-folder"
ALL = (PASSED, TOLD, CRASHED, REFUSED)


def planted(folder: Path, aet: str = "PLANTED") -> Study:
    """A study that says whose it is wherever it can."""
    info = generate(folder / "study", slices=2, rows=32, patient_id=ID, patient_name=f"{FAMILY}^{GIVEN}")
    for number, file in enumerate(info.files):
        image = dcmread(file)
        image.AccessionNumber = ACCESSION
        image.OtherPatientNames = f"{OTHER}^{GIVEN}"
        image.StudyDescription = f"Chest of {FAMILY}"
        image.SeriesDescription = f"{GIVEN} {FAMILY}, {ID}"
        image.InstitutionName = f"Practice of Dr. {OTHER}"
        image.ReferringPhysicianName = f"{OTHER}^{GIVEN}"
        image.PatientComments = f"{FAMILY} was afraid"
        image.ImageComments = f"{ACCESSION} {number}"
        image.save_as(file)
    return Study(info.study_uid, info.files, info.sop_uids, aet)


def put_into_inbox(stack: LocalStack, study: Study) -> None:
    """A folder that is called as people call folders, with a file that breaks off and one that is no image."""
    inbox = Path(stack.options.environment["AIRFLOW__MONAI__INBOX_FOLDER"]) / study.aet
    making = inbox / f".{FAMILY}.part"
    making.mkdir(parents=True)
    for number, file in enumerate(study.files):
        shutil.copy(file, making / f"{FAMILY} {GIVEN} {number}.dcm")
    (making / f"{FAMILY}-cut.dcm").write_bytes(study.files[0].read_bytes()[:900])
    (making / f"letter to {OTHER}.txt").write_text(f"Dear {OTHER}")
    making.rename(inbox / f"{FAMILY}_{GIVEN}_{ID}")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpService]:
    with http_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def study(
    stack: LocalStack, maps: Maps, service: HttpService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Study]:
    """Sent twice, with a damaged image beside it, and worked on by four workflows."""
    folder = tmp_path_factory.mktemp("planted")
    made = planted(folder)

    def refuse(_: Any, event: Any) -> Any:
        from pydicom.dataset import Dataset

        answer = Dataset()
        answer.Status = 0xA700
        answer.ErrorComment = f"no room for {FAMILY} {ID}"
        return answer

    with difficult(refuse, contexts={SECONDARY_CAPTURE: ["1.2.840.10008.1.2.1"]}) as refusing:
        connection = {"connection_id": "REFUSES", "conn_type": "dicom", "host": "127.0.0.1", "port": refusing.port}
        stack.api.call("POST", "/connections", connection)
        tell = {
            "id": "tell",
            "type": "http",
            "args": {"url": f"{service.url}/echo", "json": {"name": NAME, "id": PATIENT_ID}},
            "task_destinations": [{"name": "lost"}],
        }
        lost = {"id": "lost", "type": "http", "args": {"url": f"{service.url}/status/404", "params": {"who": NAME}}}
        gateway = {"ae_title": "PLANTED", "quiet_seconds": 1, "export_destinations": ["AUDIT", "REFUSES"]}
        leak, crash = maps.reference("leak"), maps.reference("leak-exit7")
        specs = (
            workflow(PASSED, "PLANTED", work(leak), export(destinations=["AUDIT"])),
            workflow(TOLD, "PLANTED", tell, lost),
            workflow(CRASHED, "PLANTED", work(crash, retries=0, task_destinations=[])),
            workflow(REFUSED, "PLANTED", work(maps.reference()), export(destinations=["REFUSES"], retries=0)),
        )
        for spec in specs:
            spec["informatics_gateway"] = gateway
        by_folder = workflow(BY_FOLDER, "PLANTEDBOX", {"id": "route", "type": "router"})
        add_workflows(stack, *specs, by_folder)
        put_into_inbox(stack, planted(folder / "box", "PLANTEDBOX"))
        send(stack, made)
        nameless = dcmread(made.files[0])
        del nameless.StudyInstanceUID
        nameless.save_as(folder / f"{FAMILY}.dcm")
        storescu(stack, "PLANTED", [folder / f"{FAMILY}.dcm"])
        send(stack, made)
        storescu(stack, "NOBODY", made.files)
        for dag_id in (*ALL, BY_FOLDER):
            wait_for_runs(stack, dag_id, 1)
        yield made


def test_what_was_planted_came_to_where_it_could_leak(
    stack: LocalStack, service: HttpService, study: Study, maps: Maps
) -> None:
    """Else the search below could not find anything."""
    ended = {dag_id: stack.runs(dag_id)[0]["state"] for dag_id in ALL}
    assert ended == {PASSED: "success", TOLD: "failed", CRASHED: "failed", REFUSED: "failed"}
    refusals = stack.events("files-refused")
    assert refusals and stack.runs(BY_FOLDER)[0]["state"] == "success"
    told = [request for request in service.asked("/echo") if ID in request["body"]]
    assert told and f"{FAMILY}^{GIVEN}" in told[0]["body"]
    assert any(ID not in str(request) and FAMILY in str(request["query"]) for request in service.asked("/status"))
    logs = [
        path.read_text()
        for dag_id in (PASSED, CRASHED)
        for path in stack.layout.store.glob(f"payloads/{study.payload_id}/workflows/{dag_id}/**/g1.log")
    ]
    assert len(logs) == 2 and all(FAMILY in log for log in logs)
    refused = record(stack, REFUSED, study, "send")
    assert refused is not None and "A700" in str(refused.error_msg)
    kept = [path.read_text() for path in stack.layout.store.glob(f"payloads/{study.payload_id}/exports/REFUSES/*.json")]
    assert kept and all(f"no room for {FAMILY}" in text for text in kept)


def test_airflows_database_knows_nobody(stack: LocalStack, study: Study) -> None:
    from sqlalchemy import create_engine, inspect, text

    engine = create_engine(stack.cluster.url)
    leaks, searched = set(), set()
    with engine.connect() as connection:
        for table in inspect(engine).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings():
                for column, value in row.items():
                    shown = readable(value)
                    leaks.update([f"{table}.{column}"] if ANY_CASE.search(shown) else [])
                    searched.update([table] if study.payload_id in shown else [])
    engine.dispose()
    assert {"dag_run", "task_instance", "xcom"} <= searched, "the rows of these runs were not among them"
    assert leaks == set()


def readable(value: Any) -> str:
    """A column's value as text, also of packed ones."""
    if not isinstance(value, (bytes, memoryview)):
        return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    packed = bytes(value)
    with suppress(zlib.error):
        packed = zlib.decompress(packed)
    return packed.decode("latin-1")


def test_no_log_and_no_event_names_anybody(stack: LocalStack, study: Study) -> None:
    files = [path for path in stack.logs.rglob("*") if path.is_file()]
    assert any(PASSED in str(path) for path in files), "the task logs were not among them"
    searched = [*files, stack.layout.events]
    leaks = [str(path.relative_to(stack.state)) for path in searched if ANY_CASE.search(path.read_text("latin-1"))]
    assert leaks == []
    assert [path for path in files if ANY_CASE.search(str(path.relative_to(stack.state)))] == []


def test_what_airflow_shows_of_a_task_names_nobody(stack: LocalStack, study: Study) -> None:
    """Its API: runs with their conf, task instances with rendered fields, events of assets."""
    for dag_id in ALL:
        run = f"/dags/{dag_id}/dagRuns/{study.run_id}"
        shown = [stack.api.call("GET", path) for path in (run, f"{run}/taskInstances", f"{run}/upstreamAssetEvents")]
        assert not ANY_CASE.search(json.dumps(shown)), dag_id


def test_no_metric_names_anybody(stack: LocalStack, study: Study, metrics: Metrics) -> None:
    pytest.importorskip("statsd")
    names = metrics.names()
    assert any(name.startswith("airflow.monai.dicom.images_received") and "PLANTED" in name for name in names)
    assert any(PASSED in name for name in names), "Airflow's own were not among them"
    assert [name for name in names if ANY_CASE.search(name)] == []
    assert [name for name in names if study.uid in name] == []
