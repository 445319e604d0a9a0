"""Map tasks without a scheduler: a real store with a payload, and a stand-in for the context that Airflow gives a task.

``python -m tests.operators.map_tasks <store> <payload id> <json of operator's arguments> [try number]`` is a worker: it
forks the process that runs the task, as Airflow's supervisor does, so that a test can kill either.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom

from airflow_monai.local.phantom import generate
from airflow_monai.operators.base import MonaiOperator
from airflow_monai.operators.container import ContainerOperator
from airflow_monai.operators.map import MapOperator
from airflow_monai.store import open_store
from airflow_monai.store.payloads import dicom_key, manifest_key, payload_id_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import PatientDetails, Payload, PayloadFile

DAG_ID = "ct-lung"
STUDY = {"name": "study", "value": "{{ context.input.dicom }}", "mandatory": True}


class TaskInstance(SimpleNamespace):
    """Stands in for Airflow's: ids and what was pushed to XCom."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


def context_of(
    operator: MonaiOperator,
    payload_id: str,
    *,
    try_number: int = 1,
    cleared: int = 0,
    clears: int | None = None,
    run_started: datetime | None = None,
) -> dict[str, Any]:
    """What Airflow hands to ``execute``, as far as the operators look at it.

    :param cleared: the number of tries before somebody cleared the task.
    :param clears: how often anything of the run was cleared, as Airflow counts it; by default what ``cleared`` says.
    :param run_started: when the run began; later for one that was deleted and made anew.
    """
    ti = TaskInstance(
        dag_id=DAG_ID,
        run_id=f"monai__{payload_id}",
        task_id=operator.task_id,
        map_index=-1,
        try_number=try_number,
        max_tries=cleared + (operator.retries or 0),
        xcom={},
    )
    return {
        "ti": ti,
        "task": operator,
        "dag": SimpleNamespace(dag_id=DAG_ID, dag_display_name="ct-lung", description=""),
        "dag_run": SimpleNamespace(
            partition_key=payload_id,
            conf={},
            start_date=run_started,
            clear_number=int(cleared > 0) if clears is None else clears,
        ),
    }


def make_payload(store_url: str, *, patient_name: str = "Doe^Jane", slices: int = 3, source: Path | None = None) -> str:
    """Put a small CT study into the store as a closed payload; its id.

    :param source: where the study is made; beside the store's folder when None.
    """
    store = open_store(store_url)
    source = source or Path(store_url).parent / "study"
    study = generate(source, slices=slices, rows=32, seed=1)
    payload_id = payload_id_of(study.study_uid, "CTLUNG", 0)
    files = []
    for path in sorted(source.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = patient_name, "HOSP-4711", "19560417"
        dataset.save_as(path)
        name = f"dcm/{dataset.StudyInstanceUID}/{dataset.SeriesInstanceUID}/{dataset.SOPInstanceUID}.dcm"
        store.write(f"{dicom_key(payload_id).removesuffix('/dcm')}/{name}", path.read_bytes())
        files.append(_payload_file(name, path, dataset))
    now = "2026-01-01T00:00:00+00:00"
    patient = PatientDetails(id="HOSP-4711", name=patient_name, dob="19560417")
    payload = Payload(payload_id, study.study_uid, "CTLUNG", ("CT01",), 0, tuple(files), now, now, now, patient)
    store.write_json(manifest_key(payload_id), payload.to_dict())
    return payload_id


def _payload_file(name: str, path: Path, dataset: pydicom.Dataset) -> PayloadFile:
    return PayloadFile(
        path=name,
        size=path.stat().st_size,
        sop_instance_uid=dataset.SOPInstanceUID,
        sop_class_uid=dataset.SOPClassUID,
        series_instance_uid=dataset.SeriesInstanceUID,
        transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
    )


def run_folder(store_url: str, payload_id: str) -> RunFolder:
    return RunFolder(open_store(store_url), payload_id, DAG_ID, f"monai__{payload_id}")


def main(store_url: str, payload_id: str, arguments: str, try_number: int = 1) -> int:
    os.environ["AIRFLOW__MONAI__STORE"] = store_url
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, f"{os.getpid()}\n".encode())  # at once, and before anything else is written there
    given = json.loads(arguments)
    operator = ContainerOperator(**given) if "image" in given else MapOperator(**given)
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())  # as Airflow's task runner does
    operator.execute(context_of(operator, payload_id, try_number=try_number))
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4], *map(int, sys.argv[4:])))
