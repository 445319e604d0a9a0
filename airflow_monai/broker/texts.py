"""A message's properties as texts by name, for brokers that have nothing but these beside a body."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_monai.broker.base import Message

_PROPERTIES = ("message_id", "correlation_id", "app_id", "content_type", "type", "timestamp")


def texts_of(message: Message) -> dict[str, str]:
    """Its headers, and of its properties those that it has."""
    kept = {name: _text(value) for name, value in message.headers.items() if name not in _PROPERTIES}
    own = {name: getattr(message, name) for name in _PROPERTIES}
    return {**kept, **{name: str(value) for name, value in own.items() if value not in (None, "")}}


def message_from(topic: str, body: bytes, texts: Mapping[str, str]) -> Message:
    """The message again; one that others wrote otherwise lacks what they do not say."""
    headers = dict(texts)
    timestamp = headers.pop("timestamp", "")
    return Message(
        topic=topic,
        body=body,
        message_id=headers.pop("message_id", ""),
        correlation_id=headers.pop("correlation_id", ""),
        app_id=headers.pop("app_id", ""),
        content_type=headers.pop("content_type", ""),
        type=headers.pop("type", ""),
        timestamp=int(timestamp) if re.fullmatch("[0-9]{1,18}", timestamp) else None,
        headers=headers,
    )


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else json.dumps(value, default=str)
