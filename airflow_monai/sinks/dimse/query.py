"""Asks a DICOM node which instances it has: C-FIND at the IMAGE level (PS3.4 section C.4.1 and C.6.2)."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from airflow_monai.errors import DestinationError
from airflow_monai.sinks.base import Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.dimse.association import Association, Peer, QueryFailed, associate

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_SOP_INSTANCE, _STUDY, _SERIES, _LEVEL = 0x00080018, 0x0020000D, 0x0020000E, 0x00080052


def present(peer: Peer, instances: Sequence[Instance], deadline: Deadline) -> dict[str, bool] | None:
    """SOP Instance UID -> whether the node has it, without those that it could not tell; None if it takes no queries.

    :raises SinkUnavailable: it does not answer now.
    """
    with _asking(peer, deadline) as association:
        if association is None:
            return None
        found: dict[str, bool] = {}
        for members in _by_series(instances):
            found.update(_present_of_series(association, members))
        return found


def count(peer: Peer, study: str, deadline: Deadline) -> int | None:
    """How many instances of a study the node has; None if it takes no queries.

    :raises SinkUnavailable: it does not answer now.
    """
    with _asking(peer, deadline) as association:
        if association is None:
            return None
        try:
            found = association.find(STUDY_ROOT, IMPLICIT_LITTLE, _keys("SERIES", study))
            series = {_value(answer, _SERIES) for answer in found} - {""}
            images = (association.find(STUDY_ROOT, IMPLICIT_LITTLE, _keys("IMAGE", study, uid)) for uid in series)
            return len({_value(answer, _SOP_INSTANCE) for answers in images for answer in answers} - {""})
        except QueryFailed:
            return None


@contextmanager
def _asking(peer: Peer, deadline: Deadline) -> Iterator[Association | None]:
    """An association for queries; None where the node takes none."""
    try:
        association = associate(peer, [(STUDY_ROOT, IMPLICIT_LITTLE)], deadline)
    except DestinationError:
        yield None  # it may want us as a sender only
        return
    try:
        yield association if association.contexts else None
    except BaseException:
        association.abort()
        raise
    association.release()


def _by_series(instances: Sequence[Instance]) -> Iterator[list[Instance]]:
    series: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    for instance in instances:
        if instance.study_instance_uid and instance.series_instance_uid:
            series[instance.study_instance_uid, instance.series_instance_uid].append(instance)
    yield from series.values()


def _present_of_series(association: Association, instances: Sequence[Instance]) -> dict[str, bool]:
    """One query for them all: those of the series that the node has, whichever are meant."""
    first, wanted = instances[0], {str(instance.sop_instance_uid) for instance in instances}
    only = next(iter(wanted)) if len(wanted) == 1 else ""
    identifier = _keys("IMAGE", first.study_instance_uid, first.series_instance_uid, only)
    try:
        answers = association.find(STUDY_ROOT, IMPLICIT_LITTLE, identifier)
    except QueryFailed:
        return {}
    there = {_value(answer, _SOP_INSTANCE) for answer in answers}
    return {uid: uid in there for uid in wanted}


def _keys(level: str, study: str, series: str = "", sop: str = "") -> bytes:
    """The identifier of a query: the unique keys of the level and of all above, which hierarchical queries need (PS3.4
    section C.4.1.2.1)."""
    elements = {_LEVEL: level, _STUDY: study, _SERIES: series}
    return _identifier(elements | ({_SOP_INSTANCE: sop} if level == "IMAGE" else {}))


def _identifier(elements: dict[int, str]) -> bytes:
    """A data set in implicit VR little endian."""
    data = b""
    for tag, text in sorted(elements.items()):
        value = text.encode("ascii")
        value += (b" " if tag == _LEVEL else b"\0") * (len(value) % 2)
        data += struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
    return data


def _value(identifier: bytes, wanted: int) -> str:
    """The value of an element of the top level, which comes before any sequence that a node might add."""
    start = 0
    while start + 8 <= len(identifier):
        group, element, length = struct.unpack_from("<HHI", identifier, start)
        if (group << 16 | element) == wanted:
            return identifier[start + 8 : start + 8 + length].decode("latin-1").strip(" \0")
        if length == 0xFFFFFFFF or (group << 16 | element) > wanted:
            return ""
        start += 8 + length
    return ""
