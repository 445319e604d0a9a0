"""A secret of a job reaches the application by its environment, and stands nowhere else while it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from airflow_monai.errors import PolicyRefused
from airflow_monai.maps.runners.docker.config import container_config
from airflow_monai.maps.runners.process import runner as process
from airflow_monai.maps.runners.process.runner import ProcessRunner
from airflow_monai.settings import Settings
from airflow_monai.store import open_store
from tests.conftest import require
from tests.maps.test_kubernetes_spec import pod_of
from tests.maps.test_process import job

KEY = "sk-planted-8f1c2a77"
SOURCE = """
import os, sys, time
print("the key ends with", os.environ["OPENAI_API_KEY"][-4:], flush=True)
while not os.path.exists(os.environ["HOLOSCAN_INPUT_PATH"] + "go"):
    time.sleep(0.05)
"""


@pytest.mark.parametrize("isolated", [True, False])
def test_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: bool) -> None:
    if isolated:
        require("bubblewrap")
    monkeypatch.setattr(process, "bubblewrap_works", lambda: isolated)
    site = Settings("s", "w", "process", (), "", "", "", "", "", 0, 0.0, "filtered")
    runner = ProcessRunner(site, open_store(str(tmp_path / "store")))
    wanted = replace(job(tmp_path, SOURCE), secrets={"OPENAI_API_KEY": KEY})
    lines: list[bytes] = []
    found: list[str] = []

    def on_line(line: bytes) -> None:
        lines.append(line)
        files = (path for path in wanted.state.parent.rglob("*") if path.is_file())
        found.extend(str(path) for path in files if KEY.encode() in path.read_bytes())
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and KEY.encode() in _words(entry):
                found.append(f"the command line of process {entry.name}")
        (tmp_path / "in" / "go").touch()

    try:
        ended = runner.run(wanted, on_line=on_line, check=lambda: None)
    finally:
        runner.discard(wanted)
    assert (ended.code, lines) == (0, [b"the key ends with 2a77"])
    assert found == []


def _words(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_container(tmp_path: Path) -> None:
    wanted = replace(job(tmp_path, SOURCE), secrets={"OPENAI_API_KEY": KEY})
    config = container_config(wanted, local_engine=True)
    assert f"OPENAI_API_KEY={KEY}" in config["Env"]
    assert KEY not in str({name: value for name, value in config.items() if name != "Env"})
    assert KEY not in repr(wanted)


def test_a_pod_gets_none_since_its_spec_can_be_read(tmp_path: Path) -> None:
    wanted = replace(job(tmp_path, SOURCE), secrets={"OPENAI_API_KEY": KEY})
    with pytest.raises(PolicyRefused, match="Secret") as refused:
        pod_of(wanted, tmp_path)
    assert KEY not in str(refused.value)
