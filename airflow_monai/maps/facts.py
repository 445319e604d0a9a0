"""What is known of a MAP, as plain data: for the command line, and for the App Server API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_monai.maps.doubts import Doubt, pool_of
from airflow_monai.maps.inspection import Inspected
from airflow_monai.maps.manifest import Manifest, run_environment
from airflow_monai.maps.registry import RegisteredMap
from airflow_monai.maps.workflows import PREFIX

if TYPE_CHECKING:
    from airflow_monai.gpu.inventory import Inventory

_JOB_ID = "0" * 32


def facts_of(inspected: Inspected, inventory: Inventory | None, doubts: Sequence[Doubt]) -> dict[str, Any]:
    """What inspect tells, as plain data."""
    manifest, resources = inspected.manifest, inspected.manifest.resources
    pool = pool_of(resources, inventory)
    return {
        "reference": inspected.reference,
        "kind": inspected.kind.value,
        "location": inspected.location,
        "digest": inspected.digest,
        "repo_digest": inspected.repo_digest or None,
        "platform": inspected.platform or None,
        "user": inspected.user,
        "size_bytes": inspected.size,
        "version": manifest.version or None,
        "sdk": manifest.sdk or None,
        "command": list(manifest.command),
        "working_directory": manifest.working_directory,
        "application": manifest.application_root,
        "input": {"path": manifest.input_path, "formats": list(manifest.input_formats)},
        "output": {"path": manifest.output_path, "formats": list(manifest.output_formats)},
        "models": dict(manifest.models),
        "result_keys": None if manifest.result_keys is None else list(manifest.result_keys),
        "timeout_seconds": manifest.timeout_seconds,
        "resources": {
            "cpu": resources.cpu,
            "memory_bytes": resources.memory_bytes,
            "shared_memory_bytes": resources.shared_memory_bytes,
            "gpu": resources.gpu,
            "gpu_memory_bytes": resources.gpu_memory_bytes,
        },
        "pool": {"name": pool.pool, "slots": pool.slots} if pool else None,
        "environment": _environment(manifest),
        "problems": [doubt_dict(doubt) for doubt in doubts],
    }


def _environment(manifest: Manifest) -> dict[str, str]:
    """What the application will see, but for the id of its job."""
    environment = run_environment(manifest, job_id=_JOB_ID, timeout_seconds=manifest.timeout_seconds)
    return {name: value for name, value in sorted(environment.items()) if value != _JOB_ID}


def record_dict(record: RegisteredMap) -> dict[str, Any]:
    """A registered MAP, but for its manifests."""
    facts = {name: value for name, value in record.to_dict().items() if name not in ("app", "pkg")}
    return {"label": record.label, "workflow": f"{PREFIX}{record.name}.{record.version}", **facts}


def revision_dict(record: RegisteredMap) -> dict[str, Any]:
    """A line of its history."""
    names = ("revision", "is_registered", "changed_at", "changed_by", "digest", "ae_title", "export_destinations")
    return {name: getattr(record, name) for name in names}


def doubt_dict(doubt: Doubt) -> dict[str, str]:
    return {"level": doubt.level, "field": doubt.field, "message": doubt.message}
