"""``airflow monai argo``: templates registered, replaced, tried and deleted."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_monai.cli.here import argo as command
from airflow_monai.errors import InvalidArgument, ServiceRefused, SettingsError
from airflow_monai.hooks.argo_server import ArgoServer
from tests.argo_server import ArgoProcess, argo_server

TEMPLATE = """
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata: {name: segment}
spec:
  entrypoint: main
  arguments: {parameters: [{name: input}]}
  templates:
    - {name: main, container: {image: "segment:1.0.0"}}
"""


@pytest.fixture
def argo(tmp_path: Path) -> Iterator[ArgoProcess]:
    with argo_server(tmp_path / "cluster") as server:
        yield server


@pytest.fixture
def server(argo: ArgoProcess, monkeypatch: pytest.MonkeyPatch) -> ArgoServer:
    monkeypatch.setenv("AIRFLOW_CONN_ARGO_DEFAULT", argo.connection())
    monkeypatch.setattr(command, "POLL_SECONDS", 0.05)
    return command.server_of("argo_default")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    return path


def test_a_template_is_registered_replaced_and_deleted(server: ArgoServer, argo: ArgoProcess, file: Path) -> None:
    out = io.StringIO()
    assert command.run_register(server, str(file), False, out) == 0
    assert "segment is registered in namespace argo" in out.getvalue()
    file.write_text(TEMPLATE.replace("1.0.0", "2.0.0"))
    out = io.StringIO()
    assert command.run_register(server, str(file), True, out) == 0
    assert json.loads(out.getvalue()) == {"template": "segment", "namespace": "argo", "created": False}
    kept = json.loads((argo.folder / "registered" / "segment.json").read_text())
    assert kept["spec"]["templates"][0]["container"]["image"] == "segment:2.0.0"
    assert command.run_delete(server, str(file), False, io.StringIO()) == 0
    assert command.run_delete(server, "segment", False, io.StringIO()) == 1


def test_a_template_is_tried_by_hand(server: ArgoServer, argo: ArgoProcess, file: Path) -> None:
    command.run_register(server, str(file), False, io.StringIO())
    out = io.StringIO()
    assert command.run_launch(server, "segment", ["input=/data/in"], "try-1", True, True, out) == 0
    told = json.loads(out.getvalue())
    assert (told["name"], told["state"], told["created"]) == ("try-1", "succeeded", True)
    (workflow,) = argo.workflows()
    assert workflow["spec"]["arguments"]["parameters"] == [{"name": "input", "value": "/data/in"}]
    assert command.run_status(server, "try-1", False, io.StringIO()) == 0
    assert command.run_status(server, "nothing", False, io.StringIO()) == 1
    assert command.run_cancel(server, "try-1", False, io.StringIO()) == 1
    with pytest.raises(InvalidArgument, match="There is no WorkflowTemplate 'other'"):
        command.run_launch(server, "other", [], "", False, False, io.StringIO())
    with pytest.raises(SettingsError, match="NAME=VALUE"):
        command.run_launch(server, "segment", ["input"], "", False, False, io.StringIO())
    with pytest.raises(ServiceRefused, match=r"input.*required"):
        command.run_launch(server, "segment", [], "", False, False, io.StringIO())


@pytest.mark.parametrize(
    "text, said",
    [
        ("kind: [", ":1:"),
        ("", "0 documents"),
        (TEMPLATE + "---" + TEMPLATE, "2 documents"),
        (TEMPLATE.replace("WorkflowTemplate", "Workflow"), "runs at once"),
        (TEMPLATE.replace("segment}", "Segment_1}"), "metadata.name"),
        (TEMPLATE.replace("entrypoint: main", "entrypoint: other"), "'other' is none of"),
        (TEMPLATE.replace("argoproj.io/v1alpha1", "v1"), "apiVersion"),
        ("a: " + "x" * (1 << 20), "larger than"),
        ("!!python/object/apply:os.system [ls]", "no YAML"),
    ],
)
def test_what_is_no_template_is_told_before_it_is_sent(
    server: ArgoServer, argo: ArgoProcess, file: Path, text: str, said: str
) -> None:
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=said):
        command.run_register(server, str(file), False, io.StringIO())
    assert argo.asked("POST") == []
