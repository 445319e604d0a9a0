"""An HTTP service that a sink calls: its address, its login, its TLS; answers bounded in size and time."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_monai import __version__
from airflow_monai.errors import SinkUnavailable
from airflow_monai.http_common import nothing_logged, proxy_for
from airflow_monai.sinks.base import Destination
from airflow_monai.sinks.deadline import Deadline, longest
from airflow_monai.sinks.tls import context_of
from airflow_monai.sinks.web.auth import authorizer_of

if TYPE_CHECKING:
    import httpx

MAX_ANSWER = 64 << 20
"""Bytes of the largest answer that is read."""
MAX_RETRY_AFTER = 120.0
"""Seconds that a service may make us wait, by ``Retry-After``, before another attempt."""


class NotReached(SinkUnavailable):
    """The request did not reach the service."""


class AnswerLost(SinkUnavailable):
    """The request may have reached the service, and no whole answer came."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request carries.

    :param pieces: gives the body anew each time that it is sent.
    :param length: bytes of it.
    """

    content_type: str
    length: int
    pieces: Callable[[], Iterator[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer, whatever its status.

    :param media_type: of its content, in lower case, without parameters.
    :param retry_after: seconds that the service asks us to wait, 0 when it does not ask.
    """

    status: int
    media_type: str = ""
    content: bytes = field(default=b"", repr=False)
    retry_after: float = 0.0


class HttpSite:
    """A service; safe for threads.

    The connection's host may be a name, or an address with scheme and path; ``schema`` (http or https), port and the
    extra ``path`` complete it. Extras: ``connect_timeout`` (10 s), ``response_timeout`` (60 s without any progress),
    ``proxy``, those of :func:`airflow_monai.sinks.tls.context_of`, and those of
    :func:`airflow_monai.sinks.web.auth.authorizer_of`.

    :param connections: how many requests there may be at a time.
    """

    def __init__(self, destination: Destination, *, connections: int = 1):
        self.destination = destination
        self.url = _base_url(destination)
        self.connect_timeout = destination.seconds("connect_timeout", 10.0)
        self.response_timeout = destination.seconds("response_timeout", 60.0)
        self._auth = authorizer_of(destination, lambda name, url: _checked_url(destination, name, url))
        self._proxy = destination.text("proxy")
        self._tls = context_of(destination)
        self._connections = connections
        self._throttle = destination.throttle()
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{self.destination.name} at {parts.scheme}://{parts.netloc}"

    def __enter__(self) -> HttpSite:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
        upload: Upload | None = None,
    ) -> HttpAnswer:
        """The answer, of any status; redirects are not followed. After a 401 once more, with a fresh token if there is.

        :raises NotReached: or ``AnswerLost``: no answer came, and whether the request can have had an effect.
        :raises DeadlinePassed: before or while it was sent; what ``upload`` raises is raised as well.
        """
        client = self._opened()

        def exchange() -> HttpAnswer:
            seconds = deadline.left(self.response_timeout)
            authorization = self._auth.authorization(client, seconds)
            answer = self._exchange(client, method, path, deadline, headers or {}, upload, authorization)
            if answer.status == 401:
                fresh = self._auth.authorization(client, seconds, refused=authorization)
                if fresh != authorization:
                    answer = self._exchange(client, method, path, deadline, headers or {}, upload, fresh)
            return answer

        most = longest(upload.length if upload else 0, self._throttle, self._connections)
        try:
            with nothing_logged():
                return deadline.within(exchange, most)  # headers may come byte by byte
        except TimeoutError:
            raise AnswerLost(f"{self} has given no whole answer for {most:.3g} s") from None

    def _opened(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                parts = urlsplit(self.url)
                proxy = self._proxy or proxy_for(parts.scheme, parts.hostname or "")
                limits = httpx.Limits(max_connections=self._connections + 1, max_keepalive_connections=None)
                timeout = httpx.Timeout(self.response_timeout, connect=self.connect_timeout)
                self._client = httpx.Client(
                    verify=self._tls, proxy=proxy or None, trust_env=False, limits=limits, timeout=timeout
                )
            return self._client

    def _exchange(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        deadline: Deadline,
        headers: Mapping[str, str],
        upload: Upload | None,
        authorization: str,
    ) -> HttpAnswer:
        import httpx

        given = {"User-Agent": f"airflow-monai/{__version__}", "Accept-Encoding": "identity", **headers}
        if authorization:
            given["Authorization"] = authorization
        content: Any = None
        if upload is not None:
            given |= {"Content-Type": upload.content_type, "Content-Length": str(upload.length)}
            content = upload.pieces()
        wait = deadline.left(self.response_timeout)
        timeout = httpx.Timeout(wait, connect=min(wait, self.connect_timeout))
        try:
            with client.stream(
                method, self.url + path, headers=given, content=content, timeout=timeout, follow_redirects=False
            ) as response:
                return HttpAnswer(
                    response.status_code,
                    response.headers.get("content-type", "").partition(";")[0].strip().lower(),
                    self._content(response, deadline),
                    _retry_after(response.headers.get("retry-after", "")),
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            cause = _cause(error)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise self.destination.error(
                    f"the certificate of {self} is not trusted ({cause.verify_message}); ca_file names the authority "
                    "that is"
                ) from None
            raise NotReached(f"{self} cannot be reached ({_words(error)}): is it running?") from None
        except (httpx.ReadTimeout, httpx.WriteTimeout):
            raise AnswerLost(f"{self} made no progress for {wait:.3g} s") from None
        except httpx.HTTPError as error:
            raise AnswerLost(f"{self} did not answer ({_words(error)})") from None

    def _content(self, response: httpx.Response, deadline: Deadline) -> bytes:
        content = bytearray()
        end = time.monotonic() + self.response_timeout
        for piece in response.iter_raw():
            content += piece
            deadline.check()
            if len(content) > MAX_ANSWER or time.monotonic() > end:
                raise AnswerLost(f"{self} answers without an end")
        return bytes(content)


def _base_url(destination: Destination) -> str:
    host = destination.host
    if not host:
        raise destination.error("the connection has no host")
    if "://" not in host:
        scheme = destination.schema.lower() or "https"
        if scheme not in ("http", "https"):
            raise destination.error(f"schema = {destination.schema!r} is neither http nor https")
        host = f"{scheme}://{host}"
    parts = urlsplit(_checked_url(destination, "host", host))
    place = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = destination.port or parts.port
    path = "/".join(part for part in (parts.path.strip("/"), destination.text("path").strip("/")) if part)
    return f"{parts.scheme}://{place}" + (f":{port}" if port else "") + (f"/{path}" if path else "")


def _checked_url(destination: Destination, name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
        if good and not (parts.username or parts.password or parts.query or parts.fragment):
            return url
    except ValueError:
        pass
    # the address is not shown: it may hold a password, in the wrong place
    raise destination.error(f"{name} is no address like https://host:port/path, without a login in it")


def _retry_after(text: str) -> float:
    """Seconds or a date (RFC 9110 section 10.2.3)."""
    try:
        seconds = float(text) if text.strip().isdigit() else _seconds_until(text)
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _seconds_until(date: str) -> float:
    moment = parsedate_to_datetime(date)
    return (moment - datetime.now(moment.tzinfo or timezone.utc)).total_seconds()


def _words(error: Exception) -> str:
    """What went wrong, without the address, which may hold what a patient is known by."""
    cause = _cause(error)
    return str(cause.strerror) if cause is not None else type(error).__name__


def _cause(error: BaseException) -> OSError | None:
    """The system's error behind one of the client's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
