"""Workflow definitions as clients send them: a plain one, and some in the ways of the published examples."""

from __future__ import annotations

from typing import Any


def simple(name: str = "ct-lung", ae_title: str = "CTLUNG", **gateway: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0.0",
        "informatics_gateway": {"ae_title": ae_title, "export_destinations": ["PACS"], **gateway},
        "tasks": [
            {
                "id": "send",
                "type": "export",
                "export_destinations": [{"name": "PACS"}],
                "artifacts": {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]},
            }
        ],
    }


def _argo(task: str, template: str, *following: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": task,
        "description": f"calls {template}",
        "type": "argo",
        "args": {
            "namespace": "argo",
            "workflow_template_name": template,
            "server_url": "https://argo.example:2746",
            "allow_insecure": True,
        },
        "ref": "",
        "artifacts": {
            "input": [{"name": "input-dicom", "value": "{{ context.input.dicom }}", "mandatory": True}],
            "output": [{"name": "report-dicom", "mandatory": True}],
        },
        "task_destinations": list(following),
        **more,
    }


def _docker(task: str, *following: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": task,
        "description": "lists what came",
        "type": "docker",
        "args": {
            "container_image": "alpine:latest",
            "server_url": "unix:///var/run/docker.sock",
            "entrypoint": "/bin/sh,-c",
            "command": "ls -laR /var/monai/input",
            "task_timeout_minutes": "5",
            "temp_storage_container_path": "/var/lib/mde/",
            "env_MONAI_INPUTPATH": "/var/monai/input/",
            "env_MONAI_OUTPUTPATH": "/var/monai/output/",
        },
        "artifacts": {
            "input": [{"name": "env_MONAI_INPUTPATH", "value": "{{ context.input.dicom }}"}],
            "output": [{"name": "env_MONAI_OUTPUTPATH", "mandatory": False}],
        },
        "task_destinations": list(following),
    }


def _export(task: str, source: str, artifact: str) -> dict[str, Any]:
    value = f"{{{{ context.executions.{source}.artifacts.{artifact} }}}}"
    return {
        "id": task,
        "type": "export",
        "args": {},
        "export_destinations": [{"Name": "ARCHIVE"}],
        "artifacts": {"input": [{"name": artifact, "value": value, "mandatory": True}]},
    }


def _workflow(name: str, *tasks: dict[str, Any], **gateway: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0.0",
        "description": f"As published ones are: {name}",
        "informatics_gateway": {"ae_title": "MONAI-DEPLOY", "export_destinations": ["ARCHIVE"], **gateway},
        "tasks": list(tasks),
    }


_MR, _US = (f"{{{{ context.dicom.series.all('0008','0060') }}}} == '{kind}'" for kind in ("MR", "US"))

PUBLISHED = (
    _workflow("list-files", _docker("list"), data_origins=["ARCHIVE"]),
    _workflow("one-segmentation", _docker("liver", {"name": "send"}), _export("send", "liver", "env_MONAI_OUTPUTPATH")),
    _workflow(
        "two-segmentations",
        {
            "id": "route",
            "description": "by body part",
            "type": "router",
            "task_destinations": [
                {
                    "name": "liver",
                    "conditions": ["{{ context.dicom.series.any('0018','0015') }} == 'ABDOMEN'"],
                },
                {"name": "lung", "conditions": ["{{ context.dicom.series.any('0018','0015') }} == 'CHEST'"]},
            ],
        },
        _docker("liver", {"name": "send-liver"}),
        _docker("lung", {"name": "send-lung"}),
        _export("send-liver", "liver", "env_MONAI_OUTPUTPATH"),
        _export("send-lung", "lung", "env_MONAI_OUTPUTPATH"),
    ),
    _workflow(
        "router_2",
        {
            "id": "router-task",
            "type": "router",
            "task_destinations": [
                {"Name": "argo-mr", "Conditions": [_MR]},
                {"Name": "argo-us", "Conditions": [_US]},
            ],
        },
        _argo("argo-mr", "mean-mr", {"Name": "export-mr"}),
        _argo("argo-us", "mean-us", {"Name": "export-us"}, timeout_minutes=90),
        _export("export-mr", "argo-mr", "report-dicom"),
        _export("export-us", "argo-us", "report-dicom"),
    ),
)
"""Each has traits of the published ones: names in other case, a ``ref``, truth values among arguments, empty args."""
