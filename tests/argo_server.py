"""An Argo Server for tests: a real HTTP process with the part of the REST API that a client of workflows uses.

It is written after the published API of Argo Workflows, and stands in for it because a cluster cannot be had in tests:
create, get (with ``fields``), list (with a label selector), terminate, delete; the bearer token is checked; errors are
the gRPC gateway's (``{"code": 6, "message": ...}`` with HTTP 409...). What a real controller does in pods is a small
script in a process of its own: it gets the workflow's parameters and may write into the output folder. Workflows go
from no status over Pending and Running to Succeeded, Failed or Error, are ended at activeDeadlineSeconds and when they
are terminated, and are there again after the server was killed and started on the same folder.

Templates are files ``templates/<name>.json``: ``parameters`` (those that it declares without a value), ``seconds`` that
a pod takes, ``script`` (Python; ``parameters`` is a dict), ``error`` (the controller fails with this message).

    python tests/argo_server.py FOLDER [--port N] [--token TEXT] [--unsure]

``--unsure``: to somebody without a valid token a single workflow is "not found", as versions since 3.5.5 say.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PENDING_SECONDS = 0.3
CODES = {3: 400, 5: 404, 6: 409, 7: 403, 16: 401}
ENDED = ("Succeeded", "Failed", "Error")
Workflow = dict[str, Any]


@dataclass
class ArgoProcess:
    """The server as tests see it."""

    folder: Path
    port: int = 0
    token: str = "secret-token"
    options: tuple[str, ...] = ()
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connection(self, **extra: Any) -> str:
        """An Airflow connection of type ``argo``, as a variable of the environment has it."""
        return json.dumps({"conn_type": "argo", "host": self.url, "password": self.token, "extra": extra})

    def start(self) -> None:
        from tests.pacs import free_port

        self.port = self.port or free_port()
        command = [sys.executable, __file__, str(self.folder), "--port", str(self.port), "--token", self.token]
        self._process = subprocess.Popen([*command, *self.options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def template(self, name: str, script: str = "", **more: Any) -> str:
        """Make a template; its name."""
        path = self.folder / "templates" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"script": script, **more}))
        return name

    def workflows(self) -> list[Workflow]:
        """All that were ever started, oldest first."""
        found = [json.loads(path.read_text()) for path in self.folder.glob("workflows/*/*.json")]
        # their times have whole seconds, as Argo's; of one second, a retry's name goes on from the one before
        return sorted(found, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]))

    def phases(self) -> list[str]:
        return [(workflow.get("status") or {}).get("phase", "") for workflow in self.workflows()]

    def asked(self, method: str, path: str = "") -> list[dict[str, Any]]:
        """The requests that came so far."""
        log = self.folder / "requests.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [one for one in lines if one["method"] == method and path in one["path"]]


@contextmanager
def argo_server(folder: Path, *options: str) -> Iterator[ArgoProcess]:
    """Run the server."""
    process = ArgoProcess(folder, options=options)
    process.start()
    try:
        yield process
    finally:
        process.kill()


class ApiError(Exception):
    """An error with a code of gRPC."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class Cluster:
    """The workflows of a folder, each a file, and the controller that moves them on."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        self.pods: dict[str, subprocess.Popen[str]] = {}

    def create(self, namespace: str, workflow: Workflow) -> Workflow:
        metadata, spec = workflow.setdefault("metadata", {}), workflow.setdefault("spec", {})
        name = metadata.get("name") or f"{metadata.get('generateName', '')}{uuid.uuid4().hex[:5]}"
        reference = (spec.get("workflowTemplateRef") or {}).get("name")
        if spec.get("templates") and reference:
            raise ApiError(3, "Templates is invalid field in spec if workflow referred WorkflowTemplate reference")
        template = self._template(reference)
        given = (spec.get("arguments") or {}).get("parameters") or []
        if any(not isinstance(one.get("value"), str) for one in given):
            raise ApiError(3, "json: cannot unmarshal: a parameter's value must be a string")
        for parameter in template.get("parameters", ()):
            if parameter not in {one["name"] for one in given}:
                raise ApiError(
                    3, f"spec.arguments.{parameter}.value or spec.arguments.{parameter}.valueFrom is required"
                )
        with self.lock:
            if self._path(namespace, name).exists():
                raise ApiError(6, f'workflows.argoproj.io "{name}" already exists')
            now = time.time()
            metadata |= {"name": name, "namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": _utc(now)}
            self._save({**workflow, "test": {"created": now}})
            return workflow

    def get(self, namespace: str, name: str) -> Workflow:
        path = self._path(namespace, name)
        if not path.exists():
            raise ApiError(5, f'workflows.argoproj.io "{name}" not found')
        return dict(json.loads(path.read_text()))

    def registered(self, name: str) -> Path:
        return self.folder / "registered" / f"{name}.json"

    def register(self, namespace: str, name: str, template: dict[str, Any], known: bool) -> dict[str, Any]:
        """Keep a WorkflowTemplate; the version of one that is replaced has to be named, as Kubernetes wants it."""
        path = self.registered(name)
        spec, metadata = template.get("spec") or {}, template.setdefault("metadata", {})
        if not spec.get("entrypoint") and not spec.get("templates"):
            raise ApiError(3, "spec.entrypoint is required")
        with self.lock:
            if path.exists() is not known:
                said = f'workflowtemplates.argoproj.io "{name}" ' + ("not found" if known else "already exists")
                raise ApiError(5 if known else 6, said)
            version = int(json.loads(path.read_text())["metadata"]["resourceVersion"]) if known else 0
            if known and str(metadata.get("resourceVersion")) != str(version):
                raise ApiError(3, "metadata.resourceVersion: Invalid value: must be specified for an update")
            metadata |= {"name": name, "namespace": namespace, "resourceVersion": str(version + 1)}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(template))
            declared = [
                one["name"] for one in (spec.get("arguments") or {}).get("parameters", []) if "value" not in one
            ]
            file = self.folder / "templates" / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"script": "", "parameters": declared}))
            return template

    def template_of(self, name: str) -> dict[str, Any]:
        if not self.registered(name).exists() and (self.folder / "templates" / f"{name}.json").exists():
            return {"metadata": {"name": name, "resourceVersion": "1"}}  # one that a test has made
        if not self.registered(name).exists():
            raise ApiError(5, f'workflowtemplates.argoproj.io "{name}" not found')
        return dict(json.loads(self.registered(name).read_text()))

    def forget(self, name: str) -> dict[str, Any]:
        self.template_of(name)
        self.registered(name).unlink()
        (self.folder / "templates" / f"{name}.json").unlink()
        return {}

    def all(self, namespace: str = "*") -> list[Workflow]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob(f"workflows/{namespace}/*.json"))]

    def terminate(self, namespace: str, name: str) -> Workflow:
        with self.lock:
            workflow = self.get(namespace, name)
            if (workflow.get("status") or {}).get("phase") in ENDED:
                raise ApiError(3, "cannot shutdown a completed workflow")
            workflow["spec"]["shutdown"] = "Terminate"
            self._save(workflow)
            return workflow

    def delete(self, namespace: str, name: str) -> None:
        with self.lock:
            self._end_pod(self.get(namespace, name))
            self._path(namespace, name).unlink()

    def move_on(self) -> None:
        for workflow in self.all():
            with self.lock, contextlib.suppress(ApiError, OSError, ValueError):
                self._move(self.get(workflow["metadata"]["namespace"], workflow["metadata"]["name"]))

    def _move(self, workflow: Workflow) -> None:
        status = workflow.setdefault("status", {})
        age = time.time() - workflow["test"]["created"]
        if status.get("phase") in ENDED:
            return
        if workflow["spec"].get("shutdown"):
            self._end(workflow, "Failed", "Stopped with strategy 'Terminate'", node="Stopped with strategy 'Terminate'")
        elif not status:
            status |= {"phase": "Pending", "startedAt": _utc(time.time())}
            self._save(workflow)
        elif age > float(workflow["spec"].get("activeDeadlineSeconds") or 1e9):
            self._end(workflow, "Failed", "", node="Pod was active on the node longer than the specified deadline")
        elif age > PENDING_SECONDS:
            self._run(workflow)

    def _run(self, workflow: Workflow) -> None:
        template = self._template(workflow["spec"]["workflowTemplateRef"]["name"])
        key = workflow["metadata"]["uid"]
        if template.get("error"):
            self._end(workflow, "Error", template["error"])
        elif workflow["status"]["phase"] == "Pending":
            workflow["status"]["phase"] = "Running"
            workflow["test"]["due"] = time.time() + float(template.get("seconds", 0.2))
            self._save(workflow)
        elif time.time() < workflow["test"]["due"]:
            pass
        elif key not in self.pods:
            parameters = {one["name"]: one["value"] for one in workflow["spec"]["arguments"]["parameters"]}
            source = f"import json, os, sys\nparameters = json.loads({json.dumps(parameters)!r})\n{template['script']}"
            command = [sys.executable, "-c", source]
            self.pods[key] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        elif self.pods[key].poll() is not None:
            pod = self.pods.pop(key)
            if pod.returncode == 0:
                self._end(workflow, "Succeeded", "")
            else:
                lines = (pod.stderr.read() if pod.stderr else "").strip().splitlines()
                said = f": {lines[-1]}" if lines else ""
                self._end(workflow, "Failed", "", node=f"Error (exit code {pod.returncode}){said}")

    def _end(self, workflow: Workflow, phase: str, message: str, *, node: str = "") -> None:
        self._end_pod(workflow)
        name = workflow["metadata"]["name"]
        kind = {"templateName": "main", "phase": phase, "finishedAt": _utc(time.time())}
        workflow["status"] |= {
            "phase": phase,
            "message": message or (f"child '{name}-1' failed" if node else ""),
            "finishedAt": _utc(time.time()),
            "resourcesDuration": {"cpu": 1, "memory": 3},
            "nodes": {
                name: {**kind, "id": name, "displayName": name, "type": "Steps", "message": node},
                f"{name}-1": {**kind, "id": f"{name}-1", "displayName": "segment", "type": "Pod", "message": node},
            },
        }
        self._save(workflow)

    def _end_pod(self, workflow: Workflow) -> None:
        pod = self.pods.pop(workflow["metadata"]["uid"], None)
        if pod is not None and pod.poll() is None:
            pod.kill()
            pod.wait(5)

    def _template(self, name: str | None) -> dict[str, Any]:
        path = self.folder / "templates" / f"{name}.json"
        if not path.exists():
            raise ApiError(5, f'workflowtemplates.argoproj.io "{name}" not found')
        return dict(json.loads(path.read_text()))

    def _path(self, namespace: str, name: str) -> Path:
        return self.folder / "workflows" / namespace / f"{name}.json"

    def _save(self, workflow: Workflow) -> None:
        path = self._path(workflow["metadata"]["namespace"], workflow["metadata"]["name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(workflow))
        os.replace(temporary, path)


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _only(value: Any, fields: list[str]) -> Any:
    """What ``fields`` leaves of a value: dotted paths, which go through lists."""
    if not fields:
        return value
    if isinstance(value, list):
        return [_only(item, fields) for item in value]
    if not isinstance(value, dict):
        return value
    kept: dict[str, list[str]] = {}
    for name in fields:
        head, _, rest = name.partition(".")
        kept.setdefault(head, []).append(rest)
    return {name: _only(value[name], [] if "" in rests else rests) for name, rests in kept.items() if name in value}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster
    token = ""
    unsure = False

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        with self.cluster.lock, (self.cluster.folder / "requests.jsonl").open("a") as log:
            log.write(json.dumps({"method": self.command, "path": self.path, "body": body}) + "\n")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            path = [unquote(part) for part in parts.path.strip("/").split("/")]
            self._allow(path)
            self._answer(200, self._result(path, query, body))
        except ApiError as error:
            self._answer(CODES[error.code], {"code": error.code, "message": str(error), "details": []})

    do_GET = do_POST = do_PUT = do_DELETE = _handle

    def _allow(self, path: list[str]) -> None:
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            if self.unsure and self.command == "GET" and len(path) == 5:
                raise ApiError(5, "not found")
            raise ApiError(16, "token not valid. see https://argo-workflows.readthedocs.io/en/latest/faq/")

    def _result(self, path: list[str], query: dict[str, str], body: dict[str, Any]) -> Any:
        fields = [name for name in query.get("fields", "").split(",") if name]
        match (self.command, path):
            case ("GET", ["api", "v1", "version"]):
                return {"version": "v3.6.0"}
            case ("POST", ["api", "v1", "workflows", namespace]):
                return self.cluster.create(namespace, body.get("workflow") or {})
            case ("GET", ["api", "v1", "workflows", namespace]):
                return _only(self._list(namespace, query), fields)
            case ("GET", ["api", "v1", "workflows", namespace, name]):
                workflow = self.cluster.get(namespace, name)
                return _only({key: value for key, value in workflow.items() if key != "test"}, fields)
            case ("PUT", ["api", "v1", "workflows", namespace, name, "terminate"]):
                return self.cluster.terminate(namespace, name)
            case ("DELETE", ["api", "v1", "workflows", namespace, name]):
                return self.cluster.delete(namespace, name) or {}
            case ("POST", ["api", "v1", "workflow-templates", namespace]):
                template = body.get("template") or {}
                return self.cluster.register(namespace, template["metadata"]["name"], template, known=False)
            case ("PUT", ["api", "v1", "workflow-templates", namespace, name]):
                return self.cluster.register(namespace, name, body.get("template") or {}, known=True)
            case ("GET", ["api", "v1", "workflow-templates", _, name]):
                return self.cluster.template_of(name)
            case ("DELETE", ["api", "v1", "workflow-templates", _, name]):
                return self.cluster.forget(name)
        raise ApiError(5, "Not Found")

    def _list(self, namespace: str, query: dict[str, str]) -> dict[str, Any]:
        selector = [part.partition("=") for part in query.get("listOptions.labelSelector", "").split(",") if part]
        found = [
            workflow
            for workflow in self.cluster.all(namespace)
            if all((workflow["metadata"].get("labels") or {}).get(name) == value for name, _, value in selector)
        ]
        return {"metadata": {}, "items": found or None}

    def _answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="")
    parser.add_argument("--unsure", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    Handler.cluster, Handler.token, Handler.unsure = Cluster(options.folder), options.token, options.unsure
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        Handler.cluster.move_on()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
