"""Tasks of type ``docker`` on a real engine: any image, told by hand where its inputs and outputs are."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import RunnerUnavailable
from airflow_monai.operators.container import ContainerOperator
from airflow_monai.types import TaskRecord
from tests.operators.conftest import Site
from tests.operators.made_maps import containers_of
from tests.operators.map_tasks import STUDY, context_of
from tests.registry import Registry, registry

pytestmark = pytest.mark.parametrize("site", ["docker"], indirect=True)
IMAGE = "noop:1.0.0"
"""It has Python and a shell."""

STUDY_AT = {"study": "/data/in/"}
REPORT = {"name": "report", "type": "Folder"}
SEG = {"name": "seg", "value": "{{ context.executions.segment.output_dir }}/deep/seg"}
SHELL = ["/bin/sh", "-c"]


def task(site: Site, script: str, **arguments: Any) -> dict[str, Any]:
    """Arguments of a container task that runs a shell script."""
    common = {"task_id": "segment", "image": IMAGE, "inputs": [STUDY], "paths": STUDY_AT, "runner": site.runner}
    return {**common, "entrypoint": SHELL, "command": [script], **arguments}


def run(site: Site, *, try_number: int = 1, cleared: int = 0, **arguments: Any) -> TaskRecord:
    operator = ContainerOperator(**arguments)
    operator.execute(context_of(operator, site.payload_id, try_number=try_number, cleared=cleared))
    return site.record()


def test_every_artifact_is_at_its_own_path(site: Site) -> None:
    script = (
        "set -e; find /data/in -name '*.dcm' | wc -l; echo hello > /out/report/a.txt; echo seg > /made/seg/s.bin;"
        """ echo '{"volume_ml": 12}' > /out/report/metadata.json; touch /data/in/x 2>/dev/null || echo closed"""
    )
    paths = {**STUDY_AT, "report": "/out/report", "seg": "/made/seg/"}
    operator = ContainerOperator(**task(site, script, paths=paths, outputs=[REPORT, SEG]), result_keys=["volume_ml"])
    value = operator.execute(context_of(operator, site.payload_id))
    record, output = site.record(), site.folder.output_key("segment", -1, 1)
    assert site.log().split() == ["3", "closed"]
    assert set(record.artifacts["report"]) == {f"{output}/report/a.txt", f"{output}/report/metadata.json"}
    assert record.artifacts["seg"] == (f"{output}/deep/seg/s.bin",)
    assert (record.task_type, record.result) == ("docker", {"volume_ml": 12})
    assert (value["image"], value["result"], value["runner"]) == (IMAGE, {"volume_ml": 12}, "docker")
    assert site.traces() == []


def test_the_working_folder_may_hold_the_others(site: Site) -> None:
    script = "set -e; echo x > /var/monai/scratch; echo y > /var/monai/output/y; ls /var/monai"
    arguments = task(
        site,
        script,
        inputs=[{**STUDY, "name": "env_IN"}],
        paths={"env_IN": "/var/monai/input/", "report": "/var/monai/output/"},
        outputs=[REPORT],
        scratch="/var/monai/",
    )
    record = run(site, **arguments)
    assert site.log().split() == ["input", "output", "scratch"]
    assert [key.rpartition("/")[2] for key in record.artifacts["report"]] == ["y"]


def test_values_stay_in_their_word_without_quotes(site: Site) -> None:
    name = "{{ context.input.patient_details.name }}"
    arguments = task(
        site,
        'printf "%s|%s|%s\\n" "$0" "$PATIENT" "$1"',
        command=['printf "%s|%s|%s\\n" "$0" "$PATIENT" "$1"', f"for {name}", "; id"],
        environment={"PATIENT": f"<{name}>"},
    )
    run(site, **arguments)
    assert site.log().strip() == "for Doe^Jane|<Doe^Jane>|; id"


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"entrypoint": ["/bin/echo", "a"], "command": None}, "a"),
        ({"entrypoint": ["/bin/echo"], "command": ["b,c"]}, "b,c"),
    ],
)
def test_an_entry_point_is_in_place_of_the_images(site: Site, given: dict[str, Any], seen: str) -> None:
    run(site, **task(site, "", **given))
    assert site.log().strip() == seen


def test_it_is_shut_in_like_a_map(site: Site) -> None:
    script = "id -u; ls /sys/class/net; touch /etc/x 2>/dev/null || echo closed; touch /tmp/x && echo open"
    run(site, **task(site, script, user="1234"))
    assert site.log().split() == ["1234", "lo", "closed", "open"]


def test_a_folder_of_the_host_that_the_site_allows_can_be_read(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "weights").write_text("42")
    for folder in (models, *models.parents):
        if folder.is_relative_to(tmp_path):
            folder.chmod(0o755)
    monkeypatch.setenv("AIRFLOW__MONAI__ALLOWED_MOUNTS", str(models))
    script = "cat /models/weights; touch /models/x 2>/dev/null || echo closed; ulimit -c"
    run(site, **task(site, script, sandbox={"mounts": [f"{models}:/models"]}))
    assert site.log().split() == ["42closed", "0"]


def test_limits_and_failures_are_told_as_those_of_a_map(site: Site) -> None:
    failures = {
        r"ended with exit code 7\. It last said: 'oh'": {"script": "echo oh; exit 7"},
        r"without its mandatory artifact 'report'": {"outputs": [REPORT], "paths": {**STUDY_AT, "report": "/out"}},
        r"longer than its time limit of 1\.2 s": {"script": "sleep 30", "timeout_minutes": 0.02},
        r"memory limit of 32 MiB": {
            "script": "python3 -c 'x = bytearray(200000000)'",
            "resources": {"memory": "32Mi"},
        },
        r"mandatory input 'none' .* has no files": {
            "inputs": [{"name": "none", "value": "{{ context.executions.earlier.artifacts.x }}"}],
            "paths": {"none": "/in"},
        },
    }
    for number, (message, arguments) in enumerate(failures.items()):
        wanted = task(site, arguments.pop("script", "true"), **arguments)
        with pytest.raises(AirflowFailException, match=message):
            run(site, **wanted, try_number=number + 1, cleared=number)
    assert site.traces() == []


def test_an_input_that_may_be_absent_is_not_mounted(site: Site) -> None:
    optional = {"name": "none", "value": "{{ context.executions.earlier.artifacts.x }}", "mandatory": False}
    arguments = task(site, "ls -d /data/in /data/none 2>/dev/null; true", inputs=[STUDY, optional])
    run(site, **{**arguments, "paths": {**STUDY_AT, "none": "/data/none"}})
    assert site.log().split() == ["/data/in"]


def test_new_try_follows_what_a_killed_worker_started(site: Site) -> None:
    script = "echo started >> /out/starts; echo ready; sleep 4"
    arguments = task(site, script, outputs=[{"name": "out", "type": "Folder"}], paths={**STUDY_AT, "out": "/out"})
    worker, _ = site.worker(arguments)
    _wait_for(lambda: "ready" in site.log())
    worker.kill()
    worker.wait()
    record = run(site, **arguments, try_number=2)
    assert record.stats["reattached"] is True
    assert (site.output() / "out" / "starts").read_text() == "started\n"
    assert site.traces() == []


def test_a_new_try_goes_on_with_the_image_that_runs_and_asks_no_registry(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docker

    monkeypatch.setenv("AIRFLOW__MONAI__IMAGE_PULL", "missing")
    client = docker.from_env(version="auto")
    old, moving = client.images.get(IMAGE), f"127.0.0.1:9/moving-{os.getpid()}:1"
    old.tag(moving)
    arguments = task(site, "echo ready; sleep 3", image=moving)
    worker, _ = site.worker(arguments)
    try:
        _wait_for(lambda: "ready" in site.log())
        worker.kill()
        worker.wait()
        made = client.api.create_container(IMAGE)["Id"]
        new = client.images.get(client.api.commit(made, repository=moving.removesuffix(":1"), tag="1")["Id"])
        client.api.remove_container(made)
        record = run(site, **arguments, always_pull=True, try_number=2)
    finally:
        client.images.remove(moving)
        client.close()
    assert (record.stats["reattached"], record.stats["location"]) == (True, old.id)
    assert new.id != old.id
    with pytest.raises(RunnerUnavailable, match="pulling it failed"):
        run(site, **arguments, always_pull=True, try_number=3, cleared=2)


def test_a_container_that_somebody_ends_is_gone(site: Site) -> None:
    worker, task_process = site.worker(task(site, "echo ready; sleep 60"))
    _wait_for(lambda: "ready" in site.log())
    os.kill(task_process, signal.SIGTERM)
    worker.wait(90)
    assert containers_of(site.store) == []


def _wait_for(condition: Any, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(Exception):  # nothing is there yet
            if condition():
                return
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_command_that_cannot_start_does_not_tell_the_patient(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = task(site, "", entrypoint=["/no/{{ context.input.patient_details.name }}"], command=[])
    with pytest.raises(AirflowFailException, match=r"exec /no/\[masked\] failed: No such file") as caught:
        run(site, **arguments)
    shown = "".join(capfd.readouterr())
    assert "/no/[masked]" in shown
    assert "Doe" not in f"{shown}{caught.value}{site.record().error_msg}"
    assert "/no/Doe^Jane" in site.log()


def test_the_process_runner_says_what_is_needed(site: Site) -> None:
    with pytest.raises(AirflowFailException, match=r"needs a container engine, .* Set \[monai\] runner = docker"):
        run(site, **task(site, "true", runner="process"))


@pytest.fixture
def served(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("AIRFLOW__MONAI__IMAGE_PULL", "missing")
    with registry() as running:
        yield running
        import docker

        engine = docker.from_env(version="auto")
        for image in engine.images.list():
            if any(tag.startswith(f"127.0.0.1:{running.port}/") for tag in image.tags):
                engine.images.remove(image.id, force=True)
        engine.close()


def test_an_image_is_pulled_where_it_is_missing_or_wanted_anew(site: Site, served: Registry) -> None:
    image = served.publish("tests/pulled", b"x", command=["/content"])
    arguments = task(site, "", image=image, entrypoint=None, command=None)
    with pytest.raises(AirflowFailException, match=r"exit code 12[67]"):
        run(site, **arguments)  # it holds no program
    pulled = served.pulls
    assert pulled >= 1
    with pytest.raises(AirflowFailException):
        run(site, **arguments, try_number=2, cleared=1)
    assert served.pulls == pulled
    with pytest.raises(AirflowFailException):
        run(site, **arguments, always_pull=True, try_number=3, cleared=2)
    assert served.pulls > pulled


def test_an_image_that_nobody_has_is_final_and_a_registry_out_of_reach_is_not(site: Site, served: Registry) -> None:
    with pytest.raises(AirflowFailException, match=r"pulling it failed: .*(manifest unknown|not found)"):
        run(site, **task(site, "", image=f"127.0.0.1:{served.port}/no/such:1"))
    with pytest.raises(RunnerUnavailable, match=r"pulling it failed: .*refused"):
        run(site, **task(site, "", image="127.0.0.1:9/no/such:1"), try_number=2, cleared=1)
