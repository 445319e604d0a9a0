"""Our APIs where they are: mounted in Airflow's API server, behind a socket, its middleware and its log-in."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import requests

from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from tests.conftest import require
from tests.e2e.walks import Walk

NOWHERE = "/dags/none/runs/none/tasks/none"
"""A page whose answer to who may see it is that it is not there."""


def asked(stack: LocalStack, path: str, **more: Any) -> requests.Response:
    return requests.get(f"{stack.ui}/monai{path}", timeout=60, allow_redirects=False, **more)


def token(stack: LocalStack) -> str:
    login = {"username": USER, "password": stack.secrets.password}
    answer = requests.post(f"{stack.ui}/auth/token", json=login, timeout=60)
    return str(answer.json()["access_token"])


def test_who_may_ask(stack: LocalStack) -> None:
    by_token = {"authorization": f"Bearer {token(stack)}"}
    by_password = (USER, stack.secrets.password)
    path = "/workflow-manager/credentials"
    assert asked(stack, path, headers=by_token).status_code == 200
    assert asked(stack, path, auth=by_password).status_code == 200
    assert asked(stack, path, cookies={"_token": token(stack)}).status_code == 200
    for more in ({}, {"auth": (USER, "wrong")}, {"headers": {"authorization": "Bearer x.y.z"}}):
        answer = asked(stack, path, **more)
        assert answer.status_code == 401 and answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["instance"] == f"/monai{path}"
    assert asked(stack, NOWHERE, headers=by_token).status_code == 404
    assert asked(stack, NOWHERE).status_code == 401


def test_the_document_of_the_apis(stack: LocalStack) -> None:
    from openapi_spec_validator import validate

    assert asked(stack, "/openapi.json").status_code == 401
    document = asked(stack, "/openapi.json", auth=(USER, stack.secrets.password)).json()
    validate(document)
    assert document["servers"] == [{"url": "/monai"}]
    assert "/workflow-manager/credentials" in document["paths"]


def test_the_walk_of_the_page(stack: LocalStack, tmp_path: Path) -> None:
    """docs/api.md, as a user would type it; its commands of ``airflow monai`` are in test_walks.py."""
    require("curl")
    signing_in, _, credentials = Walk.of("api.md").steps
    known = {"SERVER": stack.ui, "NAME": USER, "PASSWORD": stack.secrets.password, "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{signing_in}\n{credentials}"],
        env=known,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "openapi.json").read_text())["openapi"].startswith("3.")
    assert done.stdout.count('"id":"segmentation_service"') == 4 and "s3cret" not in done.stdout
    left = asked(stack, "/workflow-manager/credentials", auth=(USER, stack.secrets.password)).json()
    assert "segmentation_service" not in {one["id"] for one in left}
