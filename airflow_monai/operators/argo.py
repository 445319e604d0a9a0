"""Workflows of an Argo cluster as tasks that cost no worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_monai.operators.light import LightOperator
from airflow_monai.operators.links import ArgoWorkflowLink


class ArgoOperator(LightOperator):
    """
    Start a workflow from a WorkflowTemplate of an Argo Server, follow it from the triggerer, and publish what it made.

    The workflow is named after the task's generation: a triggerer that dies, and a retry after a lost connection, find
    it and go on following it; it is not started twice. A retry after one that ended badly starts another one. It is
    terminated when a person ends or clears the task, and at the time limit.

    The workflow gets its parameters, one more with the name of each input artifact, which says the folder with that
    artifact's files, and ``output_path``, the folder where it leaves its results. The folders are paths of the store;
    that pods see it, and as whom they run, is the cluster's matter. The artifacts are found in the output folder as
    those of a MAP, and a ``metadata.json`` anywhere in it is the task's result.

    :param template: name of the WorkflowTemplate.
    :param namespace: of the cluster; the connection's when empty.
    :param connection: id of an Airflow connection of type ``argo``: server and token; ``argo_default`` when this and
        ``server_url`` are empty.
    :param server_url: in place of the connection's host. The connection's token is sent to its own host only.
    :param token: in place of the connection's; better kept there.
    :param allow_insecure: take the server's certificate unchecked.
    :param parameters: name -> value; values may hold ``{{ context... }}``, and go to the cluster.
    :param limits: of every container: ``cpu``, ``memory``, ``nvidia.com/gpu``.
    :param priority_class: of the pods.
    :param deadline_seconds: Argo itself ends the workflow after this time; the task's own time limit when None.
    :param inputs: input artifacts, each with ``name``, ``value`` and ``mandatory`` (default True).
    :param outputs: declared artifacts, as of :class:`~airflow_monai.operators.map.MapOperator`.
    """

    spec_type = custom_operator_name = "argo"
    trigger_class = "airflow_monai.triggers.argo.ArgoTrigger"
    ui_color = "#dff1e6"
    operator_extra_links = (ArgoWorkflowLink(),)

    def __init__(
        self,
        *,
        template: str,
        namespace: str = "",
        connection: str = "",
        server_url: str = "",
        token: str = "",
        allow_insecure: bool = False,
        parameters: Mapping[str, str] | None = None,
        limits: Mapping[str, str] | None = None,
        priority_class: str = "",
        deadline_seconds: int | None = None,
        inputs: Sequence[Mapping[str, Any]] = (),
        outputs: Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ):
        task = {
            "template": template,
            "namespace": namespace,
            "connection": connection,
            "server_url": server_url,
            "token": token,
            "allow_insecure": allow_insecure,
            "parameters": dict(parameters or {}),
            "limits": dict(limits or {}),
            "priority_class": priority_class,
            "deadline_seconds": deadline_seconds,
            "inputs": [dict(item) for item in inputs],
            "outputs": [dict(item) for item in outputs],
        }
        super().__init__(task=task, **kwargs)
