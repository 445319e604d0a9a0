"""Sends HTTP requests from the triggerer: bounded in time and size, to allowed hosts only, nothing of them in logs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from airflow_monai import __version__
from airflow_monai.errors import ServiceRefused, ServiceUnavailable
from airflow_monai.hooks.http_endpoint import Endpoint, origin
from airflow_monai.hooks.http_hosts import HostRules, HostUnknown
from airflow_monai.http_common import nothing_logged, proxy_for

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
_AGENT = {"User-Agent": f"airflow-monai/{__version__}", "Accept-Encoding": "identity"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class NotSent(ServiceUnavailable):
    """The request did not reach the service."""


class AnswerLost(ServiceUnavailable):
    """The request may have reached the service, and no whole answer came."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request with its values.

    :param shown: what messages may say of it.
    :param timeout: seconds, with the answer.
    :param max_bytes: of the answer.
    """

    method: str
    url: str = field(repr=False)
    shown: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    timeout: float = 30.0
    max_bytes: int = 1_000_000
    follows: bool = True


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer, whatever its status.

    :param headers: by name in lower case.
    :param url: that gave it, after redirects.
    :param is_of_another: the request was answered with a redirect to another page, which this is the answer of: its
        status says nothing of what became of the request.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    url: str = field(repr=False)
    is_of_another: bool = False


@dataclass(frozen=True, slots=True)
class HttpClient:
    """Sends with the rights of one endpoint, which only its own host gets to see."""

    endpoint: Endpoint
    rules: HostRules

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """The answer; redirects on the same host are followed where the request says so.

        :raises NotSent: or ``AnswerLost``: no answer came, and whether the request can have had an effect.
        :raises ServiceRefused: the answer is too large, or leads in a circle.
        :raises InvalidArgument: the host may not be called.
        """
        elsewhere = False
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with nothing_logged():
                    answer = await self._within_time(request)
            except NotSent as error:
                raise (AnswerLost(str(error)) if elsewhere else error) from None
            following = _redirected(request, answer) if request.follows else None
            if following is None:
                return replace(answer, is_of_another=elsewhere)
            elsewhere = elsewhere or following.method != request.method
            request = following
        raise ServiceRefused(f"{request.shown}: the service redirects more than {MAX_REDIRECTS} times.")

    async def _within_time(self, request: HttpRequest) -> HttpAnswer:
        try:
            return await asyncio.wait_for(self._exchange(request), request.timeout)
        except asyncio.TimeoutError:  # noqa: UP041 - another class in Python 3.10
            raise AnswerLost(f"{request.shown}: no answer within {request.timeout:g} s.") from None

    async def _exchange(self, request: HttpRequest) -> HttpAnswer:
        import httpx

        parts = urlsplit(request.url)
        host = parts.hostname or ""
        proxy = self.endpoint.proxy or proxy_for(parts.scheme, host)
        addresses: list[str] = []
        if proxy:
            self.rules.check_name(host)
        else:
            try:
                addresses = await self.rules.addresses(host, origin(request.url)[2])
            except HostUnknown:
                raise NotSent(f"{request.shown}: the host's name cannot be resolved.") from None
        context: Any = await asyncio.to_thread(self.endpoint.ssl_context) if parts.scheme == "https" else False
        limits = httpx.Timeout(request.timeout, connect=min(CONNECT_SECONDS, request.timeout / 2))
        async with httpx.AsyncClient(verify=context, proxy=proxy or None, trust_env=False, timeout=limits) as client:
            for address in addresses[:-1]:
                try:
                    return await self._send_to(client, request, address)
                except NotSent:
                    continue  # the host's next address
            return await self._send_to(client, request, addresses[-1] if addresses else "")

    async def _send_to(self, client: httpx.AsyncClient, request: HttpRequest, address: str) -> HttpAnswer:
        import httpx

        try:
            sent = _prepared(client, request, address, self.endpoint.headers_for(request.url))
            response = await client.send(sent, stream=True)
            try:
                content = await _content(response, request)
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise NotSent(f"{request.shown}: the service cannot be reached ({type(error).__name__}).") from None
        except (httpx.TimeoutException, httpx.TransportError, httpx.DecodingError) as error:
            raise AnswerLost(f"{request.shown}: the answer did not come whole ({type(error).__name__}).") from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpAnswer(response.status_code, headers, content, request.url)


def _prepared(
    client: httpx.AsyncClient, request: HttpRequest, address: str, rights: Mapping[str, str]
) -> httpx.Request:
    """The request for httpx: to just the address that was checked, with the host's own name."""
    import httpx

    url = httpx.URL(request.url)
    given = {**_AGENT, **request.headers, **rights}
    headers = {name.encode("ascii"): value.encode("utf-8") for name, value in given.items()}
    extensions: dict[str, Any] = {}
    if address:
        headers[b"Host"] = url.netloc
        extensions["sni_hostname"] = url.host
        url = url.copy_with(host=address)
    return client.build_request(request.method, url, headers=headers, content=request.content, extensions=extensions)


async def _content(response: httpx.Response, request: HttpRequest) -> bytes:
    found = bytearray()
    async for part in response.aiter_bytes():
        found += part
        if len(found) > request.max_bytes:
            raise ServiceRefused(
                f"{request.shown}: the answer (status {response.status_code}) has more than {request.max_bytes} bytes. "
                "Raise max_response_bytes if it may.",
                status=response.status_code,
            )
    return bytes(found)


def _redirected(request: HttpRequest, answer: HttpAnswer) -> HttpRequest | None:
    """The request that a redirect asks for (RFC 9110 section 15.4), when it stays on the host."""
    place = answer.headers.get("location")
    if answer.status not in _REDIRECTS or not place:
        return None
    url = urljoin(request.url, place)
    try:
        if not _same_host(request.url, url):
            return None
    except ValueError:
        return None
    as_get = answer.status == 303 or (answer.status in (301, 302) and request.method == "POST")
    if as_get and request.method != "HEAD":
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-type"}
        return replace(request, url=url, method="GET", content=None, headers=headers)
    return replace(request, url=url)


def _same_host(old: str, new: str) -> bool:
    """Whether an address is of the same host and as safe: the same origin, or the step from http to https."""
    if origin(old) == origin(new):
        return True
    (scheme, host, port), (new_scheme, new_host, new_port) = origin(old), origin(new)
    return (scheme, new_scheme, port, new_port) == ("http", "https", 80, 443) and host == new_host
