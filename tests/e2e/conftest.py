"""One real Airflow for all end-to-end tests: started at the first test that asks for it, ended with the session.

Shared by every file of this folder, and by tests/chaos: a test adds workflows of its own names and AE titles to
``stack.options.workflows`` (see :mod:`tests.e2e.helpers`), hand-written DAGs to ``stack.options.dags``, and leaves
everything else as it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.local.pacs import PacsKind, available_kind
from airflow_monai.local.ports import choose
from airflow_monai.local.stack import LocalStack, StackOptions
from tests.conftest import PARTS, require
from tests.e2e.helpers import Auditor, Maps
from tests.e2e.metrics import Metrics, collected
from tests.e2e.neighbours import Neighbours, neighbours_in
from tests.fixtures_maps import map_images  # noqa: F401
from tests.mailbox import Mailbox, mailbox
from tests.mip.service import Service, result_service

HEARTBEAT_TIMEOUT = 30
ENVIRONMENT = {
    # how often a scheduler looks for tasks of one that was killed; Airflow's own default is five minutes
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    # all images are built here; a registry may be out of reach, which would be tried again
    "AIRFLOW__MONAI__IMAGE_PULL": "never",
    # how soon another triggerer takes over from one that was killed; 30 s by default
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def maps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maps]:
    """The quick MAP and its variants: images where there is a Docker engine, else unpacked for the process runner."""
    if PARTS["docker"]() is None:
        request.getfixturevalue("map_images")
        found = Maps("docker", tmp_path_factory.mktemp("maps"))
    else:
        found = Maps("process", tmp_path_factory.mktemp("maps"))
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture(scope="session")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditor]:
    """A second receiver, the destination AUDIT, that counts how often it gets each instance."""
    folder = tmp_path_factory.mktemp("auditor")
    port = choose(0)
    words = [sys.executable, "-m", "airflow_monai.local.pacs_store", "--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline(), "the auditor does not start"
        yield Auditor(port, folder)
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def mail() -> Iterator[Mailbox]:
    """The SMTP server behind Airflow's connection smtp_default."""
    with mailbox() as found:
        yield found


@pytest.fixture(scope="session")
def results() -> Iterator[Service]:
    """The service behind the connection CDR, which gets the outputs of the job server's runs."""
    with result_service() as found:
        yield found


@pytest.fixture(scope="session")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours | None]:
    """A broker with another gateway, an archive, a bucket and a listener; None where one cannot be had here."""
    with neighbours_in(tmp_path_factory.mktemp("neighbours")) as found:
        yield found


@pytest.fixture(scope="session")
def metrics() -> Iterator[Metrics]:
    """The StatsD server that Airflow's metrics and the gateway's go to."""
    with collected() as found:
        yield found


@pytest.fixture(scope="session")
def stack(
    maps: Maps,
    auditor: Auditor,
    mail: Mailbox,
    results: Service,
    neighbours: Neighbours | None,
    metrics: Metrics,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalStack]:
    """PostgreSQL, Airflow, the gateway and a PACS (Orthanc where it is installed), on free ports."""
    require("dcmtk")
    workflows = tmp_path_factory.mktemp("workflows")
    dags = tmp_path_factory.mktemp("dags")
    inbox = tmp_path_factory.mktemp("inbox")
    audit = {"conn_type": "dicom", "host": "127.0.0.1", "port": auditor.port, "extra": {"called_aet": "PACS"}}
    options = StackOptions(
        workflows=workflows,
        dags=dags,
        runner=maps.runner,
        map_path=(maps.folder,),
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        environment={
            **ENVIRONMENT,
            "AIRFLOW_CONN_AUDIT": json.dumps(audit),
            "AIRFLOW__MONAI__INBOX_FOLDER": str(inbox),
            "AIRFLOW__MONAI__INBOX_STILL_SECONDS": "1",
            "AIRFLOW_CONN_SMTP_DEFAULT": mail.connection,
            "AIRFLOW_CONN_CDR": json.dumps(results.connection),
            "AIRFLOW__MONAI__MIP_WORKFLOW": "maps-to-features",
            "AIRFLOW__MONAI__MIP_EXTRA_ARGS": "True",
            "AIRFLOW__MONAI__MIP_DELIVER_TO": "CDR",
            **(neighbours.environment() if neighbours else {}),
            **metrics.environment(),
        },
        pacs=available_kind(),
        usual_ports=False,
    )
    started = time.monotonic()
    with LocalStack(tmp_path_factory.mktemp("stack") / "state", options) as running:
        print(f"\nthe stack took {time.monotonic() - started:.1f} s to start, PACS: {running.pacs.kind.value}")
        yield running


@pytest.fixture
def orthanc_stack(stack: LocalStack) -> LocalStack:
    """The stack, where its PACS has to be Orthanc."""
    require("orthanc")
    assert stack.pacs.kind is PacsKind.ORTHANC
    return stack
