"""What the demo and `make up` say and decide; that they run is tried by tests/e2e/test_demo.py."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_monai.local import study as studies
from airflow_monai.local.demo import DAG_ID, Demo, DemoFailed, DemoOptions, stack_options
from airflow_monai.local.environment import Layout, write_shell
from airflow_monai.local.follow import Follower
from airflow_monai.local.phantom import generate
from airflow_monai.local.report import Access, DemoReport, summary
from airflow_monai.local.stack import LocalStack
from airflow_monai.local.study import StudyError
from airflow_monai.local.up import example_study, words
from airflow_monai.mip.modules import Modules
from airflow_monai.mip.site import Workflows
from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.store import open_store
from tests.local.test_stack import SMALL

EXAMPLES = Path(__file__).parents[2] / "examples" / "workflows"
PAYLOAD = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


@dataclass
class EndedRun:
    """Stands for a stack on which a run has ended, with these states of its tasks and this in its PACS."""

    layout: Layout
    tasks: Mapping[str, str]
    held: set[str] = field(default_factory=set)
    state: str = "success"

    @property
    def pacs(self) -> Any:
        return SimpleNamespace(holds=self.held.__contains__, kind=SimpleNamespace(value="store"))

    def check(self) -> None:
        pass

    def events(self) -> list[dict[str, Any]]:
        return []

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return [{"dag_run_id": "run", "state": self.state}]

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        common = {"map_index": -1, "start_date": None, "duration": None}
        return [{"task_id": task, "state": state, **common} for task, state in self.tasks.items()]


def deliver(stack: EndedRun, *, sent: tuple[str, ...] = ()) -> Demo:
    """The last step of a demo whose exports have sent these instances to the PACS."""
    store = open_store(str(stack.layout.store))
    Ledger(store, PAYLOAD, "PACS").write_page("page", {uid: Entry(DeliveryState.ACCEPTED, digest=uid) for uid in sent})
    demo = Demo(DemoOptions(stack.layout.state))
    follower = Follower(stack, 1, lambda line: None, PAYLOAD, "ct-lung", "run")  # type: ignore[arg-type]
    demo._deliver(stack, follower)  # type: ignore[arg-type]
    return demo


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "store").mkdir()
    return Layout(tmp_path)


def test_a_condition_that_was_not_met_is_no_failure_and_is_told(layout: Layout) -> None:
    demo = deliver(EndedRun(layout, {"segment": "success", "to-pacs": "skipped", "archive": "success"}))
    assert demo.report.note is not None
    assert "nothing was due to the PACS" in demo.report.note and "to-pacs" in demo.report.note
    assert demo.report.error is None


def test_a_run_that_sent_nothing_though_it_should_have_is_a_failure_without_a_count(layout: Layout) -> None:
    with pytest.raises(DemoFailed, match="sent nothing to it") as told:
        deliver(EndedRun(layout, {"to-pacs": "success"}))
    assert "0 of 0" not in str(told.value)


def test_an_instance_that_the_pacs_lacks_is_a_failure(layout: Layout) -> None:
    with pytest.raises(DemoFailed, match="lacks 1 of 2 instances"):
        deliver(EndedRun(layout, {"to-pacs": "success"}, held={"1.2"}), sent=("1.2", "1.3"))


def test_what_the_pacs_holds_needs_no_note(layout: Layout) -> None:
    demo = deliver(EndedRun(layout, {"to-pacs": "success"}, held={"1.2"}), sent=("1.2",))
    assert demo.report.note is None


def test_the_summary_of_a_stack_that_stays_says_how_to_ask_it_and_of_one_that_does_not_gives_no_dead_address(
    tmp_path: Path,
) -> None:
    for kept in (True, False):
        text = summary(
            DemoReport(dag_id="ct-lung", run_id="monai__1"),
            Access("http://127.0.0.1:1", "admin", "secret", tmp_path / "env.sh", kept),
            segmentation=None,
            report_path=tmp_path / "report.json",
        )
        assert (f". {tmp_path}/env.sh && " in text and "airflow monai payloads list" in text) == kept
        assert ("http://127.0.0.1:1" in text and "user admin, password secret" in text) == kept
        assert ("Airflow is stopped now" in text and "KEEP=1 make demo" in text and "monai__1" in text) != kept
        assert "None" not in text


def test_a_file_is_not_called_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "slice.dcm").touch()
    with pytest.raises(StudyError, match="this is a file; give the folder"):
        studies.read(tmp_path / "slice.dcm")


def test_the_shell_file_holds_what_airflow_needs_and_nothing_of_another_airflow(tmp_path: Path) -> None:
    file = tmp_path / "env.sh"
    value = """{"a": "it's $HOME"}"""
    write_shell(file, {"AIRFLOW_HOME": "/a b", "AIRFLOW_CONN_PACS": value, "PATH": "/nowhere"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    show = 'printf "%s\\n" "$AIRFLOW_HOME" "$AIRFLOW_CONN_PACS" "${AIRFLOW__CORE__FERNET_KEY-}"'
    env = {**os.environ, "AIRFLOW__CORE__FERNET_KEY": "of another"}
    shown = subprocess.check_output(["sh", "-c", f". {file}; {show}"], env=env, text=True)
    assert shown.splitlines() == ["/a b", value, ""]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with LocalStack(tmp_path / "state", SMALL) as stack:
        yield stack


def _row(text: str, title: str) -> str:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(title)]
    return line.split(title, 1)[1].strip()


def test_the_command_line_that_is_printed_works_on_the_stack(stack: LocalStack) -> None:
    assert stat.S_IMODE(stack.layout.shell.stat().st_mode) == 0o600
    command = _row(words(stack), "command line")
    asked = f"{command} && {command.replace('monai payloads list', 'connections get PACS -o json')}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    done = subprocess.run(["sh", "-c", asked], env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(stack.ports.pacs) in done.stdout, "the stack's connections are seen"


def test_the_send_line_that_is_printed_works_and_passes_over_what_is_no_dicom(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the line is for where it was printed, and notes there what was sent
    folder = example_study(stack.layout.state)
    generate(folder, slices=2, rows=16)
    (folder / "0-notes.txt").write_text("not DICOM")
    line = _row(words(stack), "send a study").replace(str(stack.ports.dicom), str(stack.ports.pacs))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    done = subprocess.run(["sh", "-c", line], env=clean, capture_output=True, text=True)
    assert len(stack.pacs_instances()) == 2, done.stderr


@pytest.mark.parametrize("pacs", ["", "none"])
def test_the_modules_of_the_job_server_are_the_tasks_of_the_demo_s_workflow(
    pacs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody has added workflows, so that docs/mip.md can be followed."""
    options = stack_options(pacs)
    for name, value in options.environment.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(options.workflows, tmp_path / "specs")
    shutil.copy(EXAMPLES / "first.yaml", tmp_path / "specs")
    plan = Workflows(str(tmp_path / "specs"), open_store(str(tmp_path / "store"))).of_the_site()
    assert "segment" in Modules.of(plan).by_name and plan.dag_id == DAG_ID
