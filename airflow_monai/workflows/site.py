"""What runs here besides the workflow files: the workflows of registered MAPs, and those registered themselves."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.maps.workflows import RegisteredWorkflows
from airflow_monai.specs.plan import BATCH_SUFFIX
from airflow_monai.specs.registered import Gone, RegisteredText, spec_file_of
from airflow_monai.store.base import Store
from airflow_monai.workflows.record import Revision
from airflow_monai.workflows.registry import WorkflowRegistry

if TYPE_CHECKING:
    from airflow_monai.specs.folder import SpecFile

_HINT = "delete the workflow and register it anew"
Ending = Callable[[Sequence[Gone]], Container[str]]


class SiteWorkflows:
    """Both, looked at again and again; each is made once. Those of MAPs come first.

    :ivar maps: the part of registered MAPs.
    :ivar registered: source -> what holds, of those registered themselves, as they were last looked at.
    """

    def __init__(self, store: Store):
        self.maps = RegisteredWorkflows(store)
        self.registered: dict[str, Revision] = {}
        self._registry = WorkflowRegistry(store)
        self._files: dict[RegisteredText, SpecFile] = {}

    def texts(self, ending: Ending | None = None) -> list[RegisteredText]:
        """The workflows as they are now.

        :param ending: tells of workflows that are not registered any more the sources of those that still have runs:
            Airflow leaves the runs of a workflow that is gone as they are, so these are kept until it has none.
        :raises StoreError: when it cannot be told which there are.
        """
        return [*self.maps.texts(ending), *self._own(ending)]

    def files(self) -> dict[Path, SpecFile]:
        """The same as workflow files that were read, as :class:`airflow_monai.specs.folder.SpecFolder` takes them."""
        self._files = {text: self._files.get(text) or spec_file_of(text, _HINT) for text in self._own(None)}
        return {**self.maps.files(), **{Path(text.source): file for text, file in self._files.items()}}

    def _own(self, ending: Ending | None) -> list[RegisteredText]:
        listing = self._registry.listing()
        self.registered = {head.source: head for head in listing.registered()}
        gone = {_gone(head): head for head in listing.heads if head.is_deleted}
        kept = ending(list(gone)) if ending and gone else ()
        shown = [*listing.registered(), *(head for one, head in gone.items() if one.source in kept)]
        texts = [RegisteredText(head.source, head.text, closing=head.is_deleted) for head in shown]
        texts += [RegisteredText(source, "", problem) for source, problem in listing.damaged.items()]
        return sorted(texts, key=lambda text: text.source)


def _gone(head: Revision) -> Gone:
    return Gone(head.source, head.number, (head.dag_id, f"{head.dag_id}{BATCH_SUFFIX}"), head.changed_at)
