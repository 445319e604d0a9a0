"""What a gateway tells: the whole vocabulary in one enum, as JSON lines in a file and as log lines."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_monai.failures import internal_error

log = logging.getLogger("airflow_monai.gateway")
_UID = re.compile(r"(?<![0-9.])(?:[0-2](?:\.[0-9]+){5,}|2\.25\.[0-9]{6,})(?:\.[0-9]+)*")  # an address has fewer numbers


def without_uids(text: str) -> str:
    """What a store or the system says, without the UIDs of studies and images in its paths."""
    return _UID.sub("<uid>", text)


class _WithoutUids(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_uids(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = without_uids(logging.Formatter().formatException(record.exc_info))
        return True


log.addFilter(_WithoutUids())


def log_internal(what: str, error: BaseException) -> None:
    """Log an error that nobody foresaw, without what its message may quote."""
    log.error("%s", internal_error(what, error))


TELL_AGAIN_SECONDS = 300.0


class EventKind(str, Enum):
    """Everything that can be told. Payloads are named by their id; nothing of a patient is ever in an event."""

    GATEWAY_STARTED = "gateway-started"  # host, port, ae_titles
    GATEWAY_STOPPED = "gateway-stopped"
    WORKFLOWS_CHANGED = "workflows-changed"  # ae_titles, problems, kept: bad files that are used as they were
    ASSOCIATION_REJECTED = "association-rejected"  # called_aet, calling_aet, peer, reason
    ASSOCIATION_ABORTED = "association-aborted"  # called_aet, calling_aet, peer, reason
    # called_aet, calling_aet, peer, images, refused, bytes, seconds, keep_ms: to make an image durable, on average
    ASSOCIATION_ENDED = "association-ended"
    CONNECTION_FAILED = "connection-failed"  # peer, reason: it did not come to an association
    RECEIVER_DIED = "receiver-died"  # number: of the receiving process, which is replaced
    IMAGE_RECEIVED = "image-received"  # payload_id, count: of this second
    DUPLICATE_RECEIVED = "duplicate-received"  # payload_id, count, of this second
    DUPLICATE_DIFFERS = "duplicate-differs"  # payload_id, count: same SOP Instance UID, other content; not kept
    IMAGE_REFUSED = "image-refused"  # called_aet, calling_aet, status, reason
    PATIENT_UNKNOWN = "patient-unknown"  # payload_id, called_aet: grouped by study, since its images name no patient
    STUDY_COMPLETE = "study-complete"  # payload_id, called_aet, images, series, sequence, grouping; includes: payloads
    LATE_IMAGES = "late-images"  # payload_id, follows: a closed payload, images; new_payload, ignore, rerun: workflows
    UNROUTED = "unrouted"  # payload_id, reasons
    RUN_CREATED = "run-created"  # payload_id, dag_id, run_id, was_there
    RUN_WAITING = "run-waiting"  # payload_id, dag_id, reason
    RUN_NOT_STARTED = "run-not-started"  # payload_id, dag_id, reason: it is tried no more
    FILES_TAKEN = "files-taken"  # way, called_aet, calling_aet, images, duplicates, passed_over, payload_ids
    FILES_REFUSED = "files-refused"  # way, called_aet, calling_aet, count
    FILES_WAITING = "files-waiting"  # way, called_aet, reason
    BROKER_CONNECTED = "broker-connected"  # broker
    BROKER_LOST = "broker-lost"  # broker, reason
    REQUEST_TAKEN = "request-taken"  # payload_id, correlation_id: a message asked for it, and its files are here
    MESSAGE_REFUSED = "message-refused"  # topic, message_id, reason: it is a dead letter now
    MESSAGE_WAITING = "message-waiting"  # topic, reason
    PAYLOAD_WAITING = "payload-waiting"  # payload_id, reason
    TELLING_WAITS = "telling-waits"  # channel, reason: a handler or the broker is away; without a channel: all wait
    TELLING_GIVEN_UP = "telling-given-up"  # channel, count, reason: so many events are told it no more
    PAYLOAD_DELETED = "payload-deleted"  # payload_id, by: who wanted it, images
    DELETION_WAITING = "deletion-waiting"  # payload_id, reason


_WARNINGS = frozenset(
    {
        EventKind.ASSOCIATION_REJECTED,
        EventKind.ASSOCIATION_ABORTED,
        EventKind.CONNECTION_FAILED,
        EventKind.RECEIVER_DIED,
        EventKind.DUPLICATE_DIFFERS,
        EventKind.IMAGE_REFUSED,
        EventKind.PATIENT_UNKNOWN,
        EventKind.UNROUTED,
        EventKind.RUN_WAITING,
        EventKind.RUN_NOT_STARTED,
        EventKind.PAYLOAD_WAITING,
        EventKind.TELLING_WAITS,
        EventKind.TELLING_GIVEN_UP,
        EventKind.DELETION_WAITING,
        EventKind.FILES_REFUSED,
        EventKind.FILES_WAITING,
        EventKind.BROKER_LOST,
        EventKind.MESSAGE_REFUSED,
        EventKind.MESSAGE_WAITING,
    }
)


class EventLog:
    """Writes events. Safe for threads; of several gateways that append to one file each line stays whole.

    :param file: gets one JSON object a line, or None for the log only.
    """

    def __init__(self, file: Path | None = None):
        self._file = file
        self._lock = threading.Lock()
        self._counts: Counter[tuple[EventKind, str]] = Counter()
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)

    def emit(self, kind: EventKind, **fields: Any) -> None:
        self.flush()
        self._write(kind, fields)

    def count(self, kind: EventKind, payload_id: str) -> None:
        """Tell of one more image with the next :meth:`flush`, or before the next event."""
        with self._lock:
            self._counts[kind, payload_id] += 1

    def flush(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for (kind, payload_id), count in counts.items():
            self._write(kind, {"payload_id": payload_id, "count": count})

    def _write(self, kind: EventKind, fields: dict[str, Any]) -> None:
        text = " ".join(f"{name}={_readable(value)}" for name, value in fields.items())
        log.log(logging.WARNING if kind in _WARNINGS else logging.INFO, "%s %s", kind.value, text)
        if not self._file:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = without_uids(json.dumps({"time": now, "event": kind.value, **fields})) + "\n"
        try:
            with self._lock, open(self._file, "ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as error:  # a full disk must not stop the gateway
            log.error("cannot write the event file: %s", error.strerror)


class Reasons:
    """Tells why something waits: a reason when it is new, and then every five minutes. Safe for threads."""

    def __init__(self, events: EventLog):
        self._events = events
        self._told: dict[tuple[EventKind, tuple[str, ...]], tuple[str, float]] = {}

    def tell(self, kind: EventKind, reason: str, **what: str) -> None:
        key = kind, tuple(what.values())
        told, when = self._told.get(key, ("", 0.0))
        if reason != told or time.monotonic() - when > TELL_AGAIN_SECONDS:
            self._told[key] = (reason, time.monotonic())
            self._events.emit(kind, **what, reason=reason)

    def over(self, kind: EventKind, **what: str) -> None:
        """It waits no more; the next reason is new."""
        self._told.pop((kind, tuple(what.values())), None)


def _readable(value: Any) -> str:
    plain = isinstance(value, str) and " " not in value and value.isprintable()
    return value if plain else json.dumps(value)
