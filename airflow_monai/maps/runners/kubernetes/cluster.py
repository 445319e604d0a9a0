"""The Kubernetes cluster: the few calls that are needed, with errors that say what happened and what to do.

Imported only by the Kubernetes runner, inside a task: this module brings in the provider and the client. What it gives
and takes are plain objects of the API, so that everything above it is tested without either.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow_monai.errors import MapError, RunnerUnavailable, SettingsError
from airflow_monai.maps.runners.kubernetes.status import CONTAINER

try:
    import urllib3
    from kubernetes.client import ApiClient
    from kubernetes.client.exceptions import ApiException
except ImportError as error:
    raise SettingsError(
        "The kubernetes runner needs the Kubernetes provider of Airflow: install airflow-monai[kubernetes]."
    ) from error

CALL_SECONDS = (10.0, 30.0)
"""To connect, and to have an answer."""

FOLLOW_SECONDS = (10.0, 60.0)
"""The same for a log that is followed; an application may be silent for longer, and is then asked again."""

_BUSY = frozenset({408, 429})
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DEFAULT_NAMESPACE = "default"


class Cluster:
    """One namespace of a cluster.

    :param conn_id: Airflow connection of type kubernetes; empty for the cluster this runs in, else kubeconfig.
    :param namespace: where pods live; empty for the connection's own.
    """

    def __init__(self, conn_id: str = "", namespace: str = "", api: ApiClient | None = None):
        self.conn_id = conn_id
        self._namespace = namespace
        self._api = api

    @cached_property
    def api(self) -> ApiClient:
        api = self._api or self._hook.api_client
        if not api.configuration.verify_ssl:  # said with every request, it would be most of the task log
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return api

    @cached_property
    def _hook(self) -> Any:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
        from airflow.sdk.exceptions import AirflowException
        from kubernetes.config import ConfigException

        try:
            hook = KubernetesHook(conn_id=self.conn_id or None, kubernetes_conn_id=None)
            hook.api_client  # noqa: B018 - reads connection and configuration
        except ConfigException as error:
            where = f"connection {self.conn_id!r}" if self.conn_id else "this worker, which runs in none"
            raise SettingsError(
                f"There is no Kubernetes cluster for {where}: {error}. See [monai] kubernetes_conn_id."
            ) from error
        except AirflowException as error:
            raise SettingsError(f"[monai] kubernetes_conn_id = {self.conn_id!r}: {error}") from error
        return hook

    @cached_property
    def namespace(self) -> str:
        if self._namespace:
            return self._namespace
        named = self._hook.get_namespace()
        if named:
            return str(named)
        return (_text(_OWN_NAMESPACE) if self._hook.is_in_cluster else _context_namespace()) or _DEFAULT_NAMESPACE

    def fresh(self) -> Cluster:
        """The same through connections of its own, for a signal handler or another thread."""
        with self.errors("connect"):
            return Cluster(self.conn_id, self.namespace, ApiClient(self.api.configuration))

    def identities(self) -> Sequence[str]:
        """What tells this namespace of this cluster from others; workers need not see all of them."""
        configuration = self.api.configuration
        certificate = _text(Path(configuration.ssl_ca_cert)) if configuration.ssl_ca_cert else ""
        names = [f"{configuration.host} {hashlib.sha256(certificate.encode()).hexdigest()[:16]} {self.namespace}"]
        with contextlib.suppress(MapError):
            found = self._call("GET", f"/api/v1/namespaces/{quote(self.namespace)}", "get namespaces")
            names.append(f"namespace {found['metadata']['uid']}")
        return names

    def create(self, pod: Mapping[str, Any]) -> bool:
        """Create a pod; False when its name is taken."""
        try:
            self._call("POST", self._pods(), f"create pods ({pod['metadata']['name']})", body=pod)
        except _Conflict:
            return False
        return True

    def get(self, name: str) -> dict[str, Any] | None:
        """The pod; None when there is none such."""
        with contextlib.suppress(_Missing):
            return self._call("GET", self._pods(name), f"get pods ({name})")
        return None

    def find(self, selector: str) -> list[dict[str, Any]]:
        """Pods that a label selector fits, running or not."""
        query = [("labelSelector", selector)]
        found: list[dict[str, Any]] = self._call("GET", self._pods(), "list pods", query=query)["items"]
        return found

    def delete(self, name: str, grace: int, uid: str = "") -> None:
        """Ask for a pod's end; nothing when it is gone.

        :param grace: seconds from the polite signal to the other one; 0 forgets the pod at once.
        :param uid: only if it still is this one.
        """
        body: dict[str, Any] = {"gracePeriodSeconds": grace}
        if uid:
            body["preconditions"] = {"uid": uid}
        with contextlib.suppress(_Missing, _Conflict):
            self._call("DELETE", self._pods(name), f"delete pods ({name})", body=body)

    def end_within(self, name: str, seconds: int) -> None:
        """Let Kubernetes end a pod and keep what it knows of it, which a deletion would not."""
        with contextlib.suppress(_Missing):
            body = {"spec": {"activeDeadlineSeconds": max(1, seconds)}}
            kind = "application/merge-patch+json"
            self._call("PATCH", self._pods(name), f"patch pods ({name})", body=body, content_type=kind)

    def events(self, pod: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the cluster reports about a pod, oldest first; nothing where this worker may not see it."""
        fields = f"involvedObject.uid={pod['metadata']['uid']}"
        path = f"/api/v1/namespaces/{quote(self.namespace)}/events"
        try:
            found = self._call("GET", path, "list events", query=[("fieldSelector", fields)])["items"]
        except MapError:
            return []
        return sorted(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    def node_is_away(self, pod: Mapping[str, Any]) -> bool:
        """Whether a pod's node has stopped answering; False where this worker may not ask."""
        name = pod.get("spec", {}).get("nodeName")
        if not name:
            return False
        try:
            node = self._call("GET", f"/api/v1/nodes/{quote(name)}", f"get nodes ({name})")
        except _Missing:
            return True
        except MapError:
            return False
        ready = [item for item in node["status"].get("conditions", ()) if item["type"] == "Ready"]
        return not ready or ready[0]["status"] == "Unknown"

    def metrics(self, name: str) -> dict[str, Any] | None:
        """What the metrics server measured of a pod last; None where there is none or it knows nothing."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{quote(self.namespace)}/pods/{quote(name)}"
        try:
            return self._call("GET", path, "get pods.metrics.k8s.io")
        except MapError:
            return None

    def log(self, name: str, *, since: str = "", follow: bool, timestamps: bool = True) -> Iterator[bytes]:
        """Chunks of the log of a pod's application.

        :param since: an RFC 3339 time, to the second.
        :param follow: until the container ends, or nothing has come for a minute.
        :param timestamps: each line begins with the time at which it was written.
        """
        query = [("container", CONTAINER), *([("timestamps", "true")] if timestamps else [])]
        query += [("follow", "true")] if follow else []
        query += [("sinceTime", since)] if since else []
        response = self._call(
            "GET",
            f"{self._pods(name)}/log",
            f"get pods/log ({name})",
            query=query,
            stream=True,
            timeout=FOLLOW_SECONDS if follow else CALL_SECONDS,
        )
        try:
            with self.errors(f"read the log of {name}"):
                yield from response.stream(65536)
        finally:
            response.close()

    def _pods(self, name: str = "") -> str:
        top = f"/api/v1/namespaces/{quote(self.namespace)}/pods"
        return f"{top}/{quote(name)}" if name else top

    def _call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        content_type: str = "application/json",
        stream: bool = False,
        timeout: tuple[float, float] = CALL_SECONDS,
    ) -> Any:
        with self.errors(what):
            return self.api.call_api(
                path,
                method,
                query_params=list(query),
                header_params={"Accept": "*/*" if stream else "application/json", "Content-Type": content_type},
                body=body,
                response_types_map=dict.fromkeys(range(200, 210), "object"),
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=not stream,
                _request_timeout=timeout,
            )

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Tell a cluster that is out of reach from one that refuses."""
        try:
            yield
        except ApiException as error:
            raise self._error(what, error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RunnerUnavailable(
                f"The Kubernetes cluster cannot be reached ({what}): {type(error).__name__}. See [monai] "
                "kubernetes_conn_id."
            ) from error

    def _error(self, what: str, error: ApiException) -> MapError:
        status, reason = error.status or 0, _reason(error)
        where = f"namespace {self.namespace!r}"
        if status == 404:
            return _Missing(f"Kubernetes has nothing for: {what} in {where}: {reason}")
        if status == 409:
            return _Conflict(f"Kubernetes refuses to {what} in {where}: {reason}")
        if status == 403 and "exceeded quota" in reason:
            return RunnerUnavailable(f"The quota of {where} is used up ({what}): {reason}")
        if status == 403 and " cannot " in reason:
            return MapError(
                f"Kubernetes does not let this worker {what} in {where}: {reason}. Its account needs a role that "
                "allows get, list, create, patch and delete of pods, get of pods/log and list of events there."
            )
        if status == 401:
            return RunnerUnavailable(f"The Kubernetes cluster does not accept this worker's credentials ({what}).")
        if status in _BUSY or status >= 500 or status == 0:
            return RunnerUnavailable(f"The Kubernetes cluster fails to {what} in {where} ({status}): {reason}")
        return MapError(f"Kubernetes refuses to {what} in {where} ({status}): {reason}")


class _Missing(MapError):
    """There is no such thing."""


class _Conflict(MapError):
    """The name is taken, or the thing is another one by now."""


def _reason(error: ApiException) -> str:
    """What the API server says, in one line."""
    body = error.body
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or error.reason or "")
    with contextlib.suppress(ValueError):
        parsed = json.loads(text)
        text = str(parsed.get("message") or text) if isinstance(parsed, dict) else text
    return " ".join(text.split())[:800].rstrip(".")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _context_namespace() -> str:
    from kubernetes.config import ConfigException, list_kube_config_contexts

    try:
        _, active = list_kube_config_contexts()
    except ConfigException:
        return ""
    return str((active.get("context") or {}).get("namespace") or "")
