"""What applications use, as the kernel, the Docker engine and the graphics driver tell it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_monai.maps.runners import gpu_usage
from airflow_monai.maps.runners.docker import usage as docker_usage
from airflow_monai.maps.runners.docker.usage import ContainerUsage, ControlGroup, sample_of
from airflow_monai.maps.runners.gpu_usage import GpuMemory, sampled
from tests.conftest import require
from tests.fixtures_maps import map_images  # noqa: F401

MIB = 1 << 20


def test_the_engine_s_statistics_of_both_versions() -> None:
    cpu = {"cpu_usage": {"total_usage": 2_500_000_000}}
    details = {"total_inactive_file": 30 * MIB, "total_cache": 40 * MIB, "total_shmem": 4 * MIB, "cache": 1}
    first = {"usage": 100 * MIB, "max_usage": 150 * MIB, "stats": details}
    sample = sample_of({"memory_stats": first, "cpu_stats": cpu})
    assert (sample.memory, sample.cache, sample.peak) == (70 * MIB, 36 * MIB, 150 * MIB)
    assert sample.cpu_seconds == 2.5
    second = {"usage": 100 * MIB, "stats": {"inactive_file": 30 * MIB, "file": 50 * MIB, "shmem": 10 * MIB}}
    sample = sample_of({"memory_stats": second})
    assert (sample.memory, sample.cache, sample.peak, sample.cpu_seconds) == (70 * MIB, 40 * MIB, 0, 0.0)


def test_files_of_version_2(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text(f"{100 * MIB}\n")
    (tmp_path / "memory.peak").write_text(f"{120 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\nfile {30 * MIB}\nshmem 0\ninactive_file {20 * MIB}\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (tmp_path / "cgroup.procs").write_text("12\n34\n")
    group = ControlGroup(tmp_path, tmp_path, 2)
    sample = group.sample()
    assert (sample.memory, sample.cache, sample.peak, sample.cpu_seconds) == (80 * MIB, 30 * MIB, 120 * MIB, 1.5)
    assert group.pids() == [12, 34]


MOUNTS = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /outer /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def test_where_a_group_lies() -> None:
    mounts = docker_usage._mounts(MOUNTS)
    folder = docker_usage._folder
    assert folder(mounts, "cpuacct", "/docker/abc") == Path("/sys/fs/cgroup/cpu,cpuacct/docker/abc")
    assert folder(mounts, "memory", "/outer/docker/abc") == Path("/sys/fs/cgroup/memory/docker/abc")
    assert folder(mounts, "", "/system.slice/docker-abc.scope") == Path(
        "/sys/fs/cgroup/unified/system.slice/docker-abc.scope"
    )


def test_a_process_that_is_not_the_container_s_is_not_measured() -> None:
    assert ControlGroup.of(1, "0123456789abcdef" * 4) is None
    assert ControlGroup.of(2**30, "0123456789abcdef" * 4) is None


@pytest.mark.parametrize("way", ["kernel", "engine"])
@pytest.mark.usefixtures("map_images")
def test_a_real_container(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require("docker")
    import docker

    from airflow_monai.maps.runners.docker.engine import Engine

    if way == "engine":
        monkeypatch.setattr(ContainerUsage, "_control_group", lambda _: None)
    source = "import time\nkept = bytearray(60 * 2**20)\nwhile time.process_time() < 0.5: pass\ntime.sleep(60)"
    client = docker.from_env()
    how = {"entrypoint": "python3", "network": "none", "detach": True}
    container = client.containers.run("noop:1.0.0", ["-c", source], **how)
    try:
        job = type("Job", (), {"name": container.name, "gpus": 0})()
        with ContainerUsage(Engine("unix:///var/run/docker.sock"), job) as usage:
            deadline = time.monotonic() + 50
            while (usage.so_far.cpu_seconds or 0) < 0.5 and time.monotonic() < deadline:
                time.sleep(0.1)
        assert usage.so_far.peak_memory_bytes is not None and usage.so_far.cpu_seconds is not None
        assert 60 * MIB < usage.so_far.peak_memory_bytes < 90 * MIB
        assert 0.5 <= usage.so_far.cpu_seconds < 10
        assert usage.so_far.gpu_memory_bytes is None
    finally:
        container.remove(force=True)
        client.close()


def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int = 0) -> None:
    """A program that answers as the driver's would."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(gpu_usage, "EVERY_SECONDS", 0)


def test_card_memory_of_the_application_s_processes_on_all_their_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, monkeypatch, "11, 500\n11, 300\n12, 200\n99, 9000\n13, [N/A]")
    gpu = GpuMemory(lambda: [11, 12, 13])
    gpu.look()
    assert gpu.peak == 1000 * MIB
    driver(tmp_path, monkeypatch, "11, 100")
    gpu.look()
    assert gpu.peak == 1000 * MIB, "the most it had"


@pytest.mark.parametrize(("answer", "code"), [("99, 9000", 0), ("11, [N/A]", 0), ("11, 500", 9), ("no devices", 0)])
def test_card_memory_that_nobody_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    driver(tmp_path, monkeypatch, answer, code)
    with sampled(GpuMemory(lambda: [11])) as gpu:
        gpu.look()
    assert gpu.peak is None


def test_a_host_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    gpu = GpuMemory(lambda: [11])
    gpu.look()
    assert gpu.peak is None
