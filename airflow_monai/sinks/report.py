"""How the delivery to one destination went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_monai.failures import FailureKind
from airflow_monai.sinks.base import Delivery, DeliveryState


@dataclass(slots=True)
class SinkReport:
    """How the delivery to one destination went.

    :param verdicts: identity -> latest news, for every instance that was to be delivered.
    :param sop_uids: identity -> SOP Instance UID, for those that are DICOM.
    :param before: how many had been accepted by an earlier try.
    :param problem: why the delivery ended before all had a verdict; ``problem_kind``: the kind of that failure.
    :param overdue: its deadline has passed: the verdicts are final.
    """

    sink: str
    verdicts: dict[str, Delivery] = field(default_factory=dict)
    sop_uids: dict[str, str] = field(default_factory=dict)
    before: int = 0
    skipped: int = 0
    problem: str = ""
    problem_kind: FailureKind | None = None
    overdue: bool = False

    @property
    def complete(self) -> bool:
        return not self.problem and all(news.state is DeliveryState.ACCEPTED for news in self.verdicts.values())

    def failed(self) -> dict[str, Delivery]:
        return {key: news for key, news in self.verdicts.items() if news.state is not DeliveryState.ACCEPTED}

    def kinds(self) -> Iterator[FailureKind]:
        """Why it is not complete."""
        if self.problem_kind is not None:
            yield self.problem_kind
        for news in self.failed().values():
            # an instance that has not had its turn says nothing beside the problem
            if news.state is not DeliveryState.PENDING or self.problem_kind is None:
                yield FailureKind.CONNECTION if news.retry else FailureKind.REFUSED

    def __str__(self) -> str:
        counts = Counter(news.state.value for news in self.verdicts.values())
        text = ", ".join(f"{counts[state.value]} {state.value}" for state in DeliveryState if counts[state.value])
        reasons = Counter(news.message for news in self.failed().values() if news.message)
        parts = [text or "nothing delivered", *(f"{count} x {reason}" for reason, count in reasons.most_common(5))]
        return f"{self.sink}: {'; '.join([*parts, self.problem] if self.problem else parts)}"
