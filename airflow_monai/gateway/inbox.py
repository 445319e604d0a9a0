"""A folder as a way in: what is put into ``<inbox>/<AE title>/`` is taken in as if it had been sent to that AE title.

A file, a folder or a zip archive is taken when it has been still for some seconds, however it came there. What is
written under a name that begins with a dot or ends in ``.part`` or ``.tmp`` is left alone until it is renamed. Beside
the items there are then::

    .claimed-<id>/      being taken in by a gateway
    .done/              one report in JSON for each item, kept for thirty days
    .refused/<item>/    files that are not in the store, and <item>.reason.txt
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from airflow_monai.errors import InvalidArgument, StoreError
from airflow_monai.gateway.claims import Claim, abandoned, claim
from airflow_monai.gateway.watcher import Watcher
from airflow_monai.intake.deposit import (
    CALLING_AET,
    Deposit,
    Depositor,
    DepositReport,
    IntakeHeld,
    Outcome,
    check_aet,
    files_below,
)
from airflow_monai.intake.events import EventKind, EventLog, Reasons, log_internal
from airflow_monai.intake.workflows import Workflows
from airflow_monai.store.archives import is_zip

POLL_SECONDS = 1.0
RETRY_SECONDS = 10.0
REPORT_DAYS = 30
DONE, REFUSED = ".done", ".refused"
MOST_FAILURES = 5
"""Internal errors after which what was taken counts as something that nobody can handle."""
_UNFINISHED = (".part", ".tmp", ".filepart", ".partial", ".crdownload")
_AT_A_TIME = 2
_MOST_ITEMS = 5000  # of a folder that are looked at in one round
_LOOSE_FILES = 500  # files beside one another that are taken together

Signature = tuple[int, int, int, int]
"""Count, bytes, and newest times of modification and of change, in nanoseconds, of all that belongs to an item."""


@dataclass(frozen=True, slots=True)
class InboxOptions:
    """
    :param still_seconds: how long nothing of an item must have changed before it is taken.
    :param calling_aet: who the images are from, unless the folder's name says it (``<called>@<calling>``).
    """

    folder: Path
    still_seconds: float = 5.0
    calling_aet: str = CALLING_AET


@dataclass(slots=True)
class _Seen:
    signature: Signature | None
    since: float
    look_again: float


class Inbox:
    """Watches the folder. Several gateways may watch one."""

    name = "inbox"

    def __init__(self, options: InboxOptions, depositor: Depositor, workflows: Workflows, events: EventLog):
        self._options = options
        self._depositor = depositor
        self._workflows = workflows
        self._events = events
        self._reasons = Reasons(events)
        self._seen: dict[Path, _Seen] = {}
        self._running: set[Future[None]] = set()
        self._watcher = Watcher("inbox", self._round, POLL_SECONDS)
        self._stopped = self._watcher.stopped
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="inbox")

    def start(self) -> None:
        self._depositor.stopping = self._stopped
        self._watcher.start()

    def stop(self, grace: float) -> None:
        """What is being taken in is left to the next gateway, after the file that is in hand."""
        self._watcher.stop(grace)
        self._pool.shutdown()

    def _round(self) -> None:
        try:
            self._look()
        except OSError as error:
            self._wait(self._options.folder.name, f"the inbox cannot be read: {error.strerror or error}")

    def _look(self) -> None:
        present: set[Path] = set()
        with os.scandir(self._options.folder) as entries:
            folders = sorted(Path(entry) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        self._reasons.over(EventKind.FILES_WAITING, way=self.name, called_aet=self._options.folder.name)
        for place in folders:
            called, calling = self._parties(place.name)
            try:
                present.update(self._look_at(place, called, calling))
            except OSError as error:  # those beside it can be
                self._wait(called, f"a folder of the inbox cannot be read: {error.strerror or error}")
        self._seen = {item: seen for item, seen in self._seen.items() if item in present}

    def _look_at(self, place: Path, called: str, calling: str) -> list[Path]:
        """Take what has come to an AE title and is still; all that lies there."""
        if (place / DONE).is_symlink() or (place / REFUSED).is_symlink():
            self._wait(called, f"{DONE} or {REFUSED} of this folder is a link that leads elsewhere: remove it")
            return []
        if _is_aet(called) and _is_aet(calling):
            for left in abandoned(place):
                self._hand_over(left, place, called, calling)
        items = list(self._items(place))
        still = [item for item in items if self._is_still(item)]
        if not still:
            return items
        if problem := self._problem(called, calling):
            self._wait(called, problem)
            return items
        self._over(called)
        for batch in _batches(still):
            if not self._take(place, batch, called, calling):
                break
        return items

    def _parties(self, name: str) -> tuple[str, str]:
        """Called and calling AE title that a folder's name stands for."""
        called, at, calling = name.rpartition("@")
        if at and called and calling and not self._workflows.knows(name):
            return called, calling
        return name, self._options.calling_aet

    def _problem(self, called: str, calling: str) -> str:
        """Why nothing of a folder can be taken now; empty when it can."""
        if not self._workflows.knows(called):
            return (
                "a folder of the inbox is named after no AE title that a workflow listens to: set "
                "informatics_gateway.ae_title of one, or rename the folder"
            )
        if not _is_aet(calling):
            return "what follows @ in the folder's name is no AE title: 1 to 16 printable ASCII characters"
        guard = self._depositor.guard
        return (guard.refusal() or "") if guard else ""

    def _items(self, place: Path) -> Iterator[Path]:
        with os.scandir(place) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_ITEMS:
                    return
                if not entry.name.startswith(".") and not entry.name.lower().endswith(_UNFINISHED):
                    yield Path(entry)

    def _is_still(self, item: Path) -> bool:
        now = time.monotonic()
        seen = self._seen.get(item)
        if seen and now < seen.look_again:
            return False
        signature = _signature(item)
        cost = time.monotonic() - now
        if seen is None or signature is None or seen.signature != signature:
            seen = self._seen[item] = _Seen(signature, now, 0.0)
        seen.look_again = now + 10 * cost
        return signature is not None and now - seen.since >= self._options.still_seconds

    def _take(self, place: Path, items: Sequence[Path], called: str, calling: str) -> bool:
        """Whether there was a hand free for them."""
        self._running = {future for future in self._running if not future.done()}
        if len(self._running) >= _AT_A_TIME:
            return False
        try:
            taken = claim(place, items)
        except OSError as error:
            self._wait(called, f"files cannot be taken out of this folder: {error.strerror or error}")
            return False
        if taken:
            self._hand_over(taken, place, called, calling)
        return True

    def _hand_over(self, taken: Claim, place: Path, called: str, calling: str) -> None:
        self._running.add(self._pool.submit(self._work, taken, place, called, calling))

    def _work(self, taken: Claim, place: Path, called: str, calling: str) -> None:
        """See the claim through, however long the store is away."""
        before: DepositReport | None = None
        items = taken.items()
        whole = len(items) == 1 and _is_whole(items[0])
        reason, failures = "", 0
        while not self._stopped.is_set():
            deposit = self._depositor.begin(called, calling)
            try:
                if failures < MOST_FAILURES:
                    report = self._put(deposit, taken, whole)
                else:
                    report = _give_up(deposit, taken, reason)
                report = before + report if before else report
                self._conclude(taken, place, [item.name for item in items], report)
                return
            except (StoreError, IntakeHeld) as error:
                reason = str(error)
            except OSError as error:
                reason = f"the inbox cannot be read or written: {error.strerror or error}"
            except Exception as error:  # noqa: BLE001 - the edge of a thread; what was taken stays claimed
                reason = f"internal error: {type(error).__name__}"
                log_internal("what was taken from the inbox, which is tried again", error)
                failures += 1
            before = before + deposit.report() if before else deposit.report()
            if not self._stopped.is_set():
                self._wait(called, reason)
                self._stopped.wait(RETRY_SECONDS)
        taken.release()

    def _put(self, deposit: Deposit, taken: Claim, whole: bool) -> DepositReport:
        """Put all in. Of the claim's files remain those that are no images and those that are refused."""
        strange: list[Path] = []

        def each(path: Path, outcome: Outcome) -> None:
            if outcome in (Outcome.TAKEN, Outcome.DUPLICATE):
                path.unlink(missing_ok=True)
            elif outcome is Outcome.PASSED_OVER:
                strange.append(path)

        deposit.tree(taken.content, each)
        report = deposit.finish(whole)
        if whole and not report.is_empty:
            for path in strange:
                path.unlink(missing_ok=True)
            return report
        for path in strange:  # nobody has said that it belongs to a study
            deposit.refuse(path.relative_to(taken.content).as_posix(), "it is no DICOM image")
        return deposit.report()

    def _conclude(self, taken: Claim, place: Path, items: Sequence[str], report: DepositReport) -> None:
        """Report on it, and keep what was refused."""
        self._over(report.called_aet)
        name = _name(taken)
        left = list(files_below(taken.content))
        if left:
            _keep_refused(place / REFUSED, name, taken, report, left)
        text = {"items": items, "time": _now(), "resumed": taken.resumed, **report.to_dict()}
        _write(place / DONE / f"{name}.json", json.dumps(text, indent=2) + "\n")
        _remove_old(place / DONE)
        taken.remove()
        self._tell(report)

    def _tell(self, report: DepositReport) -> None:
        fields = {"way": self.name, "called_aet": report.called_aet, "calling_aet": report.calling_aet}
        self._events.emit(
            EventKind.FILES_TAKEN,
            **fields,
            images=report.images,
            duplicates=report.duplicates,
            passed_over=report.passed_over_count,
            payload_ids=list(report.payload_ids),
        )
        if report.refused:
            self._events.emit(EventKind.FILES_REFUSED, **fields, count=len(report.refused))

    def _wait(self, called_aet: str, reason: str) -> None:
        self._reasons.tell(EventKind.FILES_WAITING, reason, way=self.name, called_aet=self._shown(called_aet))

    def _over(self, called_aet: str) -> None:
        self._reasons.over(EventKind.FILES_WAITING, way=self.name, called_aet=self._shown(called_aet))

    def _shown(self, called_aet: str) -> str:
        """An AE title as it may stand in events: a folder of another name may be named after a patient."""
        return called_aet if self._workflows.knows(called_aet) or called_aet == self._options.folder.name else "-"


def _is_aet(text: str) -> bool:
    try:
        return bool(check_aet(text, ""))
    except InvalidArgument:
        return False


def _give_up(deposit: Deposit, taken: Claim, reason: str) -> DepositReport:
    """Refuse all that is left: it would keep others from their turn for ever."""
    for path in files_below(taken.content):
        deposit.refuse(path.relative_to(taken.content).as_posix(), reason)
    return deposit.report()


def _batches(items: Sequence[Path]) -> Iterator[list[Path]]:
    """What is taken together: a folder or an archive by itself, files beside one another in one go."""
    loose = []
    for item in items:
        if _is_whole(item):
            yield [item]
        else:
            loose.append(item)
    for start in range(0, len(loose), _LOOSE_FILES):
        yield loose[start : start + _LOOSE_FILES]


def _is_whole(item: Path) -> bool:
    """Whether an item is all of something, as a folder or an archive is."""
    if item.is_symlink():
        return False
    if item.is_dir():
        return True
    try:
        fd = os.open(item, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with open(fd, "rb") as file:
        try:
            return is_zip(file.read(4))
        except OSError:
            return False


def _signature(item: Path) -> Signature | None:
    """Changes as long as somebody writes. None for what must not be taken yet: it is unfinished, empty or gone."""
    count = size = modified = changed = 0
    try:
        for path in [item, *(_all_below(item) if item.is_dir() and not item.is_symlink() else ())]:
            if path.name.lower().endswith(_UNFINISHED):
                return None
            status = path.lstat()
            is_file = not stat.S_ISDIR(status.st_mode)
            count, size = count + is_file, size + status.st_size * is_file
            modified, changed = max(modified, status.st_mtime_ns), max(changed, status.st_ctime_ns)
    except OSError:
        return None
    return (count, size, modified, changed) if count else None


def _all_below(folder: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        yield from (Path(top, name) for name in (*folders, *names))


def _name(taken: Claim) -> str:
    """What report and refused files of a claim are called, also when another gateway goes on with it."""
    since = datetime.fromtimestamp((taken.folder / "lock").stat().st_mtime, timezone.utc)
    return f"{since:%Y%m%dT%H%M%S}-{taken.claim_id[:8]}"


def _keep_refused(folder: Path, name: str, taken: Claim, report: DepositReport, paths: Sequence[Path]) -> None:
    """The reasons first: a file never lies there without one."""
    lines = [f"{item.name}: {item.reason}" for item in report.refused] or ["it was not taken in"]
    _write(folder / f"{name}.reason.txt", "\n".join(lines) + "\n")
    for path in paths:
        target = folder / name / path.relative_to(taken.content)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    temporary.replace(path)


def _remove_old(folder: Path) -> None:
    oldest = time.time() - REPORT_DAYS * 86_400
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < oldest:
                    os.unlink(entry)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
