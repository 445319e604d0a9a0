"""Posts notifications: only to hosts that the site allows, no redirect followed, bounded in time and size."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_monai.errors import InvalidArgument, MonaiError, ServiceRefused, ServiceUnavailable
from airflow_monai.hooks.http_client import HttpClient, HttpRequest
from airflow_monai.hooks.http_endpoint import Endpoint
from airflow_monai.hooks.http_hosts import HostRules, HostUnknown
from airflow_monai.lifecycle.happening import Happening
from airflow_monai.lifecycle.outbox import Attempt, Verdict
from airflow_monai.notifications.body import Links, Notification, notification
from airflow_monai.notifications.handlers import Cipher
from airflow_monai.notifications.lasting import Lasting
from airflow_monai.notifications.signing import EVENT, KEY, SIGNATURE, signature

SEND_SECONDS = 10.0
_ANSWER_BYTES = 65_536
_NOT_ALLOWED = (
    "No notifications may be sent from here. Whoever runs this site can allow hosts: [monai] notification_hosts."
)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Which hosts may be notified; none for none.

    :param patterns: host names with ``*``, addresses, networks.
    """

    patterns: tuple[str, ...]

    def rules(self) -> HostRules:
        """:raises InvalidArgument: when nothing is allowed; :class:`SettingsError` when a pattern is none."""
        if not self.patterns:
            raise InvalidArgument(_NOT_ALLOWED)
        return HostRules.parse(self.patterns, "notification_hosts")

    def check(self, url: str) -> None:
        """That a host is allowed and known now, before anything is sent.

        :raises InvalidArgument: when it may not be notified.
        """
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            asyncio.run(asyncio.wait_for(self.rules().addresses(parts.hostname or "", port), SEND_SECONDS))
        except (HostUnknown, asyncio.TimeoutError):  # noqa: UP041 - another class in Python 3.10
            raise InvalidArgument("The host of url cannot be found.") from None


def post(url: str, secret: str, what: Notification, hosts: Hosts, timeout: float = SEND_SECONDS) -> Attempt:
    """Send one; what became of it. The answer's body is read and dropped."""
    headers = {
        "Content-Type": "application/json",
        KEY: what.key,
        EVENT: what.event,
        SIGNATURE: signature(secret, what.body, int(time.time())),
    }
    request = HttpRequest(
        "POST", url, "notification", headers, what.body, timeout=timeout, max_bytes=_ANSWER_BYTES, follows=False
    )
    try:
        answer = asyncio.run(HttpClient(Endpoint(), hosts.rules()).send(request))
    except ServiceRefused as error:
        return Attempt(Verdict.REFUSED, str(error))
    except ServiceUnavailable as error:
        return Attempt(Verdict.AWAY, str(error))
    except MonaiError as error:  # the host is not allowed (any more)
        return Attempt(Verdict.AWAY, str(error))
    if 200 <= answer.status < 300:
        return Attempt(Verdict.TOLD)
    if 300 <= answer.status < 400:
        return Attempt(Verdict.REFUSED, f"the handler answered {answer.status}, a redirect, which is not followed")
    return Attempt(Verdict.REFUSED, f"the handler answered {answer.status}")


class HandlerTeller:
    """Tells a handler (:class:`airflow_monai.lifecycle.outbox.Teller`)."""

    def __init__(self, lasting: Lasting, cipher: Cipher, hosts: Hosts, links: Links):
        self._lasting = lasting
        self._handler = lasting.handler
        self._cipher = cipher
        self._hosts = hosts
        self._links = links

    def wants(self, event: Happening) -> bool:
        return self._handler.wants(event)

    def tell(self, event: Happening) -> Attempt:
        try:
            if reason := self._lasting.look():
                return Attempt(Verdict.STOPPED, reason)
            secret = self._cipher.decrypt(self._handler.secret)
        except MonaiError as error:
            return Attempt(Verdict.AWAY, str(error))
        return post(self._handler.url, secret, notification(event, self._links), self._hosts)

    def close(self) -> None:
        """Nothing is kept open."""
