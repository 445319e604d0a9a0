"""One delivery to one destination, from what the ledger knows to a verdict on every instance.

What the ledger holds as accepted is not sent. What was sent and never answered is asked for where the destination can
be asked, and sent again where not. What the destination accepted is verified, where its connection says so, and sent
once more when it is not there.

New content under a UID that was accepted before is refused here, unless the connection says ``resend_changed``: many a
node keeps the old content and answers success, and nobody would know which one it has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from airflow_monai.errors import DeadlinePassed, MonaiError, SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Instance, Sink
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.ledger.pages import Entry, Ledger, unanswered
from airflow_monai.sinks.ledger.recorder import Recorder, enter
from airflow_monai.sinks.report import SinkReport

log = logging.getLogger(__name__)

ROUNDS = 2
"""How often a task sends what it then does not find at the destination."""
LOOKS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each look at whether the destination has it: some enter it into their index a little later."""
FINAL_SHARE, FINAL_SECONDS = 0.1, 30.0
"""So much of the time is kept for asking, at the end, for what was not answered."""

_HINT = "new results need new UIDs, or set resend_changed in the extra if the far side replaces what it has"
OTHER_THERE = f"other content was accepted there under this UID before: {_HINT}"
OTHER_MAY_BE_THERE = f"other content was sent there under this UID before, and may have arrived: {_HINT}"
NOT_KNOWN_YET = "other content was sent there under this UID before, and whether it arrived cannot be asked for now"

OnResult = Callable[[Delivery], None]


class DeliveryTime:
    """The time that a delivery may take.

    :param seconds: from now; 0 or less when none is left.
    :param told: what the deadline is, for the error's text.
    """

    def __init__(self, seconds: float, told: str):
        self.whole = Deadline(seconds, told)
        self.sending = Deadline(seconds - min(FINAL_SHARE * max(seconds, 0), FINAL_SECONDS), told)


class Deliverer:
    """Delivers instances to one sink.

    :param instances: identity -> instance.
    :param report: is filled as the delivery goes on, so that it is right whatever ends it.
    :param task: ``<dag>/<run>/<task>``.
    :param before_request: called before each request and entry; what it raises ends the delivery.
    :param on_news: called with all news before they are entered; what it raises ends the delivery.
    """

    def __init__(
        self,
        sink: Sink,
        instances: Mapping[str, Instance],
        ledger: Ledger,
        report: SinkReport,
        *,
        task: str,
        before_request: Callable[[], None],
        on_news: OnResult = lambda news: None,
        time: DeliveryTime | None = None,
    ):
        self._sink = sink
        self._instances = instances
        self._ledger = ledger
        self._report = report
        self._task = task
        self._before_request = before_request
        self._on_news = on_news
        self._time = time
        self._known: dict[str, Entry] = {}  # read once: a ledger in a bucket is many requests
        self._digests = {identity: instance.digest for identity, instance in instances.items()}
        self._barred: set[str] = set()  # under their names other content is there, or may be

    def run(self) -> None:
        """Deliver; the verdicts are in the report, also when this raises.

        :raises SinkUnavailable: the destination is out of reach, or stopped answering.
        :raises DeadlinePassed: the time is over.
        :raises DestinationError: the destination is not set up as it must be.
        """
        self._known = self._ledger.known(self._instances)
        self._begin(self._known)
        if self._time is not None:
            self._sink.deadline = self._time.sending
        try:
            if self._missing() or self._unverified():
                self._sink.deadline.check()
                self._bar_what_may_be_there()
                self._resolve()
                self._deliver()
        except (SinkUnavailable, DeadlinePassed):
            self._resolve_at_the_end()
            raise

    def _deliver(self) -> None:
        for _ in range(ROUNDS):
            if missing := self._missing():
                self._send(missing)
            if any(news.state is DeliveryState.UNKNOWN for news in self._report.verdicts.values()):
                self._resolve()
            if self._verify():
                return

    def _begin(self, known: Mapping[str, Entry]) -> None:
        """What is accepted already, and what is to be sent."""
        verdicts = self._report.verdicts
        other = [key for key, item in self._instances.items() if _is_other(known.get(key), item)]
        if other and self._sink.resends_changed:
            log.warning(
                "%s has accepted other content under the names of %d of these instances before. They are sent; whether "
                "it puts them in place of those, or keeps what it has, is up to it",
                self._sink.destination.name,
                len(other),
            )
        for identity, instance in self._instances.items():
            entry = known.get(identity)
            verdicts[identity] = Delivery(identity, DeliveryState.PENDING, retry=True)
            if entry is None or entry.digest != instance.digest:
                continue
            if entry.state is DeliveryState.ACCEPTED:
                verdicts[identity] = Delivery(
                    identity, entry.state, entry.status, entry.message, verified=entry.verified
                )
                self._report.before += 1
            elif entry.is_unanswered:
                message = entry.message or "sent before, and no answer is known"
                verdicts[identity] = Delivery(identity, DeliveryState.UNKNOWN, message=message, retry=True)
            elif entry.state is DeliveryState.REFUSED:
                verdicts[identity] = Delivery(identity, entry.state, entry.status, entry.message, retry=True)
        if self._report.before:
            log.info(
                "%s had accepted %d of these before, which are not sent again. If it has lost them: airflow monai "
                "payloads resend %s --sink %s",
                *(self._ledger.sink, self._report.before, self._ledger.payload_id, self._ledger.sink),
            )
        if not self._sink.resends_changed:
            self._bar(other, OTHER_THERE)

    def _bar(self, identities: Iterable[str], message: str, *, retry: bool = False) -> None:
        """Send none of these; the ledger keeps what it says of the content that is there."""
        for identity in identities:
            self._barred.add(identity)
            self._report.verdicts[identity] = Delivery(identity, DeliveryState.REFUSED, message=message, retry=retry)

    def _bar_what_may_be_there(self) -> None:
        """Where other content was sent and never answered, the new goes only when the far side has none."""
        unclear = {
            identity: instance
            for identity, instance in self._instances.items()
            if (entry := self._known.get(identity)) and entry.may_be_there and entry.digest != instance.digest
        }
        if not unclear or self._sink.resends_changed:
            return
        self._before_request()
        try:
            found = self._sink.ask(list(unclear.values())) or {}
        except SinkUnavailable:
            self._bar(unclear, NOT_KNOWN_YET, retry=True)
            return
        self._bar((identity for identity in unclear if found.get(identity, True)), OTHER_MAY_BE_THERE)

    def _missing(self) -> dict[str, Instance]:
        failed = self._report.failed()
        return {key: item for key, item in self._instances.items() if key in failed and key not in self._barred}

    def _send(self, missing: Mapping[str, Instance]) -> None:
        digests = {identity: self._digests[identity] for identity in missing}
        recorder = Recorder(
            self._ledger, digests, task=self._task, before_request=self._before_request, known=self._known
        )

        def on_result(news: Delivery) -> None:
            self._on_news(news)
            recorder(news)

        try:
            with recorder:
                self._sink.send(list(missing.values()), on_result)
        finally:
            self._report.verdicts.update(recorder.verdicts)
            self._known.update(recorder.latest)

    def _resolve(self) -> None:
        """Ask for what was sent and never answered."""
        unclear = [self._instances[identity] for identity in unanswered(self._known, self._digests)]
        if not unclear:
            return
        self._before_request()
        try:
            found = self._sink.ask(unclear)
        except SinkUnavailable as error:  # who is asked may be another than who takes it
            log.warning("What was not answered cannot be asked for now, and is sent again: %s", error)
            return
        message = "an earlier attempt was not answered, but had arrived: it is there when asked for"
        self._enter(
            [
                Delivery(identity, DeliveryState.ACCEPTED, message=message, verified=True)
                for identity, is_there in (found or {}).items()
                if is_there
            ]
        )

    def _resolve_at_the_end(self) -> None:
        """As :meth:`_resolve` after a failure, in the time that was kept for it; the failure is what counts."""
        if self._time is not None:
            self._sink.deadline = self._time.whole
        try:
            self._resolve()
        except DeadlinePassed:
            log.warning("There was no time left to ask for what was not answered")

    def _unverified(self) -> dict[str, Instance]:
        if self._sink.verification == "none":
            return {}
        accepted = {key for key, news in self._report.verdicts.items() if news.state is DeliveryState.ACCEPTED}
        verdicts = self._report.verdicts
        return {key: item for key, item in self._instances.items() if key in accepted and not verdicts[key].verified}

    def _verify(self) -> bool:
        """Ask for what was accepted; False when some of it is not there and is to be sent again."""
        left = self._unverified()
        for pause in LOOKS if left else ():
            self._sink.deadline.pause(pause)
            self._before_request()
            found = self._sink.verify(list(left.values()))
            if found is None:
                raise self._sink.destination.error(
                    f"verify is {self._sink.verification!r}, but the far side cannot be asked that way; what it "
                    "accepted stays accepted"
                )
            there = [identity for identity in left if found.get(identity)]
            self._enter([replace(self._report.verdicts[identity], verified=True) for identity in there])
            left = {identity: item for identity, item in left.items() if identity not in there}
            if not left:
                return True
        message = "accepted, but not there when asked for"
        self._enter([Delivery(key, DeliveryState.UNKNOWN, message=message, retry=True) for key in left])
        return not left

    def _enter(self, news: list[Delivery]) -> None:
        if not news:
            return
        self._before_request()
        self._known.update(enter(self._ledger, news, self._digests, task=self._task, known=self._known))
        self._report.verdicts.update((delivery.identity, delivery) for delivery in news)


def _is_other(entry: Entry | None, instance: Instance) -> bool:
    """Whether the far side has accepted other content under this name."""
    return entry is not None and entry.state is DeliveryState.ACCEPTED and entry.digest != instance.digest


def told(report: SinkReport, error: MonaiError) -> None:
    """Note in the report what ended its delivery."""
    from airflow_monai.failures import kind_of

    report.problem, report.problem_kind = str(error), kind_of(error)
    report.overdue = isinstance(error, DeadlinePassed)
