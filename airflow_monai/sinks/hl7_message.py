"""HL7 v2 messages: what must be known of one to send it, and what an acknowledgement says.

References: HL7 v2.5.1 chapter 2 (2.9.2 acknowledgements, 2.15.8 MSA, 2.15.9 MSH, 2.15.5 ERR), tables 0008, 0211, 0357.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from airflow_monai.errors import ExportError

START, END = b"\x0b", b"\x1c\r"
"""What stands around a message (MLLP release 1)."""
MAX_BYTES = 64 << 20
"""Of one message."""
_CHARSETS: Mapping[str, str] = MappingProxyType(
    {
        "": "",  # the default is ASCII, and many write something else without saying so
        "ASCII": "ascii",
        **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
        "UNICODE UTF-8": "utf-8",
        "UTF-8": "utf-8",
        "UNICODE": "utf-8",
        "ISO IR6": "ascii",
        "ISO IR14": "shift_jis",
        "ISO IR87": "iso2022_jp",
        "ISO IR159": "iso2022_jp_1",
        "GB 18030-2000": "gb18030",
        "KS X 1001": "euc_kr",
        "BIG-5": "big5",
    }
)
"""Table 0211: MSH-18 -> Python's codec."""
_NOT_IN_FRAMES = ("UNICODE UTF-16", "UNICODE UTF-32", "UTF-16", "UTF-32")
_ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "100": "segment sequence error",
        "101": "required field missing",
        "102": "data type error",
        "103": "table value not found",
        "104": "value too long",
        "200": "unsupported message type",
        "201": "unsupported event code",
        "202": "unsupported processing id",
        "203": "unsupported version",
        "204": "unknown key identifier",
        "205": "duplicate key identifier",
        "206": "application record locked",
        "207": "application internal error",
    }
)
"""Table 0357."""
_ACCEPTED, _ERROR, _REJECTED = ("AA", "CA"), ("AE", "CE"), ("AR", "CR")
_TEMPORARY = ("206", "207")
_CODE = re.compile(r"(?!0\Z)[A-Za-z0-9]{1,8}\Z")


class NoMessage(ExportError):
    """A file is no HL7 v2 message that can be sent. The message says why and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is sent.

    :param content: segments that end with a carriage return, in the character set that the message names.
    :param control_id: MSH-10, by which its acknowledgement is known.
    """

    content: bytes
    control_id: str

    @property
    def frame(self) -> bytes:
        return START + self.content + END


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a receiver says of a message.

    :param code: MSA-1 (table 0008): AA, AE, AR, CA, CE or CR.
    :param control_id: MSA-2, the MSH-10 that it is about.
    :param error: code of the first error (ERR-3, ERR-1 or MSA-6; table 0357), empty without one.
    :param words: MSA-3 and the ERR segments, which may name a patient.
    """

    code: str
    control_id: str
    error: str = ""
    words: str = ""

    @property
    def accepted(self) -> bool:
        return self.code in _ACCEPTED

    @property
    def status(self) -> str:
        return f"{self.code} {self.error}".strip()

    @property
    def meaning(self) -> str:
        """In words of ours, without anything of the receiver's but the codes."""
        kind = {"A": "application", "C": "commit"}.get(self.code[:1], "")
        verdict = "accept" if self.accepted else "error" if self.code in _ERROR else "reject"
        reason = _ERRORS.get(self.error, f"error {self.error}" if self.error else "")
        return f"{self.code}: {kind} {verdict}" + (f", {reason}" if reason else "")

    @property
    def is_temporary(self) -> bool:
        """Whether the same message may be taken later: a reject without a reason is one of the moment (2.9.2.2)."""
        return self.error in _TEMPORARY or (self.code in _REJECTED and not self.error)


def read_message(data: bytes) -> Message:
    """The message in a file's bytes; line ends become carriage returns, frames and a byte order mark are taken off.

    :raises NoMessage: it is none, or not one that can be sent.
    """
    content = data.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    content = content.removeprefix(START).removesuffix(END[:1])
    content = content.replace(b"\r\n", b"\r").replace(b"\n", b"\r").strip(b"\r") + b"\r"
    if content[:3] in (b"FHS", b"BHS"):
        raise NoMessage("it is a batch of HL7 messages (FHS, BHS); write each message to a file of its own")
    if content[:3] != b"MSH" or len(content) < 9:
        raise NoMessage("it is no HL7 v2 message: it does not begin with MSH")
    if START in content or END[:1] in content:
        raise NoMessage("it holds the bytes 0B or 1C, which frame messages")
    if b"\rMSH" + content[3:4] in content:
        raise NoMessage("it holds several HL7 messages; write each to a file of its own")
    header = content.partition(b"\r")[0]
    charset = _charset(header)
    fields = _fields(_decoded(content, charset).partition("\r")[0])
    control_id = _field(fields, 10)
    if not control_id:
        raise NoMessage(
            "its MSH-10 (message control id) is empty, so that no acknowledgement could be known as its own"
        )
    return Message(content, control_id)


def read_acknowledgement(data: bytes) -> Acknowledgement | None:
    """What a frame's content says, None when it is no acknowledgement."""
    content = data.replace(b"\r\n", b"\r").replace(b"\n", b"\r").strip(b"\r")
    if content[:3] != b"MSH" or len(content) < 9:
        return None
    header = content.partition(b"\r")[0]
    try:
        text = content.decode(_CHARSETS.get(_raw(header, 18), "") or "latin-1", "replace")
    except LookupError:
        text = content.decode("latin-1")
    separator, component = text[3], text[4]
    segments = [segment.split(separator) for segment in text.split("\r")]
    msa = next((segment for segment in segments if segment[0] == "MSA"), None)
    if msa is None or len(msa) < 3 or msa[1] not in (*_ACCEPTED, *_ERROR, *_REJECTED):
        return None
    errors = [segment for segment in segments if segment[0] == "ERR"]
    words = " ".join([*msa[3:4], *(separator.join(segment) for segment in errors)]).strip()
    return Acknowledgement(msa[1], msa[2].strip(), _error_code(msa, errors, component), words[:1000])


def _error_code(msa: Sequence[str], errors: Sequence[Sequence[str]], component: str) -> str:
    """ERR-3.1 as of version 2.5, before that ERR-1.4.1 or MSA-6.1; only what looks like a code."""
    places = [_part(error, 3, component, 0) for error in errors]
    places += [_part(error, 1, component, 3).split("&")[0] for error in errors]
    places.append(_part(msa, 6, component, 0))
    return next((place for place in places if _CODE.match(place)), "")


def _part(segment: Sequence[str], field: int, component: str, number: int) -> str:
    parts = segment[field].split(component) if len(segment) > field else []
    return parts[number].strip() if len(parts) > number else ""


def _charset(header: bytes) -> str:
    """Python's name of the message's character set, empty for none that is said."""
    name = _raw(header, 18)
    if any(name.startswith(wide) for wide in _NOT_IN_FRAMES):
        raise NoMessage(f"its character set {name} (MSH-18) cannot be framed; write it as UNICODE UTF-8")
    if name not in _CHARSETS:
        raise NoMessage("its MSH-18 names a character set that is not in HL7's table 0211")
    return _CHARSETS[name]


def _decoded(content: bytes, charset: str) -> str:
    try:
        return content.decode(charset or "latin-1")
    except UnicodeDecodeError:
        raise NoMessage("its bytes are not in the character set that its MSH-18 names") from None


def _raw(header: bytes, number: int) -> str:
    """The first of a field's values, as far as it is ASCII."""
    fields = header.decode("latin-1").split(chr(header[3]))
    value = _field(fields, number)
    repetition = chr(header[5]) if len(header) > 5 else "~"
    return value.split(repetition)[0].strip().upper()


def _fields(header: str) -> list[str]:
    return header.split(header[3])


def _field(fields: Sequence[str], number: int) -> str:
    """MSH-``number``: MSH-1 is the separator itself, so that MSH-2 is the second of what it separates."""
    return fields[number - 1].strip() if len(fields) >= number else ""
