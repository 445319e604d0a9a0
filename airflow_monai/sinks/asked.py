"""Deliveries that others carry out when they are asked to, and tell of later.

An export task asks in rounds. What a round asks for is in the store before anybody is asked, under ids that follow from
the task and the round, so that a try after a crash asks the same again, or not at all when it knows that it has asked.
The next round begins when the task has heard of the one before, and asks for what was missing then.

    .../<task>/g<N>.export-<sink>-<round>.json             what was asked for: path, as they are told it -> identity
    .../<task>/g<N>.export-<sink>-<round>-published.json   they have been asked
    .../<task>/g<N>.export-<sink>-<round>-answer.json      what became of it
    .../<task>/g<N>.export-<sink>-<round>-told.json        the export task has heard it
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_monai.broker.events import ExportStatus, FileExportStatus
from airflow_monai.errors import SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance, OnResult, Sink
from airflow_monai.sinks.order import ExportOrder
from airflow_monai.store.answers import AnswerKind, Awaited, await_answer
from airflow_monai.store.base import safe_name

POLL_SECONDS = 1.0
_FINAL = (FileExportStatus.CONFIGURATION_ERROR, FileExportStatus.UNSUPPORTED_DATA_TYPE)
"""What another attempt would not change."""


@dataclass(frozen=True, slots=True)
class Round:
    """One request.

    :param files: path of a file, as those who are asked know it -> identity of the instance.
    """

    number: int
    name: str
    files: Mapping[str, str]


class AskedSink(Sink):
    """Asks others to deliver the instances.

    :ivar waits: whether a delivery is what they tell of; otherwise having asked is enough.
    :ivar wait_seconds: how long one try waits for the answer.
    """

    verifications = ("none",)
    leads_to_dicom = True
    asks_by = ""
    """How they are asked, for messages."""

    def __init__(self, destination: Destination):
        super().__init__(destination)
        self.dicom_only = not destination.flag("any_file")
        self.waits = destination.flag("wait", True)
        self.wait_seconds = destination.number("wait_minutes", 30, 0.01, 10_000) * 60

    @abstractmethod
    def place(self, order: ExportOrder, instances: Sequence[Instance]) -> Mapping[str, str]:
        """Put the files where those who are asked can fetch them: path, as they know it -> identity."""

    @abstractmethod
    def request(self, order: ExportOrder, rounds: Sequence[Round]) -> Iterator[Round]:
        """Ask for these, one after the other; each that has been asked for durably is given back."""

    def look(self, order: ExportOrder, round_: Round) -> None:
        """Called again and again while the answer is waited for."""

    def identity(self, instance: Instance) -> str:
        return instance.sop_instance_uid or safe_name(instance.name)

    def ask(self, instances: Sequence[Instance]) -> Mapping[str, bool] | None:
        """What this task has asked for before and was told to be exported, of which the ledger does not know: an
        earlier generation had given up when it was, or a try was killed before it had entered it."""
        if self.order is None:
            return None
        wanted = {self.identity(instance) for instance in instances}
        note = "answer" if self.waits else "published"
        found: dict[str, bool] = {}
        for number in range(1, self.order.generation + 1):
            order = replace(self.order, generation=number)
            for round_ in self._rounds(order):
                known = [identity for identity in round_.files.values() if identity in wanted]
                if known and order.store.exists(order.note_key(f"{round_.name}-{note}")):
                    verdicts = self._verdicts(order, round_, known)
                    found |= {one.identity: True for one in verdicts if one.state is DeliveryState.ACCEPTED}
        return found or None

    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        order = self.order
        if order is None:
            raise self.destination.error("only an export task can deliver there, since the answer comes later")
        missing = {self.identity(instance): instance for instance in instances}
        asked = [round_ for round_ in self._rounds(order) if self._is_open(order, round_)]
        covered = {identity for round_ in asked for identity in round_.files.values()}
        new = [instance for identity, instance in missing.items() if identity not in covered]
        if new:
            asked.append(self._begun(order, new))
        for identity in missing:
            on_result(Delivery(identity, DeliveryState.SENT))
        self._ask_for(order, asked)
        for round_ in asked:
            wanted = [identity for identity in round_.files.values() if identity in missing]
            for delivery in self._verdicts(order, round_, wanted):
                on_result(delivery)
            order.store.write_json(order.note_key(f"{round_.name}-told"), {"time": time.time()})

    def _rounds(self, order: ExportOrder) -> Iterator[Round]:
        """What this generation of the task has asked for so far."""
        number = 1
        while order.store.exists(order.note_key(self._name(number))):
            files = order.store.read_json(order.note_key(self._name(number)))["files"]
            yield Round(number, self._name(number), files)
            number += 1

    def _name(self, number: int) -> str:
        return f"export-{safe_name(self.destination.name)}-{number}"

    def _is_open(self, order: ExportOrder, round_: Round) -> bool:
        """Whether the task has not heard yet what became of it."""
        return not order.store.exists(order.note_key(f"{round_.name}-told"))

    def _begun(self, order: ExportOrder, instances: Sequence[Instance]) -> Round:
        """A new round, with its files in place."""
        number = 1 + sum(1 for _ in self._rounds(order))
        round_ = Round(number, self._name(number), dict(self.place(order, instances)))
        order.store.write_json(order.note_key(round_.name), {"files": dict(round_.files)})
        return round_

    def _ask_for(self, order: ExportOrder, rounds: Sequence[Round]) -> None:
        """Ask for what has not been asked for yet."""
        store = order.store
        new = [item for item in rounds if not store.exists(order.note_key(f"{item.name}-published"))]
        for round_ in new if self.waits else ():
            await_answer(store, AnswerKind.EXPORT, self.ids(order, round_), Awaited(self.waiting(order, round_)))
        for round_ in self.request(order, new) if new else ():
            store.write_json(order.note_key(f"{round_.name}-published"), {"time": time.time()})

    def ids(self, order: ExportOrder, round_: Round) -> tuple[str, str]:
        """By which the answer tells what it is about: workflow instance and export task."""
        return order.workflow_instance_id, order.task_guid(round_.name)

    def waiting(self, order: ExportOrder, round_: Round) -> Any:
        return order.waiting(f"{round_.name}-answer")

    def _verdicts(self, order: ExportOrder, round_: Round, wanted: Sequence[str]) -> Iterator[Delivery]:
        """What became of the instances of a round."""
        if not self.waits:
            for identity in wanted:
                yield Delivery(identity, DeliveryState.ACCEPTED, message="asked for; no answer is waited for")
            return
        answer = self._answer(order, round_)
        paths = {identity: path for path, identity in round_.files.items()}
        for identity in wanted:
            yield _verdict(identity, paths[identity], answer)

    def _answer(self, order: ExportOrder, round_: Round) -> Mapping[str, Any]:
        """The answer, once it is in the store.

        :raises SinkUnavailable: when it does not come in time; another try goes on waiting for it.
        """
        key = order.note_key(f"{round_.name}-answer")
        end = time.monotonic() + self.wait_seconds
        while not order.store.exists(key):
            self.look(order, round_)
            if time.monotonic() > end:
                raise SinkUnavailable(
                    f"{self.destination.name}: no answer to {self.asks_by} came within {self.wait_seconds / 60:g} "
                    "minutes. Another try waits on, and asks for nothing twice."
                )
            self.deadline.pause(POLL_SECONDS)
        return order.store.read_json(key)["body"]


def _verdict(identity: str, path: str, answer: Mapping[str, Any]) -> Delivery:
    """What an answer says of one file."""
    whole = ExportStatus(answer["status"])
    comment = str(answer.get("message") or "")
    said = answer["files"].get(path) or answer["files"].get(path.lstrip("/"))
    if said is None:
        if whole is ExportStatus.SUCCESS:
            return Delivery(identity, DeliveryState.ACCEPTED, message="the far side has exported all")
        state = DeliveryState.REFUSED if whole is ExportStatus.FAILURE else DeliveryState.UNKNOWN
        message = f"the far side says {whole.value}, and nothing of this file"
        return Delivery(identity, state, message=message, comment=comment, retry=True)
    status = FileExportStatus(said)
    if status is FileExportStatus.SUCCESS:
        return Delivery(identity, DeliveryState.ACCEPTED, message="the far side has exported it")
    message = f"the far side says {status.value}"
    return Delivery(identity, DeliveryState.REFUSED, message=message, comment=comment, retry=status not in _FINAL)
