"""The Docker engine: the few calls that are needed, with errors that say what happened and what to do.

Imported only by the Docker runner, inside a task: this module brings in the docker package.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import os
import tarfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound, TLSParameterError

from airflow_monai.errors import MapError, RunnerUnavailable, SettingsError
from airflow_monai.maps.references import Reference
from airflow_monai.maps.runners.docker.pull import pull_error

if TYPE_CHECKING:
    from airflow.sdk import Connection

CALL_SECONDS = 60.0
STOP_SECONDS = 20.0
"""How long an engine may take to stop a container beyond the container's own grace."""
_REFUSALS = ("OCI runtime", "device driver", "executable file not found", "Cannot mkdir", "is not a directory")
ARCHIVE_BYTES = 4 * 1024 * 1024
_INFOS: dict[str, Mapping[str, Any]] = {}
"""What the engines that this process has asked say of themselves, by their URLs."""


class _TlsClient(docker.APIClient):
    """One that trusts the authority it is given, where a site's environment names others for the web."""

    @property
    def trust_env(self) -> bool:
        return False

    @trust_env.setter
    def trust_env(self, value: bool) -> None:
        pass


class Engine:
    """One Docker engine.

    :param url: where it listens, for example ``unix:///var/run/docker.sock``.
    :param conn_id: Airflow connection of type ``docker`` to log in to its registry with; empty for none. Its extra may
        name the engine: ``docker_url``, ``docker_tls_folder``.
    :param tls_folder: with ``ca.pem``, ``cert.pem`` and ``key.pem``, where the engine wants TLS; empty for none.
    """

    def __init__(self, url: str, conn_id: str = "", tls_folder: str = ""):
        self.conn_id = conn_id
        self.url, self.tls_folder = _address(url, tls_folder, conn_id)

    @cached_property
    def api(self) -> docker.APIClient:
        return self._client("auto", CALL_SECONDS)

    def _client(self, version: str | None, timeout: float) -> docker.APIClient:
        with self.errors("connect"):
            kind = _TlsClient if self._tls else docker.APIClient
            return kind(base_url=self.url, version=version, timeout=timeout, tls=self._tls)

    @cached_property
    def _tls(self) -> docker.tls.TLSConfig | bool:
        """By which engine and worker prove to each other who they are."""
        if not self.tls_folder:
            return False
        from airflow.providers.docker.hooks.docker import DockerHook

        authority, certificate, key = (os.path.join(self.tls_folder, f"{name}.pem") for name in ("ca", "cert", "key"))
        try:
            return DockerHook.construct_tls_config(authority, certificate, key)
        except TLSParameterError as error:
            raise SettingsError(
                f"[monai] docker_tls_folder = {self.tls_folder}: it must hold ca.pem, cert.pem and key.pem, which this "
                f"worker may read. {error.msg}"
            ) from error

    def second(self, timeout: float = CALL_SECONDS) -> docker.APIClient:
        """A client of its own for another thread or a signal handler: one client cannot serve two at a time."""
        return self._client(self.api._version, timeout)

    def registry_client(self, timeout: float) -> docker.APIClient:
        """A client that has the login of the site's Docker connection to its registry, for getting images."""
        client = self.second(timeout)
        if self.conn_id:
            self._log_in(client)
        return client

    def _log_in(self, client: docker.APIClient) -> None:
        known = _connection(self.conn_id)
        if not (known.host and known.login):
            return  # names the engine only
        registry = f"{known.host}:{known.port}" if known.port else known.host
        with self.errors(f"log in to {registry}"):
            try:
                client.login(known.login, known.password, registry=registry, reauth=True)
            except APIError as error:
                where = f"connection {self.conn_id!r} cannot log in to {registry}"
                raise pull_error(registry, self.url, f"{where}: {_reason(error)}") from error

    def fresh(self) -> Engine:
        """The same engine through a connection of its own."""
        engine = copy.copy(self)
        engine.__dict__["api"] = self.second()
        return engine

    def info(self) -> Mapping[str, Any]:
        """What the engine says of itself, asked once by each process."""
        if self.url not in _INFOS:
            with self.errors("say who it is"):
                _INFOS[self.url] = self.api.info()
        return _INFOS[self.url]

    def identity(self) -> str:
        """The id that the engine gave itself, whatever way leads to it."""
        return str(self.info().get("ID") or self.url)

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

    def pull_stream(self, client: docker.APIClient, reference: str) -> Iterator[dict[str, Any]]:
        """Have the engine get an image, and tell what it tells.

        :param client: from :meth:`registry_client`, used for nothing else.
        """
        repository, tag = Reference.of(reference).for_pull()
        with self.errors(f"pull {reference}"):
            try:
                yield from client.pull(repository, tag=tag, stream=True, decode=True)
            except APIError as error:
                raise pull_error(reference, self.url, _reason(error)) from error

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

    def stop(self, name: str, grace: float) -> None:
        """Send the image's own stop signal, and after the grace the one that cannot be caught."""
        with self.errors(f"stop container {name}"), contextlib.suppress(NotFound):
            self.second(STOP_SECONDS).stop(name, timeout=math.ceil(grace))

    def kill(self, name: str) -> None:
        """End a container at once; nothing when it has ended."""
        with self.errors(f"kill container {name}"):
            try:
                self.api.kill(name)
            except APIError as error:
                if error.status_code not in (404, 409):
                    raise

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


def _connection(conn_id: str) -> Connection:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise SettingsError(
            f"There is no Airflow connection {conn_id!r}, which [monai] docker_conn_id names: add one of type docker."
        ) from error


def _address(url: str, tls_folder: str, conn_id: str) -> tuple[str, str]:
    """Where an engine is, as the settings say, or the extra of its Docker connection."""
    if not conn_id:
        return url, tls_folder
    extra = _connection(conn_id).extra_dejson
    return str(extra.get("docker_url") or url), str(extra.get("docker_tls_folder") or tls_folder)


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
