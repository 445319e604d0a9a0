"""What the statuses of a C-STORE answer mean (PS3.4 section B.2.3 and table GG.4-1, PS3.7 annex C)."""

from __future__ import annotations

from airflow_monai.sinks.base import Delivery, DeliveryState
from airflow_monai.sinks.dimse.association import Answer

DUPLICATE = 0x0111
_SUCCESS_AND_WARNINGS = {
    0x0000: "Success",
    0x0001: "Warning: requested optional attributes are not supported",
    0x0107: "Warning: attribute list error",
    0x0116: "Warning: attribute value out of range",
    0xB000: "Warning: data elements were coerced",
    0xB006: "Warning: elements were discarded",
    0xB007: "Warning: the data set does not match its SOP class",
}
_FAILURES = {
    0x0105: "No such attribute",
    0x0106: "Invalid attribute value",
    0x0110: "Processing failure",
    0x0111: "Duplicate SOP instance",
    0x0112: "No such SOP instance",
    0x0117: "Invalid SOP instance",
    0x0118: "No such SOP class",
    0x0119: "Class-instance conflict",
    0x0120: "Missing attribute",
    0x0121: "Missing attribute value",
    0x0122: "SOP class not supported",
    0x0124: "Not authorised",
    0x0210: "Duplicate invocation",
    0x0211: "Unrecognised operation",
    0x0212: "Mistyped argument",
    0x0213: "Resource limitation",
}
_RANGES = {0xA700: "Out of resources", 0xA900: "Data set does not match SOP class"}
_TEMPORARY = frozenset({0x0110, 0x0213})


def judge(identity: str, answer: Answer) -> Delivery:
    """The verdict on an instance. A warning is an acceptance: the far side has stored the instance."""
    status = f"{answer.status:04X}"
    if answer.status in _SUCCESS_AND_WARNINGS:
        message = _SUCCESS_AND_WARNINGS[answer.status]
        return Delivery(identity, DeliveryState.ACCEPTED, status, message, answer.comment)
    retry = answer.status in _TEMPORARY or answer.status & 0xFF00 == 0xA700
    return Delivery(identity, DeliveryState.REFUSED, status, failure(answer.status), answer.comment, retry)


def failure(status: int) -> str:
    """The meaning of a failure status, with its number."""
    meaning = _FAILURES.get(status) or _RANGES.get(status & 0xFF00)
    if meaning is None:
        meaning = "Cannot understand" if status & 0xF000 == 0xC000 else "Unexpected status"
    return f"status {status:04X}: {meaning}"
