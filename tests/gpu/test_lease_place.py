"""Leases lie where all workers of a host see them, and no other host does: not among a container's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.errors import LeaseError
from airflow_monai.gpu import lease_place
from airflow_monai.gpu.lease_folder import LeaseFolder

LAYER = "5f" * 32
DOCKER = f"""\
74 49 0:39 / / rw,relatime master:2 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/ZP:/x,upperdir=/y
76 74 0:43 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
90 76 0:47 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
91 74 254:0 /srv/leases /host\\040folder rw,relatime - ext4 /dev/vda rw
92 74 254:0 /var/lib/docker/volumes/leases/_data /named rw,relatime master:1 - ext4 /dev/vda rw
93 74 254:0 /var/lib/docker/volumes/{LAYER}/_data /anonymous rw,relatime master:1 - ext4 /dev/vda rw
94 74 0:48 / /tmpfs rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw
95 74 0:25 /monai /run/monai rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw
96 74 0:50 / /shares/nfs rw,relatime - nfs4 filer:/export rw
97 74 0:51 / /shares/s3 rw,relatime - fuse.s3fs s3fs rw
98 74 0:52 / /shares/host rw,relatime - virtiofs mount0 rw
"""
OTHERS = {
    "a pod": "1 0 8:1 /var/lib/kubelet/pods/5f-5f/volumes/kubernetes.io~empty-dir/leases / rw - ext4 /dev/sda1 rw",
    "podman": "1 0 0:60 / / rw,relatime - fuse.fuse-overlayfs fuse-overlayfs rw",
    "btrfs": f"1 0 0:33 /var/lib/docker/btrfs/subvolumes/{LAYER} / rw,relatime - btrfs /dev/sdb rw",
    "vfs": f"1 0 8:1 /var/lib/docker/vfs/dir/{LAYER} / rw,relatime - ext4 /dev/sda1 rw",
}
HOST = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
28 27 0:25 / /run rw,nosuid,nodev - tmpfs tmpfs rw,mode=755
29 27 0:26 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw
30 27 0:27 / /data rw,relatime - zfs tank/data rw
"""


@pytest.fixture(autouse=True)
def no_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine is does not matter."""
    monkeypatch.setattr(lease_place, "_CONTAINER_MARKS", ())


def unfit(table: str, path: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(lease_place, "mounts_here", lambda: lease_place.parse_mounts(table))
    return lease_place.unfit(Path(path))


@pytest.mark.parametrize("path", ["/opt/airflow/monai-gpu-leases", "/anonymous/leases", "/tmpfs/leases", "/dev/shm/x"])
def test_a_folder_of_one_container_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = unfit(DOCKER, path, monkeypatch)
    assert "container" in problem and "give the same cards away" in problem
    assert "named volume, into all worker containers" in problem and "set [monai] gpu_lease_folder to it" in problem


@pytest.mark.parametrize("table", OTHERS.values(), ids=OTHERS)
def test_so_is_that_of_other_engines(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "give the same cards away" in unfit(table, "/leases", monkeypatch)


@pytest.mark.parametrize("path", ["/shares/nfs/x", "/shares/s3/x", "/shares/host/x"])
def test_what_other_hosts_share_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = unfit(DOCKER, path, monkeypatch)
    assert "network file system" in problem and "a disk of this host" in problem


@pytest.mark.parametrize("path", ["/host folder/x", "/named", "/run/monai/leases"])
def test_what_is_mounted_from_the_host_is_good(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unfit(DOCKER, path, monkeypatch) == ""


@pytest.mark.parametrize("path", ["/var/lib/monai/leases", "/run/monai", "/tmp/leases", "/data/leases"])
def test_on_a_host_its_own_file_systems_are_good(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unfit(HOST, path, monkeypatch) == ""


def test_a_machine_made_of_an_image_is_no_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / ".dockerenv"
    mark.touch()
    monkeypatch.setattr(lease_place, "_CONTAINER_MARKS", (mark,))
    assert unfit(HOST, "/var/lib/monai/leases", monkeypatch) == ""
    assert "memory of this container" in unfit(HOST, "/tmp/leases", monkeypatch)


def test_where_nobody_can_tell_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unfit("", "/leases", monkeypatch) == "" and unfit("nonsense\n- -\n", "/leases", monkeypatch) == ""


def test_nothing_is_leased_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_place, "mounts_here", lambda: lease_place.parse_mounts(DOCKER))
    refused = pytest.raises(LeaseError, match=r"leases is in a container's own layer.*gpu_lease_folder")
    with refused, LeaseFolder(tmp_path / "leases").change():
        pass
    assert not (tmp_path / "leases").exists()


def test_this_machine_s_own_table_is_read() -> None:
    root = lease_place.mount_of("/", lease_place.mounts_here())
    assert root is not None and root.point == "/" and root.kind
