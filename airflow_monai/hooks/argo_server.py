"""The REST API of an Argo Server: the few calls that a task needs, with errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from airflow_monai.argo.status import WorkflowStatus
from airflow_monai.argo.submission import Submission
from airflow_monai.errors import ServiceRefused, ServiceUnavailable
from airflow_monai.hooks.http_client import AnswerLost, HttpAnswer, HttpClient, HttpRequest

MAX_BYTES = 16_000_000
CALL_SECONDS = 30.0
WORKFLOWS, TEMPLATES = "workflows", "workflow-templates"
_STATUS = "metadata.name,status.phase,status.message,status.startedAt,status.finishedAt,status.resourcesDuration"
_WITH_NODES = f"{_STATUS},status.nodes"


@dataclass(frozen=True, slots=True)
class ArgoServer:
    """One namespace of an Argo Server.

    :param cleaned: takes out of the server's messages what may be about the patient.
    """

    client: HttpClient
    namespace: str
    cleaned: Callable[[str], str] = str

    @property
    def url(self) -> str:
        return self.client.endpoint.url

    def page(self, name: str) -> str:
        """Address of a workflow's page in Argo's UI."""
        return f"{self.url}/workflows/{quote(self.namespace)}/{quote(name)}"

    async def submit(self, submission: Submission) -> bool:
        """Start a workflow; False when there is already one of its name.

        :raises ServiceUnavailable: it is not there, and may be tried again.
        :raises ServiceRefused: the server does not take it.
        """
        body = {"namespace": self.namespace, "workflow": submission.manifest()}
        try:
            answer = await self._call("POST", "", body=body)
        except AnswerLost:
            if await self.status(submission.name) is None:
                raise
            return True
        if answer.status == 409:
            return False
        # Servers have been seen to answer that a name is taken with a 500, or with a time-out of the cluster's API
        if answer.status >= 500 and await self.status(submission.name) is not None:
            return False
        self._expect(answer, f"start workflow {submission.name} from template {submission.template!r}")
        return True

    async def status(self, name: str, *, with_nodes: bool = False) -> WorkflowStatus | None:
        """How a workflow is; None when there is none such."""
        fields = _WITH_NODES if with_nodes else _STATUS
        answer = await self._call("GET", f"/{quote(name)}", {"fields": fields})
        if answer.status == 404:
            # Some versions say so too to somebody who may not look; a list tells these two apart
            await self.find({"monai.none": "none"})
            return None
        self._expect(answer, f"tell the status of workflow {name}")
        return WorkflowStatus.of(_object(answer))

    async def find(self, labels: Mapping[str, str]) -> dict[str, WorkflowStatus]:
        """Name -> status of the workflows with all these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        query = {"listOptions.labelSelector": selector, "fields": "items.metadata.name,items.status.phase"}
        answer = await self._call("GET", "", query)
        self._expect(answer, "list workflows")
        items = _object(answer).get("items") or []
        return {str(item["metadata"]["name"]): WorkflowStatus.of(item) for item in items}

    async def terminate(self, name: str) -> bool:
        """End a workflow at once; False when there is none such."""
        body = {"name": name, "namespace": self.namespace}
        answer = await self._call("PUT", f"/{quote(name)}/terminate", body=body)
        if answer.status == 404:
            return False
        if answer.status != 200 and (status := await self.status(name)) is not None and status.has_ended:
            return True  # servers refuse to end what has ended
        self._expect(answer, f"terminate workflow {name}")
        return True

    async def template(self, name: str) -> dict[str, Any] | None:
        """A WorkflowTemplate; None when there is none such."""
        answer = await self._call("GET", f"/{quote(name)}", kind=TEMPLATES)
        if answer.status == 404:
            return None
        self._expect(answer, f"show template {name}")
        return _object(answer)

    async def register_template(self, manifest: Mapping[str, Any]) -> bool:
        """Have the cluster keep a WorkflowTemplate in place of the one of its name; False when there was one.

        :raises ServiceRefused: when the server does not take it, with its reason.
        """
        name = str(manifest["metadata"]["name"])
        body = {"namespace": self.namespace, "template": dict(manifest)}
        answer = await self._call("POST", "", body=body, kind=TEMPLATES)
        if answer.status != 409:
            self._expect(answer, f"take template {name}")
            return True
        known = await self.template(name)
        version = (known or {}).get("metadata", {}).get("resourceVersion")
        metadata = {**manifest["metadata"], **({"resourceVersion": version} if version else {})}
        body = {"name": name, "namespace": self.namespace, "template": {**manifest, "metadata": metadata}}
        answer = await self._call("PUT", f"/{quote(name)}", body=body, kind=TEMPLATES)
        self._expect(answer, f"take template {name} in place of the one that it has")
        return False

    async def delete_template(self, name: str) -> bool:
        """Forget a WorkflowTemplate; False when there is none such."""
        answer = await self._call("DELETE", f"/{quote(name)}", kind=TEMPLATES)
        if answer.status == 404:
            return False
        self._expect(answer, f"delete template {name}")
        return True

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = WORKFLOWS,
    ) -> HttpAnswer:
        place = f"{self.url}/api/v1/{kind}/{quote(self.namespace)}{path}"
        request = HttpRequest(
            method=method,
            url=f"{place}?{urlencode(query)}" if query else place,
            shown=f"Argo Server: {method} {place}",
            headers={"Content-Type": "application/json"} if body is not None else {},
            content=None if body is None else json.dumps(body).encode(),
            timeout=CALL_SECONDS,
            max_bytes=MAX_BYTES,
        )
        return await self.client.send(request)

    def _expect(self, answer: HttpAnswer, what: str) -> None:
        if answer.status == 200:
            return
        message = self.cleaned(str(_object(answer).get("message") or ""))[:300].rstrip(".")
        told = (
            f"The Argo Server at {self.url} does not {what} (HTTP {answer.status}{': ' if message else ''}{message})."
        )
        if answer.status in (401, 403):
            told += (
                " Put a token that may do this in namespace "
                f"{self.namespace!r} into the password of the Airflow connection of type argo."
            )
        elif answer.status == 404:
            told += f" Is there such a template in namespace {self.namespace!r}?"
        elif answer.status == 429 or answer.status >= 500:
            raise ServiceUnavailable(told)
        raise ServiceRefused(told, status=answer.status)


def _object(answer: HttpAnswer) -> dict[str, Any]:
    try:
        value = json.loads(answer.content or b"{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        if answer.status != 200:
            return {}
        raise ServiceRefused("The answer is no JSON object: is this an Argo Server?", status=answer.status)
    return value
