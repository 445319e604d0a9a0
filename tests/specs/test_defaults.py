"""Files of defaults: what a workflow takes from them, and where their mistakes are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_monai.specs import check_file, load_workflow, plan_of, stamp
from airflow_monai.specs.defaults import lookup as module
from airflow_monai.specs.defaults.lookup import DefaultsTree
from airflow_monai.specs.folder import SpecFolder, load_folder
from airflow_monai.specs.plan import Grouping, OnFailure, Priority, TaskPlan, WorkflowPlan
from airflow_monai.specs.schema.workflow import defaults_schema

SPEC = """\
name: {name}
version: 1
informatics_gateway:
  ae_title: {ae}
{gateway}
tasks:
  - id: segment
    type: map
    args: {{map: "lung-seg:1.2.0"}}
    artifacts: {{input: [{{name: study, value: "{{{{ context.input.dicom }}}}"}}]}}
{task}
    task_destinations: [{{name: tell}}]
  - id: tell
    type: router
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def workflow(path: Path, name: str = "lung", gateway: str = "", task: str = "", ae: str = "LUNG") -> Path:
    return write(path, SPEC.format(name=name, gateway=gateway, task=task, ae=ae))


def plan(path: Path, root: Path | None = None) -> WorkflowPlan:
    return plan_of(load_workflow(path, root))


def told(path: Path, root: Path | None = None) -> list[str]:
    """Problems as file:line:column code."""
    _, problems = check_file(path, root)
    return [f"{os.path.basename(p.file)}:{p.line}:{p.column} {p.code}" for p in problems]


def test_the_nearest_of_three_folders_wins_value_by_value(tmp_path: Path) -> None:
    write(
        tmp_path / "defaults.yaml",
        "priority: batch\n"
        "informatics_gateway: {quiet_seconds: 60, grouping: series, data_origins: [CT01, CT02]}\n"
        "tasks: {retries: 1, resources: {memory: 1Gi, cpu: 1}, retry_policy: {timeout: retry}}\n",
    )
    write(
        tmp_path / "ct" / "defaults.yml",
        "informatics_gateway: {quiet_seconds: 30, data_origins: [CT03]}\n"
        "tasks: {resources: {memory: 2Gi}}\n"
        "task_types: {map: {retries: 5}}\n",
    )
    write(tmp_path / "ct" / "chest" / "defaults.json", '{"tasks": {"resources": {"gpu": 1}, "on_failure": "continue"}}')
    made = plan(
        workflow(tmp_path / "ct" / "chest" / "a.yaml", gateway="  late_images: ignore", task="    timeout_minutes: 7")
    )
    assert (made.priority, made.quiet_seconds, made.grouping) == (Priority.BATCH, 30, Grouping.SERIES)
    assert made.data_origins == ("CT03",)  # lists are replaced
    segment, tell = made.tasks
    assert segment.resources and (segment.resources.memory, segment.resources.cpu, segment.resources.gpu) == (
        "2Gi",
        1,
        1,
    )
    assert (segment.retries, tell.retries, segment.timeout_minutes, tell.timeout_minutes) == (5, 1, 7, 60)
    assert segment.retry_policy == {"timeout": "retry"}
    assert segment.on_failure is tell.on_failure is OnFailure.CONTINUE


def test_within_a_file_the_type_goes_before_all_tasks_and_a_nearer_file_before_both(tmp_path: Path) -> None:
    write(tmp_path / "defaults.yaml", "tasks: {retries: 1}\ntask_types: {map: {retries: 2}, Router: {retries: 3}}")
    path = workflow(tmp_path / "a" / "a.yaml")
    assert [task.retries for task in plan(path, tmp_path).tasks] == [2, 3]
    write(tmp_path / "a" / "defaults.yaml", "tasks: {retries: 9}")
    assert [task.retries for task in plan(path, tmp_path).tasks] == [9, 9]


def test_a_field_without_a_value_asks_for_what_holds_without_defaults(tmp_path: Path) -> None:
    write(tmp_path / "defaults.yaml", "informatics_gateway: {quiet_seconds: 60}\ntasks: {timeout_minutes: 5}")
    made = plan(workflow(tmp_path / "a.yaml", gateway="  quiet_seconds:", task="    timeout_minutes: null"))
    assert (made.quiet_seconds, made.tasks[0].timeout_minutes) == (None, 60)


def test_arguments_and_destinations_of_a_type(tmp_path: Path) -> None:
    write(
        tmp_path / "defaults.yaml",
        "informatics_gateway: {export_destinations: [PACS]}\n"
        "task_types:\n"
        "  map: {args: {env_MODE: fast, env_OTHER: x}}\n"
        "  export: {export_destinations: [{name: PACS}]}\n",
    )
    path = workflow(tmp_path / "a.yaml")
    path.write_text(
        path.read_text()
        .replace('map: "lung-seg:1.2.0"', 'map: "lung-seg:1.2.0", env_OTHER: mine')
        .replace(
            "type: router", "type: export\n    artifacts: {input: [{name: s, value: '{{ context.input.dicom }}'}]}"
        )
    )
    segment, tell = plan(path).tasks
    assert segment.args == {"map": "lung-seg:1.2.0", "env_OTHER": "mine", "env_MODE": "fast"}
    assert tell.export_destinations == ("PACS",)


def test_fields_are_the_same_in_any_spelling(tmp_path: Path) -> None:
    write(tmp_path / "defaults.yaml", "DATARETENTIONDAYS: 7\nTasks: {Resources: {shared_memory: 1Gi, GPU: 1}}")
    made = plan(workflow(tmp_path / "a.yaml", task="    resources: {sharedMemory: 2Gi}"))
    assert made.tasks[0].resources and made.tasks[0].resources.shared_memory == "2Gi"
    assert made.tasks[0].resources.gpu == 1


def test_defaults_that_say_nothing_change_nothing(tmp_path: Path) -> None:
    path = workflow(tmp_path / "a.yaml")
    before = plan(path)
    write(tmp_path / "defaults.yaml", "# nothing yet\n")
    assert _values(plan(path)) == _values(before)


def _values(made: WorkflowPlan) -> tuple[tuple[TaskPlan, ...], object]:
    return made.tasks, made.quiet_seconds


def test_the_digest_changes_with_the_defaults(tmp_path: Path) -> None:
    path, other = workflow(tmp_path / "a" / "a.yaml"), workflow(tmp_path / "b" / "a.yaml")
    bare = plan(path).digest
    assert plan(other).digest == bare
    digests = {bare}
    for text in ("tasks: {retries: 1}", "tasks: {retries: 2}"):
        write(tmp_path / "a" / "defaults.yaml", text)
        digests.add(plan(path).digest)
    assert len(digests) == 3 and plan(other).digest == bare


WRONG = {
    "unknown field": ("tasks:\n  retires: 3\n", ["defaults.yaml:2:3 unknown-field"]),
    "no name": ("name: x\n", ["defaults.yaml:1:1 unknown-field"]),
    "no ids": ("tasks:\n  - id: a\n", ["defaults.yaml:2:3 wrong-type"]),
    "value": ("tasks:\n  retries: many\n", ["defaults.yaml:2:12 wrong-type"]),
    "choice": ("informatics_gateway:\n  grouping: serie\n", ["defaults.yaml:2:13 unknown-choice"]),
    "type": ("task_types:\n  mpa: {retries: 1}\n", ["defaults.yaml:2:3 unknown-task-type"]),
    "argument": ("task_types:\n  map: {args: {mapp: x}}\n", ["defaults.yaml:2:16 unknown-argument"]),
    "destinations": (
        "task_types:\n  map: {export_destinations: [{name: A}]}\n",
        ["defaults.yaml:2:30 unused-destinations"],
    ),
    "policy": (
        "tasks:\n  retry_policy: {timeouts: retry, invalid: maybe}\n",
        ["defaults.yaml:2:28 unknown-failure-kind", "defaults.yaml:2:44 unknown-choice"],
    ),
    "twice": ("priority: batch\npriority: urgent\n", ["defaults.yaml:2:1 duplicate-key"]),
    "list": ("- a\n", ["defaults.yaml:1:1 wrong-type"]),
    "syntax": ("tasks: [\n", ["defaults.yaml:2:1 yaml-syntax"]),
    "tag": ("tasks: !!python/object:os.system {}\n", ["defaults.yaml:1:8 custom-tag"]),
    "deep": ("[" * 60 + "]" * 60, ["defaults.yaml:1:41 too-deep"]),
    "large": ("a" * (module.MAX_BYTES + 1), ["defaults.yaml:1:1 too-large"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_at_its_place_in_the_defaults(tmp_path: Path, name: str) -> None:
    text, expected = WRONG[name]
    write(tmp_path / "defaults.yaml", text)
    spec, problems = check_file(workflow(tmp_path / "a.yaml"))
    assert [f"{Path(p.file).name}:{p.line}:{p.column} {p.code}" for p in problems] == expected
    assert spec is None


def test_bytes_that_are_no_text_and_several_files_and_links(tmp_path: Path) -> None:
    root = tmp_path / "specs"
    path = workflow(root / "a" / "a.yaml")
    (root / "defaults.yaml").write_bytes(b"tasks: \xff")
    assert told(path, root) == ["defaults.yaml:1:8 not-utf8"]
    (root / "defaults.yaml").unlink()
    write(root / "defaults.json", "{}")
    write(root / "defaults.yml", "{}")
    assert told(path, root) == ["defaults.yml:1:1 duplicate-defaults"]
    (root / "defaults.json").unlink()
    (root / "defaults.yml").unlink()
    secret = write(tmp_path / "secret", "root:x:0:0")
    (root / "defaults.yaml").symlink_to(secret)
    _, problems = check_file(path, root)
    assert [problem.code for problem in problems] == ["link-out"]
    assert "root:x" not in "".join(map(str, problems))


def test_what_lacks_and_what_contradicts_is_the_workflows_own(tmp_path: Path) -> None:
    """A file of defaults that is right by itself can be wrong for a workflow."""
    write(tmp_path / "defaults.yaml", "informatics_gateway: {data_origins: [CT01]}\ntasks:\n  retries: 3\n")
    path = write(tmp_path / "a.yaml", "name: a\nversion: 1\ntasks:\n  - id: x\n    type: map\n    args: {}\n")
    assert told(path)[0] == "a.yaml:1:1 missing-field"  # the ae_title, which no file has
    assert all(line.startswith("a.yaml") for line in told(path))


def test_the_defaults_can_hold_what_a_workflow_must_have(tmp_path: Path) -> None:
    write(tmp_path / "defaults.yaml", "informatics_gateway: {ae_title: SHARED}")
    path = write(tmp_path / "a.yaml", "name: a\nversion: 1\ntasks: [{id: x, type: router}]\n")
    assert plan(path).ae_title == "SHARED"
    write(tmp_path / "defaults.yaml", "informatics_gateway: {")
    assert told(path) == ["defaults.yaml:1:1 yaml-syntax"]  # and not that the ae_title lacks


def test_a_mistake_in_defaults_does_not_hide_those_of_the_workflow(tmp_path: Path) -> None:
    write(tmp_path / "defaults.yaml", "tasks: {retries: many}")
    path = workflow(tmp_path / "a.yaml", task="    timeout_minutes: long")
    assert told(path) == ["a.yaml:11:22 wrong-type", "defaults.yaml:1:18 wrong-type"]


def test_aliases_and_merge_keys_within_defaults(tmp_path: Path) -> None:
    write(tmp_path / "defaults.yaml", "task_types:\n  map: &m {retries: 4}\n  docker: {<<: *m}\ntasks: *m\n")
    assert [task.retries for task in plan(workflow(tmp_path / "a.yaml")).tasks] == [4, 4]


def test_defaults_for_a_thousand_tasks_stay_within_the_bounds_of_one_file(tmp_path: Path) -> None:
    tasks = "".join(f"  - {{id: t{n}, type: router, task_destinations: [{{name: t{n + 1}}}]}}\n" for n in range(900))
    path = write(
        tmp_path / "a.yaml",
        f"name: a\nversion: 1\ninformatics_gateway: {{ae_title: A}}\ntasks:\n{tasks}  - {{id: t900, type: router}}\n",
    )
    write(tmp_path / "defaults.yaml", "tasks: {retries: 2}")
    assert {task.retries for task in plan(path).tasks} == {2}
    many = ", ".join(f"env_{n}: b" for n in range(3000))
    write(tmp_path / "defaults.yaml", f"task_types: {{map: {{args: {{{many}}}}}}}")
    path.write_text(path.read_text().replace("type: router", "type: map"))
    spec, problems = check_file(path)
    assert spec is None and [problem.code for problem in problems] == ["too-many-nodes"]


def test_defaults_are_looked_for_as_long_as_the_next_folder_has_some_or_up_to_a_root(tmp_path: Path) -> None:
    path = workflow(tmp_path / "specs" / "ct" / "chest" / "a.yaml")
    write(tmp_path / "specs" / "defaults.yaml", "tasks: {retries: 8}")
    assert plan(path).tasks[1].retries == 0
    assert plan(path, tmp_path / "specs").tasks[1].retries == 8
    write(tmp_path / "specs" / "ct" / "defaults.yaml", "")
    assert plan(path).tasks[1].retries == 8
    write(tmp_path / "defaults.yaml", "tasks: {retries: 1}\npriority: batch")
    assert plan(path, tmp_path / "specs").priority is Priority.ROUTINE


def test_a_folder_tells_a_mistake_in_defaults_once_and_names_whom_it_stops(tmp_path: Path) -> None:
    for number in range(10):
        workflow(tmp_path / "ct" / f"{number}.yaml", name=f"w{number}")
    workflow(tmp_path / "mr" / "good.yaml", name="good")
    write(tmp_path / "ct" / "defaults.yaml", "tasks:\n  retries: many\n")
    specs = load_folder(tmp_path)
    assert [made.name for made in specs.workflows] == ["good"]
    (problem,) = specs.problems
    assert (problem.file, problem.line, problem.column) == (str(tmp_path / "ct" / "defaults.yaml"), 2, 12)
    assert problem.message.endswith("(it keeps 0.yaml, 1.yaml, 2.yaml and 7 more from loading)")
    assert len(specs.lost) == 10


def test_defaults_that_no_workflow_uses_are_checked_too(tmp_path: Path) -> None:
    workflow(tmp_path / "a.yaml")
    write(tmp_path / "empty" / "defaults.yaml", "tsks: {}")
    specs = load_folder(tmp_path)
    assert len(specs.workflows) == 1
    assert [problem.code for problem in specs.problems] == ["unknown-field"]


@pytest.mark.parametrize("settled", [-1.0, 1e9])
def test_an_edit_of_defaults_is_seen_by_every_workflow_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: float
) -> None:
    monkeypatch.setattr(stamp, "SETTLED_SECONDS", settled)
    workflow(tmp_path / "a.yaml", name="a")
    workflow(tmp_path / "ct" / "b.yaml", name="b")
    folder = SpecFolder(tmp_path, keep=True)

    def retries() -> list[int]:
        return [made.tasks[1].retries for made in folder.scan().workflows]

    assert retries() == [0, 0]
    file = write(tmp_path / "ct" / "defaults.yaml", "tasks: {retries: 1}")
    assert retries() == [0, 1]
    write(file, "tasks: {retries: 22}")
    assert retries() == [0, 22]
    write(file, "tasks: {retries: }}")
    specs = folder.scan()
    assert [made.tasks[1].retries for made in specs.workflows] == [0, 22]  # as it was when the file was good
    assert specs.kept == (str(tmp_path / "ct" / "b.yaml"),)
    file.unlink()
    assert retries() == [0, 0]


def test_unchanged_defaults_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp, "SETTLED_SECONDS", -1.0)
    write(tmp_path / "defaults.yaml", "priority: batch")
    tree = DefaultsTree(tmp_path)
    (first,) = tree.above(tmp_path / "x")[-1:] or tree.above(tmp_path)
    monkeypatch.setattr(tree, "_load", lambda path: pytest.fail("read again"))
    tree.refresh()
    assert tree.above(tmp_path)[0] is first


def test_workflows_of_one_ae_title_must_group_alike(tmp_path: Path) -> None:
    workflow(tmp_path / "a.yaml", name="a", gateway="  grouping: series")
    workflow(tmp_path / "b.yaml", name="b")
    workflow(tmp_path / "c.yaml", name="c", gateway="  grouping: series")
    workflow(tmp_path / "d.yaml", name="d", ae="OTHER")
    specs = load_folder(tmp_path)
    assert [made.name for made in specs.workflows] == ["a", "c", "d"]
    (problem,) = specs.problems
    assert (Path(problem.file).name, problem.code) == ("b.yaml", "conflicting-grouping")
    assert "a.yaml groups the images that come for AE title 'LUNG' by series, this one by study" in problem.message


def test_the_schema_takes_what_the_model_takes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    data = {
        "$schema": "x",
        "priority": "batch",
        "informatics_gateway": {"grouping": "series", "quiet_seconds": 3},
        "tasks": {"retries": 1, "resources": {"gpuMemory": "4Gi"}},
        "task_types": {"map": {"args": {"env_A": "b"}, "timeout_minutes": 5}},
    }
    jsonschema.validate(data, defaults_schema())
    for wrong in ({"name": "x"}, {"tasks": [{"id": "x"}]}, {"task_types": {"map": {"id": "x"}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, defaults_schema())
