"""Which presentation contexts the gateway accepts: everything that may be stored, as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

VERIFICATION = "1.2.840.10008.1.1"
_STANDARD = "1.2.840.10008."
_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")  # PS3.5 section 9.1
_STORAGE_ROOTS = ("1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34.", "1.2.840.10008.5.1.1.")
_PREFERRED = "1.2.840.10008.1.2.1"  # Explicit VR Little Endian: keeps the VR of private elements


def is_storage(sop_class_uid: str) -> bool:
    """Whether instances of this SOP class can be stored: standard storage classes, and all that we do not know.

    Private classes, retired ones and those of later editions of the Standard are taken; other services are not.
    """
    if not sop_class_uid.startswith(_STANDARD):
        return bool(sop_class_uid)
    name = _standard_name(sop_class_uid)
    if name is None:
        return sop_class_uid.startswith("1.2.840.10008.5.1.4.1.1.")
    return sop_class_uid.startswith(_STORAGE_ROOTS) and "Storage" in name and "Commitment" not in name


def is_served(abstract: str) -> bool:
    """Whether an abstract syntax is one of ours: storage, and verification."""
    return abstract == VERIFICATION or is_storage(abstract)


def choose_syntax(proposed: Sequence[str]) -> str | None:
    """The transfer syntax to take, None when there is none that holds a data set.

    The data set is kept as it comes, so the sender's first choice is as good as any; only where explicit little endian
    is on offer beside another uncompressed one, it is better. A private syntax is taken where nothing else is on offer:
    the data set then has to show by itself how it is encoded.
    """
    proposed = [uid for uid in proposed if _UID.fullmatch(uid)]  # nobody could read a file that names another one
    known = [uid for uid in proposed if _is_transfer_syntax(uid)]
    if known and known[0] in _UNCOMPRESSED and _PREFERRED in known:
        return _PREFERRED
    if known:
        return known[0]
    return next((uid for uid in proposed if not uid.startswith(_STANDARD)), None)


_UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
_PRIVATE_SYNTAXES = frozenset({"1.2.840.113619.5.2"})
# deflated; JPEG, MPEG and their kin; RLE; deflated frames. Not the XML, MIME and real-time video ones
_ENCAPSULATED = tuple(f"1.2.840.10008.1.2.{branch}" for branch in ("1.", "4.", "5", "8."))


@lru_cache(maxsize=1024)
def _standard_name(uid: str) -> str | None:
    from pydicom._uid_dict import UID_dictionary

    entry = UID_dictionary.get(uid)
    return entry[0] if entry else None


@lru_cache(maxsize=256)
def _is_transfer_syntax(uid: str) -> bool:
    if uid in _PRIVATE_SYNTAXES or uid in _UNCOMPRESSED:
        return True
    return uid.startswith(_ENCAPSULATED) and (_standard_name(uid) is not None or uid.startswith("1.2.840.10008.1.2.4."))
