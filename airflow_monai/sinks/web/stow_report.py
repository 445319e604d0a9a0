"""What a STOW-RS answer says of each instance (PS3.18 section 10.5.3 and annex I.2), in DICOM JSON or XML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from airflow_monai.sinks.base import Delivery, DeliveryState
from airflow_monai.sinks.dimse.association import Answer
from airflow_monai.sinks.dimse.status import failure, judge

_REFERENCED = "00081199"  # Referenced SOP Sequence: stored
_FAILED = "00081198"  # Failed SOP Sequence
_OTHER = "0008119A"  # Other Failures Sequence: of which the server could not tell the instance
_SOP_INSTANCE = "00081155"
_WARNING_REASON = "00081196"
_FAILURE_REASON = "00081197"
_SYNTAX_NOT_SUPPORTED = 0xC122
_TAG = re.compile(r"[0-9A-F]{8}\Z")
_DUPLICATES = frozenset({0x0111, 0xB00E})
"""Duplicate SOP Instance (PS3.7 section C.5.8), and what Azure's DICOM service says instead (45070)."""

Item = Mapping[str, Sequence[Any]]
"""A data set, as far as it matters here: tag in eight hex digits -> values, or items of a sequence."""


@dataclass(frozen=True, slots=True)
class Report:
    """The answer's lists.

    :param stored: SOP Instance UID -> Warning Reason, 0 for none.
    :param failed: SOP Instance UID -> Failure Reason, 0 where the server gives none.
    :param others: Failure Reasons of what the server could not tell the instance of.
    """

    stored: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    others: tuple[int, ...] = ()

    def verdict(self, uid: str) -> Delivery | None:
        """The verdict on an instance, None where the lists do not name it. One in both has failed."""
        if uid in self.failed:
            return refusal(uid, self.failed[uid])
        if uid in self.stored:
            warning = self.stored[uid]
            news = judge(uid, Answer(warning))
            if news.state is DeliveryState.ACCEPTED:
                return news
            return Delivery(uid, DeliveryState.ACCEPTED, f"{warning:04X}", "Warning: stored, with a code of its own")
        return None

    def __bool__(self) -> bool:
        return bool(self.stored or self.failed or self.others)


def refusal(uid: str, reason: int) -> Delivery:
    """The verdict on an instance that the server has not stored, for this Failure Reason."""
    if not reason:
        return Delivery(uid, DeliveryState.REFUSED, message="not stored; the server gives no reason")
    if reason == _SYNTAX_NOT_SUPPORTED:
        message = f"status {reason:04X}: Referenced transfer syntax not supported"
        return Delivery(uid, DeliveryState.REFUSED, f"{reason:04X}", message)
    if reason in _DUPLICATES:
        return Delivery(uid, DeliveryState.REFUSED, "0111", failure(0x0111))
    temporary = judge(uid, Answer(reason)).retry
    return Delivery(uid, DeliveryState.REFUSED, f"{reason:04X}", failure(reason), retry=temporary)


def read_report(content: bytes) -> Report | None:
    """The report in an answer's content, an empty one where it lists nothing; None when it is no DICOM data set."""
    text = content.strip()
    try:
        if text[:1] in (b"{", b"["):
            data = json.loads(text)
            items = [_json_item(one) for one in (data if isinstance(data, list) else [data])]
        elif text[:1] == b"<" and b"<!DOCTYPE" not in text and b"<!ENTITY" not in text:
            root = ElementTree.fromstring(text)
            if _local(root) != "NativeDicomModel":
                return None
            items = [_xml_item(root)]
        else:
            return None
    except (ValueError, TypeError, AttributeError, RecursionError, ElementTree.ParseError):
        return None
    if not all(_TAG.match(tag) for item in items for tag in item):
        return None
    return Report(
        stored={uid: reason for item in items for uid, reason in _listed(item, _REFERENCED, _WARNING_REASON)},
        failed={uid: reason for item in items for uid, reason in _listed(item, _FAILED, _FAILURE_REASON)},
        others=tuple(_number(other, _FAILURE_REASON) for item in items for other in item.get(_OTHER, ())),
    )


def _listed(item: Item, sequence: str, reason: str) -> Iterator[tuple[str, int]]:
    for instance in item.get(sequence, ()):
        uid = next(iter(instance.get(_SOP_INSTANCE, ())), None)
        if uid:
            yield str(uid).strip(" \0"), _number(instance, reason)


def _number(item: Item, tag: str) -> int:
    try:
        return int(next(iter(item.get(tag, ())), 0)) & 0xFFFF
    except (ValueError, TypeError):
        return 0


def _json_item(data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """A data set of the DICOM JSON model (PS3.18 annex F)."""
    found = {}
    for tag, element in data.items():
        values = [value for value in element.get("Value") or () if value is not None]
        nested = element.get("vr") == "SQ" or tag.upper() in (_REFERENCED, _FAILED, _OTHER)
        found[tag.upper()] = [_json_item(value) for value in values] if nested else values
    return found


def _xml_item(node: ElementTree.Element) -> dict[str, list[Any]]:
    """A data set of the Native DICOM Model (PS3.19 annex A), or an item of one."""
    found: dict[str, list[Any]] = {}
    for element in node:
        if _local(element) != "DicomAttribute":
            continue
        items = [_xml_item(child) for child in element if _local(child) == "Item"]
        values = [(child.text or "").strip() for child in element if _local(child) == "Value"]
        found[element.get("tag", "").upper()] = [*items, *values]
    return found


def _local(node: ElementTree.Element) -> str:
    """The tag without its name space, which some servers leave out."""
    return node.tag.rpartition("}")[2]
