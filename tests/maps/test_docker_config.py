"""What the engine is asked for: the cards of a lease and no others, users, networks, capabilities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import MapError
from airflow_monai.maps.policy import Confinement
from airflow_monai.maps.runners.base import MapJob, Mount
from airflow_monai.maps.runners.docker.config import container_config
from airflow_monai.maps.runners.user import check_readable, on_host, prepare_output
from tests.maps.test_preparation import job

CARD = "GPU-8f1b2a3c-0000-1111-2222-333344445555"
SLICE = "MIG-2b4c6d8e-0000-1111-2222-333344445555"
ALL = {"NVIDIA_VISIBLE_DEVICES": "all"}


def config(wanted: MapJob) -> dict[str, Any]:
    return container_config(wanted, local_engine=False)


def variables(wanted: MapJob) -> list[str]:
    return [item for item in config(wanted)["Env"] if item.startswith("NVIDIA_VISIBLE_DEVICES")]


@pytest.mark.parametrize("cards", [(CARD,), (CARD, "1"), (SLICE,)])
def test_a_container_gets_the_cards_of_its_lease_whatever_its_variables_say(
    tmp_path: Path, cards: tuple[str, ...]
) -> None:
    leased = replace(job(tmp_path), gpus=len(cards), devices=cards, environment=ALL)
    (request,) = config(leased)["HostConfig"]["DeviceRequests"]
    assert request == {"Driver": "", "DeviceIDs": list(cards), "Capabilities": [["gpu"]]}
    assert variables(leased) == [f"NVIDIA_VISIBLE_DEVICES={','.join(cards)}"]


def test_without_a_lease_the_engine_chooses_as_many_as_are_asked_for(tmp_path: Path) -> None:
    wanted = replace(job(tmp_path), gpus=2, environment=ALL)
    (request,) = config(wanted)["HostConfig"]["DeviceRequests"]
    assert request["Count"] == 2
    assert variables(wanted) == []


def test_without_cards_an_image_that_wants_all_sees_none(tmp_path: Path) -> None:
    wanted = replace(job(tmp_path), environment=ALL)
    assert "DeviceRequests" not in config(wanted)["HostConfig"]
    assert variables(wanted) == ["NVIDIA_VISIBLE_DEVICES=void"]


def test_a_network_and_capabilities_that_the_policy_gave(tmp_path: Path) -> None:
    alone = config(job(tmp_path))
    assert (alone["NetworkDisabled"], alone["HostConfig"]["NetworkMode"]) == (True, "none")
    confinement = Confinement(network="models", capabilities=("SYS_NICE",), pids=77)
    host = config(replace(job(tmp_path), confinement=confinement))["HostConfig"]
    assert (host["NetworkMode"], host["CapAdd"], host["CapDrop"], host["PidsLimit"]) == (
        "models",
        ["SYS_NICE"],
        ["ALL"],
        77,
    )


REMAPPED = {"SecurityOptions": ["name=seccomp", "name=userns"], "DockerRootDir": "/var/lib/docker/231072.231072"}


def test_an_engine_that_maps_users_is_given_folders_of_the_mapped_one(tmp_path: Path) -> None:
    wanted = job(tmp_path / "g1", user="1000:1000")
    assert on_host(wanted, {}).user == "1000:1000"
    assert on_host(wanted, REMAPPED).user == "232072:232072"
    prepare_output(on_host(wanted, REMAPPED), empty=True)
    assert (tmp_path / "g1").stat().st_uid == 232072
    assert config(wanted)["User"] == "1000:1000"
    with pytest.raises(MapError, match="userns-remap"):
        on_host(wanted, {"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker"})


def test_an_input_of_another_user_is_told_before_the_run(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir(mode=0o755)
    (source / "a.dcm").write_bytes(b"x")
    wanted = replace(job(tmp_path / "g1", user="4711:4711"), mounts=(Mount(source, "/in"),))
    check_readable(wanted)
    (source / "a.dcm").chmod(0o640)
    with pytest.raises(MapError, match=r"a file in .* is closed to user 4711.*container_user"):
        check_readable(wanted)
    check_readable(replace(wanted, user=f"4711:{source.stat().st_gid}"))
    source.chmod(0o700)
    with pytest.raises(MapError, match="closed to user 4711"):
        check_readable(wanted)
    check_readable(replace(wanted, user="0:0"))


@pytest.mark.parametrize(
    ("logs", "own"), [("/var/holoscan/input_logs", True), ("/var/holoscan/input/logs", False), ("/var/holoscan", False)]
)
def test_a_folder_for_logs_is_in_memory_unless_a_mount_has_it(tmp_path: Path, logs: str, own: bool) -> None:
    mounts = (Mount(tmp_path, "/var/holoscan/input"),)
    wanted = replace(job(tmp_path), mounts=mounts, environment={"HOLOSCAN_LOGS_PATH": f"{logs}/"})
    assert (logs in config(wanted)["HostConfig"]["Tmpfs"]) is own
