"""Shared fixtures. A test that needs a real part (Docker, dcmtk, Orthanc...) asks ``require("docker")``."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.rabbitmq import RabbitNode

# A shell's background job ignores Ctrl-C, and so would all that the tests start and try Ctrl-C on
signal.signal(signal.SIGINT, signal.default_int_handler)

# and the disk that the tests run on need not be one that a hospital would trust its studies to
os.environ.setdefault("AIRFLOW__MONAI__DISK_USED_PERCENT", "100")
os.environ.setdefault("AIRFLOW__MONAI__DISK_RESERVE", "0")


# What a busy host is slow with is no fault, and no run has luck with its examples: MONAI_PROPERTY_EXAMPLES
# (how many random workflows) looks for others
settings.register_profile(
    "tests",
    deadline=None,
    derandomize="MONAI_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")

ORTHANC_DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


@functools.cache
def _docker_engine() -> str | None:
    try:
        import docker

        docker.from_env(timeout=10).ping()
    except Exception as error:  # noqa: BLE001 - any failure means: no engine here
        return f"no Docker engine answers ({type(error).__name__}): install docker.io and start dockerd"
    return None


def _program(name: str, package: str) -> str | None:
    return None if shutil.which(name) else f"{name} is not installed: apt-get install {package}"


def _rabbitmq() -> str | None:
    program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    return None if os.path.exists(program) else f"{program} is not there: apt-get install rabbitmq-server"


def _file(path: str, package: str) -> str | None:
    return None if os.path.exists(path) else f"{path} is not there: apt-get install {package}"


def _bubblewrap() -> str | None:
    missing = _program("bwrap", "bubblewrap")
    if missing:
        return missing
    probe = subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True)
    return None if probe.returncode == 0 else "bubblewrap cannot make namespaces here"


def _moto() -> str | None:
    missing = [name for name in ("boto3", "moto", "flask") if importlib.util.find_spec(name) is None]
    return f"{missing[0]} is not installed: pip install 'moto[server]' boto3" if missing else None


PARTS = {
    "docker": _docker_engine,
    "dockerd": lambda: _program("dockerd", "docker.io") or _program("ip", "iproute2"),
    "openssl": lambda: _program("openssl", "openssl"),
    "docker-compose": lambda: _program("docker-compose", "docker-compose"),
    "dcmtk": lambda: _program("storescu", "dcmtk"),
    "orthanc": lambda: _program("Orthanc", "orthanc"),
    "orthanc-dicomweb": lambda: _program("Orthanc", "orthanc") or _file(ORTHANC_DICOMWEB, "orthanc-dicomweb"),
    "rabbitmq": _rabbitmq,
    "bubblewrap": _bubblewrap,
    "moto": _moto,
    "curl": lambda: _program("curl", "curl"),
    "mmdebstrap": lambda: _program("mmdebstrap", "mmdebstrap"),
}


def pytest_sessionfinish(exitstatus: int) -> None:
    """Tell pytest's own exit status, which `make` hides: 1 is a run that came to its end with tests that failed."""
    if path := os.environ.get("TESTS_ENDED_WITH"):
        with open(path, "w") as file:
            file.write(str(int(exitstatus)))


def require(*parts: str) -> None:
    """Skip the test with the reason when a part is missing; fail instead where REQUIRE_REAL_PARTS=1 (CI)."""
    for part in parts:
        reason = PARTS[part]()
        if reason is None:
            continue
        if os.environ.get("REQUIRE_REAL_PARTS") == "1":
            pytest.fail(f"needs {part}: {reason}")
        pytest.skip(f"needs {part}: {reason}")


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One RabbitMQ node for all tests, with TLS beside plain; a test that ends it starts it again."""
    require("rabbitmq", "openssl")
    from tests.rabbitmq import make_certificates, rabbitmq

    folder = tmp_path_factory.mktemp("rabbit")
    with rabbitmq(folder / "node", make_certificates(folder / "tls")) as node:
        yield node


@pytest.fixture
def exchange() -> str:
    """A name of queues and exchanges that no other test uses."""
    return f"x{uuid.uuid4().hex[:10]}"


@pytest.fixture
def free_port() -> int:
    from tests.pacs import free_port

    return free_port()
