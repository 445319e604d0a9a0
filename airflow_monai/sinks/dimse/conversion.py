"""Transfer syntaxes: which may stand for one that the far side does not take, and the data set in that one.

Nothing is ever compressed here, so no pixel loses anything: compressed pixels are decoded, in the colour space that
they are kept in (RGB from lossy JPEG), and all else is only written in another way. So the SOP Instance UID stays (a
decoded image is the same instance, PS3.4 section B.4.1.4).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.errors import ExportError
from airflow_monai.sinks.part10 import discreet

if TYPE_CHECKING:
    from pydicom import Dataset

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_JPEG_AND_MPEG = "1.2.840.10008.1.2.4."
_JPIP = frozenset(f"{_JPEG_AND_MPEG}{number}" for number in (94, 95, 204, 205))
_LOSSY_JPEG = frozenset((f"{_JPEG_AND_MPEG}50", f"{_JPEG_AND_MPEG}51"))
_PLAIN = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
"""Where the frames of compressed pixels begin; of no meaning for others (PS3.3 section C.7.6.3.1.8)."""


class NotConvertible(ExportError):
    """A file cannot be put into another transfer syntax; the message tells why, as the end of a sentence."""


def alternatives(transfer_syntax: str) -> tuple[str, ...]:
    """What may be sent in place of a transfer syntax, the best first; empty where nothing may."""
    if transfer_syntax in _PLAIN:
        return tuple(syntax for syntax in _PLAIN if syntax != transfer_syntax)
    return _PLAIN if transfer_syntax == _DEFLATED or _is_compressed(transfer_syntax) else ()


def _is_compressed(transfer_syntax: str) -> bool:
    """Whether pixels are encapsulated (PS3.5 annex A.4); without those that only refer to pixels elsewhere (JPIP)."""
    return transfer_syntax == _RLE or (transfer_syntax.startswith(_JPEG_AND_MPEG) and transfer_syntax not in _JPIP)


def converted(path: Path, source: str, target: str) -> bytes:
    """The data set of a file, written in another transfer syntax.

    :param source: the file's; ``target``: one of its :func:`alternatives`.
    :raises NotConvertible: when it cannot be written so.
    :raises OSError: when it cannot be read.
    """
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, target == IMPLICIT_LITTLE
    try:
        with discreet():
            ds = dcmread(path)
            if _is_compressed(source) and "PixelData" in ds:
                _decode(ds, source)
            write_dataset(out, ds)
    except NotConvertible:
        raise
    except ExportError as error:
        raise NotConvertible(str(error)) from None
    return bytes(out.getvalue())


def _decode(ds: Dataset, source: str) -> None:
    _check_decoder(source)
    if _has_compressed_parts(ds):
        raise NotConvertible("an image within it, such as its icon, is compressed too")
    try:
        # colours that were kept without loss stay in their colour space: each conversion rounds
        ds.decompress(as_rgb=source in _LOSSY_JPEG, generate_instance_uid=False)
    except (RuntimeError, NotImplementedError, OSError) as error:
        raise NotConvertible(f"its pixels cannot be decoded ({type(error).__name__})") from None
    for keyword in _OFFSETS:
        if keyword in ds:
            delattr(ds, keyword)


def _has_compressed_parts(ds: Dataset) -> bool:
    """Whether there are compressed pixels in a sequence."""
    return any(
        ("PixelData" in item and item["PixelData"].is_undefined_length) or _has_compressed_parts(item)
        for tag, raw in ds.items()  # an element that is only looked at stays as it was read
        if raw.VR == "SQ"
        for item in ds[tag].value
    )


def _check_decoder(transfer_syntax: str) -> None:
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(transfer_syntax)
    except NotImplementedError:
        raise NotConvertible("no decoder for its transfer syntax is known") from None
    if not decoder.is_available:
        missing = " or ".join(decoder.missing_dependencies) or "none is known"
        raise NotConvertible(f"no decoder for its transfer syntax is installed on the worker ({missing})")
