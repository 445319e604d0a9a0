"""Signatures by which a handler knows that a notification is ours, new, and as it was sent.

``X-Monai-Signature: t=<seconds since the epoch>,v1=<HMAC-SHA256 over "<t>.<body>" in hex>``
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

SIGNATURE = "X-Monai-Signature"
EVENT = "X-Monai-Event"
KEY = "Idempotency-Key"
TOLERANCE_SECONDS = 300


def new_secret() -> str:
    """A secret of 256 bits."""
    return secrets.token_urlsafe(32)


def signature(secret: str, body: bytes, at: int) -> str:
    """The header's value.

    :param at: when it is sent, seconds since the epoch.
    """
    return f"t={at},v1={_mac(secret, body, at)}"


def verify(
    secret: str, header: str, body: bytes, *, tolerance: float = TOLERANCE_SECONDS, now: float | None = None
) -> bool:
    """Whether a notification is genuine, for those who receive it.

    :param header: value of :data:`SIGNATURE`.
    :param body: as it came, before anything reads it.
    :param tolerance: seconds that sending may take, or clocks may differ.
    """
    parts = dict(part.strip().partition("=")[::2] for part in header.split(","))
    at = parts.get("t", "")
    if not at.isdecimal() or len(at) > 12:
        return False
    if abs((time.time() if now is None else now) - int(at)) > tolerance:
        return False
    # as bytes: of texts it compares only ASCII
    return hmac.compare_digest(_mac(secret, body, int(at)).encode(), parts.get("v1", "").encode(errors="replace"))


def _mac(secret: str, body: bytes, at: int) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
