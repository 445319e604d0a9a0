"""The folders of this host that stand in for a store in a bucket while an application runs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_monai import settings
from airflow_monai.errors import MapError, PolicyRefused, RunnerUnavailable, StoreError
from airflow_monai.maps.policy import Asked, Policy
from airflow_monai.maps.runners.base import Mount
from airflow_monai.maps.runners.kubernetes.pod import pod_manifest
from airflow_monai.maps.runners.kubernetes.runner import KubernetesRunner
from airflow_monai.maps.staging import NamedInput, input_folder
from airflow_monai.maps.workspace import PLACE, Notes, clear, is_shared, local, publish, shared
from airflow_monai.store.local import LocalStore
from airflow_monai.store.s3 import S3Store
from airflow_monai.tasks.artifacts import ArtifactFiles
from tests.maps.test_process import job
from tests.s3_server import S3Server, s3  # noqa: F401

KEY = "payloads/p/workflows/d/r/t/g2"


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Store:  # noqa: F811
    store = s3.store(tmp_path)
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", store.url)
    monkeypatch.setenv("AIRFLOW__MONAI__SCRATCH_FOLDER", str(tmp_path / "scratch"))
    monkeypatch.setenv("AIRFLOW__MONAI__SPOOL_FOLDER", str(tmp_path / "spool"))
    return store


def test_a_store_in_a_folder_needs_no_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert is_shared(store) and local(store, KEY) == shared(store, KEY) == tmp_path / KEY
    (tmp_path / KEY).mkdir(parents=True)
    clear(store, KEY)
    assert (tmp_path / KEY).is_dir(), "it is the store"


def test_output_is_flushed_before_a_record_can_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a power cut: what was flushed by its inode number would be there afterwards."""
    store = LocalStore(tmp_path)
    output = tmp_path / KEY
    (output / "seg").mkdir(parents=True)
    made = [output / "seg.dcm", *(output / "seg" / f"{number}.dcm" for number in range(20))]
    for file in made:
        file.write_bytes(b"result")
    (output / "gone").symlink_to(tmp_path / "nowhere")
    flushed: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.add(os.fstat(fd).st_ino))
    run = SimpleNamespace(store=store, output_key=KEY)
    assert publish(run) == KEY  # type: ignore[arg-type]
    assert {path.stat().st_ino for path in (*made, output / "seg", output, output.parent)} <= flushed
    monkeypatch.setattr(os, "fsync", _broken_disk)
    with pytest.raises(StoreError, match="Input/output error"):
        publish(run)  # type: ignore[arg-type]


def _broken_disk(_: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_each_bucket_has_a_folder_that_only_the_worker_may_enter(bucket: S3Store, tmp_path: Path) -> None:
    path = local(bucket, KEY)
    top = path.parents[len(KEY.split("/")) - 1]
    assert top.parent == tmp_path / "scratch" and top.stat().st_mode & 0o777 == 0o700
    with pytest.raises(MapError, match=r"needs one: set .monai. store to a folder"):
        shared(bucket, KEY)


def test_input_is_copied_once_and_is_whole_or_not_there(
    bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a/1.dcm", "a/b/2.dcm", "c/seg.dcm"):
        bucket.write(f"made/{key}", key.encode())
    one = NamedInput("study", ArtifactFiles("made/a", ("made/a/1.dcm", "made/a/b/2.dcm"), "made/a"))
    two = NamedInput("seg", ArtifactFiles(None, ("made/c/seg.dcm",), "made/c"))
    gone = NamedInput("gone", ArtifactFiles(None, ("made/c/gone.dcm",), "made/c"))
    staging = local(bucket, KEY).with_name("g2.in")
    with pytest.raises(StoreError, match=r"made/c/gone\.dcm"):
        input_folder(bucket, [one, gone], staging)
    assert not staging.exists()
    folder = input_folder(bucket, [one, two], staging)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"study/1.dcm", "study/b/2.dcm", "seg/seg.dcm"}
    monkeypatch.setattr(S3Store, "fetch_all", lambda *_: pytest.fail("copied again"))
    assert input_folder(bucket, [one, two], staging) == folder == staging


def test_what_a_generation_and_those_before_it_left_is_removed(bucket: S3Store) -> None:
    task = local(bucket, KEY).parent
    for name in ("g1/a", "g2/b/c", "g2.in/d", "g2.log", ".tmp-x/e", "g3/f", "g20.log", "0/g1/g"):
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text("x")
    clear(bucket, KEY)
    assert sorted(path.name for path in task.iterdir()) == ["0", "g20.log", "g3"]
    clear(bucket, KEY.replace("g2", "g20"))
    clear(bucket, KEY.replace("g2", "0/g1"))
    assert not task.exists() and not task.parents[3].exists(), "empty folders go too"


def test_no_task_sees_the_folders_of_others(bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__ALLOWED_MOUNTS", str(tmp_path))
    for name in ("scratch", "spool"):
        (tmp_path / name).mkdir(exist_ok=True)
        with pytest.raises(PolicyRefused, match="would open the host or the store"):
            Policy.of(settings.load()).confine(Asked.of({"mounts": [f"{tmp_path / name}:/data"]}), what="Task t")


def test_a_pod_sees_its_part_of_a_shared_scratch_folder(
    bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_STORE_VOLUME", '{"claim": "scratch", "path": "monai"}')
    runner = KubernetesRunner(settings.load(), bucket)
    output = local(bucket, KEY)
    wanted = job(tmp_path, "", output=output, mounts=(Mount(output, "/out", read_only=False),))
    pod = pod_manifest(wanted, runner._placed(wanted))
    mounts = {mount["mountPath"]: mount for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    below = output.relative_to(tmp_path / "scratch").as_posix()
    assert mounts["/out"] == {"name": "store", "mountPath": "/out", "subPath": f"monai/{below}", "readOnly": False}


def test_only_the_scratch_folder_of_the_start_goes_on(
    bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(bucket, KEY)
    notes.require_here("job")  # started nowhere yet
    assert notes.create(PLACE, {"names": ["engine"], "worker": "host-1"})
    assert not notes.create(PLACE, {"names": ["other"], "worker": "host-2"})
    notes.require_here("job")
    monkeypatch.setenv("AIRFLOW__MONAI__SCRATCH_FOLDER", str(tmp_path / "elsewhere"))
    with pytest.raises(RunnerUnavailable, match=r"host-1.*clear the task"):
        notes.require_here("job")
    notes.remove(PLACE)
    notes.require_here("job")
