"""The Docker engine: the few calls that are needed, with errors that say what happened and what to do.

Imported only by the Docker runner, inside a task: this module brings in the docker package.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from airflow_monai.errors import MapError, MapNotFound, RunnerUnavailable

CALL_SECONDS = 60.0
_REFUSALS = ("OCI runtime", "device driver", "executable file not found")
_NOT_THERE = ("not found", "does not exist", "manifest unknown", "denied", "unauthorized", "invalid reference")
PULL_SECONDS = 600.0
ARCHIVE_BYTES = 4 * 1024 * 1024
_IDENTITIES: dict[str, str] = {}
"""Those of the engines that this process has asked, by their URLs."""


class Engine:
    """One Docker engine.

    :param url: where it listens, for example ``unix:///var/run/docker.sock``.
    :param conn_id: Airflow connection of type ``docker`` to log in to its registry with; empty for none.
    """

    def __init__(self, url: str, conn_id: str = ""):
        self.url = url
        self.conn_id = conn_id

    @cached_property
    def api(self) -> docker.APIClient:
        with self.errors("connect"):
            if self.conn_id:
                return self._hook_client()
            return docker.APIClient(base_url=self.url, version="auto", timeout=CALL_SECONDS)

    def _hook_client(self) -> docker.APIClient:
        from airflow.providers.docker.hooks.docker import DockerHook
        from airflow.sdk.exceptions import AirflowException

        try:
            hook = DockerHook(docker_conn_id=self.conn_id, base_url=self.url, version="auto", timeout=int(CALL_SECONDS))
            return hook.api_client
        except AirflowException as error:
            raise RunnerUnavailable(f"Connection {self.conn_id!r}, engine at {self.url}: {error}") from error

    def second(self, timeout: float = CALL_SECONDS) -> docker.APIClient:
        """A client of its own for another thread or a signal handler: one client cannot serve two at a time."""
        with self.errors("connect"):
            return docker.APIClient(base_url=self.url, version=self.api._version, timeout=timeout)

    def fresh(self) -> Engine:
        """The same engine through a connection of its own."""
        engine = Engine(self.url)
        engine.__dict__["api"] = self.second()
        return engine

    def identity(self) -> str:
        """The id that the engine gave itself, whatever way leads to it."""
        if self.url not in _IDENTITIES:
            with self.errors("say who it is"):
                _IDENTITIES[self.url] = str(self.api.info().get("ID") or self.url)
        return _IDENTITIES[self.url]

    def inspect(self, name: str) -> dict[str, Any] | None:
        """The container's description, None when there is none such."""
        with self.errors(f"inspect {name}"):
            try:
                return self.api.inspect_container(name)
            except NotFound:
                return None

    def image(self, reference: str) -> dict[str, Any] | None:
        with self.errors(f"inspect image {reference}"):
            try:
                return self.api.inspect_image(reference)
            except NotFound:
                return None

    def pull(self, reference: str) -> None:
        """Get an image from its registry.

        :raises MapNotFound: when the registry does not have it, or not for us.
        :raises RunnerUnavailable: when the registry cannot be asked.
        """
        repository, tag = _repository_and_tag(reference)
        with self.errors(f"pull {reference}"):
            try:
                for news in self.second(timeout=PULL_SECONDS).pull(repository, tag=tag, stream=True, decode=True):
                    if "error" in news:
                        raise _pull_error(reference, self.url, str(news["error"]))
            except APIError as error:
                raise _pull_error(reference, self.url, _reason(error)) from error

    def create(self, name: str, config: Mapping[str, Any]) -> bool:
        """Create a container; False when its name is taken."""
        with self.errors(f"create container {name}"):
            try:
                self.api.create_container_from_config(dict(config), name)
            except APIError as error:
                if error.status_code != 409:
                    raise
                return False
            return True

    def start(self, name: str) -> None:
        with self.errors(f"start container {name}"):
            self.api.start(name)

    def wait(self, name: str, seconds: float) -> bool:
        """Whether the container has ended within so many seconds."""
        with self.errors(f"wait for container {name}"):
            try:
                self.api.wait(name, timeout=seconds)
            except requests.exceptions.ReadTimeout:
                return False
            except requests.exceptions.ConnectionError as error:
                if "timed out" not in str(error).lower():
                    raise
                return False
            except NotFound:
                return True
            return True

    def stop(self, name: str, grace: int) -> None:
        with self.errors(f"stop container {name}"), contextlib.suppress(NotFound):
            self.api.stop(name, timeout=grace)

    def remove(self, name: str) -> None:
        """Kill and remove a container, also one that is being removed already."""
        with self.errors(f"remove container {name}"):
            try:
                self.api.remove_container(name, force=True, v=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != 409:  # 409: its removal is in progress
                    raise

    def find(self, labels: Mapping[str, str], status: str | None = None) -> list[dict[str, Any]]:
        """Containers with all these labels, running or not."""
        filters: dict[str, Any] = {"label": [f"{key}={value}" for key, value in labels.items()]}
        if status:
            filters["status"] = status
        with self.errors("list containers"):
            return self.api.containers(all=True, filters=filters)

    def file(self, name: str, path: str) -> bytes | None:
        """A file of a container, which need not run; None when there is none or it is a link."""
        with self.errors(f"read {path} of container {name}"):
            try:
                chunks, _ = self.api.get_archive(name, path)
            except NotFound:
                return None
            return _first_file(_bounded(chunks, ARCHIVE_BYTES, path))

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Tell an engine that is out of reach from one that refuses."""
        try:
            yield
        except APIError as error:
            message = f"The Docker engine at {self.url} refuses to {what}: {_reason(error)}"
            raise RunnerUnavailable(message) if _is_its_trouble(error) else MapError(message) from error
        except (requests.exceptions.RequestException, DockerException, OSError) as error:
            raise RunnerUnavailable(
                f"The Docker engine at {self.url} cannot be reached ({what}): {type(error).__name__}. Is it running, "
                "and may this worker's user use it? See [monai] docker_url."
            ) from error


def _repository_and_tag(reference: str) -> tuple[str, str | None]:
    """``name`` and ``tag`` as the engine's pull wants them; without a tag it would get all of them."""
    if "@" in reference:
        return reference, None
    head, _, tail = reference.rpartition(":")
    return (head, tail) if head and "/" not in tail else (reference, "latest")


def _pull_error(reference: str, url: str, reason: str) -> MapError:
    what = f"The image {reference!r} is not on the Docker engine at {url}, and pulling it failed: {reason[:400]}"
    refused = any(words in reason.lower() for words in _NOT_THERE)
    return (MapNotFound if refused else RunnerUnavailable)(f"{what}. Pull or load it there, or correct the reference.")


def _is_its_trouble(error: APIError) -> bool:
    """Whether the engine failed at what it was asked, rather than refused it: refusals at start come as 500 too."""
    refused = any(words in str(error) for words in _REFUSALS)
    return error.status_code is not None and error.status_code >= 500 and not refused


def _reason(error: APIError) -> str:
    return " ".join(str(error.explanation or error).split())[:600]


def _bounded(chunks: Iterator[bytes], limit: int, path: str) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > limit:
            raise MapError(f"{path} is larger than {limit} bytes.")
    return bytes(data)


def _first_file(archive: bytes) -> bytes | None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.isfile():
                file = tar.extractfile(member)
                return file.read() if file else None
    return None
