"""A folder of workflow files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from airflow_monai.specs import folder as module
from airflow_monai.specs import stamp
from airflow_monai.specs.folder import SpecFolder, load_folder
from airflow_monai.specs.stamp import FileStamp

TEXT = """\
name: {name}
version: 1
informatics_gateway: {{ae_title: {ae}}}
tasks: [{{id: only, type: router}}]
"""


def write(path: Path, name: str, ae: str = "AE") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT.format(name=name, ae=ae), encoding="utf-8")
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read, not taken from memory."""
    seen: list[str] = []
    original = module.read_spec

    def recorded(path: Path, *stamp: FileStamp):
        seen.append(path.name)
        return original(path, *stamp)

    monkeypatch.setattr(module, "read_spec", recorded)
    monkeypatch.setattr(stamp, "SETTLED_SECONDS", -1.0)
    return seen


def names(specs) -> list[str]:
    return [plan.name for plan in specs.workflows]


def test_files_are_found_in_all_sub_folders_in_order(tmp_path: Path):
    write(tmp_path / "b.yaml", "b")
    write(tmp_path / "a" / "z.yml", "z")
    write(tmp_path / "a" / "y.JSON", "y")
    for ignored in (".hidden.yaml", ".git/x.yaml", "notes.txt", "c.yaml.bak"):
        write(tmp_path / ignored, "ignored")
    (tmp_path / "a" / "defaults.yml").write_text("priority: batch")
    specs = load_folder(tmp_path)
    assert (names(specs), specs.problems) == (["y", "z", "b"], ())


def test_a_missing_folder_holds_nothing(tmp_path: Path):
    specs = load_folder(tmp_path / "not-yet")
    assert (specs.workflows, specs.problems) == ((), ())


def test_a_bad_file_leaves_the_others_alone(tmp_path: Path):
    write(tmp_path / "a.yaml", "a", ae="SEVENTEENLETTERSX")
    write(tmp_path / "b.yaml", "b")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "d.yaml").symlink_to(tmp_path / "nowhere")
    specs = load_folder(tmp_path)
    assert names(specs) == ["b"]
    assert [(Path(problem.file).name, problem.code) for problem in specs.problems] == [
        ("a.yaml", "bad-ae-title"),
        ("c.yaml", "not-utf8"),
    ]


def test_of_two_workflows_with_one_name_the_later_is_refused(tmp_path: Path):
    write(tmp_path / "a.yaml", "Lung")
    write(tmp_path / "b.yaml", "lung")
    specs = load_folder(tmp_path)
    assert names(specs) == ["Lung"]
    (problem,) = specs.problems
    assert (Path(problem.file).name, problem.line, problem.column) == ("b.yaml", 1, 7)
    assert problem.code == "duplicate-workflow"
    assert "a.yaml" in problem.message


def test_only_what_has_changed_is_read_again(tmp_path: Path, reads: list[str]):
    write(tmp_path / "a.yaml", "a")
    changed = write(tmp_path / "b.yaml", "b")
    folder = SpecFolder(tmp_path)
    folder.scan()
    reads.clear()
    assert names(folder.scan()) == ["a", "b"]
    assert reads == []
    write(changed, "longer")
    assert names(folder.scan()) == ["a", "longer"]
    assert reads == ["b.yaml"]
    os.utime(changed, ns=(1, 1))
    folder.scan()
    assert reads == ["b.yaml", "b.yaml"]
    changed.unlink()
    assert names(folder.scan()) == ["a"]


@pytest.mark.parametrize("settled", [-1.0, 1e9])
def test_an_edit_that_keeps_time_and_size_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: float):
    monkeypatch.setattr(stamp, "SETTLED_SECONDS", settled)
    file, folder = tmp_path / "a.yaml", SpecFolder(tmp_path)
    for name in ("one", "two"):  # as rsync -t, an archive and a mounted image do it
        os.utime(write(tmp_path / ".new", name), (1, 1))
        os.replace(tmp_path / ".new", file)
        assert names(folder.scan()) == [name]


def test_a_recent_edit_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = SpecFolder(tmp_path)
    file = write(tmp_path / "a.yaml", "one")
    same = FileStamp(*[time.time_ns()] * 2)
    monkeypatch.setattr(module, "stamp_of", lambda path: same)
    assert names(folder.scan()) == ["one"]
    write(file, "two")  # within the step of the file system's clock
    assert names(folder.scan()) == ["two"]


def test_a_removed_name_is_free_again(tmp_path: Path):
    first = write(tmp_path / "a.yaml", "lung")
    write(tmp_path / "b.yaml", "lung")
    folder = SpecFolder(tmp_path)
    assert folder.scan().problems
    first.unlink()
    specs = folder.scan()
    assert (names(specs), specs.problems) == (["lung"], ())


def test_a_link_that_leads_out_of_the_folder_is_a_problem_and_is_not_read(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0")
    folder = tmp_path / "specs"
    write(folder / "..data" / "inner.yaml", "inner")
    (folder / "a.yaml").symlink_to(secret)
    (folder / "b.yaml").symlink_to(Path("..data") / "inner.yaml")
    (folder / "c.yaml").symlink_to(folder / "c.yaml")
    (tmp_path / "link").symlink_to(folder)
    for way in (folder, tmp_path / "link"):
        specs = load_folder(way)
        assert names(specs) == ["inner"]
        assert [(Path(problem.file).name, problem.code) for problem in specs.problems] == [
            ("a.yaml", "link-out"),
            ("c.yaml", "unreadable"),
        ]
        assert "root:x" not in "".join(map(str, specs.problems))


def test_a_link_that_is_led_out_of_the_folder_later_is_not_read(tmp_path: Path):
    folder = tmp_path / "specs"
    outside = write(tmp_path / "outside.yaml", "outside")
    write(folder / ".inside.yaml", "inside")
    link = folder / "a.yaml"
    link.symlink_to(".inside.yaml")
    scanned = SpecFolder(folder)
    assert names(scanned.scan()) == ["inside"]
    link.unlink()
    link.symlink_to(outside)
    specs = scanned.scan()
    assert (names(specs), [problem.code for problem in specs.problems]) == ([], ["link-out"])
