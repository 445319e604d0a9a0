"""What all HTTP calls of this package have in common, those of tasks and those of sinks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SENDING: ContextVar[bool] = ContextVar("airflow_monai_http_sending", default=False)
_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks")


@contextmanager
def nothing_logged() -> Iterator[None]:
    """Within the block, in this thread or coroutine, httpx logs nothing; others' requests are logged as ever.

    It would log every address with its query, which may hold what a patient is known by.
    """
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _is_not_ours not in logger.filters:
            logger.addFilter(_is_not_ours)
    token = _SENDING.set(True)
    try:
        yield
    finally:
        _SENDING.reset(token)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not _SENDING.get()


def proxy_for(scheme: str, host: str) -> str:
    """The proxy that the environment (``HTTPS_PROXY``, ``NO_PROXY``...) gives for a host."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    if not proxies or proxy_bypass(host):
        return ""
    return proxies.get(scheme) or proxies.get("all", "")
