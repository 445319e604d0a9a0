"""docs/workflow-manager.md: its requests are answered as it says, and it has every route of workflows."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from fastapi.testclient import TestClient

from airflow_monai.api.workflow_manager.workflows import router
from tests.workflows.definitions import simple

PAGE = (Path(__file__).parents[3] / "docs" / "workflow-manager.md").read_text("utf-8")
ID = "6f1d7c1e-3a0b-4d4e-9c55-0d6f0a5b7e21"


def requests() -> Iterator[tuple[str, str]]:
    """Each request of the first block of the page, and what is answered."""
    block = re.search(r"```console\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    for part in block[1].split("$ ")[1:]:
        request, _, answer = part.partition("\n")
        if request.startswith("curl"):
            yield request, answer.strip()


def test_the_requests_of_the_page(api: Callable[[str | None], TestClient], tmp_path: Path) -> None:
    client = api("admin")
    (tmp_path / "ct-lung.yaml").write_text(yaml.safe_dump(simple("ct-lung")))
    parser = ArgumentParser()
    parser.add_argument("-su")
    parser.add_argument("-X")
    parser.add_argument("-H", default="Accept: */*")
    parser.add_argument("--data-binary", "-d", dest="data")
    parser.add_argument("url")
    known, count = "", 0
    for request, told in requests():
        words = parser.parse_args(shlex.split(request)[1:])
        path = words.url.replace("$MONAI", "/workflow-manager").replace("$ID", known)
        data = (tmp_path / words.data[1:]).read_bytes() if words.data and words.data[0] == "@" else words.data
        name, _, value = words.H.partition(": ")
        answer = client.request(words.X or ("POST" if data else "GET"), path, content=data, headers={name: value})
        assert answer.status_code == 200, (request, answer.text)
        known = known or answer.json()["id"]
        assert not told or answer.text == told.replace(ID, known)
        count += 1
    assert count == 6


def test_every_route_is_in_the_table() -> None:
    table = re.findall(r"^\| `([A-Z]+) (/\S*?)(?:\?\S*)?` ", PAGE, re.MULTILINE)
    for route in router.routes:
        path = route.path.removeprefix("/workflow-manager").replace("{workflow_id}", "{id}")  # type: ignore[attr-defined]
        for method in route.methods:  # type: ignore[attr-defined]
            assert (method, path) in table
