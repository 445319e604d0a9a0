"""A cluster that is none: it carries out the pods of the Kubernetes runner on this host, as far as their folders go.

The two steps of a transfer are the real ones, in processes of their own; the application is a function of the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_monai.maps.transfer import POD

App = Callable[[Path, Path], int]
"""An application: input and output folder -> exit code."""

STEP = """
import sys
from airflow_monai.maps import transfer
transfer.INPUT, transfer.OUTPUT = sys.argv[1:3]
transfer.PATIENCE_SECONDS, transfer.PAUSE_SECONDS, transfer.POLL_SECONDS = {patience}, 0.2, 0.1
{more}
sys.exit(transfer.main(sys.argv[3:]))
"""


@dataclass
class PodsHere:
    """
    :param folder: for the pods' volumes.
    :param environment: what their Secret holds.
    :param more: Python that the publishing step executes first.
    """

    folder: Path
    app: App
    environment: Mapping[str, str]
    patience: float = 1.0
    more: str = ""
    pods: dict[str, Pod] = field(default_factory=dict)
    ever: int = 0

    def fresh(self) -> PodsHere:
        return self

    def identities(self) -> list[str]:
        return ["here"]

    def create(self, pod: dict[str, Any]) -> bool:
        name = pod["metadata"]["name"]
        if name in self.pods:
            return False
        self.pods[name] = Pod(self, pod, self.folder / f"pod-{self.ever}")
        self.ever += 1
        return True

    def get(self, name: str) -> dict[str, Any] | None:
        pod = self.pods.get(name)
        return pod.seen() if pod else None

    def find(self, selector: str) -> list[dict[str, Any]]:
        wanted = dict(item.split("=") for item in selector.split(","))
        found = (pod.seen() for pod in list(self.pods.values()))
        return [pod for pod in found if wanted.items() <= pod["metadata"]["labels"].items()]

    def delete(self, name: str, grace: int, uid: str = "") -> None:
        pod = self.pods.pop(name, None)
        if pod is not None:
            pod.end()

    def log(self, name: str, **_: Any) -> Iterator[bytes]:
        yield b"2026-01-05T10:00:01Z ready\n"

    def events(self, pod: Any) -> list[dict[str, Any]]:
        return []

    def metrics(self, name: str) -> None:
        return None

    def node_is_away(self, pod: Any) -> bool:
        return False

    def close(self) -> None:
        for name in list(self.pods):
            self.delete(name, 0)


class Pod:
    """One pod, from its start on."""

    def __init__(self, cluster: PodsHere, manifest: dict[str, Any], folder: Path):
        self.cluster, self.manifest, self.folder = cluster, manifest, folder
        self.uid, self.made = uuid.uuid4().hex, _now()
        self.states: dict[str, dict[str, Any]] = {"app": {"waiting": {"reason": "PodInitializing"}}}
        self.publisher: subprocess.Popen[str] | None = None
        self._begun = ""
        for volume in ("input", "output"):
            (folder / volume).mkdir(parents=True)
        threading.Thread(target=self._run, daemon=True).start()

    def seen(self) -> dict[str, Any]:
        """As the API server would tell of it."""
        publisher = self.publisher
        if publisher is not None and publisher.poll() is not None:
            self.states["publish"] = _ended(publisher.returncode, self._last_words("publish"))
        names = [item["name"] for item in self.manifest["spec"]["containers"]]
        states = [{"name": name, "state": self.states.get(name, {"waiting": {}})} for name in names]
        init = [{"name": "fetch", "state": self.states.get("fetch", {"running": {"startedAt": self.made}})}]
        codes = [item["state"].get("terminated", {}).get("exitCode") for item in states]
        failed = self.states.get("fetch", {}).get("terminated", {}).get("exitCode", 0) != 0
        phase = "Running" if self._begun else "Pending"
        if failed or None not in codes:
            phase = "Failed" if failed or any(codes) else "Succeeded"
        status = {"phase": phase, "containerStatuses": states, "initContainerStatuses": init}
        metadata = {**self.manifest["metadata"], "uid": self.uid, "creationTimestamp": self.made}
        return {**self.manifest, "metadata": metadata, "status": status}

    def end(self) -> None:
        if self.publisher is not None:
            self.publisher.terminate()
            self.publisher.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self) -> None:
        (before,) = self.manifest["spec"]["initContainers"]
        code = self._step(before).wait()
        self.states["fetch"] = _ended(code, self._last_words("fetch"))
        if code:
            return
        app, beside = self.manifest["spec"]["containers"]
        self.publisher = self._step(beside, self.cluster.more)
        self.states["publish"] = {"running": {"startedAt": _now()}}
        self._begun = _now()
        self.states["app"] = {"running": {"startedAt": self._begun}}
        folders = {
            mount["name"]: self.folder / mount["name"] / mount["subPath"]
            for mount in app["volumeMounts"]
            if "subPath" in mount
        }
        self.states["app"] = _ended(self.cluster.app(folders["input"], folders["output"]), begun=self._begun)

    def _step(self, container: Mapping[str, Any], more: str = "") -> subprocess.Popen[str]:
        *_, step, url, key = container["command"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AIRFLOW_"))}
        script = STEP.format(patience=self.cluster.patience, more=more)
        places = [str(self.folder / "input"), str(self.folder / "output")]
        with open(self.folder / container["name"], "w") as words:
            return subprocess.Popen(
                [sys.executable, "-c", script, *places, step, url, key],
                env={**environment, **self.cluster.environment, POD: self.uid},
                stderr=words,
                text=True,
            )

    def _last_words(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()[-2048:]
        except FileNotFoundError:
            return ""


def _ended(code: int, message: str = "", begun: str = "") -> dict[str, Any]:
    reason = "Error" if code else "Completed"
    ended = {"exitCode": code, "reason": reason, "startedAt": begun or _now(), "finishedAt": _now()}
    return {"terminated": ended | ({"message": message} if code and message else {})}


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def wait_until(true: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
