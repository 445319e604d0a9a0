"""Who is to be told on this site what happens: its registered handlers, and its broker."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone

from airflow_monai import settings
from airflow_monai.broker.base import Broker
from airflow_monai.hooks.fernet import AirflowFernet
from airflow_monai.hooks.notification_sender import HandlerTeller, Hosts
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.outbox import Teller
from airflow_monai.lifecycle.receiver import Receiver, Receivers
from airflow_monai.notifications.body import Links
from airflow_monai.notifications.handlers import Handler, Handlers
from airflow_monai.store.base import Store

log = logging.getLogger(__name__)
_LAPSED_SECONDS = 60.0
_BROKER = "lifecycle/broker.json"
"""Since when the broker has been told."""


def site_receivers(store: Store) -> Receivers:
    """Asks the settings once, and the store for handlers each time."""
    site = settings.load_notifications()
    handlers = Handlers(store, site.handler_days)
    hosts, links = Hosts(site.hosts), Links(site.base_url)
    broker = _broker(store, site)
    kept: dict[str, Handler] = {}
    lapsed = _Lapsed(handlers)

    def receivers() -> Mapping[str, Receiver]:
        found = dict(broker)
        ids = handlers.ids()
        for handler_id in [one for one in kept if one not in ids]:
            del kept[handler_id]
        for handler_id in ids:
            handler = kept.get(handler_id) or handlers.get(handler_id)  # a handler never changes
            if handler is not None:
                kept[handler_id] = handler
                if not lapsed.has(handler):
                    found[handler.channel] = _receiver(handlers, handler, hosts, links)
        return found

    return receivers


class _Lapsed:
    """Which handlers are told nothing more; each is looked at now and then, and once it has lapsed it has."""

    def __init__(self, handlers: Handlers):
        self._handlers = handlers
        self._seen: dict[str, tuple[float, bool]] = {}

    def has(self, handler: Handler) -> bool:
        at, is_lapsed = self._seen.get(handler.id, (float("-inf"), False))
        if not is_lapsed and time.monotonic() - at > _LAPSED_SECONDS:
            reason = self._handlers.lapsed(handler)
            if reason:
                self._handlers.lapse(handler, reason)  # for good: it would be told again what it was told
                log.warning("the notification handler %s is told nothing more: %s", handler.id, reason)
            self._seen[handler.id] = (time.monotonic(), bool(reason))
        return self._seen[handler.id][1]


def _receiver(handlers: Handlers, handler: Handler, hosts: Hosts, links: Links) -> Receiver:
    def teller() -> Teller:
        return HandlerTeller(handlers, handler, AirflowFernet(), hosts, links)

    return Receiver(teller, handler.start, datetime.fromisoformat(handler.registered))


def _broker(store: Store, site: settings.NotificationSettings) -> dict[str, Receiver]:
    conn_id = settings.load_broker().conn_id
    if not conn_id or site.dialect == "none":
        return {}
    from airflow_monai.broker.dialects import Dialect
    from airflow_monai.broker.telling import CHANNEL, BrokerTeller

    def opened() -> Broker:
        from airflow_monai.broker.base import open_broker
        from airflow_monai.hooks.broker import broker_address

        # outside of tasks Airflow looks into its metadata database only for processes that say that they may
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        return open_broker(broker_address(conn_id))

    now = datetime.now(timezone.utc).isoformat()
    store.create_json(_BROKER, {"start": Journal(store).end() + 1, "since": now})
    began = store.read_json(_BROKER)
    dialect = Dialect(site.dialect)
    return {
        CHANNEL: Receiver(
            lambda: BrokerTeller(opened, dialect), int(began["start"]), datetime.fromisoformat(began["since"])
        )
    }
