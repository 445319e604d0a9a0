"""Ways to an engine and to its images: TLS, logins, pulls that are told, ended, refused."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from airflow_monai.errors import (
    ImageDenied,
    MapInterrupted,
    MapNotFound,
    PolicyRefused,
    RunnerUnavailable,
    SettingsError,
)
from airflow_monai.local.processes import wait_until
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.runners.docker import pull as docker_pull
from airflow_monai.maps.runners.docker.engine import Engine
from airflow_monai.maps.runners.docker.image import get_image
from tests.conftest import require
from tests.operators.conftest import Site, map_images, site  # noqa: F401
from tests.operators.map_tasks import STUDY
from tests.operators.test_container import run
from tests.own_docker import SHELL, OwnEngine, make_certificates
from tests.registry import Registry, registry

SOCKET = "unix:///var/run/docker.sock"


@pytest.fixture(scope="module")
def tls_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    require("docker", "dockerd", "openssl")
    engine = OwnEngine(
        Path(tempfile.mkdtemp(prefix="engine-")), tls=make_certificates(tmp_path_factory.mktemp("x") / "tls")
    )
    try:
        engine.start()
        engine.load_shell()
        yield engine
    finally:
        engine.remove()


def test_an_engine_behind_tls_is_used_by_every_client(tls_engine: OwnEngine) -> None:
    engine = Engine(tls_engine.url, tls_folder=str(tls_engine.tls))
    assert engine.image(SHELL)
    assert engine.fresh().image(SHELL)
    assert engine.second().ping()
    assert engine.registry_client(5).ping()
    with pytest.raises(RunnerUnavailable, match="cannot be reached"):
        Engine(tls_engine.url).image(SHELL)


def test_an_engine_of_another_authority_is_not_trusted(tls_engine: OwnEngine, tmp_path: Path) -> None:
    others = make_certificates(tmp_path / "others")
    with pytest.raises(RunnerUnavailable, match="cannot be reached"):
        Engine(tls_engine.url, tls_folder=str(others)).image(SHELL)
    with pytest.raises(SettingsError, match=r"docker_tls_folder = .*ca\.pem"):
        Engine(tls_engine.url, tls_folder=str(tmp_path / "none")).image(SHELL)


@pytest.mark.parametrize("site", ["docker"], indirect=True)
@pytest.mark.parametrize("by_connection", [False, True])
def test_a_task_runs_and_is_ended_behind_tls(
    site: Site,  # noqa: F811
    tls_engine: OwnEngine,
    by_connection: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if by_connection:
        extra = {"docker_url": tls_engine.url, "docker_tls_folder": str(tls_engine.tls)}
        monkeypatch.setenv("AIRFLOW_CONN_ENGINE", json.dumps({"conn_type": "docker", "extra": extra}))
        monkeypatch.setenv("AIRFLOW__MONAI__DOCKER_CONN_ID", "engine")
    else:
        monkeypatch.setenv("AIRFLOW__MONAI__DOCKER_URL", tls_engine.url)
        monkeypatch.setenv("AIRFLOW__MONAI__DOCKER_TLS_FOLDER", str(tls_engine.tls))
    task = {"task_id": "segment", "image": SHELL, "inputs": [STUDY], "paths": {"study": "/in"}, "runner": "docker"}
    run(site, **task, entrypoint=["/bin/sh", "-c"], command=["echo hello"])
    assert site.log().split() == ["hello"]
    again = {**task, "task_id": "again", "entrypoint": ["/bin/sh", "-c"], "command": ["echo ready; sleep 60"]}
    worker, task_process = site.worker(again)
    deadline = time.monotonic() + 90
    while not tls_engine.containers():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(task_process, signal.SIGTERM)
    worker.wait(90)
    assert tls_engine.containers() == []


@pytest.fixture
def served(map_images: object) -> Iterator[Registry]:  # noqa: F811
    with registry() as running:
        yield running
        engine = docker.from_env(version="auto")
        for image in engine.images.list():
            if any(f"127.0.0.1:{running.port}/" in tag for tag in (*image.tags, *image.attrs.get("RepoDigests", ()))):
                engine.images.remove(image.id, force=True)
        engine.close()


def test_a_pull_is_told_and_by_its_digest_found(
    served: Registry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_pull, "TELL_SECONDS", 0.3)
    image = served.publish("tests/slow", os.urandom(2**20), command=["/content"])
    served.seconds = 0.002
    with caplog.at_level(logging.INFO):
        found = get_image(Engine(SOCKET), Policy(), image, check=lambda: None)
    told = [record.getMessage() for record in caplog.records if "Pull" in record.getMessage()]
    assert told[0] == f"Pulling {image} to the Docker engine at {SOCKET}"
    assert re.search(r": \d+ %, \d+ of \d+ MiB as far as known, \d of \d layers", " ".join(told))
    assert len(told) < 60
    (digest,) = found["RepoDigests"]
    assert (
        get_image(Engine(SOCKET), Policy(digests=True, pull="always"), digest, check=lambda: None)["Id"] == found["Id"]
    )


def test_a_pull_ends_when_the_task_is_ended(served: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_pull, "CHECK_SECONDS", 0.2)
    image = served.publish("tests/endless", os.urandom(2**22), command=["/content"])
    served.seconds = 0.05
    begun = time.monotonic()

    def ended() -> None:
        if time.monotonic() - begun > 1:
            raise MapInterrupted("ended")

    with pytest.raises(MapInterrupted):
        get_image(Engine(SOCKET), Policy(), image, check=ended)
    assert time.monotonic() - begun < 60, "it would take 200 s"
    assert Engine(SOCKET).image(image) is None
    served.seconds = 0  # the end of a task's process ends the pull; here it comes to its own, and can be removed
    assert wait_until(lambda: served.sending == 0, 60)
    wait_until(lambda: Engine(SOCKET).image(image) is not None, 5)


def test_a_registry_that_wants_a_login_gets_that_of_the_connection(
    served: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = served.publish("tests/private", b"x", command=["/content"])
    served.login = "reader:secret"
    with pytest.raises((ImageDenied, MapNotFound), match="docker_conn_id"):
        get_image(Engine(SOCKET), Policy(), image, check=lambda: None)
    for password, works in (("wrong", False), ("secret", True)):
        known = {"conn_type": "docker", "host": f"127.0.0.1:{served.port}", "login": "reader", "password": password}
        monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", json.dumps(known))
        if works:
            assert get_image(Engine(SOCKET, "registry"), Policy(), image, check=lambda: None)["Id"]
        else:
            with pytest.raises(ImageDenied, match="connection 'registry' cannot log in") as caught:
                get_image(Engine(SOCKET, "registry"), Policy(), image, check=lambda: None)
            assert password not in str(caught.value)


def test_an_image_by_a_short_id_is_judged_by_its_names(map_images: object) -> None:  # noqa: F811
    engine = Engine(SOCKET)
    whole = engine.image("noop:1.0.0")
    assert whole is not None
    for reference in (whole["Id"], whole["Id"].removeprefix("sha256:")[:12]):
        assert get_image(engine, Policy(images=("noop:*",)), reference, check=lambda: None)["Id"] == whole["Id"]
        assert get_image(engine, Policy(pull="always"), reference, check=lambda: None)["Id"] == whole["Id"]
        with pytest.raises(PolicyRefused, match="allowed_images"):  # an id looks like a name of the Docker Hub
            get_image(engine, Policy(images=("docker.io/library/[0-9a-f]*",)), reference, check=lambda: None)


def test_a_connection_that_is_not_there_is_told() -> None:
    with pytest.raises(SettingsError, match="no Airflow connection 'none-such'"):
        Engine(SOCKET, "none-such")
