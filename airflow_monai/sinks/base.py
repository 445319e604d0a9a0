"""What every sink shares: a destination, the instances to deliver, and the verdict on each of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_monai.errors import DestinationError
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.order import ExportOrder
from airflow_monai.sinks.throttle import Throttle


class DeliveryState(str, Enum):
    """How far the delivery of one instance to one sink has come."""

    PENDING = "pending"  # not sent yet
    SENT = "sent"  # the request is under way; after a crash nobody knows what became of it
    ACCEPTED = "accepted"  # the far side has said that it has it
    REFUSED = "refused"  # the far side has said no, and why
    UNKNOWN = "unknown"  # sent, but no answer came


@dataclass(frozen=True, slots=True)
class Instance:
    """One file to deliver.

    :param key: its store key.
    :param path: where it lies on this host.
    :param name: its name at a sink with file names: a relative path of safe parts.
    :param sop_instance_uid: SOP Instance UID (0008,0018), None for a file that is not DICOM.
    :param digest: SHA-256 of the file in hex, None for a received image (the store never changes those).
    :param study_instance_uid: and ``series_instance_uid``: what a far side is asked by; empty where not DICOM.
    """

    key: str
    path: Path
    name: str
    sop_instance_uid: str | None = None
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    digest: str | None = None
    study_instance_uid: str = ""
    series_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """News of one instance.

    :param identity: the instance's name in the ledger, see :meth:`Sink.identity`.
    :param status: the far side's own code (four hex digits of a DIMSE status), empty where there is none.
    :param message: what the code means, or why there is none; free of patient data.
    :param comment: the far side's own words, which may name a patient: for the ledger only, never for a log.
    :param retry: whether a later try may end differently.
    :param verified: the far side was asked after it had accepted the instance, and has it.
    """

    identity: str
    state: DeliveryState
    status: str = ""
    message: str = ""
    comment: str = ""
    retry: bool = False
    verified: bool = False


OnResult = Callable[[Delivery], None]


@dataclass(frozen=True, slots=True)
class Destination:
    """A named export destination: what its Airflow connection holds."""

    name: str
    conn_type: str
    host: str = ""
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold secrets, as the password does
    schema: str = ""
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def text(self, *keys: str, default: str = "") -> str:
        """The first of these extras that is set."""
        for key in keys:
            value = self.extra.get(key)
            if value not in (None, ""):
                return str(value).strip()
        return default

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.text(key, default=str(default)).lower()
        return value in ("1", "true", "yes", "on")

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """A number from the extras; :class:`DestinationError` when it is none, or out of its limits."""
        text = self.text(key, default=str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise self.error(f"{key} = {text!r} is not a number from {least:g} to {most:g}")
        return value

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """One of a few words from the extras; :class:`DestinationError` when it is none of them."""
        text = self.text(key, default=default).lower()
        if text not in choices:
            raise self.error(f"{key} = {text!r} is none of {', '.join(choices)}")
        return text

    def throttle(self) -> Throttle | None:
        """The bandwidth limit: extra ``max_mb_per_second`` (megabytes of 1,000,000 bytes), None without one."""
        if not self.text("max_mb_per_second"):
            return None
        return Throttle(self.number("max_mb_per_second", 0, 0.001, 100_000) * 1e6)

    def seconds(self, key: str, default: float) -> float:
        """A time-out from the extras; :class:`DestinationError` when it is not a number above 0."""
        text = self.text(key, default=str(default))
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < 86_400:
            raise self.error(f"{key} = {text!r} is not a time in seconds")
        return value

    def error(self, problem: str) -> DestinationError:
        return DestinationError(f"Destination {self.name}: {problem}. Correct the Airflow connection {self.name!r}.")


class Sink(ABC):
    """A place that instances are delivered to.

    Every sink keeps to its ``throttle`` (``take`` before each piece that it sends), where that is set, and to its
    ``deadline`` (``left`` for the time-out of a request, ``pause`` between attempts), which an export sets.
    ``resends_changed`` says whether new content may be sent under a name that was accepted before.

    :param destination: its connection; :class:`DestinationError` when that cannot be used.
    """

    dicom_only: bool = False
    leads_to_dicom: bool = False
    """Whether the DICOM files among others are to be looked at as for a DICOM node."""
    verifications: tuple[str, ...] = ("none", "query")
    """What the extra ``verify`` may say."""

    def __init__(self, destination: Destination):
        self.destination = destination
        self.verification = destination.choice("verify", "none", self.verifications)
        self.throttle: Throttle | None = destination.throttle()
        # a far side that goes by UIDs may keep the old content and answer success; other sinks compare it themselves
        by_uid = self.dicom_only or self.leads_to_dicom
        self.resends_changed = not by_uid or destination.flag("resend_changed")
        self.deadline = Deadline()
        self.order: ExportOrder | None = None  # set by export tasks, for sinks that are answered later

    @abstractmethod
    def identity(self, instance: Instance) -> str:
        """What tells this instance from all others at this sink; a file name."""

    @abstractmethod
    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        """Deliver the instances in order and report on each: ``SENT`` before the request, then the verdict.

        What ``on_result`` raises ends the sending at once.

        :raises SinkUnavailable: the far side cannot be reached or stopped answering; what was not reported on is
            still to be sent.
        :raises DestinationError: the far side does not want us at all; a retry would not change that.
        :raises DeadlinePassed: the time is over.
        """

    def ask(self, instances: Sequence[Instance]) -> Mapping[str, bool] | None:
        """Which of these the far side has now, by identity; None when it cannot be asked.

        An identity that is not in the answer is one that the far side was not clear about. Resolves what was sent and
        never answered, and verifies a delivery.

        :raises SinkUnavailable: it can be asked, but does not answer now.
        """
        return None

    def verify(self, instances: Sequence[Instance]) -> Mapping[str, bool] | None:
        """As :meth:`ask`, in the way that the connection's extra ``verify`` names."""
        return self.ask(instances)

    def count(self, study_instance_uid: str) -> int | None:
        """How many instances of a study the far side has; None when it cannot be asked.

        :raises SinkUnavailable: it can be asked, but does not answer now.
        """
        return None

    @abstractmethod
    def test(self) -> str:
        """Try the destination without delivering anything; what was found, in one line, else an error as above."""
