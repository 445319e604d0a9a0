"""The mip job server on a real Airflow: its page's commands as they are written, and what the page promises."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from sqlalchemy import create_engine, inspect, text

from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import RunId
from tests.e2e.helpers import Maps, add_workflows, store_of
from tests.e2e.test_patient_data import readable
from tests.mip.service import Service

PAGE = (Path(__file__).parents[2] / "docs" / "mip.md").read_text("utf-8")
KEY = "sk-planted-53c1fd02ab9977e1"
WORKFLOW = "maps-to-features"
SPEC = f"""\
name: {WORKFLOW}
version: 1.0.0
informatics_gateway: {{ae_title: MIP}}
tasks:
  - id: segment
    type: map
    args: {{map: "noop:1.0.0"}}
    artifacts:
      input: [{{name: study, value: "{{{{ context.input.dicom }}}}"}}]
      output: [{{name: result, type: OT}}]
    task_destinations: [{{name: features}}]
  - id: features
    type: map
    args: {{map: "noop:1.0.0"}}
    artifacts:
      input: [{{name: crop, value: "{{{{ context.executions.segment.artifacts.result }}}}"}}]
      output: [{{name: result, type: OT}}]
    task_destinations: [{{name: report}}]
  - id: report
    type: map
    args: {{map: "noop:1.0.0"}}
    artifacts:
      input: [{{name: features, value: "{{{{ context.executions.features.artifacts.result }}}}"}}]
      output: [{{name: result, type: OT}}]
"""
ENDED = ("passed", "failed")


def blocks(language: str) -> list[str]:
    """Code of the page, without the indentation of lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


class Server:
    """The job server as its user sees it."""

    def __init__(self, stack: LocalStack):
        self.stack = stack
        self.url = f"{stack.ui}/monai/mip"
        self.auth = (USER, stack.secrets.password)

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", auth=self.auth, timeout=60)

    def ask(self, *modules: str, **more: Any) -> str:
        body = {"job": "beta", "modules": list(modules), "map": "WY_CO_Peach", **more}
        answer = requests.post(f"{self.url}/runs", json=body, auth=self.auth, timeout=60)
        assert answer.status_code == 200, answer.text
        assert KEY not in answer.text
        return str(answer.json()["run_id"])

    def ended(self, run_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            found = self.get(f"/runs/{run_id}").json()
            if found["status"] in ENDED:
                return dict(found)
            time.sleep(0.5)
        raise AssertionError(f"{run_id} does not end: {self.stack.states(WORKFLOW, f'mip__{run_id}')}")

    def zip(self, path: str) -> dict[str, bytes]:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def report(maps: Maps) -> str:
    """The MAP of the last module, which fails until it is mended."""
    return maps.reference("exit7", "0.02")


@pytest.fixture(scope="module")
def server(stack: LocalStack, maps: Maps, report: str) -> Iterator[Server]:
    """A workflow whose first module is called as that of the demo's."""
    spec = yaml.safe_load(SPEC)
    for task, reference in zip(spec["tasks"], (maps.reference(), maps.reference("tell"), report), strict=True):
        task["args"]["map"] = reference
    add_workflows(stack, spec)
    yield Server(stack)


def test_the_page_s_commands(server: Server, tmp_path: Path) -> None:
    commands = "\n".join(blocks("bash")).replace("http://localhost:8080", server.stack.ui)
    commands = commands.replace("MIP_PASSWORD=...", f"MIP_PASSWORD={server.auth[1]}")
    commands = commands.replace("MIP_USER=admin", f"MIP_USER={USER}")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env |= {"PIP_NO_INDEX": "1"}  # requests is there
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"WY_CO_Peach"' in done.stdout and '"module_name": "report"' in done.stdout
    run = json.loads((tmp_path / "c.json").read_text())
    assert (run["status"], run["run_id"]) == ("passed", "alpha-1"), run
    assert json.loads((tmp_path / "d.json").read_text())["modules"] == ["segment"]
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        assert "result.dcm" in {name.rpartition("/")[2] for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "d.zip") as archive:
        assert b"noop: wrote result.dcm" in archive.read("segment.log")


def test_a_job_through_failure_and_rerun(
    server: Server, maps: Maps, report: str, results: Service, stack: LocalStack
) -> None:
    first = server.ended(server.ask("features"))
    assert first["log"].startswith("segment: passed\nfeatures: passed\nrun: passed"), first
    again = server.ended(server.ask("features"))
    assert again["log"].startswith("features: taken over from run beta-1\nrun: passed")
    started = stack.api.task_instances(WORKFLOW, "mip__beta-2")
    assert {one["task_id"]: one["state"] for one in started} == {
        "segment": "skipped",
        "features": "success",
        "report": "skipped",
    }
    forced = server.ask("features", force_rerun=True, extra_args={"features": ["--note", "two words"]}, openai_key=KEY)
    assert KEY.encode() not in everything_in(stack.layout.store), "only encrypted while the run lasts"
    log = server.ended(forced)["log"]
    assert log.startswith("segment: taken over from run beta-1\nfeatures: passed\nrun: passed"), log
    told = server.zip("/modules/beta/features/logs")["features.log"].decode()
    assert "--note two words" in told and f"ends with {KEY[-4:]}" in told and KEY not in told

    failing = RunId.parse(server.ask("ALL"))
    assert failing is not None
    ledger = Ledger(store_of(stack))
    # nobody asks for it, and the gateway sees it through
    stack.wait_for(lambda: ledger.ended(failing), seconds=300, what=f"the end of {failing}")
    failed = server.get(f"/runs/{failing}").json()
    assert failed["status"] == "failed"
    assert "features: taken over from run beta-3" in failed["log"], "the newest one"
    assert re.search(r"report: failed: .*exit code 7", failed["log"])
    assert server.get("/jobs/beta").json()["status"] == "failed"
    maps.mend(report)
    mended = server.ended(server.ask("ALL"))
    assert mended["status"] == "passed", mended
    assert "features: taken over from run beta-3" in mended["log"]
    assert server.get("/modules/beta").json() == ["segment", "features", "report"]
    for place in ("jobs", "modules"):
        assert any(name.endswith("result.dcm") for name in server.zip(f"/{place}/beta/report/outputs"))
        assert server.zip(f"/{place}/beta/report/temps") == {}

    def delivered() -> bool:
        got = {headers["Idempotency-Key"] for headers, _ in results.got}
        return {"beta-1/segment", "beta-1/features", "beta-3/features", "beta-5/report"} <= got

    stack.wait_for(delivered, seconds=120, what="deliveries")
    got = [headers["Idempotency-Key"] for headers, _ in results.got if headers["X-Mip-Job"] == "beta"]
    assert len(got) == len(set(got)) == 4
    said = "delivery of report to CDR: delivered"  # when the answer of the destination was heard
    stack.wait_for(lambda: said in server.get("/runs/beta-5").json()["log"], seconds=60, what=said)


def test_the_key_is_nowhere(server: Server, stack: LocalStack) -> None:
    """Of the test above: it is not in the database, the store, a log or the gateway's events, in no form."""
    run = server.get("/runs/beta-3").json()
    assert run["payload"]["openai_key"] == "********"
    assert list((stack.layout.store / "mip" / "keys").glob("*")) == []
    engine = create_engine(stack.cluster.url)
    with engine.connect() as connection:
        leaks, searched = set(), set()
        for table in inspect(engine).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings():
                for column, value in row.items():
                    shown = readable(value)
                    leaks.update([f"{table}.{column}"] if KEY in shown else [])
                    searched.update([table] if "mip__beta-3" in shown else [])
    engine.dispose()
    assert {"dag_run", "task_instance", "log"} <= searched, "its run was not among them"
    assert leaks == set()
    assert KEY.encode() not in everything_in(stack.layout.store)
    assert KEY.encode() not in everything_in(stack.logs)
    assert KEY not in stack.layout.events.read_text("latin-1")


def everything_in(folder: Path) -> bytes:
    found = []
    for path in folder.rglob("*"):
        try:
            found.append(path.read_bytes() if path.is_file() else b"")
        except FileNotFoundError:  # it has just been removed
            continue
    return b"\n".join(found)
