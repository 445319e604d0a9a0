"""DICOMweb STOW-RS (PS3.18 section 10.5), with a verdict on every instance, and QIDO-RS (10.6) to ask what is there."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from airflow_monai.errors import DestinationError, MonaiError, SinkUnavailable
from airflow_monai.sinks import tries
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance, OnResult, Sink
from airflow_monai.sinks.crew import Crew, Stopped
from airflow_monai.sinks.web.multipart import MultipartBody
from airflow_monai.sinks.web.qido import Query
from airflow_monai.sinks.web.site import AnswerLost, HttpSite, Upload
from airflow_monai.sinks.web.stow_answer import Judged, judged

log = logging.getLogger(__name__)

_ACCEPT = "application/dicom+json, application/dicom+xml;q=0.5"
Identity = str


class StowSink(Sink):
    """Sends to a DICOMweb server, several instances a request and several requests at a time.

    The connection is an HTTP one, see :class:`airflow_monai.sinks.web.site.HttpSite`. More extras:
    ``instances_per_request`` (20) and ``mb_per_request`` (25; an instance that is larger has a request of its own),
    ``connections`` (2), ``query`` (true): whether QIDO-RS at the same address may be used to ask what is there, and
    ``resend_changed`` (false): send new content under a SOP Instance UID that the server has accepted before.
    """

    dicom_only = True

    def __init__(self, destination: Destination):
        super().__init__(destination)
        self.connections = int(destination.number("connections", 2, 1, 32))
        self.most_instances = int(destination.number("instances_per_request", 20, 1, 1000))
        self.most_bytes = destination.number("mb_per_request", 25, 0.001, 4000) * 1e6
        self.site = HttpSite(destination, connections=self.connections)
        self.query = Query(self.site) if destination.flag("query", True) else None

    def identity(self, instance: Instance) -> Identity:
        return str(instance.sop_instance_uid)

    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        with self.site:
            _Sending(self, instances, on_result).run()

    def ask(self, instances: Sequence[Instance]) -> Mapping[Identity, bool] | None:
        with self.site:
            return self.found(instances)

    def found(self, instances: Sequence[Instance]) -> Mapping[Identity, bool] | None:
        """As :meth:`ask`, and leaves the connections open."""
        return self.query.found(instances, self.deadline) if self.query is not None else None

    def count(self, study_instance_uid: str) -> int | None:
        with self.site:
            return self.query.count(study_instance_uid, self.deadline) if self.query is not None else None

    def test(self) -> str:
        with self.site:
            if self.query is not None:
                return self.query.test(self.deadline)
            answer = self.site.send("OPTIONS", "/studies", deadline=self.deadline)
        verdict = judged(answer, ["-"])
        if verdict.problem and answer.status not in (405, 501):
            raise self.destination.error(verdict.problem)
        return f"{self.site} answers (HTTP {answer.status}). Whether it stores is only seen when something is sent."


class _Sending(Crew):
    """One call of :meth:`StowSink.send`."""

    def __init__(self, sink: StowSink, instances: Sequence[Instance], on_result: OnResult):
        super().__init__(sink, str(sink.site), instances, on_result, sink.connections)
        self._sink = sink
        self._most_bytes = sink.most_bytes

    def next_batch(self) -> list[Instance]:
        batch: list[Instance] = []
        size = 0
        while self.left and len(batch) < self._sink.most_instances:
            size += _size(self.left[0])
            if batch and size > self._most_bytes:
                break
            batch.append(self.left.popleft())
        return batch

    def deliver(self, batch: Sequence[Instance]) -> None:
        work = deque([(list(batch), 0)])
        while work:
            instances, tried = work.popleft()
            verdict, wait_seconds = self._request(instances)
            pause = max(tries.pause_after(tried), wait_seconds)
            verdicts, paused = self._resolved(instances, verdict, pause)
            self.count(news for uid, news in verdicts.items() if not _is_for_company(uid, news, verdict))
            again = [one for one in instances if verdicts[one.sop_instance_uid or ""].retry]
            smaller = [one for one in again if one.sop_instance_uid in verdict.in_smaller]
            work.extend((half, tried) for half in _halves(smaller))
            same = [one for one in again if one.sop_instance_uid not in verdict.in_smaller]
            if same and tried + 1 < tries.TRIES:
                if not paused:
                    log.warning("%s; trying again in %g s", verdicts[str(same[0].sop_instance_uid)].message, pause)
                    self.pause(pause)
                work.append((same, tried + 1))

    def _request(self, instances: Sequence[Instance]) -> tuple[Judged, float]:
        """One request, and how long the server wants us to wait then; every instance is reported on."""
        uids = [str(one.sop_instance_uid) for one in instances]
        body = MultipartBody([one.path for one in instances], "application/dicom")
        upload = Upload(body.content_type, body.length, lambda: self._pieces(body))
        self.check()
        for uid in uids:
            self.tell(Delivery(uid, DeliveryState.SENT))
        try:
            answer = self._sink.site.send(
                "POST", "/studies", deadline=self.deadline, headers={"Accept": _ACCEPT}, upload=upload
            )
        except AnswerLost as error:
            return self._told(uids, DeliveryState.UNKNOWN, str(error)), 0.0
        except SinkUnavailable as error:
            return self._told(uids, DeliveryState.PENDING, str(error)), 0.0
        except (MonaiError, Stopped) as error:
            unsent = isinstance(error, DestinationError)  # of the login, or of the server's certificate
            said = "the sending was ended before there was an answer"
            self._told(uids, DeliveryState.PENDING if unsent else DeliveryState.UNKNOWN, said)
            raise
        verdict = judged(answer, uids)
        if answer.status == 413 and len(uids) > 1:
            self._most_bytes = min(self._most_bytes, body.length / 2)
        for uid in uids:
            if uid not in verdict.claimed:
                self.tell(verdict.verdicts[uid])
        if verdict.problem:
            raise self._sink.destination.error(verdict.problem)
        return verdict, answer.retry_after

    def _pieces(self, body: MultipartBody) -> Iterator[bytes]:
        for piece in body.pieces():
            self.piece(len(piece))
            yield piece

    def _resolved(
        self, instances: Sequence[Instance], verdict: Judged, pause: float
    ) -> tuple[Mapping[Identity, Delivery], bool]:
        """The verdicts, after queries for what is claimed or unknown; and whether there was a pause before one."""
        verdicts = dict(verdict.verdicts)
        claimed = [one for one in instances if one.sop_instance_uid in verdict.claimed]
        for news in self._confirmed(claimed, verdicts):
            verdicts[news.identity] = self.tell(news)
        unknown = [one for one in instances if verdicts[str(one.sop_instance_uid)].state is DeliveryState.UNKNOWN]
        if not unknown:
            return verdicts, False
        log.warning("%s; asking what is there in %g s", verdicts[str(unknown[0].sop_instance_uid)].message, pause)
        self.pause(pause)
        found = self._asked(unknown) or {}
        for uid in (str(one.sop_instance_uid) for one in unknown):
            if found.get(uid):
                message = f"there, as a query shows ({verdicts[uid].message})"
                # that is all we know of it: where other content was sent before, the ledger takes it for no proof
                verdicts[uid] = self.tell(
                    replace(verdicts[uid], state=DeliveryState.ACCEPTED, message=message, retry=False, verified=True)
                )
        return verdicts, True

    def _confirmed(self, claimed: Sequence[Instance], verdicts: Mapping[Identity, Delivery]) -> Iterator[Delivery]:
        """What is known of instances that the server says to have without naming them: accepted, unless it can be asked
        and does not find them."""
        found = self._asked(claimed)
        for uid in (str(one.sop_instance_uid) for one in claimed):
            if found is None or found.get(uid):
                how = "it cannot be asked what is there" if found is None else "a query confirms it"
                message = f"HTTP 200 without a list of instances; {how}"
                yield Delivery(uid, DeliveryState.ACCEPTED, "HTTP 200", message)
            else:
                yield replace(verdicts[uid], message="HTTP 200 without a list of instances; a query does not find it")

    def _asked(self, instances: Sequence[Instance]) -> Mapping[Identity, bool] | None:
        if not instances:
            return {}
        try:
            return self._sink.found(instances)
        except SinkUnavailable as error:
            log.warning("%s", error)
            return None

    def _told(self, uids: Sequence[str], state: DeliveryState, message: str) -> Judged:
        """The same news of all."""
        message = message.rstrip(".")
        return Judged({uid: self.tell(Delivery(uid, state, message=message, retry=True)) for uid in uids})


def _is_for_company(uid: Identity, news: Delivery, verdict: Judged) -> bool:
    """Whether it was refused only together with others: that is no setback, because the server answers as it should."""
    return uid in verdict.in_smaller and news.state is DeliveryState.REFUSED


def _size(instance: Instance) -> int:
    try:
        return instance.path.stat().st_size
    except OSError:
        return 0  # it is told when it is read


def _halves(instances: Sequence[Instance]) -> list[list[Instance]]:
    if not instances:
        return []
    middle = (len(instances) + 1) // 2
    parts = [list(islice(instances, middle)), list(islice(instances, middle, None))]
    return [part for part in parts if part]
