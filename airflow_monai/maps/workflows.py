"""The workflow of each registered MAP: one map task, and an export where destinations were given.

It is an ordinary workflow text, so that the DAG bundle, the gateway and `explain` see it as they see written ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import ManifestError
from airflow_monai.maps.manifest import MapResources
from airflow_monai.maps.registry import MapRegistry, RegisteredMap
from airflow_monai.specs.claims import MAP_SUFFIX
from airflow_monai.specs.registered import Gone, RegisteredText, spec_file_of
from airflow_monai.store.base import Store

if TYPE_CHECKING:
    from airflow_monai.specs.folder import SpecFile
    from airflow_monai.specs.plan import WorkflowPlan

PREFIX = "map."
TASK = "run"
ARTIFACT = "results"
EXPORT_TASK = "export"
MAX_AE_TITLE = 16  # PS3.5 section 6.2, AE
_HINT = "register the MAP anew"
MAX_TIMEOUT_MINUTES = 525_600
"""Of a task in a workflow file."""
_GIB = 1 << 30


def workflow_name(record: RegisteredMap) -> str:
    """Name of the workflow; its DAG has the same one where that may be a DAG's."""
    return f"{PREFIX}{record.name}.{record.version}"


def dag_id(record: RegisteredMap) -> str:
    from airflow_monai.specs.compile import dag_id_of

    return dag_id_of(workflow_name(record))


def source_of(name: str, version: str) -> str:
    return f"maps/{name}/{version}{MAP_SUFFIX}"


def workflow_text(record: RegisteredMap) -> str:
    """The workflow as YAML.

    :raises ManifestError: when the record's manifests cannot be used.
    """
    import yaml

    head = (
        f"# Made of the registered MAP {record.label}: `airflow monai maps describe {record.label}` tells about it.\n"
        "# It is made anew when that is registered anew. A workflow file of your own may use the MAP by its name too.\n"
    )
    spec = {
        "name": workflow_name(record),
        "version": record.version,
        "description": f"Runs the registered MAP {record.label}, {record.kind.value} {record.digest}.",
        "informatics_gateway": {
            "ae_title": record.ae_title,
            **({"export_destinations": list(record.export_destinations)} if record.export_destinations else {}),
        },
        "tasks": list(_tasks(record)),
    }
    return head + str(yaml.safe_dump(spec, sort_keys=False, width=110))


def _tasks(record: RegisteredMap) -> Iterator[dict[str, Any]]:
    resources, minutes = _gpu_request(record), _timeout_minutes(record)
    yield {
        "id": TASK,
        "type": "map",
        "args": {"map": record.label},
        "artifacts": {
            "input": [{"name": "study", "value": "{{ context.input.dicom }}"}],
            "output": [{"name": ARTIFACT, "type": "Folder"}],
        },
        **({"resources": resources} if resources else {}),
        **({"timeout_minutes": minutes} if minutes else {}),
        **({"task_destinations": [{"name": EXPORT_TASK}]} if record.export_destinations else {}),
    }
    if record.export_destinations:
        value = f"{{{{ context.executions.{TASK}.artifacts.{ARTIFACT} }}}}"
        yield {
            "id": EXPORT_TASK,
            "type": "export",
            "export_destinations": [{"name": name} for name in record.export_destinations],
            "artifacts": {"input": [{"name": ARTIFACT, "value": value}]},
        }


def _timeout_minutes(record: RegisteredMap) -> int | None:
    """The manifest's time limit in whole minutes, not less than it: the operator keeps to the manifest's own, and
    Airflow ends, some time later, what even that cannot end. None where it has none: it has that of all map tasks.
    """
    seconds = record.manifest().timeout_seconds
    return min(ceil(seconds / 60), MAX_TIMEOUT_MINUTES) if seconds else None


def _gpu_request(record: RegisteredMap) -> dict[str, Any]:
    """The part of the manifest's resources that decides about a pool, which is chosen before the task runs."""
    resources = record.manifest().resources
    if not wants_gpu(resources):
        return {}
    if not record.use_gpu:
        return {"gpu": 0}
    share = {"gpuMemory": _memory(resources.gpu_memory_bytes)} if resources.gpu_memory_bytes else {}
    return {"gpu": ceil(resources.gpu) or 1, **share}


def wants_gpu(resources: MapResources) -> bool:
    return bool(resources.gpu or resources.gpu_memory_bytes)


def _memory(size: int) -> str:
    return f"{size // _GIB}Gi" if size % _GIB == 0 else str(size)


def default_ae_title(name: str) -> str:
    """An AE title for a MAP of this name: its letters, digits, '-' and '_' in capitals, 16 at most."""
    return re.sub(r"[^A-Z0-9_-]+", "-", name.upper()).strip("-")[:MAX_AE_TITLE].strip("-_") or "MAP"


class RegisteredWorkflows:
    """The workflows of a store's registered MAPs, looked at again and again; each is made once."""

    def __init__(self, store: Store):
        self._registry = MapRegistry(store)
        self._texts: dict[RegisteredMap, RegisteredText] = {}
        self._files: dict[RegisteredText, SpecFile] = {}

    def texts(self, ending: Callable[[Sequence[Gone]], Container[str]] | None = None) -> list[RegisteredText]:
        """The workflows as they are now, by name and version.

        :param ending: tells of workflows of MAPs that are not registered any more the sources of those that still have
            runs: Airflow leaves the runs of a workflow that is gone as they are, so these are kept until it has none.
        :raises StoreError: when it cannot be told which there are.
        """
        listing = self._registry.listing()
        gone = {_gone(record): record for record in listing.maps if not record.is_registered}
        kept = ending(list(gone)) if ending and gone else ()
        shown = [*listing.registered(), *(record for one, record in gone.items() if one.source in kept)]
        self._texts = {record: self._texts.get(record) or _text_of(record) for record in shown}
        damaged = [
            RegisteredText(source_of(*label.split(":", 1)), "", problem) for label, problem in listing.damaged.items()
        ]
        return sorted([*self._texts.values(), *damaged], key=lambda item: item.source)

    def files(self) -> dict[Path, SpecFile]:
        """The same as workflow files that were read, as :class:`airflow_monai.specs.folder.SpecFolder` takes them."""
        self._files = {text: self._files.get(text) or spec_file_of(text, _HINT) for text in self.texts()}
        return {Path(text.source): file for text, file in self._files.items()}


def _text_of(record: RegisteredMap) -> RegisteredText:
    source = source_of(record.name, record.version)
    try:
        return RegisteredText(source, workflow_text(record), closing=not record.is_registered)
    except ManifestError as error:
        return RegisteredText(source, "", str(error))


def _gone(record: RegisteredMap) -> Gone:
    return Gone(source_of(record.name, record.version), record.revision, (dag_id(record),), record.changed_at)


def plan_of_record(record: RegisteredMap) -> WorkflowPlan:
    """The plan of the workflow that a record is going to have.

    :raises SpecError: when it has none, as with an AE title that is none.
    :raises ManifestError: when its manifests cannot be used.
    """
    from airflow_monai.specs.compile import plan_of
    from airflow_monai.specs.reading import load_text

    source = source_of(record.name, record.version)
    return replace(plan_of(load_text(workflow_text(record), source)), source=source)
