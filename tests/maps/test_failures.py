"""Every row of the table of failures and attacks, done on a real engine; nothing may be left behind."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import MapInterrupted, RunnerUnavailable, SpecError
from airflow_monai.maps.removal import remove_tree
from airflow_monai.operators.container import ContainerOperator
from airflow_monai.operators.map import MapOperator
from airflow_monai.store import open_store
from airflow_monai.types import TaskStatus
from tests.conftest import require
from tests.fixtures_maps import map_images  # noqa: F401
from tests.maps.failures import CASES, Case, Left
from tests.maps.scenes import IMAGE, SCENES, Stage
from tests.operators.made_maps import containers_of
from tests.operators.map_tasks import STUDY, context_of, make_payload, run_folder

PRELUDE = "out, inp = '/out', '/in'\n"
LOOKED_AT = ("result", "names", "setuid", "host paths")
"""Scenes that only look at what was made."""
OUTPUT = {"name": "out", "type": "Folder", "mandatory": False}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, map_images: Any) -> Iterator[tuple[str, str]]:  # noqa: F811
    url = str(tmp_path_factory.mktemp("failures") / "store")
    yield url, make_payload(url)
    assert containers_of(url) == []


def _stage(store: tuple[str, str], task_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    url, payload_id = store
    task = {
        "task_id": task_id,
        "image": IMAGE,
        "runner": "docker",
        "inputs": [STUDY],
        "outputs": [OUTPUT],
        "paths": {"study": "/in", "out": "/out"},
        "entrypoint": ["python3", "-c"],
    }
    made = Stage(open_store(url), payload_id, tmp_path, monkeypatch, task)
    for option, value in {"STORE": url, "RUNNER": "docker", "IMAGE_PULL": "never", "STOP_GRACE_SECONDS": "1"}.items():
        made.set(option, value)
    return made


def _is_plain(case: Case) -> bool:
    """It needs nothing of this process or the engine for itself, so it can be done beside others."""
    return not case.site and case.error is not SpecError and case.scene in ("", *LOOKED_AT)


@pytest.fixture(scope="module")
def played(
    store: tuple[str, str], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Stage, BaseException | None]]:
    """Those of the wanted cases that can be done beside each other, done: most of their time they wait."""
    wanted = [item.callspec.params["case"] for item in request.session.items if item.path == request.path]
    with pytest.MonkeyPatch.context() as monkeypatch:
        stages = {
            case.what: _stage(store, f"case-{number}", tmp_path_factory.mktemp("case"), monkeypatch)
            for number, case in enumerate(wanted)
            if _is_plain(case)
        }
        with ThreadPoolExecutor(4) as pool:
            errors = pool.map(lambda case: _play(case, stages[case.what]), filter(_is_plain, wanted))
            return {what: (stage, error) for (what, stage), error in zip(stages.items(), errors, strict=True)}


def _play(case: Case, stage: Stage) -> BaseException | None:
    stage.task.update({"command": [PRELUDE + case.script], **case.task})
    with ExitStack() as scene:
        entered = SCENES.get(case.scene, lambda _: None)(stage)
        if entered is not None:
            scene.enter_context(entered)
        return _run(stage)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_case(
    case: Case,
    store: tuple[str, str],
    played: dict[str, tuple[Stage, BaseException | None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if case.error is SpecError:
        _refused_at_load(case)
        return
    if case.scene.startswith("own engine"):
        require("dockerd")
    if _is_plain(case):
        stage, error = played[case.what]
    else:
        stage = _stage(store, "case", tmp_path, monkeypatch)
        for option, value in case.site.items():
            stage.set(option, value)
        error = _play(case, stage)
    try:
        shown = "".join(capfd.readouterr())
        _assert_as_said(case, stage, error)
        _assert_found(case, stage, shown)
        if case.scene == "own engine: stopped":
            again = _run(stage, try_number=2)
            assert isinstance(again, MapInterrupted), again
        _assert_nothing_left(case, stage)
    finally:
        for act in stage.afterwards:
            act()
        folder = run_folder(stage.store.url, stage.payload_id)
        path = stage.store.local_path(folder.task_key(stage.task["task_id"]))
        assert path is not None
        remove_tree(path)


def _run(stage: Stage, try_number: int = 1) -> BaseException | None:
    """Run the task; what it ended with, as Airflow sees it."""
    arguments = {name: value for name, value in stage.task.items() if name != "engine"}
    operator = MapOperator(**arguments, retries=1) if "map" in arguments else ContainerOperator(**arguments, retries=1)
    try:
        context = context_of(operator, stage.payload_id, try_number=try_number)
        context["ti"].max_tries = 1
        operator.execute(context)
    except BaseException as error:  # noqa: BLE001 - it is what the test is about
        return error
    return None


def _assert_as_said(case: Case, stage: Stage, told: BaseException | None) -> None:
    record = run_folder(stage.store.url, stage.payload_id).record(stage.task["task_id"])
    assert record is not None
    if case.error is None:
        assert told is None, repr(told)
        assert record.status is TaskStatus.SUCCEEDED
        return
    assert told is not None, "it ended well"
    error = told.__cause__ if isinstance(told, AirflowFailException) else told
    assert type(error) is case.error, f"{type(error).__name__}: {error}"
    assert isinstance(told, AirflowFailException) == (case.answer == "fail")
    pattern = ".*".join(map(re.escape, case.says.split("*")))
    assert re.fullmatch(pattern, str(error), re.DOTALL), str(error)
    assert record.status is TaskStatus.FAILED
    assert record.error_msg
    if "It last said" in case.says:
        assert getattr(error, "log_tail", ())


def _assert_found(case: Case, stage: Stage, shown: str) -> None:
    record = run_folder(stage.store.url, stage.payload_id).record(stage.task["task_id"])
    assert record is not None
    if case.scene in ("result", "host paths"):
        assert case.seen and case.seen(record.result), record.result
    elif case.scene == "names":
        names = [key.rpartition("/")[2] for key in record.artifacts["out"]]
        assert case.seen and case.seen(names), names
    elif case.scene == "setuid":
        path = stage.store.local_path(record.artifacts["out"][0])
        assert path and stat.S_IMODE(path.stat().st_mode) == 0o755
    elif case.scene == "flood":
        assert shown.count("\n") < 4_200  # a line may be followed by how many were left out


def _assert_nothing_left(case: Case, stage: Stage) -> None:
    folder = run_folder(stage.store.url, stage.payload_id)
    output = stage.store.local_path(folder.output_key(stage.task["task_id"], -1, 1))
    assert output is not None
    beside = [path.name for path in output.parent.glob("*") if path.suffix in (".run", ".in", ".place")]
    beside += [path.name for path in output.parent.glob(".tmp-*")]
    engine = stage.task.get("engine")
    assert (beside, containers_of(stage.store.url), engine.containers() if engine else []) == ([], [], [])
    assert output.exists() == (case.left in (Left.PUBLISHED, Left.KEPT)), case.left


def _refused_at_load(case: Case) -> None:
    from airflow_monai.specs import check_text

    text = """name: w
version: 1
informatics_gateway: {ae_title: A}
tasks:
  - id: t
    type: docker
    args: {container_image: "x:1", study: /in, privileged: true, devices: [/dev/sda], runtime: sysbox}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}]}
"""
    spec, problems = check_text(text, "w.yaml")
    assert spec is None
    assert [problem.code for problem in problems] == ["refused-argument"] * 3
    pattern = ".*".join(map(re.escape, case.says.split("*")))
    assert re.fullmatch(pattern, problems[0].message)
    assert not issubclass(SpecError, RunnerUnavailable)
