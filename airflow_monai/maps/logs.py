"""What an application prints: all of it to the store, a filtered and bounded form to the task log.

Applications print patient names and ids without a thought, and everybody who sees the Airflow UI reads task logs. So
the task log gets lines in which what may be about the patient is masked, and not too many; the store keeps the whole.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from airflow_monai.maps import masks
from airflow_monai.store.tags import OTHER_GROUPS
from airflow_monai.types import Payload, SeriesTags

MAX_LOG_BYTES = 256 * 1024**2
MAX_TASK_LINES = 2000
LINES_A_SECOND = 50
BURST_LINES = 200
MAX_LINE_CHARACTERS = 1000
TAIL_LINES = 40
STORED_TAIL_LINES, STORED_TAIL_BYTES = 1000, 256 * 1024
"""Of a log that is too long the store keeps the last lines too: they say why an application failed."""
BUFFER_BYTES = 256 * 1024
FLUSH_SECONDS = 0.25
BAR_SECONDS = 10.0
"""How often a bar that overwrites itself is shown."""
MASK = "[masked]"

TEXT_TAGS = (
    "00080050",  # AccessionNumber
    "00080080",  # InstitutionName
    "00100020",  # PatientID
    "00101000",  # OtherPatientIDs
    "00101040",  # PatientAddress
    "00102154",  # PatientTelephoneNumbers
    "00200010",  # StudyID
)
NAME_TAGS = (
    "00080090",  # ReferringPhysicianName
    "00081048",  # PhysiciansOfRecord
    "00081050",  # PerformingPhysicianName
    "00081070",  # OperatorsName
    "00100010",  # PatientName
    "00101001",  # OtherPatientNames
    "00101005",  # PatientBirthName
)
BIRTH_DATE_TAG = "00100030"
"""Attributes whose values are masked wherever they appear (PS3.6)."""

# a component group has 64 characters at most (PS3.5 6.2); the bound also keeps the search linear
_PERSON_NAME = re.compile(r"(?<!\w)[^\W\d_][\w'.\-]{0,64}\^[\w'.\-^=]*")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
_UNREADABLE = re.compile(f"{masks.UNREADABLE}+")


class LogFilter:
    """Masks in a line what may be about the patient of a payload."""

    def __init__(self, payload: Payload, series_tags: SeriesTags | None = None):
        self._known = masks.any_of(_known_patterns(payload, series_tags or {}))

    def __call__(self, line: str) -> str:
        line = unicodedata.normalize("NFC", line.replace("\t", "  "))
        line = _cut(_UNREADABLE.sub(masks.UNREADABLE, _UNPRINTABLE.sub(" ", line)))
        # strangers first: their pattern goes by the "^" of a name, of which the others may take a part
        line = _PERSON_NAME.sub(MASK, line)
        if self._known:
            line = self._known.sub(MASK, line)
        return masks.DATES.sub(MASK, line)


def _cut(line: str) -> str:
    """The first words of a long line: a word that is cut in two would not be recognised."""
    if len(line) <= MAX_LINE_CHARACTERS:
        return line
    return f"{line[:MAX_LINE_CHARACTERS].rpartition(' ')[0]} ..."


def _known_patterns(payload: Payload, series_tags: SeriesTags) -> Iterator[masks.Mask]:
    patient = payload.patient
    for name in {patient.name, *_values(series_tags, *NAME_TAGS, *(tag + OTHER_GROUPS for tag in NAME_TAGS))}:
        yield from masks.of_name(name or "")
    for text in {patient.id, *_values(series_tags, *TEXT_TAGS)}:
        yield from masks.of_text(text or "")
    for date in {patient.dob, *_values(series_tags, BIRTH_DATE_TAG)}:
        yield from masks.of_text(date or "")
        yield from masks.of_birth_date(date or "")


def _values(series_tags: SeriesTags, *wanted: str) -> Iterator[str]:
    for tags in series_tags.values():
        for tag in wanted:
            yield from _texts(tags.get(tag, ()))


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, list):
            yield from _texts(value)
        elif isinstance(value, str):
            yield value


class StoredLog:
    """The whole log as a file of the store, written line by line, so that it can be read while the task runs.

    Only its owner and their group may read it: unlike received files, no application has to.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # an older try's process, if it still lives, goes on writing to the file it has open, not to this one
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._file = open(fd, "wb", buffering=BUFFER_BYTES)  # noqa: SIM115 - closed by close()
        self._closed = threading.Event()
        threading.Thread(target=self._flush, name="log-flush", daemon=True).start()
        self._left = MAX_LOG_BYTES
        self._last: deque[bytes] = deque()
        self._last_bytes = self._left_out = 0

    def line(self, line: bytes) -> None:
        if not line.endswith(b"\r"):
            line += b"\n"
        if self._left > 0:
            self._left -= len(line)
            if self._left > 0:
                self._file.write(line)
                return
        self._last.append(line)
        self._last_bytes += len(line)
        while len(self._last) > STORED_TAIL_LINES or self._last_bytes > STORED_TAIL_BYTES:
            dropped = len(self._last.popleft())
            self._last_bytes -= dropped
            self._left_out += dropped

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        if self._left_out:
            limit = f"the log is longer than {MAX_LOG_BYTES} bytes"
            self._file.write(f"[airflow-monai: {limit}; {self._left_out} bytes are left out here]\n".encode())
        self._file.write(b"".join(self._last))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _flush(self) -> None:
        """A flood is written in large pieces, and yet the last line is there soon."""
        while not self._closed.wait(FLUSH_SECONDS):
            with contextlib.suppress(OSError, ValueError):  # the next line will tell, or it is closed just now
                self._file.flush()


class TaskLog:
    """The filtered form of a log for the task log, bounded in rate and in all.

    :param mode: ``filtered`` (lines as they come), ``tail`` (the last ones, after a failure) or ``none``.
    :param emit: writes one line to the task log.
    :param whole: where the whole log is, for notes.
    """

    def __init__(self, mode: str, log_filter: LogFilter, emit: Callable[[str], None], whole: str):
        self.mode, self._filter, self._emit, self._whole = mode, log_filter, emit, whole
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._shown = 0
        self._dropped = 0
        self._allowance = float(BURST_LINES)
        self._refilled = time.monotonic()
        self._bar_shown = -math.inf

    def line(self, raw: bytes) -> None:
        if raw.endswith(b"\r"):
            self._bar(raw)
            return
        self._tail.append(raw)
        if self.mode != "filtered":
            return
        if self._may_show():
            self._tell_dropped()
            self._emit(self._filter(_text(raw)))
        else:
            self._dropped += 1

    def _bar(self, raw: bytes) -> None:
        """One that overwrites itself: now and then, and never among the last lines, which it would crowd out."""
        now = time.monotonic()
        if self.mode == "filtered" and now - self._bar_shown >= BAR_SECONDS and self._may_show():
            self._bar_shown = now
            self._emit(self._filter(_text(raw.rstrip(b"\r"))))

    def filtered_tail(self) -> tuple[str, ...]:
        """The last lines, filtered; none where the site shows nothing of the log."""
        return () if self.mode == "none" else tuple(self._filter(_text(line)) for line in self._tail)

    def close(self, *, failed: bool) -> None:
        """Tell what was left out; after a failure also the last lines, where they were not shown."""
        unseen = self.mode == "tail" or self._dropped > 0
        self._tell_dropped()
        if failed and unseen and self.mode != "none":
            self._emit("The last lines of the application:")
            for line in self.filtered_tail():
                self._emit(line)

    def _may_show(self) -> bool:
        now = time.monotonic()
        self._allowance = min(BURST_LINES, self._allowance + (now - self._refilled) * LINES_A_SECOND)
        self._refilled = now
        if self._shown >= MAX_TASK_LINES or self._allowance < 1:
            return False
        self._allowance -= 1
        self._shown += 1
        return True

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._emit(f"[{self._dropped} lines left out here; the store has the whole log: {self._whole}]")
            self._dropped = 0


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
