"""Configuration of the local stack: all of it environment variables, nothing of the user's own Airflow is read."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_monai.local.ports import LOOPBACK
from airflow_monai.local.processes import TOKEN_VARIABLE

USER = "admin"
PACS_AET = "PACS"
OUR_AET = "MONAI"  # that exports call with
TASKS_PER_CORE = 8  # task processes mostly wait: measured best on 2 cores


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of what listens."""

    ui: int
    dicom: int
    pacs: int
    pacs_http: int


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a state folder keeps for itself, in a file that only its owner can read.

    :param token: marks the stack's processes; not a secret.
    """

    password: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    fernet_key: str = field(default_factory=lambda: _fernet_key())
    jwt_secret: str = field(default_factory=lambda: secrets.token_urlsafe(64))
    token: str = field(default_factory=lambda: secrets.token_hex(12))

    def keep(self, passwords_file: Path) -> None:
        """Write the password where Airflow's simple auth manager reads it, for the owner's eyes only."""
        write_private(passwords_file, json.dumps({USER: self.password}))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in the state folder."""

    state: Path

    @property
    def airflow_home(self) -> Path:
        return self.state / "airflow"

    @property
    def store(self) -> Path:
        return self.state / "store"

    @property
    def archive(self) -> Path:
        return self.state / "archive"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def database(self) -> Path:
        return self.state / "postgres"

    @property
    def pacs(self) -> Path:
        return self.state / "pacs"

    @property
    def passwords(self) -> Path:
        return self.state / "passwords.json"

    @property
    def shell(self) -> Path:
        """What a shell reads (``. env.sh``) to run ``airflow`` on this stack."""
        return self.state / "env.sh"

    @property
    def events(self) -> Path:
        return self.state / "gateway-events.jsonl"


def write_shell(path: Path, env: Mapping[str, str]) -> None:
    """Write what points a shell's ``airflow`` at this stack; it holds secrets, so only the owner can read it."""
    ours = {name: value for name, value in sorted(env.items()) if name.startswith("AIRFLOW_")}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in ours.items()]
    # the shell's own settings first: one of another Airflow must not stay in force beside those of this one
    names = """awk 'BEGIN { for (name in ENVIRON) if (name ~ /^AIRFLOW_/) print name }'"""
    write_private(path, "\n".join([f'for name in $({names}); do unset "$name"; done', *lines, ""]))


def base_environment(layout: Layout, token: str) -> dict[str, str]:
    """The caller's environment without what would change an Airflow or a Python that is started, plus our mark."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"):
        kept.pop(name, None)
    programs = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join([programs, kept.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",  # else a process title overwrites the environment by which a process is found
        TOKEN_VARIABLE: token,
        "AIRFLOW_HOME": str(layout.airflow_home),
    }


def airflow_environment(
    layout: Layout, ports: Ports, keys: Secrets, *, database_url: str, heartbeat_timeout: int, bundles: list[dict]
) -> dict[str, str]:
    """Airflow's own options as environment variables."""
    ui = f"http://{LOOPBACK}:{ports.ui}"
    options: dict[str, dict[str, object]] = {
        "core": {
            "executor": "LocalExecutor",
            "load_examples": False,
            "fernet_key": keys.fernet_key,
            "parallelism": TASKS_PER_CORE * (os.cpu_count() or 2),
            # less than refresh_interval: Airflow's 30 s would pass over an edit that soon follows another one
            "min_serialized_dag_update_interval": 3,
            "test_connection": "Enabled",  # the Test button of connections, which Airflow leaves off
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": layout.passwords,
            "execution_api_server_url": f"{ui}/execution/",
        },
        "database": {"sql_alchemy_conn": database_url},
        "api": {"base_url": ui, "host": LOOPBACK, "port": ports.ui, "secret_key": keys.jwt_secret, "workers": 1},
        "api_auth": {"jwt_secret": keys.jwt_secret},
        "dag_processor": {
            "dag_bundle_config_list": json.dumps(bundles),
            "dag_bundle_storage_path": layout.airflow_home / "bundles",
            "refresh_interval": 5,
            "bundle_refresh_check_interval": 1,
            "min_file_process_interval": 3600,
            "parsing_processes": 2,
        },
        "scheduler": {
            "task_instance_heartbeat_timeout": heartbeat_timeout,
            "task_instance_heartbeat_sec": max(1, min(5, heartbeat_timeout // 5)),
            "task_instance_heartbeat_timeout_detection_interval": 5,
            "orphaned_tasks_check_interval": 30,  # tasks of a killed scheduler; Airflow's own is five minutes
        },
        "logging": {"base_log_folder": layout.logs / "tasks"},
        "usage_data_collection": {"enabled": False},
    }
    return {
        f"AIRFLOW__{section.upper()}__{option.upper()}": str(value)
        for section, values in options.items()
        for option, value in values.items()
    }


def monai_environment(
    layout: Layout, ports: Ports, keys: Secrets, *, workflows: Path, runner: str, map_path: tuple[Path, ...]
) -> dict[str, str]:
    """The ``[monai]`` options and the connections: Airflow's API, the PACS, the archive folder."""
    connections = {
        "MONAI_AIRFLOW": {
            "conn_type": "http", "schema": "http", "host": LOOPBACK, "port": ports.ui,
            "login": USER, "password": keys.password,
        },
        "PACS": {
            "conn_type": "dicom", "host": LOOPBACK, "port": ports.pacs,
            "extra": {"called_aet": PACS_AET, "calling_aet": OUR_AET},
        },
        "ARCHIVE": {"conn_type": "monai_folder", "extra": {"path": str(layout.archive)}},
    }  # fmt: skip
    options: Mapping[str, object] = {
        "store": layout.store,
        "workflow_folder": workflows,
        "runner": runner,
        "map_path": os.pathsep.join(str(folder) for folder in map_path),
        "dicom_host": LOOPBACK,
        "dicom_port": ports.dicom,
        # this is not the disk of a hospital: the defaults would refuse to work on many a laptop
        "disk_used_percent": 97,
        "disk_reserve": "1 GB",
        "notification_hosts": LOOPBACK,  # so that a handler on this machine can be tried out
    }
    return {
        **{f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in connections.items()},
        **{f"AIRFLOW__MONAI__{name.upper()}": str(value) for name, value in options.items()},
    }


def bundles(workflows: Path, dags: Path | None) -> list[dict]:
    """DAG bundles: the workflow specs, and the hand-written DAGs where there are some."""
    found = [
        {
            "name": "workflows",
            "classpath": "airflow_monai.bundles.workflow_folder.WorkflowSpecBundle",
            "kwargs": {"path": str(workflows)},
        }
    ]
    if dags is not None and dags.is_dir():
        local = "airflow.dag_processing.bundles.local.LocalDagBundle"
        found.append({"name": "dags", "classpath": local, "kwargs": {"path": str(dags)}})
    return found


def _fernet_key() -> str:
    import base64

    return base64.urlsafe_b64encode(os.urandom(32)).decode()
