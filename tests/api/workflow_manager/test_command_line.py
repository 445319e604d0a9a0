"""`airflow monai workflows` against a server, over a socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from airflow_monai.cli.standalone import main
from airflow_monai.client.server import Login, Server
from airflow_monai.errors import ServerRefused, ServerUnavailable
from tests.workflows.definitions import simple


@pytest.fixture
def url(served_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("MONAI_USER", "MONAI_PASSWORD"):
        monkeypatch.setenv(name, "admin")
    monkeypatch.delenv("MONAI_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    return served_url


def test_the_life_of_a_workflow(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_URL", f"{url}/monai/")

    def command(*words: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(("workflows", *words))
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told
        return told.out if code == 0 else told.err

    Path("ct.yaml").write_text(yaml.safe_dump(simple("ct"), sort_keys=False))
    Path("bad.yaml").write_text(yaml.safe_dump({**simple("ct"), "versoin": "1"}, sort_keys=False))
    Path("more.json").write_text(json.dumps({"description": "newer"}))
    command("validate", "ct.yaml")
    assert "bad.yaml:16:1: versoin: unknown field" in command("register", "bad.yaml", code=1)
    known = json.loads(command("register", "ct.yaml", "--json"))["workflow_id"]
    assert known in command("register", "ct.yaml", code=1)
    assert "revision 2" in command("update", "ct", "more.json")
    shown = json.loads(command("show", known, "--json"))
    assert shown["workflow"] == {**simple("ct"), "description": "newer"}
    assert [(one["revision"], one["changed_by"]) for one in shown["revisions"]] == [(1, "admin"), (2, "admin")]
    (row,) = json.loads(command("list", "--json"))
    assert (row["name"], row["version"], row["ae_title"], row["status"]) == ("ct", "1.0.0", "CTLUNG", "active")
    command("delete", "ct")
    assert "no workflow" in command("delete", "ct", code=1)
    monkeypatch.setenv("MONAI_PASSWORD", "wrong")
    assert "does not know who asks" in command("list", code=2)


def test_what_a_server_refuses(url: str, people: Callable[[str], str]) -> None:
    server = Server(url, "workflow-manager", Login(token=people("viewer")))
    assert server.call("GET", "/workflows") == []
    with pytest.raises(ServerRefused, match="no right") as refused:
        body = json.dumps(simple()).encode()
        server.call("POST", "/workflows", content=body, kind="application/json")
    assert refused.value.status == 403
    with pytest.raises(ServerRefused) as wrong:
        server.call("GET", "/workflows", pageNumber="x")
    assert wrong.value.status == 400 and wrong.value.errors[0]["field"] == "query.pageNumber"
    with pytest.raises(ServerUnavailable, match="does not know who asks"):
        Server(url, "workflow-manager", Login(token="x")).call("GET", "/workflows")
