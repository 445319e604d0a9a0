"""Keeps what HTTP clients log out of the logs: httpx logs every address with its query, which may name a patient."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SENDING: ContextVar[bool] = ContextVar("airflow_monai_http_sending", default=False)
_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks")


@contextmanager
def nothing_logged() -> Iterator[None]:
    """Within the block, in this thread or coroutine, httpx logs nothing; others' requests are logged as ever."""
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
