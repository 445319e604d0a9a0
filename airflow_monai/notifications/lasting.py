"""Whether a handler is still to be told, for those who tell it: asked before each notification."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow_monai.notifications.handlers import Handler, Handlers


class Lasting:
    """One handler, as long as it is told anything. For all threads of a process.

    Until when its owner's last look counts is kept: that only moves on, so it is read again when it has passed. What
    has lapsed has for good.

    :param handler: as it was read.
    :ivar over: why it has lapsed; empty while it has not.
    """

    def __init__(self, handlers: Handlers, handler: Handler):
        self.handler = handler
        self.over = handler.lapsed
        self._handlers = handlers
        self._until: datetime | None = datetime.min.replace(tzinfo=timezone.utc)

    def look(self, now: datetime | None = None) -> str:
        """Why it is told nothing more, as of this moment; empty while it is. One request to the store.

        :raises StoreError: when nobody can say so.
        """
        if not self.over:
            found = self._handlers.get(self.handler.id)
            if found is None:
                return "The handler is not registered any more."
            self.over = found.lapsed
        return self.end_in_time(now)

    def end_in_time(self, now: datetime | None = None) -> str:
        """The same as far as this process knows, without a request as a rule. One whose owner has not asked for it for
        too long lapses now, for good: else it would be told again what it was told, when its owner asks at last."""
        now = now or datetime.now(timezone.utc)
        if not self.over and self._until is not None and now >= self._until:
            standing = self._handlers.standing(self.handler, now)
            if standing.lapsed:
                self.over = self._handlers.lapse(self.handler, standing.lapsed).lapsed
            self._until = standing.until
        return self.over
