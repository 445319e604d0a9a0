"""A prefix of a bucket as a way in: objects that are put there are taken in as if they had been sent to an AE title.

The bucket is never listed as a whole. Where what was taken is deleted, a prefix holds only what is new. Where it is
kept, prefixes have a day in them: of a day's prefix, listings begin behind the last name up to which all has been taken
for some minutes, and every ten minutes the whole day is looked through for names that came out of order. In the store::

    inbox/<place>/<ae title>/<day>/claims/<object>    somebody is taking it
                                  /done/<object>      it has been taken, or refused and why
                            /since.json               the day up to which nothing is left
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow_monai.errors import DamagedObject, MonaiError, StoreError
from airflow_monai.gateway.bucket_place import BucketPlace
from airflow_monai.gateway.watcher import Watcher
from airflow_monai.intake.deposit import Depositor, DepositReport, IntakeHeld
from airflow_monai.intake.events import EventKind, EventLog, Reasons, log_internal
from airflow_monai.intake.workflows import Workflows
from airflow_monai.store.archives import is_zip
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.damaged import tell_once

RECONCILE_SECONDS = 600.0
SETTLE_SECONDS = 300.0
"""Names of objects that are younger may still be overtaken by smaller ones."""
CLAIM_SECONDS = 300.0
"""After so long a claim is of a gateway that died: what it took is taken again, which does no harm."""
KEEP_DAYS = 31
_AT_A_TIME = 4
_BATCH = 500
_COPY_BYTES = 1 << 20
_SINCE = "since.json"
_OTHER_NOW = ("NoSuchKey", "404", "PreconditionFailed", "412")
"""What a service says of an object that is not the one which was listed."""


@dataclass(frozen=True, slots=True)
class BucketOptions:
    """
    :param delete: remove from the bucket what is in the store; else it is kept.
    """

    places: tuple[BucketPlace, ...]
    calling_aet: str
    delete: bool = False
    poll_seconds: float = 10.0


@dataclass(slots=True)
class _Prefix:
    """What this process knows of a prefix.

    :param done: digests of the objects that are done with.
    :param after: names up to this one are done with.
    """

    place: BucketPlace
    ae_title: str
    prefix: str
    folder: str
    done: set[str] = field(default_factory=set)
    after: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """An object that is not done with."""

    name: str
    digest: str
    modified: float
    etag: str


class _Gone(StoreError):
    """Another gateway has just taken the object and deleted it, or it has other content since it was listed."""


class ObjectBrokenOff(StoreError):
    """An object cannot be read now; the message does not name it."""


class BucketInbox:
    """Watches the prefixes. Several gateways may watch the same.

    :param client: boto3's.
    """

    name = "inbox-s3"

    def __init__(
        self,
        options: BucketOptions,
        client: Any,
        store: Store,
        depositor: Depositor,
        workflows: Workflows,
        events: EventLog,
    ):
        self._options = options
        self._client = client
        self._store = store
        self._depositor = depositor
        self._workflows = workflows
        self._events = events
        self._reasons = Reasons(events)
        self._owner = uuid.uuid4().hex
        self._prefixes: dict[tuple[str, str], _Prefix] = {}
        self._reconciled = float("-inf")
        self._watcher = Watcher(self.name, self._round, options.poll_seconds)
        self._stopped = self._watcher.stopped
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="inbox-s3")

    def start(self) -> None:
        self._depositor.stopping = self._stopped
        self._watcher.start()

    def stop(self, grace: float) -> None:
        self._watcher.stop(grace)
        self._pool.shutdown()

    def _round(self) -> None:
        try:
            self.look()
        except MonaiError as error:
            self._wait("-", str(error))

    def look(self) -> None:
        """One round: take what is new.

        :raises MonaiError: when store or bucket fail; the next round goes on.
        """
        guard = self._depositor.guard
        if guard and (refusal := guard.refusal()):
            self._wait("-", refusal)
            return
        whole = time.monotonic() - self._reconciled >= RECONCILE_SECONDS
        now = datetime.now(timezone.utc)
        current: dict[tuple[str, str], _Prefix] = {}
        for place in self._options.places:
            for ae_title in self._workflows.ae_titles():
                days = list(place.days(now, self._since(place, ae_title) if whole else None))
                complete = True
                for known in self._known(place, ae_title, days, fresh=whole):
                    current[known.place.bucket, known.prefix] = known
                    complete &= self._take_new(known, from_start=whole or self._options.delete)
                    if self._stopped.is_set():
                        return
                if whole and complete and place.is_dated:
                    self._nothing_left(_folder(place, ae_title), (now - timedelta(days=1)).date())
        self._prefixes = current
        if whole:
            self._reconciled = time.monotonic()
        self._reasons.over(EventKind.FILES_WAITING, way=self.name, called_aet="-")

    def _nothing_left(self, folder: str, before: date) -> None:
        """Note it for an AE title, whose workflows may be away for days: others must not note it for it. What was done
        long before is of no use any more, since those days are not listed again."""
        self._store.write_json(f"{folder}/{_SINCE}", {"date": before.isoformat()})
        first_day = (before - timedelta(days=KEEP_DAYS)).isoformat()
        for day in self._store.children(folder):
            if day != _SINCE and day < first_day:
                self._store.delete_tree(f"{folder}/{day}")

    def _since(self, place: BucketPlace, ae_title: str) -> date | None:
        key = f"{_folder(place, ae_title)}/{_SINCE}"
        if not self._store.exists(key):
            return None
        try:
            return self._store.read_as(key, lambda note: date.fromisoformat(note["date"]))
        except DamagedObject as error:  # all that is noted as done is known; the note is written anew after that
            tell_once(str(error))
            return datetime.now(timezone.utc).date() - timedelta(days=KEEP_DAYS)

    def _known(self, place: BucketPlace, ae_title: str, days: Sequence[date], fresh: bool) -> Iterator[_Prefix]:
        """
        :param fresh: look again what other gateways have done.
        """
        for day in days:
            prefix = place.prefix(ae_title, day)
            known = self._prefixes.get((place.bucket, prefix))
            if known is None:
                day_name = day.isoformat() if place.is_dated else "all"
                known = _Prefix(place, ae_title, prefix, f"{_folder(place, ae_title)}/{day_name}")
                fresh_here = True
            else:
                fresh_here = fresh
            if fresh_here:
                known.done.update(self._store.children(f"{known.folder}/done"))
            yield known

    def _take_new(self, known: _Prefix, from_start: bool) -> bool:
        """Take what is new below a prefix; whether all of it could be looked at."""
        new: list[_Found] = []
        after, all_done, complete = "" if from_start else known.after, True, True
        now = time.time()
        for found in self._list(known, after):
            is_done = found.digest in known.done
            all_done = all_done and is_done and now - found.modified > SETTLE_SECONDS
            if all_done:
                known.after = max(known.after, found.name)
            if not is_done:
                new.append(found)
            if len(new) >= _BATCH:
                complete &= self._take_all(known, new)
                new = []
        return self._take_all(known, new) and complete

    def _take_all(self, known: _Prefix, new: Sequence[_Found]) -> bool:
        """Take these; whether there is none left."""
        if not new or self._stopped.is_set():
            return not new
        try:
            outcomes = list(self._pool.map(lambda found: self._take(known, found), new))
        except IntakeHeld as error:
            self._wait(known.ae_title, str(error))
            return False
        self._reasons.over(EventKind.FILES_WAITING, way=self.name, called_aet=known.ae_title)
        reports = [report for report in outcomes if report]
        if reports:
            self._tell(known.ae_title, reports)
        return len(reports) == len(new)

    def _list(self, known: _Prefix, after: str) -> Iterator[_Found]:
        from botocore.exceptions import BotoCoreError, ClientError

        arguments: dict[str, Any] = {"Bucket": known.place.bucket, "Prefix": known.prefix}
        if after:
            arguments["StartAfter"] = after
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(**arguments):
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):
                        digest = hashlib.sha256(f"{entry['Key']}|{entry['ETag']}".encode()).hexdigest()[:32]
                        yield _Found(entry["Key"], digest, entry["LastModified"].timestamp(), entry["ETag"])
        except (BotoCoreError, ClientError) as error:
            raise StoreError(f"The bucket {known.place.bucket} cannot be listed: {_words(error)}.") from None

    def _take(self, known: _Prefix, found: _Found) -> DepositReport | None:
        """Take one object; None when it is left for later, or to another gateway."""
        claim = f"{known.folder}/claims/{found.digest}"
        try:
            if not self._claim(claim):
                return None
            if self._store.exists(f"{known.folder}/done/{found.digest}"):
                known.done.add(found.digest)
                self._store.delete(claim)
                return None
            report = self._put(known, found)
            refused = [{"name": item.name, "reason": item.reason} for item in report.refused]
            if self._options.delete and not refused:
                self._delete(known, found)
            else:
                self._store.create_json(f"{known.folder}/done/{found.digest}", {"name": found.name, "refused": refused})
                known.done.add(found.digest)
            self._store.delete(claim)
        except _Gone:
            self._store.delete(claim)
            return None
        except StoreError as error:
            self._wait(known.ae_title, str(error))
            return None
        except IntakeHeld:
            raise
        except Exception as error:  # noqa: BLE001 - one object must not keep all others from their turn
            log_internal("an object of the bucket inbox, which is tried again", error)
            self._wait(known.ae_title, f"internal error: {type(error).__name__}")
            return None
        return report

    def _claim(self, key: str) -> bool:
        claim = {"owner": self._owner, "time": time.time()}
        if self._store.create_json(key, claim):
            return True
        try:
            owner, when = self._store.read_as(key, lambda note: (str(note["owner"]), float(note["time"])))
        except DamagedObject:
            raise  # who had it cannot be told: the file waits for a person, the others do not
        except StoreError:
            return False  # it has just been done
        if owner != self._owner and time.time() - when < CLAIM_SECONDS:
            return False
        self._store.write_json(key, claim)
        return True

    def _put(self, known: _Prefix, found: _Found) -> DepositReport:
        deposit = self._depositor.begin(known.ae_title, self._options.calling_aet)
        with _Object(self._client, known.place.bucket, found) as source:
            first = source.peek()
            if not is_zip(first):
                deposit.take(source, found.name)
                report = deposit.finish(whole=False)
                if report.passed_over_count:
                    deposit.refuse(found.name, "it is no DICOM image")
                    report = deposit.report()
                return report
            path = self._depositor.spool / f"{uuid.uuid4().hex}.zip"
            try:
                _save(source, path)
                deposit.archive(path, found.name)
            finally:
                path.unlink(missing_ok=True)
            return deposit.finish(whole=True)

    def _delete(self, known: _Prefix, found: _Found) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            # what was put there under the same name meanwhile is another image
            head = self._client.head_object(Bucket=known.place.bucket, Key=found.name, IfMatch=found.etag)
            if head["ETag"] == found.etag:
                self._client.delete_object(Bucket=known.place.bucket, Key=found.name)
        except (BotoCoreError, ClientError) as error:
            if _words(error) in _OTHER_NOW:
                return
            raise StoreError(f"An object of {known.place.bucket} cannot be deleted: {_words(error)}.") from None

    def _tell(self, ae_title: str, reports: Sequence[DepositReport]) -> None:
        fields = {"way": self.name, "called_aet": ae_title, "calling_aet": self._options.calling_aet}
        self._events.emit(
            EventKind.FILES_TAKEN,
            **fields,
            images=sum(report.images for report in reports),
            duplicates=sum(report.duplicates for report in reports),
            passed_over=sum(report.passed_over_count for report in reports),
            payload_ids=sorted({payload_id for report in reports for payload_id in report.payload_ids}),
        )
        if refused := sum(len(report.refused) for report in reports):
            self._events.emit(EventKind.FILES_REFUSED, **fields, count=refused)

    def _wait(self, ae_title: str, reason: str) -> None:
        self._reasons.tell(EventKind.FILES_WAITING, reason, way=self.name, called_aet=ae_title)


class _Object:
    """An object's content as a source for deposits."""

    def __init__(self, client: Any, bucket: str, found: _Found):
        self._client, self._bucket = client, bucket
        self._asked = {"Bucket": bucket, "Key": found.name, "IfMatch": found.etag}
        self._first = b""

    def __enter__(self) -> _Object:
        with _Told(self._bucket):
            self._body = self._client.get_object(**self._asked)["Body"]
        return self

    def __exit__(self, *exc: object) -> None:
        self._body.close()

    def peek(self) -> bytes:
        """What it begins with; it is read again."""
        self._first = self.read(4)
        return self._first

    def read(self, size: int, /) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first[:size]
        with _Told(self._bucket):
            return self._body.read(size)


class _Told:
    """Turns what boto3 and the connection raise into an error that does not name the object."""

    def __init__(self, bucket: str):
        self._bucket = bucket

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, where: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, MonaiError):
            if _words(error) in _OTHER_NOW:
                raise _Gone("An object is gone, or another one.") from None
            raise ObjectBrokenOff(f"An object of the bucket {self._bucket} cannot be read: {_words(error)}.") from None


def _save(source: _Object, path: Path) -> None:
    try:
        with open(path, "xb") as file:
            while data := source.read(_COPY_BYTES):
                file.write(data)
    except OSError as error:
        raise StoreError(f"The store's spool cannot be written: {error.strerror or error}.") from error


def _folder(place: BucketPlace, ae_title: str) -> str:
    digest = hashlib.sha256(f"{place.bucket}/{place.pattern}".encode()).hexdigest()[:16]
    return f"inbox/{digest}/{safe_name(ae_title)}"


def _words(error: Exception) -> str:
    """The service's code, or the kind of the failure: neither names an object."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return str(code or type(error).__name__)
