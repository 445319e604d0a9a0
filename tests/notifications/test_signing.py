"""Signatures as receivers check them."""

from __future__ import annotations

import pytest

from airflow_monai.notifications.signing import TOLERANCE_SECONDS, signature, verify

SECRET, BODY, AT = "0123456789abcdef", b'{"id": "1"}', 1_772_359_500
GOOD = signature(SECRET, BODY, AT)


def test_what_was_signed_is_genuine_for_five_minutes():
    assert verify(SECRET, GOOD, BODY, now=AT)
    assert verify(SECRET, GOOD, BODY, now=AT + TOLERANCE_SECONDS)
    assert not verify(SECRET, GOOD, BODY, now=AT + TOLERANCE_SECONDS + 1)
    assert not verify(SECRET, GOOD, BODY + b" ", now=AT)
    assert not verify("another secret", GOOD, BODY, now=AT)


@pytest.mark.parametrize(
    "header",
    [
        "", "t=", f"t={AT}", f"t={AT},v1=", f"t={AT},v1=\xe9", f"t={AT},v1=\udce9", f"t={AT},v1={GOOD[-64:]}\xe9",
        f"v1={GOOD[-64:]}", f"t=-1,v1={GOOD[-64:]}", f"t=\u00b2,v1={GOOD[-64:]}", "=,=,==",
    ],
)  # fmt: skip
def test_whatever_comes_as_a_signature_is_refused_and_not_an_error(header: str):
    assert not verify(SECRET, header, BODY, now=AT)
