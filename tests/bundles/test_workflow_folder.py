"""What Airflow gets to see of a folder of workflow files, and when."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_monai.bundles.workflow_folder import WorkflowSpecBundle
from airflow_monai.errors import StoreError
from airflow_monai.specs.folder import load_folder
from tests.bundles.conftest import spec

MakeBundle = Callable[..., WorkflowSpecBundle]


def version_of(bundle: WorkflowSpecBundle) -> str:
    current = bundle.get_current_version()
    assert current is not None
    return current.version


def dag_files(bundle: WorkflowSpecBundle) -> list[str]:
    return sorted(path.relative_to(bundle.path).as_posix() for path in bundle.path.rglob("*.py"))


def load(bundle: WorkflowSpecBundle) -> tuple[dict[str, object], dict[str, str]]:
    """DAGs and import errors, as the DAG processor finds them in the bundle's folder."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
    return dict(bag.dags), dict(bag.import_errors)


def test_each_workflow_file_is_a_dag_that_shows_its_text(folder: Path, make_bundle: MakeBundle) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "a.yaml").write_text(spec("mr"))
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert sorted(dags) == ["ct", "mr"] and not errors
    assert dag_files(bundle) == ["a.yaml.py", "deep/er/a.yaml.py"]
    assert spec("ct") in (bundle.path / "a.yaml.py").read_text()
    assert dags["ct"].relative_fileloc == "a.yaml.py"


def test_a_bad_file_is_one_import_error_with_its_place_and_the_others_load(
    folder: Path, make_bundle: MakeBundle
) -> None:
    (folder / "good.yaml").write_text(spec("good"))
    (folder / "typo.yaml").write_text(spec("typo").replace("export_destinations: [{", "export_destination: [{"))
    (folder / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    (folder / "text.json").write_text("{")
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert list(dags) == ["good"]
    assert sorted(errors) == ["bytes.yaml.py", "text.json.py", "typo.yaml.py"]
    last_line = errors["typo.yaml.py"].strip().splitlines()[-1]
    assert "typo.yaml:" in last_line and "did you mean 'export_destinations'?" in errors["typo.yaml.py"]
    assert "bytes.yaml:1:7: the file is not UTF-8 text" in errors["bytes.yaml.py"]
    assert "text.json:1:" in errors["text.json.py"]


def test_an_unreadable_file_is_its_own_import_error(folder: Path, make_bundle: MakeBundle) -> None:
    (folder / "good.yaml").write_text(spec("good"))
    (folder / "secret.yaml").write_text(spec("secret"))
    bundle = make_bundle()
    real_open = open

    def refuse(path: object, *args: object, **kwargs: object) -> object:
        if str(path).endswith("secret.yaml"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **kwargs)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_monai.bundles.reader.open", refuse, raising=False)
        bundle.initialize()
    dags, errors = load(bundle)
    assert list(dags) == ["good"]
    assert "secret.yaml:1:1: the file cannot be read: Permission denied" in errors["secret.yaml.py"]


def test_the_later_of_two_files_with_one_name_is_refused_as_the_gateway_sees_it(
    folder: Path, make_bundle: MakeBundle
) -> None:
    for path, name in {"b.yaml": "CT", "a.yaml": "ct", "c.yaml": "other", "a/z.yaml": "Other"}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(spec(name))
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert set(dags) == {plan.dag_id for plan in load_folder(folder).workflows}
    assert "already in a.yaml" in errors["b.yaml.py"]
    assert len(errors) == 2


def test_nothing_changed_means_the_same_version_and_no_work(folder: Path, make_bundle: MakeBundle) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    bundle = make_bundle()
    bundle.initialize()
    before, times = version_of(bundle), (bundle.path / "a.yaml.py").stat()
    bundle.refresh()
    os.utime(folder / "a.yaml")
    bundle.refresh()
    assert version_of(bundle) == before
    assert (bundle.path / "a.yaml.py").stat() == times


def test_an_edit_is_a_new_version_that_touches_only_what_changed(folder: Path, make_bundle: MakeBundle) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    (folder / "b.yaml").write_text(spec("mr"))
    bundle = make_bundle()
    bundle.initialize()
    first, path = version_of(bundle), bundle.path
    untouched = (path / "b.yaml.py").stat().st_mtime_ns
    (folder / "a.yaml").write_text(spec("ct").replace("1.0.0", "1.0.1"))  # same size, maybe the same time
    bundle.refresh()
    assert version_of(bundle) != first and bundle.path != path
    assert "1.0.1" in (bundle.path / "a.yaml.py").read_text()
    assert "1.0.0" in (path / "a.yaml.py").read_text(), "a run in flight keeps its version"
    assert (bundle.path / "b.yaml.py").stat().st_mtime_ns == untouched


def test_going_back_to_an_earlier_state_makes_airflow_parse_again(folder: Path, make_bundle: MakeBundle) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    bundle = make_bundle()
    bundle.initialize()
    first = version_of(bundle)
    old = time.time() - 1000
    os.utime(bundle.path / "a.yaml.py", (old, old))
    (folder / "a.yaml").write_text(spec("ct").replace("1.0.0", "2.0.0"))
    bundle.refresh()
    (folder / "a.yaml").write_text(spec("ct"))
    bundle.refresh()
    assert version_of(bundle) == first
    assert (bundle.path / "a.yaml.py").stat().st_mtime > old + 500


def test_a_removed_file_is_gone_and_an_empty_or_missing_folder_is_a_version_too(
    folder: Path, make_bundle: MakeBundle
) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    bundle = make_bundle()
    bundle.initialize()
    (folder / "a.yaml").unlink()
    bundle.refresh()
    assert dag_files(bundle) == []
    folder.rmdir()
    bundle.refresh()
    assert bundle.path.is_dir() and dag_files(bundle) == []


def test_a_worker_on_another_host_makes_the_version_again_from_the_store(folder: Path, make_bundle: MakeBundle) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    (folder / "bad.yaml").write_text("name: [")
    bundle = make_bundle()
    bundle.initialize()
    version, files = version_of(bundle), {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    shutil.rmtree(folder)  # a worker has no workflow folder
    worker = make_bundle(version, host="other host")
    worker.initialize()
    assert worker.path != bundle.path
    assert {path.name: path.read_bytes() for path in worker.path.iterdir()} == files
    worker.refresh()
    assert version_of(worker) == version


def test_a_worker_that_has_the_version_asks_nobody(
    folder: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    bundle = make_bundle()
    bundle.initialize()
    worker = make_bundle(version_of(bundle))
    monkeypatch.setattr(worker, "_store", lambda: pytest.fail("asked the store"))
    monkeypatch.setattr(worker._reader, "scan", lambda: pytest.fail("read the folder"))
    worker.initialize()
    assert dag_files(worker) == ["a.yaml.py"]


def test_a_version_that_the_store_lost_is_an_error_that_names_it(make_bundle: MakeBundle) -> None:
    with pytest.raises(StoreError, match=r"bundles/workflows/feedbeef\.json"):
        make_bundle("feedbeef").initialize()


def test_a_version_folder_that_was_cleaned_up_comes_back(folder: Path, make_bundle: MakeBundle) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    bundle = make_bundle()
    bundle.initialize()
    shutil.rmtree(bundle.path)
    bundle.refresh()
    assert dag_files(bundle) == ["a.yaml.py"]


def test_old_versions_that_no_task_used_are_removed(folder: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    paths = []
    for name in ("unused", "used", "recent", "current"):
        (folder / "a.yaml").write_text(spec(name))
        bundle.refresh()
        paths.append(bundle.path)
    unused, used, recent, current = paths
    for path in (unused, used):
        os.utime(path, (0, 0))
    tracked = bundle.versions_dir.parent.parent / "_tracking" / "workflows"
    tracked.mkdir(parents=True)
    (tracked / used.name).touch()
    (folder / "a.yaml").write_text(spec("one more"))
    bundle.refresh()
    assert not unused.exists()
    assert used.exists() and recent.exists() and current.exists()


def test_when_the_store_fails_the_version_before_stays(
    folder: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    bundle = make_bundle()
    bundle.initialize()
    before = version_of(bundle)
    (folder / "a.yaml").write_text(spec("ct2"))
    with monkeypatch.context() as patch:
        patch.setattr("airflow_monai.store.local.LocalStore.create", _disk_full)
        with pytest.raises(StoreError):
            bundle.refresh()
    assert version_of(bundle) == before
    bundle.refresh()
    assert version_of(bundle) != before


def _disk_full(*_: object) -> bool:
    raise StoreError("the disk is full")


@pytest.mark.parametrize(
    "name",
    ["with space.yaml", "quote'\".yaml", "coding=utf-7.yaml", "line\nbreak.yaml", "ünï.yaml", "x" * 240 + ".yaml"],
)
def test_odd_file_names(folder: Path, make_bundle: MakeBundle, name: str) -> None:
    (folder / name).write_text(spec("ct"))
    (folder / "other.yaml").write_text(spec("mr"))
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert sorted(dags) == ["ct", "mr"] and not errors


def test_a_folder_with_the_name_of_a_generated_file(folder: Path, make_bundle: MakeBundle) -> None:
    (folder / "a.yaml").write_text(spec("ct"))
    (folder / "a.yaml.py").mkdir()
    (folder / "a.yaml.py" / "b.yaml").write_text(spec("mr"))
    bundle = make_bundle()
    bundle.initialize()
    assert sorted(load(bundle)[0]) == ["ct", "mr"]


def test_a_link_that_leads_out_of_the_folder_is_an_import_error_and_is_not_shown(
    folder: Path, make_bundle: MakeBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("outside") / "secret"
    secret.write_text(spec("secret"))
    (folder / "good.yaml").write_text(spec("good"))
    (folder / "link.yaml").symlink_to(secret)
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert sorted(dags) == ["good"]
    (error,) = errors.values()
    assert "link.yaml:1:1: the file is a link that leads out of the folder" in error
    assert "secret" not in "".join(path.read_text() for path in bundle.path.rglob("*.py"))


def test_defaults_are_shown_with_the_workflow_and_an_edit_is_a_new_version(
    folder: Path, make_bundle: MakeBundle
) -> None:
    (folder / "ct").mkdir()
    (folder / "a.yaml").write_text(spec("a"))
    (folder / "ct" / "b.yaml").write_text(spec("b"))
    (folder / "ct" / "defaults.yaml").write_text("tasks: {retries: 3}\n")
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert not errors and dags["b"].get_task("send").retries == 3 and dags["a"].get_task("send").retries == 2
    shown = (bundle.path / "ct" / "b.yaml.py").read_text()
    assert spec("b") in shown and "\"ct/defaults.yaml\": r'''\ntasks: {retries: 3}\n" in shown.replace(
        "'ct/", '"ct/'
    ).replace("yaml':", 'yaml":')
    first, path, tags = version_of(bundle), bundle.path, set(dags["b"].tags)
    untouched = (path / "a.yaml.py").stat().st_mtime_ns
    (folder / "ct" / "defaults.yaml").write_text("tasks: {retries: 7}\n")
    bundle.refresh()
    dags, errors = load(bundle)
    assert dags["b"].get_task("send").retries == 7 and set(dags["b"].tags) != tags
    assert version_of(bundle) != first
    assert "retries: 3" in (path / "ct" / "b.yaml.py").read_text(), "a run in flight keeps its version"
    assert (bundle.path / "a.yaml.py").stat().st_mtime_ns == untouched
    bundle.refresh()
    assert version_of(bundle) != first

    shutil.rmtree(folder)
    for version, retries in ((first, 3), (version_of(bundle), 7)):
        worker = make_bundle(version, host=f"other host {retries}")
        worker.initialize()
        assert load(worker)[0]["b"].get_task("send").retries == retries
        for plan in worker.path.rglob("*.plan.json"):
            plan.unlink()
        assert load(worker)[0]["b"].get_task("send").retries == retries, "the texts alone say it all"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"tasks: {retries: many}", "ct/defaults.yaml:1:18: 'many' is no number [wrong-type]"),
        (b"tasks: \xff", "ct/defaults.yaml:1:8: the file is not UTF-8 text [not-utf8]"),
    ],
)
def test_bad_defaults_are_the_import_error_of_the_workflows_below_and_of_no_other(
    folder: Path, make_bundle: MakeBundle, content: bytes, told: str
) -> None:
    for name in ("a", "ct/b", "ct/deep/c"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(spec(name[-1]))
    (folder / "ct" / "defaults.yaml").write_bytes(content)
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert list(dags) == ["a"]
    assert sorted(errors) == ["ct/b.yaml.py", "ct/deep/c.yaml.py"]
    assert all(told in error for error in errors.values())
    (folder / "ct" / "defaults.yaml").write_text("priority: batch")
    bundle.refresh()
    assert sorted(load(bundle)[0]) == ["a", "b", "c"]


def test_defaults_behind_a_link_that_leads_out_are_not_shown(
    folder: Path, make_bundle: MakeBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("outside") / "secret"
    secret.write_text("priority: batch # secret")
    (folder / "a.yaml").write_text(spec("a"))
    (folder / "defaults.yaml").symlink_to(secret)
    bundle = make_bundle()
    bundle.initialize()
    (error,) = load(bundle)[1].values()
    assert "defaults.yaml:1:1: the file is a link that leads out of the folder" in error
    assert "secret" not in "".join(path.read_text() for path in bundle.path.rglob("*.py"))


def test_the_later_of_two_groupings_of_one_ae_title_is_refused_as_the_gateway_sees_it(
    folder: Path, make_bundle: MakeBundle
) -> None:
    for name, grouping in (("a", "series"), ("b", "study"), ("c", "series")):
        text = spec(name).replace("ae_title: CTLUNG", f"ae_title: CTLUNG\n  grouping: {grouping}")
        (folder / f"{name}.yaml").write_text(text)
    bundle = make_bundle()
    bundle.initialize()
    dags, errors = load(bundle)
    assert set(dags) == {plan.dag_id for plan in load_folder(folder).workflows} == {"a", "c"}
    assert "by series, this one by study [conflicting-grouping]" in errors["b.yaml.py"]
