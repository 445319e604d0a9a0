"""Which presentation contexts are taken."""

from __future__ import annotations

import pytest
from pydicom._uid_dict import UID_dictionary

from airflow_monai.gateway.dicom.sop_classes import choose_syntax, is_served, is_storage

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
JPEG, HTJ2K, RLE, DEFLATED = (f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.201", "5", "1.99"))
PRIVATE = "1.2.276.0.99.1"


def test_every_storage_class_of_the_standard_is_taken() -> None:
    names = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"}
    storage = {uid for uid, name in names.items() if uid.startswith("1.2.840.10008.5.1.4.1.1.") and "Storage" in name}
    assert len(storage) > 150
    assert all(is_storage(uid) for uid in storage)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root FIND
        "1.2.840.10008.5.1.4.1.2.2.2",  # Study Root MOVE
        "1.2.840.10008.1.20.1",  # Storage Commitment
        "1.2.840.10008.5.1.4.31",  # Modality Worklist
        "1.2.840.10008.5.1.1.9",  # Basic Grayscale Print
        "",
    ],
)
def test_other_services_are_not(uid: str) -> None:
    assert not is_served(uid)


@pytest.mark.parametrize("uid", ["1.3.12.2.1107.5.9.1", "1.2.840.113619.4.30", "1.2.840.10008.5.1.4.1.1.9999"])
def test_private_and_future_classes_are(uid: str) -> None:
    assert is_storage(uid)


def test_every_transfer_syntax_that_holds_a_data_set_is_taken() -> None:
    names = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    refused = {name for uid, name in names.items() if choose_syntax([uid]) is None}
    assert len(names) > 50
    assert all(
        any(word in name for word in ("SMPTE", "XML", "MIME", "Papyrus", "multipart", "RFC 2557")) for name in refused
    ), refused


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([JPEG, EXPLICIT], JPEG),  # as it is, not unpacked by the sender
        ([IMPLICIT, EXPLICIT], EXPLICIT),
        ([BIG, IMPLICIT], BIG),
        ([IMPLICIT, JPEG], IMPLICIT),
        ([DEFLATED, IMPLICIT], DEFLATED),
        ([HTJ2K], HTJ2K),
        ([RLE], RLE),
        ([PRIVATE, IMPLICIT], IMPLICIT),
        ([PRIVATE], PRIVATE),
        (["1.2.840.10008.1.2.4.999"], "1.2.840.10008.1.2.4.999"),
        (["1.2.840.10008.1.2.7.1"], None),
        ([], None),
        ([""], None),
        (["hello", "1.2.3\n4", "1." * 40 + "1", "1.2.840.10008.1.2.4.x"], None),
        (["hello", PRIVATE], PRIVATE),
    ],
)
def test_the_senders_own_syntax_is_chosen(proposed: list[str], chosen: str | None) -> None:
    assert choose_syntax(proposed) == chosen
