"""What a generated DAG file does when Airflow loads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_monai.bundles.reader import entry_of
from airflow_monai.errors import SpecError
from airflow_monai.factory import load_workflow_dag
from tests.factory.plans import LUNG

HEAVY = {"docker", "kubernetes", "boto3", "pynetdicom", "pydicom", "numpy", "fastapi", "pika", "requests"}


def write_dag_file(folder: Path, text: str = LUNG) -> Path:
    for name, content in entry_of(text, "lung.yaml").dag_files():
        (folder / name).write_bytes(content)
    return folder / "lung.yaml.py"


def test_one_line_for_each_problem_with_its_place_and_a_hint() -> None:
    text = LUNG.replace("type: router", "typ: router").replace("name: archive}", "name: archiv}")
    with pytest.raises(SpecError) as caught:
        load_workflow_dag(text, source="sub/lung.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == f"sub/lung.yaml has {len(lines)} errors:"
    assert any("sub/lung.yaml:10:5: unknown field 'typ'" in line and "did you mean" in line for line in lines)
    assert all(line.startswith("sub/lung.yaml:") for line in lines)


def test_a_single_problem_is_the_last_line_of_the_import_error() -> None:
    with pytest.raises(SpecError) as caught:
        load_workflow_dag(LUNG.replace("ae_title:", "ae_titel:"), source="lung.yaml")
    assert "lung.yaml:5:3:" in str(caught.value).splitlines()[-1]


def test_the_kept_plan_spares_reading_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dag_file = write_dag_file(tmp_path)
    monkeypatch.setattr("airflow_monai.factory.load.compile_plan", lambda *_: pytest.fail("read the text"))
    assert load_workflow_dag(LUNG, source="lung.yaml", beside=str(dag_file)).dag_display_name == "ct lung"


@pytest.mark.parametrize("damage", ["other text", "other format", "cut off", "absent"])
def test_a_kept_plan_that_does_not_fit_is_not_used(tmp_path: Path, damage: str) -> None:
    dag_file = write_dag_file(tmp_path)
    kept = tmp_path / "lung.yaml.plan.json"
    record = json.loads(kept.read_text())
    record["plan"]["name"] = "wrong"
    text = LUNG
    if damage == "other text":
        text = LUNG.replace("Finds lungs", "Finds both lungs")
    if damage == "other format":
        record["format"] = 0
    kept.write_text(json.dumps(record)[: 20 if damage == "cut off" else None])
    if damage == "absent":
        kept.unlink()
    assert load_workflow_dag(text, source="lung.yaml", beside=str(dag_file)).dag_display_name == "ct lung"


@pytest.mark.parametrize("kept_plan", [True, False])
def test_import_weight(tmp_path: Path, kept_plan: bool) -> None:
    """In a fresh process, as the DAG processor and every task begin."""
    dag_file = write_dag_file(tmp_path)
    if not kept_plan:
        (tmp_path / "lung.yaml.plan.json").unlink()
    loaded = _modules_after(dag_file)
    assert not HEAVY & {name.partition(".")[0] for name in loaded}
    if kept_plan:
        ours = {name for name in loaded if name.startswith("airflow_monai.specs.")}
        assert not ours & {f"airflow_monai.specs.{name}" for name in ("tree.loader", "model", "reading", "compile")}


def _modules_after(dag_file: Path) -> set[str]:
    """All modules of a process that has loaded the DAG file and nothing else."""
    code = (
        "import json, runpy, sys\n"
        f"names = runpy.run_path({str(dag_file)!r}); assert len(names['dag'].tasks) == 8\n"
        "print('MODULES', json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.rpartition("MODULES ")[2]))
