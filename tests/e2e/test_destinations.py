"""A message asks for a workflow whose results go everywhere: each destination has its own state and gets it once."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.local.stack import LocalStack
from airflow_monai.sinks.ledger.pages import Ledger
from airflow_monai.store.payloads import run_id_of
from airflow_monai.store.runs import RunFolder
from tests.conftest import require
from tests.e2e.helpers import Maps, add_workflows, clear, export, make_study, store_of, task_log, work, workflow
from tests.e2e.neighbours import PARTS_NEEDED, Neighbours

DAG_ID, AET = "everywhere", "EVERYWHERE"


def everywhere(map_reference: str) -> dict[str, Any]:
    """One result to three destinations in one task, its HL7 message to two in another, and a reader elsewhere."""
    made = {"output": [{"name": "result", "type": "OT"}, {"name": "message", "type": "HL7"}]}
    study = {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]}
    names = [{"name": name} for name in ("send", "tell", "read")]
    message = {"input": [{"name": "message", "value": "{{ context.executions.work.artifacts.message }}"}]}
    read = {
        "id": "read",
        "type": "remote_app_execution",
        "export_destinations": [{"name": "FAR"}],
        "artifacts": {**study, "output": [{"name": "report", "type": "OT"}]},
    }
    spec = workflow(
        DAG_ID,
        AET,
        work(map_reference, *names, artifacts={**study, **made}),
        export("send", ["WEBPACS", "CLOUD", "FAR"]),
        export("tell", ["RIS", "CLOUD"], type="export_hl7", artifacts=message),
        read,
    )
    spec["informatics_gateway"]["export_destinations"] = ["WEBPACS", "CLOUD", "FAR", "RIS"]
    return spec


@pytest.fixture(scope="module")
def site(stack: LocalStack, maps: Maps, neighbours: Neighbours | None) -> Neighbours:
    require(*PARTS_NEEDED)
    assert neighbours is not None
    add_workflows(stack, everywhere(maps.reference("hl7")))
    return neighbours


def told(stack: LocalStack, run_id: str) -> str:
    """What became of the tasks, with the log of each that failed."""
    states = stack.states(DAG_ID, run_id)
    failed = [task for task, state in states.items() if state == "failed"]
    return "\n".join([str(states), *(task_log(stack, DAG_ID, run_id, task)[-3000:] for task in failed)])


def test_a_message_starts_a_run_whose_results_go_everywhere_once(
    stack: LocalStack, site: Neighbours, tmp_path: Path
) -> None:
    study, payload_id = make_study(tmp_path, AET), str(uuid.uuid4())
    run_id = run_id_of(payload_id)
    site.request(study, payload_id)
    site.request(study, payload_id)  # as another gateway does that heard no confirmation
    run = stack.wait_for_run(DAG_ID, run_id, seconds=240)
    assert run["state"] == "success", told(stack, run_id)

    ledgers = {name: dict(Ledger(store_of(stack), payload_id, name).entries()) for name in ("WEBPACS", "FAR", "CLOUD")}
    (result,) = site.archive.sop_uids()
    assert list(ledgers["WEBPACS"]) == [result]
    assert {entry.state.value for ledger in ledgers.values() for entry in ledger.values()} == {"accepted"}
    objects = site.objects()
    top = f"results/{payload_id}/{DAG_ID}"
    assert sorted(name.removeprefix(f"{top}/") for name in objects) == [
        "send/result/result.dcm", "tell/message/report.hl7",
    ]  # fmt: skip
    assert len(ledgers["CLOUD"]) == 2, "two tasks, one destination"
    (message,) = site.ris.received
    assert message.startswith(b"MSH|") and b"ORU^R01" in message
    (asked,) = site.far.exports
    assert asked.destinations == ("FAR",) and len(asked.files) == 1
    assert (site.bucket / asked.files[0]).read_bytes()[128:132] == b"DICM"
    (application,) = site.far.applications
    assert len(application.files) == len(study.files)
    record = RunFolder(store_of(stack), payload_id, DAG_ID, run_id).record("read")
    assert record is not None and len(record.artifacts["report"]) == 1

    clear(stack, DAG_ID, run_id, "send", "tell")
    assert stack.wait_for_run(DAG_ID, run_id)["state"] == "success"
    tries = {ti["task_id"]: ti["try_number"] for ti in stack.task_instances(DAG_ID, run_id)}
    assert (tries["send"], tries["tell"]) == (2, 2)
    assert site.objects() == objects, "nothing was written again"
    assert (site.arrived_at_archive(), len(site.ris.received), len(site.far.exports)) == (1, 1, 1)
    assert [run["dag_run_id"] for run in stack.runs(DAG_ID)] == [run_id]
    assert site.broker.depth("md.workflow.request-dead-letter") == 0
