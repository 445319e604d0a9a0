"""Makes the payload that a message asks for out of the files of a bucket: once, whole, whoever is asked how often."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.broker.buckets import Buckets, received_files
from airflow_monai.broker.events import WorkflowRequestDraft, WorkflowRequestEvent
from airflow_monai.errors import InvalidEvent, StoreError
from airflow_monai.intake.deposit import Deposit, Depositor, IntakeHeld
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.base import Store, check_key, safe_name
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.intake import PENDING, Instance, Placed
from airflow_monai.store.payloads import manifest_key, payload_key
from airflow_monai.store.requests import PayloadRequest, request_key, request_of

if TYPE_CHECKING:
    from airflow_monai.gateway.ways import GatewayParts
    from airflow_monai.store.base import Entry

UNREADABLE = "it cannot be read"
"""So a refusal begins whose cause is the disk, which may work again, and not the file."""
_AT_A_TIME = 4
_BATCH = 64


class FilesMissing(IntakeHeld):
    """Not all files of a request are in the bucket yet."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, from whatever message it came.

    :param files: keys in buckets, where the message names them one by one: bucket, key.
    :param count: how many files there must be at least.
    """

    payload_id: str
    called_aet: str
    calling_aets: tuple[str, ...]
    bucket: str
    workflows: tuple[str, ...]
    correlation_id: str
    files: tuple[tuple[str, str], ...] = ()
    count: int = 1

    @classmethod
    def by(cls, event: WorkflowRequestEvent | WorkflowRequestDraft, buckets: Buckets) -> Asked:
        """What an event asks for."""
        if isinstance(event, WorkflowRequestDraft):
            files = tuple(_place(path, buckets) for path in event.files)
            bucket, count = files[0][0], len(files)
            return cls(event.payload_id, "", ("",), bucket, event.workflows, event.correlation_id, files, count)
        origin = event.origin
        sources = (origin.source, *(other.source for other in event.data_origins))
        return cls(
            payload_id=event.payload_id,
            called_aet=origin.destination.strip(),
            calling_aets=tuple(dict.fromkeys(source.strip() for source in sources)),
            bucket=event.bucket,
            workflows=event.workflows,
            correlation_id=event.correlation_id,
            count=max(1, event.file_count),
        )


def _place(path: str, buckets: Buckets) -> tuple[str, str]:
    """Bucket and key of a file that a message names."""
    if path.startswith("s3://"):
        bucket, _, key = path.removeprefix("s3://").partition("/")
    else:
        bucket, key = buckets.only, path.strip("/")
    try:
        return bucket, check_key(key)
    except StoreError:
        raise InvalidEvent("A file of the message is no path in a bucket.") from None


class RequestTaker:
    """Takes requests for payloads. Safe for threads, and for several gateways on one store."""

    def __init__(self, parts: GatewayParts, buckets: Buckets):
        self._parts = parts
        self._store = parts.store
        self.buckets = buckets
        self.stopping = threading.Event()

    def take(self, asked: Asked) -> None:
        """Make the payload, durable and whole, and hand it to the shepherd; or find that this was done.

        :raises InvalidEvent: when that can never be.
        :raises IntakeHeld: or ``StoreError``: when it cannot be now.
        """
        payload_id = asked.payload_id
        first = request_of(self._store, payload_id)
        if is_doomed(self._store, payload_id):
            raise InvalidEvent(f"The payload {payload_id} was deleted, or is being deleted.")
        if first is None and self._store.exists(payload_key(payload_id, "open.json")):
            raise InvalidEvent(f"The payload id {payload_id} belongs to a payload that came another way.")
        request = PayloadRequest(
            called_aet=asked.called_aet,
            calling_aets=asked.calling_aets,
            bucket=asked.bucket,
            dag_ids=self._named(asked.workflows, first),
            correlation_id=asked.correlation_id,
        )
        if first is not None:
            _check_same(payload_id, first, request)
        if not self._store.exists(payload_key(payload_id, "listing.json")):
            self._fill(asked, request)
        self._open(payload_id)
        if not self.is_done(payload_id):
            self._parts.shepherd.whole(payload_id)

    def is_done(self, payload_id: str) -> bool:
        """Whether all runs of a payload that was taken exist."""
        store = self._store
        return store.exists(manifest_key(payload_id)) and not store.exists(f"{PENDING}/{payload_id}")

    def _named(self, workflows: Sequence[str], first: PayloadRequest | None) -> tuple[str, ...]:
        """The DAG ids of workflows that a message names by name or DAG id."""
        if not workflows:
            return ()
        known = self._parts.workflows.known()
        names = {name: plan.dag_id for plan in known.workflows for name in (plan.name, plan.dag_id)}
        earlier = first.dag_ids if first else ()
        names |= {dag_id: dag_id for dag_id in earlier}
        unknown = [name for name in workflows if name not in names]
        if not unknown:
            return tuple(dict.fromkeys(names[name] for name in workflows))
        if len(earlier) == len(set(workflows)):
            return earlier  # it was taken when they were known
        if known.doubt:
            raise IntakeHeld(f"{len(unknown)} of its workflows are not known, and {known.doubt}")
        raise InvalidEvent(f"There is no workflow {', '.join(repr(name) for name in unknown[:5])} here.")

    def _fill(self, asked: Asked, request: PayloadRequest) -> None:
        """Bring the files in and say for good which they are."""
        guard = self._parts.guard
        if guard and (refusal := guard.refusal()):
            raise IntakeHeld(refusal)
        payload_id = asked.payload_id
        files = self._files(asked)
        if not self._store.create_json(request_key(payload_id), request.to_dict()):
            first = request_of(self._store, payload_id)  # another message may have been a moment earlier
            _check_same(payload_id, first or request, request)
        try:
            sizes = self._copied(asked, files)
        except InvalidEvent:
            self._forget(payload_id)
            raise
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        listing = {
            "files": sizes,
            "calling_aets": list(request.calling_aets),
            "received_first": now,
            "received_last": now,
            "closed": now,
        }
        self._store.create_json(payload_key(payload_id, "listing.json"), listing)

    def _open(self, payload_id: str) -> None:
        """Make it a payload that is closing: every gateway can go on from here. Nothing changes where it is one."""
        store, key = self._store, payload_key(payload_id, "open.json")
        if store.exists(key):
            return
        request = request_of(store, payload_id)
        listing = store.read_dict(payload_key(payload_id, "listing.json"))
        assert request is not None
        now = listing["closed"]
        for caller in request.calling_aets:
            store.create_json(payload_key(payload_id, "calling", safe_name(caller)), caller)
        store.create_json(payload_key(payload_id, "closing.json"), {"time": now})
        store.create_json(f"{PENDING}/{payload_id}", {"since": now})
        opened = {
            "study_instance_uid": min(listing["files"]).split("/")[1],
            "called_aet": request.called_aet,
            "sequence": 0,
            "opened": now,
            "grouping": Grouping.STUDY.value,
            "group": f"request/{payload_id}",
        }
        store.create_json(key, opened)

    def _files(self, asked: Asked) -> list[tuple[Store, str]]:
        """Where each file lies.

        :raises FilesMissing: when there are fewer than the message says.
        """
        if asked.files:
            stores = {name: self.buckets.open(name) for name, _ in asked.files}
            found = [(stores[name], key) for name, key in dict.fromkeys(asked.files)]
            missing = sum(not store.exists(key) for store, key in found)
        else:
            bucket = self.buckets.open(asked.bucket)
            entries: list[Entry] = received_files(bucket, asked.payload_id)
            found = [(bucket, entry.key) for entry in entries]
            missing = max(0, asked.count - len(found))
        if missing:
            raise FilesMissing(f"{missing} of {asked.count} files of the payload are not in the bucket")
        return found

    def _copied(self, asked: Asked, files: Sequence[tuple[Store, str]]) -> dict[str, int]:
        """Path below the payload -> size of every image, durable.

        :raises InvalidEvent: when one of the files is damaged, or none is an image.
        """
        place = _Place(self._store, asked.payload_id)
        depositor = Depositor(
            place,  # type: ignore[arg-type]
            self._parts.spool,
            grouping=lambda called_aet: Grouping.STUDY,
            guard=self._parts.guard,
        )
        depositor.stopping = self.stopping
        deposit = Deposit(depositor, asked.called_aet, asked.calling_aets[0], Grouping.STUDY)
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="request") as pool:
            for paths in self._local(files):
                with paths as batch:
                    list(pool.map(lambda item: deposit.file(item[1], item[0]), batch))
        report = deposit.report()
        if any(item.reason.startswith(UNREADABLE) for item in report.refused):
            raise StoreError("A file of the bucket cannot be read now.")
        if report.refused:
            reasons = ", ".join(sorted({item.reason for item in report.refused})[:3])
            raise InvalidEvent(f"{len(report.refused)} of {len(files)} files cannot be used: {reasons}.")
        if report.is_empty:
            raise InvalidEvent(f"None of the {len(files)} files of the payload is a DICOM image.")
        return place.sizes

    def _local(self, files: Sequence[tuple[Store, str]]) -> Iterator[Any]:
        """The files as files of this host, some at a time."""
        rest = iter(files)
        while batch := list(islice(rest, _BATCH)):
            yield _at_hand(batch, self._parts.spool)

    def _forget(self, payload_id: str) -> None:
        """Leave nothing of a request that was refused, so that it may be asked again when it is mended."""
        if not self._store.exists(payload_key(payload_id, "listing.json")):
            self._store.delete_tree(payload_key(payload_id))


def _check_same(payload_id: str, first: PayloadRequest, request: PayloadRequest) -> None:
    """:class:`InvalidEvent` when a request asks for something else than the first one with this payload id."""
    if not first.same_as(request):
        raise InvalidEvent(
            f"The payload {payload_id} was asked for before with another sender, receiver, bucket or workflows; "
            "the first request stays. Ask again under a new payload id."
        )


@contextmanager
def _at_hand(files: Sequence[tuple[Store, str]], spool: Path) -> Iterator[list[tuple[str, Path]]]:
    """(name, local path) of files, some of which are fetched for the time of the block."""
    fetched: dict[int, Path] = {}
    found: list[tuple[str, Path]] = []
    wanted: dict[int, tuple[Store, list[tuple[str, Path]]]] = {}
    for number, (store, key) in enumerate(files):
        path = store.local_path(key)
        if path is None:
            path = fetched[number] = spool / f"request-{uuid.uuid4().hex}"
            wanted.setdefault(id(store), (store, []))[1].append((key, path))
        found.append((key.rpartition("/")[2], path))
    try:
        for store, pairs in wanted.values():
            store.fetch_all(pairs)
        yield found
    finally:
        for path in fetched.values():
            path.unlink(missing_ok=True)


class _Place:
    """Stands in for the intake: all images go to one payload, whatever study they are of."""

    def __init__(self, store: Store, payload_id: str):
        self.sizes: dict[str, int] = {}
        self._store = store
        self._payload_id = payload_id
        self._of_instance: dict[str, str] = {}

    def add(self, instance: Instance, file: Path, grouping: Grouping) -> Placed:
        path = self._of_instance.setdefault(instance.identity.sop, instance.path)
        key = payload_key(self._payload_id, path)
        created = self._store.create_from(key, file)
        identical = created or self._store.same(key, file)
        if identical:
            self.sizes[path] = file.stat().st_size
        return Placed(self._payload_id, not created, None if created else identical)
