"""Who is to be told on this site what happens: its registered handlers, and its broker."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_monai import settings
from airflow_monai.broker.base import Broker
from airflow_monai.errors import DamagedObject
from airflow_monai.hooks.fernet import AirflowFernet
from airflow_monai.hooks.notification_sender import HandlerTeller, Hosts
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.outbox import Teller
from airflow_monai.lifecycle.receiver import Receiver, Receivers
from airflow_monai.notifications.body import Links
from airflow_monai.notifications.handlers import Handlers, channel_of
from airflow_monai.notifications.lasting import Lasting
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.shapes import moment

log = logging.getLogger(__name__)
_BROKER = "lifecycle/broker.json"
"""Since when the broker has been told."""


def _nobody() -> Teller:
    raise AssertionError("who waits is told nothing")


_WAITS = Receiver(_nobody, 1, datetime.max.replace(tzinfo=timezone.utc), waits=True)


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
        ids, waits = set(handlers.ids()), set[str]()
        for handler_id in kept.keys() - ids:
            del kept[handler_id]
            told.pop(handler_id, None)
        for handler_id in ids:
            try:
                if handler_id not in kept and (handler := handlers.get(handler_id)) is not None:
                    kept[handler_id] = Lasting(handlers, handler)
                    told[handler_id] = _receiver(kept[handler_id], hosts, links)
                reason = kept[handler_id].end_in_time() if handler_id in told else ""
            except DamagedObject as error:  # it is told nothing until that is mended; the others are
                tell_once(f"The notification handler {handler_id} waits: {error}")
                waits.add(handler_id)
                continue
            if reason:
                log.warning("the notification handler %s is told nothing more: %s", handler_id, reason)
                del told[handler_id]
        active = {channel_of(one): receiver for one, receiver in told.items() if one not in waits}
        return {**broker, **active, **{channel_of(handler_id): _WAITS for handler_id in waits}}

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
    try:
        start, since = store.read_as(_BROKER, _began)
    except DamagedObject as error:  # it counts only where the broker was never told anything
        log.warning("%s Until then the broker is told all that is still known.", error)
        start, since = Journal(store).first(), datetime.fromisoformat(now)
    dialect = Dialect(site.dialect)
    return {CHANNEL: Receiver(lambda: BrokerTeller(opened, dialect), start, since)}


def _began(data: Mapping[str, Any]) -> tuple[int, datetime]:
    return int(data["start"]), moment(data["since"])
