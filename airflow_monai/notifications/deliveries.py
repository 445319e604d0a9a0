"""What has become of the events that a receiver wants, for whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_monai.lifecycle.happening import Happening
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.outbox import Outcome, Place, Ref, Waiting
from airflow_monai.store.base import Store

_BATCHES = 500


class Deliveries:
    """
    :param wants: whether the receiver wants an event.
    """

    def __init__(self, store: Store, place: Place, wants: Callable[[Happening], bool]):
        self._journal = Journal(store)
        self._place = place
        self._wants = wants

    def failed(self) -> Iterable[Outcome]:
        """Given up, the latest first."""
        return reversed(self._place.given_up)

    def delivered(self) -> Iterable[Outcome]:
        """The latest first; not all."""
        return reversed(self._place.recent)

    def waiting(self) -> Iterator[tuple[Happening, Waiting, bool]]:
        """What was tried in vain, and what waits behind it: True for the first of an instance."""
        for waiting in sorted(self._place.waiting.values(), key=lambda one: one.refs):
            for position, ref in enumerate(waiting.refs):
                event = self._event(ref)
                if event is not None:
                    yield event, waiting, position == 0

    def pending(self) -> Iterator[Happening]:
        """What was not tried yet, the oldest first; of a long queue its beginning."""
        first = self._place.index
        for number in range(self._place.number, self._place.number + _BATCHES):
            batch = self._journal.read(number)
            if batch is None:
                return
            yield from filter(self._wants, batch[first:])
            first = 0

    def _event(self, ref: Ref) -> Happening | None:
        batch = self._journal.read(ref[0])
        return batch[ref[1]] if batch is not None and ref[1] < len(batch) else None
