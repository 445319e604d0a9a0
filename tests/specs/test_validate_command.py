"""``airflow monai validate``."""

from __future__ import annotations

import io
import json
from pathlib import Path

from airflow_monai.cli.here.validate import run
from tests.specs.fixtures import FIXTURES

VALID, INVALID = FIXTURES / "valid", FIXTURES / "invalid"


def validate(*paths: Path, as_json: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    return run([str(path) for path in paths], as_json, out), out.getvalue()


def test_good_files():
    assert validate(VALID / "ct-lung.yaml") == (0, "1 file, 0 errors\n")


def test_a_warning_is_shown_and_is_no_failure():
    code, text = validate(VALID / "published.json", VALID / "join.yaml")
    assert code == 0
    assert "warning: the field 'ref' means nothing here" in text
    assert text.endswith("2 files, 0 errors, 1 warning\n")


def test_a_warning_fails_where_that_is_asked_for():
    paths = [str(VALID / "published.json")]
    assert run(paths, False, io.StringIO(), strict=True) == 1
    assert run([str(VALID / "join.yaml")], False, io.StringIO(), strict=True) == 0


def test_an_error_is_shown_with_its_line_and_a_hint():
    path = INVALID / "typo-in-field.yaml"
    code, text = validate(path, VALID / "join.yaml")
    assert code == 1
    assert text == (
        f"{path}:16:5: error: unknown field 'timout_minutes' [unknown-field]\n"
        "   16 |     timout_minutes: 30\n"
        "      |     ^\n"
        "      hint: did you mean 'timeout_minutes'?\n"
        "2 files, 1 error\n"
    )


def test_json_is_one_list_of_problems():
    path = INVALID / "typo-in-field.yaml"
    code, text = validate(path, VALID / "join.yaml", as_json=True)
    assert code == 1
    assert json.loads(text) == [
        {
            "file": str(path),
            "line": 16,
            "column": 5,
            "code": "unknown-field",
            "message": "unknown field 'timout_minutes'",
            "hint": "did you mean 'timeout_minutes'?",
            "severity": "error",
        }
    ]
    assert validate(VALID / "join.yaml", as_json=True) == (0, "[]\n")


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path):
    code, text = validate(tmp_path / "absent.yaml")
    assert code == 1
    assert "absent.yaml:1:1: error: the file cannot be read: No such file or directory" in text


def test_the_same_name_in_two_files_is_an_error(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yaml").write_bytes((VALID / "join.yaml").read_bytes())
    code, text = validate(tmp_path / "a", tmp_path / "b", tmp_path / "a" / "x.yaml")
    assert code == 1
    assert "the name 'join' is taken" in text
    assert text.endswith("2 files, 1 error\n")


def test_a_folder_without_a_workflow_file_is_an_error(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    code, text = validate(tmp_path, VALID / "join.yaml")
    assert code == 1
    assert f"{tmp_path}:1:1: error: the folder holds no workflow file (*.yaml, *.yml, *.json) [no-workflow]" in text
    assert text.endswith("1 file, 1 error\n")


def test_a_link_out_of_the_folder_is_an_error_and_its_text_is_not_shown(tmp_path: Path):
    (tmp_path / "secret").write_text("root:x:0:0")
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").symlink_to(tmp_path / "secret")
    code, text = validate(tmp_path / "specs")
    assert code == 1
    assert "a.yaml:1:1: error: the file is a link that leads out of the folder" in text
    assert "root:x" not in text


def test_defaults_above_a_single_file_are_found(tmp_path: Path):
    path = tmp_path / "specs" / "ct" / "join.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes((VALID / "join.yaml").read_bytes())
    defaults = tmp_path / "specs" / "defaults.yaml"
    defaults.write_text("tasks: {retries: many}")
    told = f"{defaults}:1:18: error: 'many' is no number (it keeps join.yaml from loading) [wrong-type]"
    out = io.StringIO()
    for given, more in (([path], {}), ([tmp_path / "specs"], {}), ([path.parent], {"site": str(tmp_path / "specs")})):
        out = io.StringIO()
        code = run([str(item) for item in given], False, out, **more)
        assert (code, out.getvalue().splitlines()[0]) == (1, told)
        assert out.getvalue().endswith("1 file, 1 error\n")
    assert run([str(path)], False, out, root=str(path.parent)) == 0


def test_defaults_two_folders_above_need_to_be_told_of(tmp_path: Path):
    path = tmp_path / "ct" / "chest" / "join.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes((VALID / "join.yaml").read_bytes())
    (tmp_path / "defaults.yaml").write_text("nonsense: 1")
    assert run([str(path)], False, io.StringIO()) == 0
    assert run([str(path)], False, io.StringIO(), root=str(tmp_path)) == 1
