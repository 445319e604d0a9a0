"""Outputs of modules to where the site wants them: a bucket, a folder, or a service that takes a zip by HTTP.

What is delivered of a run is what ran in it and passed; what it took over was delivered by the run that made it. Each
destination and module goes by itself, in attempts that are claimed in the store, so that several gateways send nothing
twice at once, and one that is killed only costs time:

mip/jobs/<job>/<number>/deliveries/<destination>/<module>/<attempt>.json        somebody is at it since then
                                                        /<attempt>.done.json   how that ended
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from airflow_monai.errors import DamagedObject, DestinationError, ExportError, StoreError
from airflow_monai.mip.files import are_gone, outputs
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import Ended, Result, Run, RunId, Status
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.files import digest_of
from airflow_monai.store.base import Store, as_dict, safe_name
from airflow_monai.store.damaged import tell_once, undamaged
from airflow_monai.store.runs import RunFolder
from airflow_monai.store.shapes import moment

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=30)
GIVE_UP = timedelta(days=1)
ATTEMPT_SECONDS = 1800.0
"""How long one attempt may take, packing included; after half as much again whoever was at it is taken for dead."""
LATER = frozenset({408, 425, 429})
"""Answers of a service, beside those from 500 on, after which another try may end differently."""
_BLOCK = 1 << 20


class State(str, Enum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    LATER = "later"
    GIVEN_UP = "given up"

    @property
    def is_final(self) -> bool:
        return self is not State.LATER


@dataclass(frozen=True, slots=True)
class News:
    """
    :param reason: free of patient data.
    """

    destination: str
    module: str
    state: State
    reason: str = ""

    def __str__(self) -> str:
        told = f"{self.module} to {self.destination}: {self.state.value}"
        return f"{told}, {self.reason}" if self.reason else told


@dataclass(frozen=True, slots=True)
class Deliveries:
    """
    :param destination: gives what the connection of a name says.
    :param clock: now, with a time zone.
    """

    store: Store
    destination: Callable[[str], Destination]
    clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)

    def deliver(self, run: Run, ended: Ended, names: tuple[str, ...]) -> tuple[bool, list[News]]:
        """Do what is due for a run that has ended: whether nothing is left to be done, and what happened now."""
        settled, news = True, []
        for name in names:
            for module, result in ended.results.items():
                if result.status is Status.PASSED:
                    try:
                        done, told = self._see_to(run, name, module, result)
                    except DamagedObject as error:
                        tell_once(f"What run {run.run_id} made in {module} is not delivered to {name}: {error}")
                        done, told = False, []
                    settled = settled and done
                    news += told
        return settled, news

    def _see_to(self, run: Run, name: str, module: str, result: Result) -> tuple[bool, list[News]]:
        attempts = _Attempts(self.store, _key(run.run_id, name, module))
        if attempts.is_settled():
            return True, []
        number = attempts.next(self.clock())
        if number is None or not attempts.claim(number, self.clock()):
            return False, []
        if number > 1 and self.clock() - attempts.begun() > GIVE_UP:
            told = News(name, module, State.GIVEN_UP, "it could not be delivered for a day")
        else:
            told = self._tried(run, name, module, result)
        attempts.end(number, told, self.clock())
        return told.state.is_final, [told]

    def _tried(self, run: Run, name: str, module: str, result: Result) -> News:
        folder = RunFolder(self.store, result.payload_id, result.dag_id, result.dag_run_id)
        deadline = Deadline(ATTEMPT_SECONDS)
        try:
            if are_gone(folder, module):
                return News(name, module, State.REFUSED, "its results are gone")
            destination = self.destination(name)
            if destination.conn_type == "http":
                state, reason = _posted(destination, run, result, folder, deadline)
            else:
                state, reason = _copied(destination, run, result, folder, deadline)
        except ExportError as error:  # also a connection that somebody may still correct
            state, reason = State.LATER, str(error)
        except (StoreError, OSError):  # whose texts may name files as applications do
            state, reason = State.LATER, "its files cannot be read or packed now"
        return News(name, module, state, reason)


def told(store: Store, run_id: RunId) -> list[News]:
    """How the deliveries of a run are, as far as they were tried."""
    top = Ledger(store).key(run_id, "deliveries")
    found = []
    for name in store.children(top):
        modules = store.children(f"{top}/{name}")
        for last in undamaged(modules, lambda module: _Attempts(store, f"{top}/{name}/{module}").last()):  # noqa: B023
            found.append(News(last["destination"], last["module"], State(last["state"]), last["reason"]))
    return found


@dataclass(frozen=True, slots=True)
class _Attempts:
    store: Store
    key: str

    def numbers(self) -> list[int]:
        names = (name.removesuffix(".json") for name in self.store.children(self.key))
        return sorted(int(name) for name in names if name.isdecimal())

    def last(self) -> Mapping[str, str] | None:
        """How the newest one that has ended did."""
        ended = (self._done(number) for number in reversed(self.numbers()))
        return next((done for done in ended if done is not None), None)

    def is_settled(self) -> bool:
        last = self.last()
        return last is not None and State(last["state"]).is_final

    def next(self, at: datetime) -> int | None:
        """The attempt that is due; None while there is none."""
        numbers = self.numbers()
        if not numbers:
            return 1
        newest = numbers[-1]
        done = self._done(newest)
        if done is None:
            lost = datetime.fromisoformat(self._claim(newest)["since"]) + timedelta(seconds=1.5 * ATTEMPT_SECONDS)
            return newest + 1 if at > lost else None
        pause = min(FIRST_PAUSE * 2 ** min(newest - 1, 20), LONGEST_PAUSE)
        return newest + 1 if at >= datetime.fromisoformat(done["at"]) + pause else None

    def begun(self) -> datetime:
        return datetime.fromisoformat(self._claim(self.numbers()[0])["since"])

    def claim(self, number: int, at: datetime) -> bool:
        """False when another gateway has it."""
        return self.store.create_json(f"{self.key}/{number}.json", {"since": at.isoformat()})

    def end(self, number: int, news: News, at: datetime) -> None:
        facts = {"destination": news.destination, "module": news.module, "state": news.state.value}
        facts |= {"reason": news.reason, "at": at.isoformat()}
        self.store.create_json(f"{self.key}/{number}.done.json", facts)

    def _claim(self, number: int) -> Mapping[str, str]:
        return self.store.read_as(f"{self.key}/{number}.json", _claimed)

    def _done(self, number: int) -> Mapping[str, str] | None:
        key = f"{self.key}/{number}.done.json"
        return self.store.read_as(key, _done) if self.store.exists(key) else None


def _claimed(data: Any) -> Mapping[str, str]:
    moment(data["since"])
    return as_dict(data)


def _done(data: Any) -> Mapping[str, str]:
    State(data["state"]), moment(data["at"])
    return {name: str(data[name]) for name in ("destination", "module", "state", "reason", "at")}


def _key(run_id: RunId, name: str, module: str) -> str:
    return f"mip/jobs/{run_id.job}/{run_id.number}/deliveries/{safe_name(name)}/{safe_name(module)}"


def _posted(
    destination: Destination, run: Run, result: Result, folder: RunFolder, deadline: Deadline
) -> tuple[State, str]:
    """Post the outputs as one zip to the address of the connection."""
    from airflow_monai.sinks.web.site import HttpSite, Upload

    headers = {
        "Idempotency-Key": f"{run.run_id}/{result.module}",
        "X-Mip-Run": str(run.run_id),
        "X-Mip-Job": run.run_id.job,
        "X-Mip-Module": result.module,
        "X-Mip-Version": result.version,
        "X-Mip-Map": quote(run.map, safe=""),
    }
    with tempfile.TemporaryFile() as file, HttpSite(destination) as site:
        length = _zip_into(file, folder, result.module, deadline)
        upload = Upload("application/zip", length, lambda: _pieces(file))
        answer = site.send("POST", "", deadline=deadline, headers=headers, upload=upload)
    if 200 <= answer.status < 300:
        return State.DELIVERED, ""
    later = answer.status >= 500 or answer.status in LATER
    return (State.LATER if later else State.REFUSED), f"the service answered {answer.status}"


def _copied(
    destination: Destination, run: Run, result: Result, folder: RunFolder, deadline: Deadline
) -> tuple[State, str]:
    """Copy the outputs to ``<job>/<module>/<number>/...`` of a destination that takes files."""
    from airflow_monai.sinks.registry import open_sink

    sink = open_sink(destination)
    if sink.dicom_only:
        raise DestinationError(f"Destination {destination.name} takes DICOM files only, and outputs may be any files.")
    sink.deadline = deadline
    verdicts: dict[str, Delivery] = {}
    with tempfile.TemporaryDirectory(prefix="mip-") as scratch:
        instances = list(_instances(run, result, folder, Path(scratch), deadline))
        sink.send(instances, lambda delivery: verdicts.__setitem__(delivery.identity, delivery))
    missing = [one for one in verdicts.values() if one.state is not DeliveryState.ACCEPTED]
    if not missing and len(verdicts) == len({sink.identity(instance) for instance in instances}):
        return State.DELIVERED, ""
    refused = [one for one in missing if one.state is DeliveryState.REFUSED and not one.retry]
    if refused:
        return State.REFUSED, f"{len(refused)} of {len(instances)} files: {refused[0].message}"
    return State.LATER, f"{len(instances) - len(verdicts) + len(missing)} of {len(instances)} files are not there yet"


def _instances(run: Run, result: Result, folder: RunFolder, scratch: Path, deadline: Deadline) -> Iterator[Instance]:
    for number, (name, store, key) in enumerate(outputs(folder, result.module)):
        deadline.check()
        path = store.local_path(key)
        if path is None:
            path = scratch / str(number)
            store.fetch(key, path)
        parts = (run.run_id.job, result.module, str(run.run_id.number), *name.split("/"))
        yield Instance(key, path, "/".join(safe_name(part) for part in parts), digest=digest_of(path))


def _zip_into(file: IO[bytes], folder: RunFolder, module: str, deadline: Deadline) -> int:
    """The archive's length."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, store, key in outputs(folder, module):
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
                for block in store.blocks(key)[1]:
                    deadline.check()
                    target.write(block)
    return file.tell()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(_BLOCK):
        yield block
