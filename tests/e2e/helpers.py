"""What the end-to-end tests share: small studies, workflow files, variants of the quick MAP, questions to the stack."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from airflow_monai.local.pacs_store import received
from airflow_monai.local.phantom import generate
from airflow_monai.local.stack import LocalStack
from airflow_monai.store import Store, open_store
from airflow_monai.store.payloads import payload_id_of, run_id_of
from airflow_monai.types import TaskRecord
from tests.fixtures_maps import MAPS_FOLDER

NOOP = MAPS_FOLDER / "noop"
RESULT_VOLUME = "{{ context.executions.work.result.volume_ml }}"
Task = dict[str, Any]


@dataclass(frozen=True)
class Auditor:
    """The receiver behind the destination AUDIT."""

    port: int
    folder: Path

    def deliveries(self) -> Counter[str]:
        """SOP Instance UID -> how often it was accepted."""
        return received(self.folder)

    def results_of(self, study_uid: str) -> list[str]:
        """SOP Instance UIDs that it holds of a study."""
        return sorted(path.stem for path in self.folder.glob(f"{study_uid}/*.dcm"))

    def results(self, studies: Iterable[Study]) -> dict[str, int]:
        """Study Instance UID -> number of deliveries, repeated ones included."""
        deliveries = self.deliveries()
        return {study.uid: sum(deliveries[sop] for sop in self.results_of(study.uid)) for study in studies}


@dataclass
class Maps:
    """The quick MAP with a given behaviour, for whichever runner the stack has.

    :param folder: where the process runner finds them.
    """

    runner: str
    folder: Path
    _made: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def reference(self, mode: str = "ok", seconds: str = "0", *, runner: str = "") -> str:
        """What ``args.map`` has to be; ``mode`` and ``seconds`` are NOOP_MODE and NOOP_SECONDS."""
        key = (mode, seconds, runner or self.runner)
        if key not in self._made:
            name = f"e2e-{mode}-{uuid.uuid4().hex[:8]}"
            environment = {"NOOP_MODE": mode, "NOOP_SECONDS": seconds}
            make = self._make_image if key[2] == "docker" else self._make_folder
            make(name, environment)
            self._made[key] = f"{name}:1.0.0"
        return self._made[key]

    def mend(self, reference: str) -> None:
        """Make one of them do what it should from now on, under the same name."""
        make = self._make_image if self.runner == "docker" else self._make_folder
        make(reference.partition(":")[0], {"NOOP_MODE": "ok", "NOOP_SECONDS": "0"})

    def remove(self) -> None:
        """Remove the images that were made."""
        images = [tag for (_, _, runner), tag in self._made.items() if runner == "docker"]
        if images:
            import docker

            engine = docker.from_env()
            for tag in images:
                engine.images.remove(tag, force=True)
            engine.close()

    def _make_image(self, name: str, environment: Mapping[str, str]) -> None:
        import docker

        engine = docker.from_env()
        container = engine.containers.create("noop:1.0.0")
        changes = "\n".join(f"ENV {key}={value}" for key, value in environment.items())
        container.commit(name, "1.0.0", changes=changes)
        container.remove()
        engine.close()

    def _make_folder(self, name: str, environment: Mapping[str, str]) -> None:
        shutil.copytree(NOOP, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        manifest = self.folder / name / "app.json"
        app = json.loads(manifest.read_text())
        app["environment"] |= environment
        manifest.write_text(json.dumps(app))


@dataclass(frozen=True)
class Study:
    """A small CT study on disk, sent to one AE title."""

    uid: str
    files: tuple[Path, ...]
    sop_uids: tuple[str, ...]
    aet: str

    @property
    def payload_id(self) -> str:
        return self.payload(0)

    def payload(self, sequence: int) -> str:
        return payload_id_of(self.uid, self.aet, sequence)

    @property
    def run_id(self) -> str:
        return run_id_of(self.payload_id)


def make_study(folder: Path, aet: str, *, slices: int = 3, series: int = 1) -> Study:
    """A study of so many series, whose Series Numbers count from 1."""
    info = generate(folder / uuid.uuid4().hex, slices=slices, rows=64)
    files, sop_uids = info.files, info.sop_uids
    for number in range(2, series + 1):
        more = generate(
            folder / uuid.uuid4().hex,
            slices=slices,
            rows=64,
            study_uid=info.study_uid,
            patient_id=info.patient_id,
            series_number=number,
        )
        files, sop_uids = files + more.files, sop_uids + more.sop_uids
    return Study(info.study_uid, files, sop_uids, aet)


def make_studies(folder: Path, aet: str, count: int, *, slices: int = 3) -> list[Study]:
    return [make_study(folder, aet, slices=slices) for _ in range(count)]


def storescu(
    stack: LocalStack, aet: str, files: Sequence[Path], *options: str, calling: str = "CT01"
) -> subprocess.CompletedProcess[str]:
    """Send files in one association, in their order."""
    address = ["127.0.0.1", str(stack.ports.dicom)]
    command = ["storescu", "-aec", aet, "-aet", calling, *options, *address, *map(str, files)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "TCP_NODELAY": "1"}, check=False
    )


def send(stack: LocalStack, *studies: Study, senders: int = 1) -> None:
    """Send each study in an association of its own, by so many senders at a time."""

    def send_one(study: Study) -> None:
        done = storescu(stack, study.aet, study.files)
        assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(senders) as pool:
        list(pool.map(send_one, studies))


def work(map_reference: str, *following: Task, **more: Any) -> Task:
    """A map task ``work``; ``following`` are its task_destinations, by default ``send`` when it made what it should."""
    destinations = following or ({"name": "send", "conditions": [f"{RESULT_VOLUME} > '500'"]},)
    return {
        "id": "work",
        "type": "map",
        "args": {"map": map_reference},
        "artifacts": {
            "input": [{"name": "study", "value": "{{ context.input.dicom }}"}],
            "output": [{"name": "result", "type": "OT"}],
        },
        "task_destinations": list(destinations),
        **more,
    }


def export(task_id: str = "send", destinations: Sequence[str] = ("PACS", "AUDIT"), **more: Any) -> Task:
    """An export task of what ``work`` made."""
    return {
        "id": task_id,
        "type": "export",
        "export_destinations": [{"name": name} for name in destinations],
        "artifacts": {"input": [{"name": "result", "value": "{{ context.executions.work.artifacts.result }}"}]},
        **more,
    }


def workflow(name: str, aet: str, *tasks: Task, quiet: float = 1.0, **more: Any) -> dict[str, Any]:
    """A workflow that may export to PACS and AUDIT."""
    return {
        "name": name,
        "version": "1.0.0",
        "informatics_gateway": {
            "ae_title": aet,
            "export_destinations": ["PACS", "AUDIT", "ARCHIVE"],
            "quiet_seconds": quiet,
        },
        **more,
        "tasks": list(tasks),
    }


def write_spec(stack: LocalStack, spec: dict[str, Any] | str, file: str = "") -> Path:
    """Drop a workflow file into the folder, as an editor does: whole, by a rename."""
    text = spec if isinstance(spec, str) else yaml.safe_dump(spec, sort_keys=False)
    path = stack.options.workflows / (file or f"{spec['name']}.yaml")  # type: ignore[index]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
    return path


def add_workflows(stack: LocalStack, *specs: dict[str, Any]) -> None:
    """Write the files and wait until Airflow knows all of them."""
    for spec in specs:
        write_spec(stack, spec)

    def known(name: str) -> bool:
        for error in stack.api.import_errors():
            assert name not in error["filename"], error["stack_trace"]
        return stack.api.dag(name) is not None

    for spec in specs:
        name = spec["name"]
        stack.wait_for(partial(known, name), seconds=180, what=f"DAG {name}")


def store_of(stack: LocalStack) -> Store:
    return open_store(str(stack.layout.store))


def payloads_of(stack: LocalStack, aet: str) -> list[dict[str, Any]]:
    """Manifests of all closed payloads that were sent to an AE title."""
    manifests = []
    for path in stack.layout.store.glob("payloads/*/payload.json"):
        with suppress(FileNotFoundError):  # another test has it deleted
            manifests.append(json.loads(path.read_text()))
    return [manifest for manifest in manifests if manifest["called_aet"] == aet]


def wait_for_runs(
    stack: LocalStack, dag_id: str, count: int, *states: str, seconds: float = 240
) -> dict[str, dict[str, Any]]:
    """Run id -> run, as soon as there are ``count`` runs and all are in one of the states (or just ended)."""
    wanted = states or ("success", "failed")

    def settled() -> dict[str, dict[str, Any]]:
        runs = {run["dag_run_id"]: run for run in stack.runs(dag_id)}
        return runs if len(runs) >= count and all(run["state"] in wanted for run in runs.values()) else {}

    return stack.wait_for(settled, seconds=seconds, what=f"{count} runs of {dag_id} in {'/'.join(wanted)}")


def wait_for_state(
    stack: LocalStack, dag_id: str, run_id: str, task_id: str, *states: str, seconds: float = 120
) -> dict[str, Any]:
    """The task instance as soon as it is in one of the states."""

    def there() -> dict[str, Any]:
        if not any(run["dag_run_id"] == run_id for run in stack.runs(dag_id)):
            return {}
        found = [ti for ti in stack.task_instances(dag_id, run_id) if ti["task_id"] == task_id]
        return found[0] if found and found[0]["state"] in states else {}

    return stack.wait_for(there, seconds=seconds, what=f"{task_id} of {run_id} in {'/'.join(states)}", every=0.3)


def record(stack: LocalStack, dag_id: str, study: Study, task_id: str) -> TaskRecord | None:
    """The task's record in the store."""
    from airflow_monai.store.runs import RunFolder

    return RunFolder(store_of(stack), study.payload_id, dag_id, study.run_id).record(task_id)


def application_log(stack: LocalStack, dag_id: str, study: Study, task_id: str = "work") -> Path:
    """What the application of a task's first generation prints."""
    folder = stack.layout.store / "payloads" / study.payload_id / "workflows" / dag_id / study.run_id / task_id
    return folder / "g1.log"


def wait_for_application(stack: LocalStack, dag_id: str, study: Study, task_id: str = "work") -> None:
    """Until the quick MAP works."""
    log = application_log(stack, dag_id, study, task_id)
    stack.wait_for(lambda: log.is_file() and "noop: mode" in log.read_text(), seconds=180, what=f"{dag_id} to work")


def task_log(stack: LocalStack, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
    """What the task log page shows."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
    return json.dumps(stack.api.call("GET", path, full_content="true"))


def clear(stack: LocalStack, dag_id: str, run_id: str, *task_ids: str) -> None:
    """Clear tasks of a run, with what comes after them, as a person does in the UI."""
    body = {
        "dry_run": False,
        "dag_run_id": run_id,
        "task_ids": list(task_ids),
        "include_downstream": True,
        "only_failed": False,
        "reset_dag_runs": True,
    }
    stack.api.call("POST", f"/dags/{dag_id}/clearTaskInstances", body)


class ContainerStarts:
    """Listens to the Docker engine from ``__enter__`` on; it keeps no long memory of its own."""

    def __init__(self) -> None:
        self._labels: list[dict[str, str]] = []

    def __enter__(self) -> ContainerStarts:
        import docker

        self._engine = docker.from_env(timeout=3600)
        self._events = self._engine.events(filters={"type": "container", "event": "start"}, decode=True)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()
        self._thread.join(60)
        self._engine.close()

    def count(self, **labels: str) -> int:
        """How many containers with these labels have been started."""
        wanted = {f"monai.{name}": value for name, value in labels.items()}.items()
        return sum(wanted <= found.items() for found in list(self._labels))

    def _listen(self) -> None:
        for event in self._events:
            self._labels.append(event["Actor"]["Attributes"])


def containers(stack: LocalStack, **labels: str) -> list[str]:
    """Ids of containers, ended ones too, that tasks of this stack's store have made."""
    import docker

    engine = docker.from_env()
    try:
        wanted = [f"monai.{name}={value}" for name, value in labels.items()]
        found = engine.containers.list(all=True, filters={"label": wanted or ["monai.store"]}, ignore_removed=True)
        root = str(stack.layout.store)
        return [
            container.id
            for container in found
            if any(str(mount.get("Source", "")).startswith(root) for mount in container.attrs.get("Mounts") or ())
        ]
    finally:
        engine.close()
