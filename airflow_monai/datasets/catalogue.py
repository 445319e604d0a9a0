"""The datasets of a store.

datasets/records/<id>.json             what a dataset is, made before its files are in the store
        /by-time/<time>-<id>.json      it is ready; the list, the oldest first
        /by-name/<hash>/<time>-<id>.json    the same for those of one name
        /also-named/<id>/<hash>.json   just these files were uploaded under this name too
        /deleted/<id>.json             it is not any more, and its id is never used again
        /unfinished/<id>.json          somebody is making or deleting it, and writes this anew now and then
        /also-by/<id>/<hash>.json      another person has uploaded just these files
        /keys/<hash>.json              an idempotency key -> the dataset that was made under it
payloads/<id>/...                      the payload that it is

The id follows from the content, so that the same files are one dataset however often they are uploaded. All steps are
conditional creates: two who make one dataset help each other. A deleted one is told by ``deleted/`` alone, whatever
else is still there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from itertools import count
from typing import Any

from airflow_monai.datasets.associations import Associations
from airflow_monai.datasets.model import (
    MOST_STUDIES,
    Dataset,
    DatasetNotFound,
    NewFile,
    NotUploaded,
    Page,
    State,
)
from airflow_monai.errors import DamagedObject, PayloadNotFound, StoreError
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import tell_once, undamaged
from airflow_monai.store.deletion import NotDeletable, delete_payload, is_doomed, request_deletion
from airflow_monai.store.describe import describe
from airflow_monai.store.payloads import (
    DATASETS_AET,
    load_payload,
    manifest_key,
    payload_key,
    payload_uuid,
    tags_key,
)
from airflow_monai.types import Payload

ROOT = "datasets"
AE_TITLE = DATASETS_AET
"""What the manifest of a dataset says of where it was sent: nowhere."""
STALE_SECONDS = 900.0
"""After so long without a sign of life whoever was making or deleting a dataset is taken for dead."""
_SIGN_SECONDS = 30.0
_AT_A_TIME = 8


class Datasets:
    """Finds, makes and deletes datasets. Safe for any number of threads, processes and hosts."""

    def __init__(self, store: Store):
        self.store = store
        self._signs: dict[str, tuple[bytes, float]] = {}  # last signs of life, and since when they are as they are

    def find(self, dataset_id: str) -> Dataset:
        """A dataset, or any closed payload as one.

        :raises DatasetNotFound: when there is none.
        """
        known = _id(dataset_id)
        if self._is_gone(known):
            raise DatasetNotFound(dataset_id)
        ready = self.store.exists(manifest_key(known))
        if self.store.exists(_record(known)):
            made = self._recorded(known)
            return made.in_state(State.READY) if ready else made
        if not ready:
            raise DatasetNotFound(dataset_id)
        return Dataset.of_payload(load_payload(self.store, known))

    def ready(self, dataset_id: str) -> Payload:
        """The payload of a dataset that work may begin on.

        :raises DatasetNotFound: when there is none, or it is not ready.
        """
        found = self.find(dataset_id)
        if found.state is not State.READY:
            raise DatasetNotFound(dataset_id)
        return load_payload(self.store, found.id)

    def ids(self) -> list[str]:
        """Of all that are ready, the newest first."""
        names = sorted(self.store.children(f"{ROOT}/by-time"), reverse=True)
        return [name[16:].removesuffix(".json") for name in names]

    def named(self, name: str, may: Callable[[str], bool] = lambda dataset_id: True) -> Payload | None:
        """The payload of the newest one of a name; None where there is none. Others are not read.

        :param may: whether one of them counts.
        """
        top = _name_folder(name)
        for entry in sorted(self.store.children(top), reverse=True):
            dataset_id = entry[16:].removesuffix(".json")
            try:
                found = self.ready(dataset_id)
                if may(dataset_id):
                    return found
            except DamagedObject as error:  # an older one of the name is found nevertheless
                tell_once(str(error))
            except DatasetNotFound:  # it is being deleted, or was deleted as a payload
                self.store.delete(f"{top}/{entry}")
        return None

    def name_marks(self) -> frozenset[str]:
        """What stands for each of the names that datasets have, which is a hash of it."""
        top = f"{ROOT}/by-name"
        marks = self.store.children(top)
        if self.store.local_path(top) is None:
            return frozenset(marks)
        # a folder stays when nothing is in it any more
        return frozenset(mark for mark in marks if next(iter(self.store.children(f"{top}/{mark}")), None))

    def name_of_mark(self, mark: str) -> str:
        """The name that it stands for; empty where no dataset has it any more."""
        for entry in sorted(self.store.children(f"{ROOT}/by-name/{mark}"), reverse=True):
            with suppress(DatasetNotFound, DamagedObject):
                found = self.find(entry[16:].removesuffix(".json"))
                return found.name if _mark(found.name) == mark else self._other_name(found, mark)
        return ""

    def _other_name(self, dataset: Dataset, mark: str) -> str:
        key = _also_named(dataset.id, mark)
        return self.store.read_as(key, _name) if self.store.exists(key) else ""  # it is being deleted

    def is_of(self, dataset_id: str, person: str) -> bool:
        """Whether somebody has uploaded the files of a dataset, first or again.

        :raises DatasetNotFound: when there is no such dataset, nor a payload.
        """
        found = self.find(dataset_id)
        return found.created_by == person or self.store.exists(_also_by(found.id, person))

    def page(self, offset: int, limit: int) -> Page:
        """The newest first. Of the others no more than the names are read."""
        names = sorted(self.store.children(f"{ROOT}/by-time"), reverse=True)
        wanted = names[offset : offset + limit]
        if self.store.local_path(ROOT) is None:  # each is some requests to a bucket
            with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="datasets") as pool:
                found = [one for part in pool.map(self._listed_whole, wanted) for one in part]
        else:
            found = [one for name in wanted for one in self._listed_whole(name)]
        return Page(tuple(found), len(names))

    def _listed_whole(self, name: str) -> list[Dataset]:
        """What :meth:`_listed` finds; nothing where that is damaged, of which it is told."""
        return list(undamaged((name,), self._listed))

    def _listed(self, name: str) -> Dataset | None:
        """A dataset of the list; None for one that is being deleted, or was deleted as a payload."""
        known = name[16:].removesuffix(".json")
        if self._is_gone(known) or not self.store.exists(_record(known)):
            self.store.delete(f"{ROOT}/by-time/{name}")
            return None
        return self._recorded(known).in_state(State.READY)

    def make(self, files: Iterable[NewFile], *, name: str, by: str, source: str) -> tuple[Dataset, bool]:
        """Make a dataset of files; when this returns it is ready. The dataset, and whether this made it.

        :param files: at least one, each path once. They are not changed, and not removed.
        :param name: for people. The one that was first given to these files is the dataset's; it is found by all.
        :raises StoreError: when the store fails. Nothing is to be seen then, and to do it again goes on.
        """
        chosen = sorted(files, key=lambda file: file.path)
        digest = _digest(chosen)
        for generation in count():
            dataset_id = payload_uuid(f"dataset|{digest}|{generation}")
            if self._is_gone(dataset_id):
                continue
            if self.store.exists(manifest_key(dataset_id)):
                made, created = self._recorded(dataset_id).in_state(State.READY), False
            else:
                made, created = self._make(dataset_id, chosen, name, by, source)
            if not self._is_gone(dataset_id):  # this alone decides, so it is asked last
                self._list(made)
                if made.created_by != by:
                    self.store.create_json(_also_by(made.id, by), {})
                if name not in ("", made.name):
                    self.store.create_json(_also_named(made.id, _mark(name)), {"name": name})
                    self.store.create_json(f"{_name_folder(name)}/{_place(made)}", {})
                return made, created
            self._remove(made)
        raise AssertionError("count() does not end")

    def _make(self, dataset_id: str, files: list[NewFile], name: str, by: str, source: str) -> tuple[Dataset, bool]:
        now = datetime.now(timezone.utc)
        self._sign(dataset_id)
        studies = sorted({file.study for file in files})
        record = Dataset(
            id=dataset_id,
            name=name,
            state=State.RECEIVING,
            created=now.isoformat(timespec="milliseconds"),
            created_by=by,
            source=source,
            files=len(files),
            size=sum(file.size for file in files),
            series=len({file.path.rsplit("/", 1)[0] for file in files}),
            studies=tuple(studies[:MOST_STUDIES]),
        )
        self.store.create_json(_record(dataset_id), record.to_dict())
        record = self._recorded(dataset_id)
        sign = _NowAndThen(lambda: self._sign(dataset_id))
        self.store.create_all(((file.file, payload_key(dataset_id, file.path)) for file in files), sign)
        created = self._describe(record, {file.path: file.size for file in files}, studies[0])
        return record.in_state(State.READY), created

    def _recorded(self, dataset_id: str) -> Dataset:
        return self.store.read_as(_record(dataset_id), Dataset.from_dict)

    def _describe(self, record: Dataset, sizes: Mapping[str, int], study: str) -> bool:
        """Make tags and manifest, which both follow from the files; whether this made the manifest."""
        description = describe(self.store, payload_key(record.id), sizes)
        self.store.write_json(tags_key(record.id), description.tags)
        self.store.create_json(payload_key(record.id, "routing.json"), [])  # it is decided: no workflow gets it
        manifest = Payload(
            payload_id=record.id,
            study_instance_uid=study,
            called_aet=AE_TITLE,
            calling_aets=(record.source.upper(),),
            sequence=0,
            files=description.files,
            received_first=record.created,
            received_last=record.created,
            closed=record.created,
            patient=description.patient,
        )
        return self.store.create_json(manifest_key(record.id), manifest.to_dict())

    def _list(self, made: Dataset) -> None:
        if made.name:
            self.store.create_json(_by_name(made), {})
        self.store.create_json(_by_time(made), {})
        self.store.delete(_unfinished(made.id))

    def _is_gone(self, dataset_id: str) -> bool:
        """Whether it was deleted, be it as a dataset or as a payload."""
        return self.store.exists(_deleted(dataset_id)) or is_doomed(self.store, dataset_id)

    def delete(self, dataset_id: str, by: str) -> None:
        """Delete a dataset with the results of its jobs. What stays tells which jobs there were.

        :raises DatasetNotFound: when there is none.
        :raises NotUploaded: when it was not uploaded as one.
        """
        found = self.find(dataset_id)
        if found.source == "received":
            raise NotUploaded("This payload was received for workflows: it is deleted as a payload, not as a dataset.")
        self._sign(found.id)
        self.store.create_json(_deleted(found.id), {"time": time.time(), "by": by})
        self._remove(found, by)

    def _remove(self, dataset: Dataset, by: str = "") -> None:
        """What is left of one that is marked as deleted."""
        self.store.delete(_by_time(dataset))
        if dataset.name:
            self.store.delete(_by_name(dataset))
        try:
            with suppress(NotDeletable):  # it has been asked for already
                request_deletion(self.store, dataset.id, by or dataset.created_by, "dataset deleted")
            delete_payload(self.store, dataset.id)
        except PayloadNotFound:  # it was never ready
            self.store.delete_tree(payload_key(dataset.id))
        for entry in list(self.store.children(_also_named(dataset.id))):
            self.store.delete(f"{ROOT}/by-name/{entry.removesuffix('.json')}/{_place(dataset)}")
        self.store.delete_tree(_also_named(dataset.id))
        Associations(self.store).remove_all(dataset.id)
        self.store.delete_tree(_also(dataset.id))
        self.store.delete(_record(dataset.id))
        self.store.delete(_unfinished(dataset.id))

    def has_results(self, dataset_id: str) -> bool:
        """Whether workflow instances have left files in its payload, beside the records of how they went."""
        top = payload_key(dataset_id, "workflows")
        for key in self.store.list(top):
            parts = key[len(top) + 1 :].split("/")  # DAG, run, task, perhaps a number; then records or folders
            if len(parts) - (len(parts) > 3 and parts[3].isdecimal()) > 4:
                return True
        return False

    def made_under(self, key: str) -> tuple[Dataset, Mapping[str, Any]] | None:
        """The dataset that was made under an idempotency key, and what was noted with it; None where there is none.

        :param key: with who used it, since it is theirs.
        """
        name = _key(key)
        if not self.store.exists(name):
            return None
        noted = self.store.read_as(name, _noted)
        try:
            return self.find(noted["dataset_id"]), noted
        except DatasetNotFound:
            return None

    def note_key(self, key: str, dataset_id: str, noted: Mapping[str, Any]) -> None:
        """Note what was made under an idempotency key. What was noted before counts as long as its dataset is there."""
        fact = {**noted, "dataset_id": dataset_id, "time": time.time()}
        if not self.store.create_json(_key(key), fact) and self.made_under(key) is None:
            self.store.write_json(_key(key), fact)

    def sweep(self, now: float | None = None) -> int:
        """Bring to an end what was begun by processes that died; how many there were.

        What is ready is listed, what is marked as deleted is removed. Where files were still missing the dataset was
        never to be seen: it is marked as deleted, and its upload starts anew.

        Nobody compares clocks of hosts: who sweeps sees by its own that a sign of life stands still, and so its first
        look ends nothing.

        :param now: by the clock that nobody sets.
        """
        now, swept = time.monotonic() if now is None else now, 0
        signs: dict[str, tuple[bytes, float]] = {}
        for name in list(self.store.children(f"{ROOT}/unfinished")):
            dataset_id = name.removesuffix(".json")
            try:
                sign = self.store.read(_unfinished(dataset_id))
            except StoreError:
                if self.store.exists(_unfinished(dataset_id)):
                    raise
                continue  # it was done just now
            known, since = self._signs.get(dataset_id, (b"", now))
            if known == sign and now - since > STALE_SECONDS:
                try:
                    self._end(dataset_id)
                    swept += 1
                except DamagedObject as error:  # it keeps no other; it is tried again next time
                    tell_once(f"What a cut upload of dataset {dataset_id} began cannot be ended: {error}")
                    signs[dataset_id] = (sign, since)
            else:
                signs[dataset_id] = (sign, since if known == sign else now)
        self._signs = signs
        return swept

    def _end(self, dataset_id: str) -> None:
        if not self.store.exists(_record(dataset_id)):
            if not self._is_gone(dataset_id):  # else all was done but for this note, and what is left is to be told
                self.store.delete_tree(payload_key(dataset_id))
            self.store.delete(_unfinished(dataset_id))
            return
        record = self._recorded(dataset_id)
        ready = self.store.exists(manifest_key(dataset_id))
        if ready and not self._is_gone(dataset_id):
            self._list(record)
            return
        self.store.create_json(_deleted(dataset_id), {"time": time.time()})
        self._remove(record)

    def _sign(self, dataset_id: str) -> None:
        self.store.write_json(_unfinished(dataset_id), {"time": time.time()})


def _name(data: Mapping[str, Any]) -> str:
    return str(data["name"])


def _noted(data: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(data["dataset_id"], str):
        raise TypeError("dataset_id is no text")
    return data


class _NowAndThen:
    """Does something at most each thirty seconds, however often it is called."""

    def __init__(self, act: Callable[[], None]):
        self._act = act
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last > _SIGN_SECONDS:
            self._act()
            self._last = time.monotonic()


def _digest(files: Iterable[NewFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path} {file.sha256}\n".encode())
    return digest.hexdigest()


def _id(dataset_id: str) -> str:
    """In the one way of writing it; :class:`DatasetNotFound` for what is no id."""
    try:
        return payload_key(dataset_id).rpartition("/")[2]
    except PayloadNotFound:
        raise DatasetNotFound(dataset_id) from None


def _record(dataset_id: str) -> str:
    return f"{ROOT}/records/{dataset_id}.json"


def _deleted(dataset_id: str) -> str:
    return f"{ROOT}/deleted/{dataset_id}.json"


def _unfinished(dataset_id: str) -> str:
    return f"{ROOT}/unfinished/{dataset_id}.json"


def _by_time(dataset: Dataset) -> str:
    return f"{ROOT}/by-time/{_place(dataset)}"


def _by_name(dataset: Dataset) -> str:
    return f"{_name_folder(dataset.name)}/{_place(dataset)}"


def _name_folder(name: str) -> str:
    return f"{ROOT}/by-name/{_mark(name)}"


def _mark(name: str) -> str:
    encoded = name.encode(errors="surrogatepass")  # a caller may ask for any text
    return hashlib.sha256(encoded).hexdigest()


def _also_named(dataset_id: str, mark: str = "") -> str:
    return f"{ROOT}/also-named/{dataset_id}{f'/{mark}.json' if mark else ''}"


def _place(dataset: Dataset) -> str:
    milliseconds = int(datetime.fromisoformat(dataset.created).timestamp() * 1000)
    return f"{milliseconds:015d}-{dataset.id}.json"


def _also(dataset_id: str) -> str:
    return f"{ROOT}/also-by/{dataset_id}"


def _also_by(dataset_id: str, person: str) -> str:
    return f"{_also(dataset_id)}/{hashlib.sha256(person.encode()).hexdigest()}.json"


def _key(key: str) -> str:
    return f"{ROOT}/keys/{hashlib.sha256(key.encode()).hexdigest()}.json"
