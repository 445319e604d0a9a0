"""Sees every payload through: waits until its images are all there, closes it, has it routed and its runs created.

All that it must remember is in the store: ``pending/`` names the payloads that are not finished, the files' times say
how long a study has been quiet. What is in memory only saves looking.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from airflow_monai.errors import StoreError
from airflow_monai.gateway.agenda import AFTER_AN_ERROR, Agenda, Step
from airflow_monai.intake.announcer import Announcer
from airflow_monai.intake.events import EventKind, EventLog, Reasons, log, log_internal
from airflow_monai.intake.workflows import Workflows
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.intake import CloseReason, Intake, OpenPayload, Placed

RESCAN_SECONDS = 10.0
ADOPTION_GRACE = 5.0
"""How much longer to wait for a payload of another gateway before closing it in its place."""
ARRIVING_SECONDS = 15.0
"""For how long another gateway's note that an image is coming in counts; it is written anew each few seconds."""
EMPTY_SECONDS = 86_400.0
"""After so long a payload that was opened and got no image is forgotten: its receiver died, or could not store it."""
_NOTE_AGAIN = 3.0
_LOOK_AGAIN = 0.5
_CLOSERS, _ANNOUNCERS = 2, 4  # Airflow's API server takes at most about four such requests at a time well


@dataclass(frozen=True, slots=True)
class Patience:
    """What ends the wait for more images besides the quiet time. 0: this does not.

    :param association_end_seconds: how long a study must have been quiet when its sender has ended the association.
    :param max_open_seconds: after so long a study is closed even though images go on coming.
    """

    association_end_seconds: float = 0.0
    max_open_seconds: float = 0.0


class Shepherd:
    """
    :param arriving: tells whether an image for this payload is just coming in.
    """

    def __init__(
        self,
        intake: Intake,
        workflows: Workflows,
        announcer: Announcer,
        events: EventLog,
        arriving: Callable[[OpenPayload], bool],
        patience: Patience = Patience(),
    ):
        self._intake = intake
        self._arriving = arriving
        self._patience = patience
        self._workflows = workflows
        self._announcer = announcer
        self._events = events
        self._reasons = Reasons(events)
        self._closing = Agenda("close", _CLOSERS, self._told(self._close_when_quiet))
        self._announcing = Agenda("announce", _ANNOUNCERS, self._told(self._announce))
        self._last: dict[str, float] = {}
        self._seen: dict[str, tuple[tuple[int, float], float]] = {}
        self._adopted: set[str] = set()
        self._name = uuid.uuid4().hex
        self._noted: dict[str, float] = {}  # when to note again that an image is coming in here
        self._heard: dict[str, tuple[tuple[str, float], float]] = {}  # such notes of others, and since when
        self._left: set[str] = set()  # whose sender has ended its association, and no image came since
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="rescan", daemon=True)

    def start(self) -> None:
        for payload_id in self._intake.pending():
            self._closing.add(payload_id)
        self._closing.start()
        self._announcing.start()
        self._watcher.start()

    def stop(self) -> None:
        self._stopped.set()
        self._closing.stop()
        self._announcing.stop()
        self._watcher.join(5)

    def received(self, placed: Placed, called_aet: str) -> None:
        """An image is durable."""
        if placed.duplicate:
            differs = placed.identical is False
            self._events.count(
                EventKind.DUPLICATE_DIFFERS if differs else EventKind.DUPLICATE_RECEIVED, placed.payload_id
            )
            return
        self._events.count(EventKind.IMAGE_RECEIVED, placed.payload_id)
        if placed.fell_back:
            self._events.emit(EventKind.PATIENT_UNKNOWN, payload_id=placed.payload_id, called_aet=called_aet)
        with self._lock:
            self._last[placed.payload_id] = time.monotonic()
            self._left.discard(placed.payload_id)
        if placed.payload_id not in self._closing:
            self._closing.add(placed.payload_id, self._workflows.quiet_seconds(called_aet))

    def whole(self, payload_id: str) -> None:
        """All of its images are there, says who brought them; the store knows it already."""
        self._closing.add(payload_id)
        self._closing.hurry(payload_id)

    def sender_left(self, payload_id: str) -> None:
        """An association that brought images of it has ended in good order: a hint that these are all, no more."""
        if self._patience.association_end_seconds:
            with self._lock:
                self._left.add(payload_id)
            self._closing.hurry(payload_id)

    def _watch(self) -> None:
        """Tell of images each second, and look after payloads that other gateways left behind."""
        rescan = time.monotonic() + RESCAN_SECONDS
        while not self._stopped.wait(1.0):
            self._events.flush()
            if time.monotonic() < rescan:
                continue
            rescan = time.monotonic() + RESCAN_SECONDS
            try:
                self._adopt()
            except StoreError as error:
                log.error("what other gateways left cannot be looked for, it is tried again: %s", error)
            except Exception as error:  # noqa: BLE001 - the edge of a thread; without it payloads would be forgotten
                log_internal("looking for what other gateways left, which is tried again", error)

    def _adopt(self) -> None:
        for payload_id in self._intake.pending():
            if payload_id not in self._closing and payload_id not in self._announcing:
                with self._lock:
                    self._adopted.add(payload_id)
                self._closing.add(payload_id, ADOPTION_GRACE)

    def _told(self, step: Step) -> Step:
        """The step, with an event for whatever stops it; the payload stays on the agenda."""

        def told(payload_id: str) -> float | None:
            try:
                return step(payload_id)
            except StoreError as error:
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - the edge of a thread; one payload must not be forgotten silently
                reason = f"internal error: {type(error).__name__}"
                log_internal(f"payload {payload_id}, which is tried again", error)
            self._reasons.tell(EventKind.PAYLOAD_WAITING, reason, payload_id=payload_id)
            return AFTER_AN_ERROR

        return told

    def _close_when_quiet(self, payload_id: str) -> float | None:
        state = self._intake.look(payload_id)
        if state is None or not (state.closing or state.images):
            self._forget(payload_id)
            self._intake.drop_empty(payload_id, EMPTY_SECONDS)
            return None  # its first receiver is just opening it, or died then
        verdict = self._verdict(state)
        if not isinstance(verdict, CloseReason):
            return verdict
        payload = self._intake.close(payload_id, verdict)
        delay = self._announcer.route(payload)
        if delay is not None:
            return delay
        if payload.is_late and self._announcer.wants_whole(payload_id):
            self._closing.add(self._intake.gather(payload))  # before this one is done: it is the one that remembers
        self._announcing.add(payload_id)
        self._forget(payload_id)
        return None

    def _verdict(self, state: OpenPayload) -> float | CloseReason:
        """How long to wait before looking again, or why it may be closed now."""
        if state.closing or state.last_received is None:
            return CloseReason.QUIET
        quiet, reason = self._workflows.quiet_seconds(state.called_aet), CloseReason.QUIET
        left = self._may_stay_open(state, quiet)
        if left <= 0:
            return CloseReason.OPEN_TOO_LONG
        if state.whole and state.grouping is not Grouping.PATIENT:  # a patient may have more studies than one
            wait, reason = 0.0, CloseReason.WHOLE
        else:
            with self._lock:
                sender_left = state.payload_id in self._left
            if sender_left and self._patience.association_end_seconds < quiet:
                quiet, reason = self._patience.association_end_seconds, CloseReason.ASSOCIATION_END
            wait = self._must_be_quiet(state, quiet)
        if wait > 0:
            return min(wait, left)
        return _LOOK_AGAIN if self._is_arriving(state) else reason

    def _is_arriving(self, state: OpenPayload) -> bool:
        """Whether an image of the payload is just coming in, here or at another gateway: a large one takes long."""
        payload_id, now = state.payload_id, time.monotonic()
        if self._arriving(state):
            with self._lock:
                due = now >= self._noted.get(payload_id, 0.0)
                if due:
                    self._noted[payload_id] = now + _NOTE_AGAIN
            if due:
                self._intake.note_arriving(payload_id, self._name)
            return True
        note = self._intake.arriving_note(payload_id)
        if not note or note[0] == self._name:
            return False
        with self._lock:
            seen, since = self._heard.get(payload_id, (None, 0.0))
            if seen != note:  # its time is of another clock: only that it changes tells something
                since = now
                self._heard[payload_id] = (note, since)
        return now - since < ARRIVING_SECONDS

    def _may_stay_open(self, state: OpenPayload, quiet: float) -> float:
        """For how many seconds more, whatever comes; never less than its quiet time in all."""
        if not self._patience.max_open_seconds or not state.opened:
            return float("inf")
        since = datetime.fromisoformat(state.opened).timestamp()
        return since + max(self._patience.max_open_seconds, quiet) - time.time()

    def _must_be_quiet(self, state: OpenPayload, quiet: float) -> float:
        """For how many seconds more; not above 0 when it has been quiet for long enough."""
        assert state.last_received is not None
        with self._lock:
            last = self._last.get(state.payload_id)
            grace = ADOPTION_GRACE if state.payload_id in self._adopted else 0.0
        idle = time.time() - state.last_received
        since = self._unchanged_since(state.payload_id, (state.images, state.last_received))
        if idle < 0:  # this host's clock was set back, or runs behind the store's: it tells nothing
            idle = time.monotonic() - since
        if last is not None:  # this process has seen the last image itself: no clock that was set can mislead it
            idle = min(idle, time.monotonic() - last)
        remaining = quiet + grace - idle
        return min(remaining, quiet + grace) + 0.01 if remaining > 0 else 0.0

    def _unchanged_since(self, payload_id: str, state: tuple[int, float]) -> float:
        """When this process first saw the payload as it is, on the clock that nobody sets."""
        with self._lock:
            seen, since = self._seen.get(payload_id, (None, 0.0))
            if seen != state:
                since = time.monotonic()
                self._seen[payload_id] = (state, since)
            return since

    def _forget(self, payload_id: str) -> None:
        with self._lock:
            self._seen.pop(payload_id, None)
            self._noted.pop(payload_id, None)
            self._heard.pop(payload_id, None)
            self._last.pop(payload_id, None)
            self._adopted.discard(payload_id)
            self._left.discard(payload_id)

    def _announce(self, payload_id: str) -> float | None:
        delay = self._announcer.announce(payload_id)
        if delay is None:
            self._intake.sweep(payload_id)
            self._intake.done(payload_id)
            self._reasons.over(EventKind.PAYLOAD_WAITING, payload_id=payload_id)
        return delay
