"""All workflows of a site under one kind of id: those in files, those of registered MAPs, and the registered ones."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_monai.errors import SpecError, WorkflowConflict, WorkflowNotFound
from airflow_monai.specs.claims import MAP_SUFFIX
from airflow_monai.specs.folder import SpecFile, SpecFolder
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.store.base import Store
from airflow_monai.workflows.definition import definition_of
from airflow_monai.workflows.record import Revision
from airflow_monai.workflows.site import SiteWorkflows

_NAMESPACE = uuid.UUID("5c7a8f0e-7d0e-5b52-9b7c-2f1f6d0a4e11")


class Origin(str, Enum):
    """What a workflow is made of, and so how it is changed."""

    REGISTERED = "registered"
    FILE = "file"
    MAP = "map"


class Status(str, Enum):
    """Whether studies start it. ``refused``: it cannot be used, or not beside another one that comes before it."""

    ACTIVE = "active"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Known:
    """A workflow as a client sees it.

    :param workflow_id: a UUID; of one that is not registered itself it follows from its name.
    :param version: as its definition says it.
    :param version_id: changes whenever the workflow does; of a registered one the number of its revision.
    :param record: of a registered one.
    :param file: that it is read from, of one in a file.
    """

    workflow_id: str
    version_id: str
    origin: Origin
    status: Status
    name: str
    version: str
    dag_id: str
    ae_title: str
    revision: int
    record: Revision | None = None
    file: SpecFile | None = None
    path: Path | None = None

    @property
    def revision_id(self) -> str:
        """A UUID of this revision alone."""
        return self.record.id if self.record else str(uuid.uuid5(uuid.UUID(self.workflow_id), self.version_id))

    def editable(self) -> Revision:
        """Its record.

        :raises WorkflowConflict: where it is not registered itself.
        """
        if self.record is not None:
            return self.record
        if self.origin is Origin.MAP:
            raise WorkflowConflict(
                f"The workflow {self.name!r} is made of a registered MAP: register that anew, or unregister it."
            )
        raise WorkflowConflict(f"The workflow {self.name!r} lives in a file of the site: change that file.")


def fixed_id(name: str) -> str:
    """Id of a workflow that is not registered itself."""
    return str(uuid.uuid5(_NAMESPACE, name.lower()))


class Catalog:
    """The workflows of a site, looked at again and again; may be asked by several threads.

    :param folder: of the workflow files.
    """

    def __init__(self, folder: str | Path, store: Store):
        self._site = SiteWorkflows(store)
        self._folder = SpecFolder(folder, more=self._site.files)
        self._lock = threading.Lock()

    def all(self) -> list[Known]:
        """The workflows as they are now, by name.

        :raises StoreError: when it cannot be told which are registered.
        """
        return self._look()[0]

    def by_dag(self) -> dict[str, tuple[Known, WorkflowPlan | None]]:
        """DAG id -> its workflow, and the plan of one that runs, at one look.

        :raises StoreError: when it cannot be told which are registered.
        """
        known, accepted = self._look()
        plans = {plan.dag_id: plan for plan in accepted}
        return {one.dag_id: (one, plans.get(one.dag_id)) for one in known}

    def _look(self) -> tuple[list[Known], tuple[WorkflowPlan, ...]]:
        with self._lock:
            accepted = self._folder.scan().workflows
            known = list(_known(self._folder.files, accepted, self._site.registered))
        return sorted(known, key=lambda one: (one.name.lower(), one.origin.value)), accepted

    def plans(self) -> tuple[WorkflowPlan, ...]:
        """The plans of those that run."""
        with self._lock:
            return self._folder.scan().workflows

    def of_id(self, workflow_id: str) -> Known:
        """
        :raises WorkflowNotFound: when there is none, or not any more.
        """
        return _only(self.all(), workflow_id, lambda one: one.workflow_id == workflow_id)

    def of_name(self, name: str) -> Known:
        """
        :raises WorkflowNotFound: when there is none, or not any more.
        """
        wanted = name.strip().lower()
        return _only(self.all(), name, lambda one: one.name.lower() == wanted)

    def definition(self, known: Known) -> dict[str, Any]:
        """What the workflow says, defaults of its folder included.

        :raises SpecError: when its file has just become bad.
        """
        if known.record is not None:
            return definition_of(known.record.text)
        if known.path is None or known.file is None:
            return {}
        if known.origin is Origin.MAP:
            text = next((one.text for one in self._site.maps.texts() if one.source == str(known.path)), "")
            return definition_of(text)
        try:
            return definition_of(known.path.read_text("utf-8-sig"), known.file.defaults)
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"The file of the workflow {known.name!r} cannot be read any more.") from error


def _known(
    files: Mapping[Path, SpecFile], accepted: Iterable[WorkflowPlan], heads: Mapping[str, Revision]
) -> Iterator[Known]:
    running = {id(plan) for plan in accepted}
    for path, file in files.items():
        plan, head = file.plan, heads.get(str(path))
        status = Status.ACTIVE if id(plan) in running else Status.REFUSED
        if head is not None:
            yield _registered(head, plan, status)
        elif plan is not None and status is Status.ACTIVE:
            origin = Origin.MAP if str(path).endswith(MAP_SUFFIX) else Origin.FILE
            yield Known(
                fixed_id(plan.name),
                plan.digest[:12],
                origin,
                status,
                plan.name,
                plan.version,
                plan.dag_id,
                plan.ae_title,
                1,
                file=file,
                path=path,
            )


def _registered(head: Revision, plan: WorkflowPlan | None, status: Status) -> Known:
    ae_title = plan.ae_title if plan else ""
    return Known(
        head.workflow_id,
        str(head.revision),
        Origin.REGISTERED,
        status,
        head.name,
        head.version,
        head.dag_id,
        ae_title,
        head.revision,
        record=head,
    )


def _only(every: Iterable[Known], wanted: str, fits: Callable[[Known], bool]) -> Known:
    found = next(filter(fits, every), None)
    if found is None:
        raise WorkflowNotFound(f"There is no workflow {wanted!r}.")
    return found
