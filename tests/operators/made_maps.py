"""Small MAPs for tests, from a few lines of Python: an image on top of the quick sample MAP, or an unpacked folder."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASE_IMAGE = "noop:1.0.0"
COMMAND = "python3 /opt/holoscan/app/main.py"


@dataclass
class MapMaker:
    runner: str
    folder: Path
    images: list[str] = field(default_factory=list)

    def make(self, name: str, source: str, *, command: str = COMMAND, timeout: float = 0, **package: Any) -> str:
        """A MAP that runs ``source``; its reference.

        :param package: resources of its ``pkg.json``.
        """
        app = {"command": command, "timeout": timeout, "input": {"path": "input/"}, "output": {"path": "output/"}}
        files = {
            "app.json": json.dumps({**app, "version": "1.0.0"}),
            "pkg.json": json.dumps({"applicationRoot": "/opt/holoscan/app", "resources": {"cpu": 1, **package}}),
            "app/main.py": source,
        }
        if self.runner == "process":
            for path, text in files.items():
                target = self.folder / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
            return f"{name}:1.0.0"
        return self._image(name, files)

    def _image(self, name: str, files: dict[str, str]) -> str:
        import docker

        client = docker.from_env(version="auto")
        container = client.containers.create(BASE_IMAGE)
        try:
            for path, text in files.items():
                target = f"opt/holoscan/{path}" if path.startswith("app/") else f"etc/holoscan/{path}"
                container.put_archive("/", _archive(target, text.encode()))
            # other tests of this host may be making one of this name
            image = container.commit(f"airflow-monai-test/{name}-{secrets.token_hex(4)}", "1.0.0")
        finally:
            container.remove()
        self.images.append(image.id)
        return image.tags[0]

    def clean(self) -> None:
        if not self.images:
            return
        import docker

        client = docker.from_env(version="auto")
        for image in self.images:
            client.images.remove(image, force=True)


def _archive(path: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(content), 0o644
        tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def containers_of(store: str, *, running: bool = False) -> list[str]:
    """Names of the containers that tasks over this store have."""
    import docker

    label = f"monai.store={hashlib.sha256(store.encode()).hexdigest()[:16]}"
    client = docker.from_env(version="auto")
    return [item.name for item in client.containers.list(all=not running, filters={"label": label})]
