"""Who is to be told on this site what happens: its registered handlers, and its broker."""

from __future__ import annotations

import logging
import os
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
from airflow_monai.notifications.handlers import Handlers
from airflow_monai.notifications.lasting import Lasting
from airflow_monai.store.base import Store

log = logging.getLogger(__name__)
_BROKER = "lifecycle/broker.json"
"""Since when the broker has been told."""


def site_receivers(store: Store) -> Receivers:
    """Asks the settings once, and the store each time which handlers there are: one request, besides those that are
    new."""
    site = settings.load_notifications()
    handlers = Handlers(store, site.handler_days)
    hosts, links = Hosts(site.hosts), Links(site.base_url)
    broker = _broker(store, site)
    kept: dict[str, Lasting] = {}
    told: dict[str, Receiver] = {}
    """Receivers of those that are kept and have not ended."""

    def receivers() -> Mapping[str, Receiver]:
        ids = set(handlers.ids())
        for handler_id in kept.keys() - ids:
            del kept[handler_id]
            told.pop(handler_id, None)
        for handler_id in ids - kept.keys():
            handler = handlers.get(handler_id)
            if handler is not None:
                kept[handler_id] = Lasting(handlers, handler)
                told[handler_id] = _receiver(kept[handler_id], hosts, links)
        for handler_id in list(told):
            reason = kept[handler_id].end_in_time()
            if reason:
                log.warning("the notification handler %s is told nothing more: %s", handler_id, reason)
                del told[handler_id]
        return {**broker, **{kept[handler_id].handler.channel: receiver for handler_id, receiver in told.items()}}

    return receivers


def _receiver(lasting: Lasting, hosts: Hosts, links: Links) -> Receiver:
    def teller() -> Teller:
        return HandlerTeller(lasting, AirflowFernet(), hosts, links)

    return Receiver(teller, lasting.handler.start, datetime.fromisoformat(lasting.handler.registered))


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
