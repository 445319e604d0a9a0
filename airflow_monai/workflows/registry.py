"""The registered workflows, in the store.

workflows/<name>/<number>.yaml    each revision, and each deletion; the highest number says what holds

An object is created if it is not there, and never changes: of two who register at once one is told what the other did,
and of several who update at once each does so on top of what the others did.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from airflow_monai.errors import StoreError, WorkflowConflict, WorkflowNotFound
from airflow_monai.store.base import Store
from airflow_monai.workflows.record import ROOT, Revision, folder_of, key_of, source_of

_KEY = re.compile(rf"{ROOT}/(?P<folder>[^/]+)/(?P<number>[1-9][0-9]{{0,8}})\.yaml")
_MOST_FORMER = 1_000


@dataclass(frozen=True, slots=True)
class NewText:
    """What is to be registered.

    :param name: and ``version``: as the text says them.
    """

    name: str
    version: str
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All workflows that were ever registered.

    :param heads: what holds of each name, also of deleted ones, by name.
    :param damaged: source -> why what holds of it cannot be read.
    """

    heads: tuple[Revision, ...]
    damaged: Mapping[str, str]

    def registered(self) -> tuple[Revision, ...]:
        return tuple(head for head in self.heads if not head.is_deleted)


class WorkflowRegistry:
    """The registered workflows of a store. What holds of each is read once."""

    def __init__(self, store: Store):
        self.store = store
        self._heads: dict[str, Revision] = {}

    def listing(self) -> Listing:
        """
        :raises StoreError: when it cannot be told which there are.
        """
        newest: dict[str, int] = {}
        for folder, number in self._numbers(ROOT):
            newest[folder] = max(number, newest.get(folder, 0))
        heads, damaged = {}, {}
        for folder, number in sorted(newest.items()):
            key = key_of(folder, number)
            try:
                heads[key] = self._heads.get(key) or self._read(folder, number)
            except StoreError as error:
                damaged[source_of(folder)] = str(error)
        self._heads = heads
        return Listing(tuple(heads.values()), damaged)

    def of_name(self, name: str) -> Revision | None:
        """What holds of a name; None where it was never registered. It may say that it is not any more."""
        folder = folder_of(name)
        number = max((number for _, number in self._numbers(f"{ROOT}/{folder}")), default=0)
        return self._read(folder, number) if number else None

    def of_id(self, workflow_id: str) -> Revision:
        """What holds of a workflow.

        :raises WorkflowNotFound: when there is none of this id, or it was deleted.
        """
        for head in self.listing().registered():
            if head.workflow_id == workflow_id:
                return head
        raise WorkflowNotFound(f"There is no registered workflow {workflow_id}.")

    def history(self, workflow_id: str) -> History:
        """The revisions that a workflow has, or had until it was deleted.

        :raises WorkflowNotFound: when there never was one of this id.
        """
        for head in self.listing().heads:
            if workflow_id == head.workflow_id:
                return History(self, head)
            if workflow_id in head.former:
                folder = folder_of(head.name)
                older = (self._read(folder, number) for number in range(head.number - 1, 0, -1))
                return History(self, next(one for one in older if one.workflow_id == workflow_id))
        raise WorkflowNotFound(f"There is no workflow {workflow_id}.")

    def register(self, new: NewText, by: str) -> Revision:
        """Register a workflow.

        :raises WorkflowConflict: when one is registered under its name.
        """
        while True:
            before = self.of_name(new.name)
            if before is not None and not before.is_deleted:
                raise WorkflowConflict(
                    f"A workflow {before.name!r} is registered already, as {before.workflow_id}: update that one, or "
                    "give this one another name.",
                    field="name",
                )
            former = (*before.former, before.workflow_id)[-_MOST_FORMER:] if before else ()
            number = before.number + 1 if before else 1
            made = Revision(str(uuid.uuid4()), new.name, new.version, number, 1, new.text, _now(), by, former=former)
            if self._create(made):
                return made

    def update(self, workflow_id: str, change: Callable[[Revision], NewText], by: str) -> Revision:
        """Make the next revision of a workflow.

        :param change: gives the new text, of the same name, for what holds now; asked anew when another update came
            first.
        :raises WorkflowNotFound: when there is none of this id, or it was deleted.
        """
        while True:
            before = self.of_id(workflow_id)
            new = change(before)
            made = replace(
                before,
                version=new.version,
                number=before.number + 1,
                revision=before.revision + 1,
                text=new.text,
                changed_at=_now(),
                changed_by=by,
            )
            if self._create(made):
                return made

    def delete(self, workflow_id: str, by: str) -> Revision:
        """Take a workflow out of use: nothing starts it any more. Its revisions stay.

        :return: what says so.
        :raises WorkflowNotFound: when there is none of this id, or it was deleted before.
        """
        while True:
            before = self.of_id(workflow_id)
            made = replace(before, number=before.number + 1, changed_at=_now(), changed_by=by, is_deleted=True)
            if self._create(made):
                return made

    def _numbers(self, prefix: str) -> Iterator[tuple[str, int]]:
        for key in self.store.list(prefix):
            if match := _KEY.fullmatch(key):
                yield match["folder"], int(match["number"])

    def read(self, name: str, number: int) -> Revision:
        """What is kept under a number; :class:`StoreError` when it is not there or damaged."""
        return self._read(folder_of(name), number)

    def _read(self, folder: str, number: int) -> Revision:
        key = key_of(folder, number)
        data = self.store.read(key)
        try:
            return Revision.from_bytes(data, number)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"The record {key} of a registered workflow is damaged: {error}.") from error

    def _create(self, revision: Revision) -> bool:
        return self.store.create(revision.key, revision.to_bytes())


@dataclass(frozen=True, slots=True)
class History:
    """The revisions of one workflow, each read when it is asked for.

    :param last: what holds of it, or what says that it was deleted.
    """

    registry: WorkflowRegistry
    last: Revision

    def __len__(self) -> int:
        return self.last.revision

    @property
    def deleted_at(self) -> str | None:
        return self.last.changed_at if self.last.is_deleted else None

    def revisions(self, start: int, end: int) -> list[Revision]:
        """Those from ``start`` until before ``end``, counted from 0; the first one first."""
        newest = self.last.number - self.last.is_deleted
        first = newest - self.last.revision + 1
        numbers = range(first, newest + 1)[max(start, 0) : max(end, 0)]
        return [self.registry.read(self.last.name, number) for number in numbers]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
