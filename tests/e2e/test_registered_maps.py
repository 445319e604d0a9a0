"""A MAP from its registration to its end, on a real Airflow: DAG, study by AE title, links, and nothing after it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from airflow_monai.local.stack import LocalStack
from tests.e2e.helpers import Maps, make_study, send, storescu, wait_for_runs, wait_for_state

SECONDS = 90
"""Within so many seconds a MAP shows in Airflow, on a machine that hardly gets on; how many it took is told."""


def maps_command(stack: LocalStack, *words: str, code: int = 0) -> Any:
    command = [sys.executable, "-m", "airflow_monai", "maps", *words, "--json"]
    done = subprocess.run(command, env=stack.env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def target_of(maps: Maps, reference: str) -> str:
    """What is registered: the image, or for the process runner the folder."""
    return reference if maps.runner == "docker" else str(maps.folder / reference.partition(":")[0])


def is_there(stack: LocalStack, dag_id: str) -> bool:
    dag = stack.api.dag(dag_id)
    return dag is not None and not dag["is_stale"]


def page(stack: LocalStack, address: str, *, signed_in: bool = True) -> requests.Response:
    headers = {"accept": "text/html", **({"Authorization": f"Bearer {stack.api._bearer()}"} if signed_in else {})}
    return requests.get(address, headers=headers, timeout=30)


def links(stack: LocalStack, dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
    path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/links"
    return stack.api.call("GET", path)["extra_links"]


def test_from_registration_to_its_end(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    reference = maps.reference("ok", "1")
    words = (target_of(maps, reference), "--name", "e2e-seg", "--version", "1.0.0", "--export", "ARCHIVE")
    done = maps_command(stack, "register", *words)
    dag_id = done["dag_id"]
    assert (dag_id, done["ae_title"]) == ("map.e2e-seg.1.0.0", "E2E-SEG")
    began = time.monotonic()
    stack.wait_for(lambda: is_there(stack, dag_id), seconds=SECONDS, what=f"DAG {dag_id}")
    print(f"the DAG was there after {time.monotonic() - began:.1f} s")

    study = make_study(tmp_path, "E2E-SEG")
    send(stack, study)
    run = wait_for_runs(stack, dag_id, 1)[study.run_id]
    assert run["state"] == "success"
    value = stack.api.xcom(dag_id, study.run_id, "run")
    assert value["map"] == "e2e-seg:1.0.0" and value["artifacts"]["results"] > 0

    found = links(stack, dag_id, study.run_id, "run")
    assert set(found) == {"Artifacts", "MAP"}
    for name, text in (("Artifacts", "results: "), ("MAP", done["digest"])):
        assert page(stack, found[name], signed_in=False).status_code == 401
        shown = page(stack, found[name])
        assert shown.status_code == 200 and text in shown.text, shown.text

    by_hand = {"dag_run_id": "by-hand", "logical_date": None, "conf": {"payload_id": study.payload_id}}
    stack.api.call("POST", f"/dags/{dag_id}/dagRuns", by_hand)
    wait_for_state(stack, dag_id, "by-hand", "run", "running", "success")
    begun = stack.layout.store / "payloads" / study.payload_id / "workflows" / dag_id / "by-hand" / "run" / "g1.log"
    stack.wait_for(begun.is_file, seconds=120, what="its application", every=0.1)
    assert maps_command(stack, "unregister", "e2e-seg:1.0.0")["is_registered"] is False
    late = {"dag_run_id": "late", "logical_date": None, "conf": {"payload_id": study.payload_id}}
    stack.api.call("POST", f"/dags/{dag_id}/dagRuns", late)
    began = time.monotonic()
    assert stack.wait_for_run(dag_id, "by-hand", seconds=240)["state"] == "success"  # what had begun ends normally
    assert stack.wait_for_run(dag_id, "late", seconds=240)["state"] == "failed"  # and nothing else
    stack.wait_for(lambda: not is_there(stack, dag_id), seconds=15 + SECONDS, what=f"the end of DAG {dag_id}")
    print(f"the DAG was gone after {time.monotonic() - began:.1f} s")
    assert storescu(stack, "E2E-SEG", study.files).returncode != 0  # nobody listens to the AE title any more
    with pytest.raises(requests.HTTPError):
        stack.api.call("POST", f"/dags/{dag_id}/dagRuns", {**late, "dag_run_id": "later"})
