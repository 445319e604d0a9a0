"""What a map task publishes, and how it fails. Each test runs with the docker and with the process runner."""

from __future__ import annotations

import time

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from airflow_monai.errors import MapInterrupted, RunnerUnavailable
from airflow_monai.operators.map import MapOperator
from airflow_monai.store.payloads import dicom_key
from airflow_monai.types import TaskRecord, TaskStatus
from tests.operators.conftest import Site
from tests.operators.map_tasks import STUDY, context_of

ANY_OUTPUT = [{"name": "result", "type": "OT"}, {"name": "all", "type": "Folder"}]
on_docker = pytest.mark.parametrize("site", ["docker"], indirect=True)
SEG_OUTPUT = [{"name": "seg", "type": "SEG"}]


def test_publishes_result_artifacts_and_log(site: Site) -> None:
    operator = MapOperator(**site.arguments(outputs=ANY_OUTPUT), result_keys=["volume_ml"])
    value = operator.execute(context_of(operator, site.payload_id))

    record = site.record()
    assert record.status is TaskStatus.SUCCEEDED
    assert record.result == {"volume_ml": 1234, "ok": True}
    assert [key.rpartition("/")[2] for key in record.artifacts["result"]] == ["result.dcm"]
    assert all(site.folder.store.exists(key) for key in record.artifacts["all"])
    assert value["result"] == {"volume_ml": 1234}
    assert value["artifacts"] == {"result": 1, "all": 1}
    assert value["runner"] == site.runner
    assert "noop: mode ok" in site.log()
    assert site.traces() == []


FAILURES = {
    # the engine carries stdout and stderr apart: either of its two lines may come last
    "exit7": ("exit7", {}, r"exit code 7\. It last said: 'noop: (mode exit7|failing with exit code 7, as asked)'\."),
    "no output": ("no-output", {"outputs": SEG_OUTPUT}, "mandatory artifact 'seg' .*type SEG.*there is nothing"),
    "wrong output": ("ok", {"outputs": SEG_OUTPUT}, "mandatory artifact 'seg'.*1 x DICOM OT"),
    "too long": ("sleep", {"timeout_minutes": 0.02}, "longer than its time limit of 1.2 s"),
    "too much memory": ("memory", {"resources": {"memory": "48Mi"}}, "memory limit of 48 MiB"),
    "no such MAP": ("ok", {"map": "no-such-map:9.9"}, "no-such-map:9.9"),
    "no such version": ("ok", {"map": "noop:9.9.9"}, "noop:9.9.9"),
    "no GPU": ("ok", {"resources": {"gpu": 1, "cpu": 1}}, "GPU|device driver"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failure_names_its_cause_and_is_final(site: Site, failure: str) -> None:
    mode, arguments, message = FAILURES[failure]
    with pytest.raises(AirflowFailException, match=message):
        site.run(**site.arguments(mode, **arguments))
    record = site.record()
    assert record.status is TaskStatus.FAILED
    assert record.error_msg
    assert record.artifacts == {}
    assert site.traces() == []


def test_the_time_limit_of_the_manifest_counts_too(site: Site) -> None:
    reference = site.maker.make("slow", "import time; time.sleep(60)", timeout=1)
    with pytest.raises(AirflowFailException, match="time limit of 1 s"):
        site.run(**site.arguments(map=reference, timeout_minutes=5))


def test_application_that_asks_for_another_try_gets_one(site: Site) -> None:
    reference = site.maker.make("later", "import sys; sys.exit(75)")
    with pytest.raises(MapInterrupted, match="asks for another try"):
        site.run(**site.arguments(map=reference))
    with pytest.raises(MapInterrupted):
        site.run(**site.arguments(map=reference), try_number=2)


def test_command_that_does_not_exist_is_told(site: Site) -> None:
    reference = site.maker.make("wrong", "", command="no-such-program --fast")
    with pytest.raises(AirflowFailException, match=r"no-such-program|exit code 127|exit code 1\."):
        site.run(**site.arguments(map=reference))
    assert site.traces() == []


def test_a_retry_does_not_see_what_the_last_try_left(site: Site) -> None:
    source = """
import os, sys
out = os.environ["HOLOSCAN_OUTPUT_PATH"]
open(out + os.environ["PART"], "w").close()
sys.exit(int(os.environ["CODE"]))
"""
    reference = site.maker.make("parts", source)
    with pytest.raises(MapInterrupted):
        site.run(**site.arguments(map=reference) | {"environment": {"PART": "first", "CODE": "75"}})
    output = [{"name": "all", "type": "Folder"}]
    arguments = site.arguments(map=reference, outputs=output) | {"environment": {"PART": "second", "CODE": "0"}}
    record = site.run(**arguments, try_number=2)
    assert [key.rpartition("/")[2] for key in record.artifacts["all"]] == ["second"]


def test_finished_task_is_not_run_again_by_a_retry(site: Site) -> None:
    first = site.run(**site.arguments(outputs=ANY_OUTPUT))
    operator = MapOperator(**site.arguments("exit7", outputs=ANY_OUTPUT))  # would fail if it ran
    operator.execute(context_of(operator, site.payload_id, try_number=2))
    assert site.record().artifacts == first.artifacts


def test_edges_are_taken_or_skipped(site: Site) -> None:
    edges = [
        {"node": "segment.to.a", "conditions": ["{{ context.executions.segment.result.volume_ml }} > '1000'"]},
        {"node": "segment.to.b", "conditions": ["{{ context.executions.segment.result.volume_ml }} > '2000'"]},
    ]
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        site.run(**site.arguments(edges=edges))
    assert [task for task, _ in skipped.value.tasks] == ["segment.to.b"]
    assert site.traces() == []


LIST_INPUT = """
import json, os
top = os.environ["HOLOSCAN_INPUT_PATH"]
found = sorted(os.path.relpath(os.path.join(folder, name), top) for folder, _, names in os.walk(top) for name in names)
json.dump({"files": found}, open(os.environ["MONAI_OUTPUTPATH"] + "metadata.json", "w"))
"""


def test_inputs_of_several_kinds(site: Site) -> None:
    lister = site.maker.make("lister", LIST_INPUT)
    site.folder.write_record(_earlier_task(site))
    whole = site.run(**site.arguments(map=lister)).result["files"]
    assert len(whole) == 3 and all(name.count("/") == 2 for name in whole)

    artifact = {"name": "seg", "value": "{{ context.executions.earlier.artifacts.seg }}"}
    optional = {"name": "none", "value": "{{ context.executions.earlier.artifacts.none }}", "mandatory": False}
    one = site.run(**site.arguments(map=lister, inputs=[artifact]), try_number=2, cleared=1).result["files"]
    assert one == ["seg.dcm"]
    several = site.run(**site.arguments(map=lister, inputs=[STUDY, artifact, optional]), try_number=3, cleared=2)
    assert {name.split("/")[0] for name in several.result["files"]} == {"study", "seg"}
    with pytest.raises(AirflowFailException, match=r"mandatory input 'none'.*no files"):
        site.run(**site.arguments(map=lister, inputs=[{**optional, "mandatory": True}]), try_number=4, cleared=3)


def _earlier_task(site: Site) -> TaskRecord:
    output = site.folder.output_key("earlier", -1, 1)
    site.folder.store.write(f"{output}/seg.dcm", b"x")
    site.folder.store.write(f"{output}/other.txt", b"y")
    return TaskRecord(
        task_id="earlier",
        task_type="map",
        status=TaskStatus.SUCCEEDED,
        execution_id="e",
        output_dir=output,
        artifacts={"seg": (f"{output}/seg.dcm",)},
    )


def test_task_log_hides_the_patient_and_the_store_has_all(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.run(**site.arguments("leak"))
    shown = "".join(capfd.readouterr())
    assert "Doe" in site.log()
    assert "noop: processing" in shown
    assert "Doe" not in shown and "HOSP-4711" not in shown


def test_flood_of_lines_is_bounded_in_the_task_log_only(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.run(**site.arguments("spam"))
    shown = "".join(capfd.readouterr())
    assert site.log().count("\n") > 20_000
    assert shown.count("noop: line") <= 2000
    assert "lines left out here; the store has the whole log" in shown


@on_docker
def test_engine_out_of_reach_is_worth_a_retry(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__DOCKER_URL", "unix:///nowhere/docker.sock")
    with pytest.raises(RunnerUnavailable, match=r"unix:///nowhere/docker\.sock cannot be reached"):
        site.run(**site.arguments())


@on_docker
def test_image_that_is_no_map_is_told(site: Site) -> None:
    with pytest.raises(AirflowFailException, match=r"is no MAP: it has neither /etc/holoscan/app\.json nor"):
        site.run(**site.arguments(map="airflow-monai-map-base:bookworm"))


@on_docker
def test_input_that_the_container_may_not_read_is_told(site: Site) -> None:
    study = site.folder.store.local_path(dicom_key(site.payload_id))
    assert study is not None
    study.chmod(0o700)
    with pytest.raises(AirflowFailException, match=r"closed to user 1000.*container_user"):
        site.run(**site.arguments())


@on_docker
def test_container_user_of_the_site_owns_the_output(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__CONTAINER_USER", "1234:1234")
    (key,) = site.run(**site.arguments(outputs=ANY_OUTPUT)).artifacts["result"]
    path = site.folder.store.local_path(key)
    assert path is not None and path.stat().st_uid == 1234


def test_map_that_wants_a_gpu_says_what_to_write(site: Site) -> None:
    greedy = site.maker.make("greedy", "", gpu=1)
    with pytest.raises(AirflowFailException, match=r"resources: \{gpu: 1\}"):
        site.run(**site.arguments(map=greedy))
    site.run(**site.arguments(map=greedy, resources={"gpu": 0}), try_number=2, cleared=1)


ESCAPES = """
import json, os, socket
def attempt(act):
    try:
        act()
        return "done"
    except OSError as error:
        return type(error).__name__
top = os.environ["HOLOSCAN_INPUT_PATH"]
image = next(os.path.join(folder, names[0]) for folder, _, names in os.walk(top) if names)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
json.dump({
    "read": attempt(lambda: open(image, "rb").read()),
    "write input": attempt(lambda: open(image, "ab")),
    "add input": attempt(lambda: open(top + "new", "w")),
    "write root": attempt(lambda: open("/etc/new", "w")),
    "write app": attempt(lambda: open("/opt/holoscan/app/new", "w")),
    "write tmp": attempt(lambda: open("/tmp/new", "w")),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "capabilities": status["CapEff"].strip(),
    "no_new_privs": status["NoNewPrivs"].strip(),
    "secret": os.environ.get("PLANTED_SECRET"),
    "store": os.path.exists(os.environ["PLANTED_STORE"]),
}, open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "metadata.json", "w"))
"""


def test_application_is_shut_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "the worker's")
    reference = site.maker.make("escapes", ESCAPES)
    arguments = site.arguments(map=reference) | {"environment": {"PLANTED_STORE": site.store}}
    result = dict(site.run(**arguments).result)
    assert result == {
        "read": "done",
        "write input": result["write input"],
        "add input": "OSError",
        "write root": result["write root"],
        "write app": result["write app"],
        "write tmp": "done",
        "interfaces": ["lo"],
        "capabilities": "0" * 16,
        "no_new_privs": "1",
        "secret": None,
        "store": False,
    }
    refused = {result[key] for key in ("write input", "write root", "write app")}
    assert refused <= {"OSError", "PermissionError"}


FILLS = """
import os, time
with open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "big", "wb") as file:
    while True:
        file.write(bytes(2**20)); file.flush(); time.sleep(0.05)
"""


def test_output_beyond_the_quota_stops_the_application_and_is_removed(site: Site) -> None:
    reference = site.maker.make("fills", FILLS)
    with pytest.raises(AirflowFailException, match=r"wrote more than the 5 MiB .*\[monai\] output_quota"):
        site.run(**site.arguments(map=reference, sandbox={"output_quota": "5Mi"}))
    assert not site.output().exists()
    assert site.traces() == []


def test_time_of_a_task_is_that_of_its_application(site: Site) -> None:
    site.run(**site.arguments())
    for number in range(2, 6):  # a host that is busy takes longer now and then
        begun = time.monotonic()
        site.run(**site.arguments(), try_number=number, cleared=number - 1)
        if (taken := time.monotonic() - begun) < 5:
            break
    assert taken < 5
