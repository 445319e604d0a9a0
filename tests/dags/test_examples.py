"""Every DAG in dags/ loads, is light, and says what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DAGS = sorted((Path(__file__).parents[2] / "dags").glob("*.py"))
HEAVY = ("docker", "kubernetes", "boto3", "pynetdicom", "pydicom", "numpy", "fastapi")
LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("example", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
heavy = [name for name in sys.argv[2:] if name in sys.modules]
print(module.dag.dag_id, ",".join(heavy))
assert module.dag.doc_md and module.dag.description
"""


@pytest.mark.parametrize("path", DAGS, ids=lambda path: path.name)
def test_it_loads_and_imports_nothing_heavy(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOAD, str(path), *HEAVY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == f"{path.stem} "


def test_the_example_hands_the_payload_on() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("example_hand_written", DAGS[0].with_name("example_hand_written.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dag = module.dag
    assert dag.get_task("segment").upstream_task_ids == {"arrived"}
    assert dag.get_task("to_pacs").upstream_task_ids == {"arrived", "segment"}
    assert "payload_id" in dag.get_task("to_pacs").template_fields
