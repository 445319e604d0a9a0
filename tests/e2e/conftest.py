"""One Airflow with gateway and PACS for all tests of this folder, started once a session.

A test brings its own workflows (``workflow``) with names and AE titles of its own, so that tests do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_monai.local.pacs import PacsKind
from airflow_monai.local.stack import LocalStack, StackOptions, project_folder
from tests.conftest import PARTS, require
from tests.e2e.studies import SmallStudy, make_study
from tests.fixtures_maps import map_images  # noqa: F401

HEARTBEAT_SECONDS = 30
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The shared stack: free ports, Orthanc, the process runner, and folders for specs and DAGs of the tests' own.

    Specs go to ``stack.options.workflows``, DAG files (for the docker runner, say) to ``stack.options.dags``.
    """
    require("orthanc")
    folder = tmp_path_factory.mktemp("stack")
    for name in ("workflows", "dags"):
        (folder / name).mkdir()
    options = StackOptions(
        workflows=folder / "workflows",
        dags=folder / "dags",
        runner="process",
        map_path=(project_folder() / "examples" / "maps",),
        pacs=PacsKind.ORTHANC if PARTS["orthanc"]() is None else PacsKind.STORE,
        heartbeat_timeout=HEARTBEAT_SECONDS,
        usual_ports=False,
    )
    with LocalStack(folder / "state", options) as running:
        yield running


@pytest.fixture
def workflow(stack: LocalStack) -> Iterator[Callable[[str, str], str]]:
    """``workflow(name, text)`` adds a spec and returns its DAG id when Airflow knows it; removed after the test."""
    added: list[Path] = []

    def add(name: str, text: str) -> str:
        path = stack.options.workflows / f"{name}.yaml"
        added.append(path)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(path)
        stack.wait_for_dag(name, seconds=90)
        return name

    yield add
    for path in added:
        path.unlink(missing_ok=True)


@pytest.fixture
def study(tmp_path: Path) -> SmallStudy:
    """A CT study of three small images."""
    return make_study(tmp_path / "study")
