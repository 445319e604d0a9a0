"""A whole Airflow whose store is in a bucket: studies in, a MAP in the worker, results out, light tasks among them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.local.stack import LocalStack, StackOptions
from airflow_monai.store.payloads import load_payload
from airflow_monai.store.runs import RunFolder
from airflow_monai.store.s3 import S3Store
from airflow_monai.types import TaskStatus
from tests.conftest import require
from tests.e2e.helpers import add_workflows, export, make_studies, send, wait_for_runs, work, workflow
from tests.s3_server import S3Server, s3  # noqa: F401

STUDIES = 5
IS_CT = "{{ context.dicom.series.any('0008','0060') }} == 'CT'"
ROUTER = {"id": "route", "type": "router", "task_destinations": [{"name": "work", "conditions": [IS_CT]}]}
"""Its condition is judged in the triggerer."""


@pytest.fixture(scope="module")
def bucket(s3: S3Server) -> str:  # noqa: F811
    return s3.bucket()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def stack(
    s3: S3Server,  # noqa: F811
    bucket: str,
    host: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalStack]:
    require("dcmtk", "bubblewrap")
    workflows = host / "workflows"
    workflows.mkdir()
    options = StackOptions(
        workflows=workflows,
        dags=None,
        runner="process",
        environment={
            "AIRFLOW__MONAI__STORE": f"s3://{bucket}/site",
            "AIRFLOW__MONAI__STORE_CONN_ID": "monai_store",
            "AIRFLOW__MONAI__SPOOL_FOLDER": str(host / "spool"),
            "AIRFLOW__MONAI__SCRATCH_FOLDER": str(host / "scratch"),
            "AIRFLOW_CONN_MONAI_STORE": s3.connection,
        },
        usual_ports=False,
    )
    with LocalStack(tmp_path_factory.mktemp("stack") / "state", options) as running:
        yield running


def test_studies_go_all_the_way(stack: LocalStack, s3: S3Server, bucket: str, host: Path, tmp_path: Path) -> None:  # noqa: F811
    add_workflows(stack, workflow("bucket", "BUCKET", ROUTER, work("noop:1.0.0"), export(destinations=["PACS"])))
    studies = make_studies(tmp_path, "BUCKET", STUDIES)
    send(stack, *studies)
    runs = wait_for_runs(stack, "bucket", STUDIES, seconds=300)
    assert {run["state"] for run in runs.values()} == {"success"}
    store = S3Store(f"s3://{bucket}/site", s3.access, tmp_path / "spool")
    for study in studies:
        assert len(load_payload(store, study.payload_id).files) == len(study.sop_uids)
        folder = RunFolder(store, study.payload_id, "bucket", study.run_id)
        records = [folder.record(task) for task in ("work", "send")]
        assert [record and record.status for record in records] == [TaskStatus.SUCCEEDED] * 2
    assert len(stack.pacs_instances()) == STUDIES
    assert not [path for path in stack.layout.store.rglob("*") if path.is_file()], "all is in the bucket"
    left = [path for path in host.rglob("*") if path.is_file() and path.name not in ("id", "lock")]
    assert {path.parent.name for path in left} <= {"workflows", "spool"}, "nothing is left on the host"
