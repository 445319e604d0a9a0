"""The ``[monai] dicom_*`` options beyond host and port: who may send, how much at a time, and TLS."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from airflow_monai import settings
from airflow_monai.errors import SettingsError
from airflow_monai.specs.units import memory_bytes

MAX_FILE = 16 * 10**9
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Caller:
    """Who may send: a calling AE title (``*`` for any), from anywhere or from one network only."""

    aet: str
    network: IPNetwork | None = None

    @classmethod
    def parse(cls, text: str) -> Caller:
        """``AET``, ``AET@address`` or ``AET@network/bits``.

        :raises SettingsError: when it is none of these.
        """
        aet, at, place = text.partition("@")
        if not aet.strip() or len(aet.strip()) > 16:
            raise SettingsError(f"[monai] dicom_allowed_callers: {text!r} names no AE title of 1 to 16 characters.")
        try:
            return cls(aet.strip(), ipaddress.ip_network(place.strip(), strict=False) if at else None)
        except ValueError:
            raise SettingsError(
                f"[monai] dicom_allowed_callers: {place!r} is no address or network: write AET@10.1.2.3 or "
                "AET@10.1.0.0/16."
            ) from None

    def matches(self, calling_aet: str, address: str) -> bool:
        """
        :param address: of the peer, as the socket gives it.
        """
        if self.aet not in ("*", calling_aet):
            return False
        if self.network is None:
            return True
        peer = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(peer, "ipv4_mapped", None)
        return (mapped or peer) in self.network


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What TLS needs, in PEM.

    :param certificate: of the gateway, with the chain up to its CA; ``key`` is its private key, not encrypted.
    :param client_ca: the CAs whose clients may connect; None takes every client.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class DicomOptions:
    """
    :param callers: who may send; none for everybody.
    :param associations: that may be open at once.
    :param associations_of_caller: likewise, of one calling AE title.
    :param max_pdu: longest P-DATA-TF PDU in bytes, which each open association costs of memory.
    :param max_file: largest data set in bytes.
    :param idle_seconds: an association on which nothing comes for so long is aborted.
    :param artim_seconds: how long a new connection may take to ask for an association (PS3.8 section 9.1.5).
    :param plain: whether associations without TLS are taken.
    :param tls_port: 0 for a free one, None for no TLS.
    :param processes: that receive; one is the gateway's own.
    """

    callers: tuple[Caller, ...] = ()
    associations: int = 100
    associations_of_caller: int = 50
    max_pdu: int = 128 * 1024
    max_file: int = MAX_FILE
    idle_seconds: float = 60.0
    artim_seconds: float = 30.0
    plain: bool = True
    tls_port: int | None = None
    tls: TlsFiles | None = None
    processes: int = 1


def load() -> DicomOptions:
    """Read the options, or raise :class:`SettingsError` that names the one that cannot be used."""
    tls_port = _whole("dicom_tls_port", 0, 0, 65535)
    plain = settings._choice("dicom_plain", "True", ("True", "False", "true", "false")).lower() == "true"
    if not plain and not tls_port:
        raise SettingsError("[monai] dicom_plain = False needs a dicom_tls_port: nothing would be listened to.")
    return DicomOptions(
        callers=tuple(Caller.parse(text) for text in settings._list("dicom_allowed_callers")),
        associations=_whole("dicom_max_associations", 100, 1, 10_000),
        associations_of_caller=_whole("dicom_max_associations_of_caller", 50, 1, 10_000),
        max_pdu=_whole("dicom_max_pdu", 131_072, 4096, 4 * 2**20),
        max_file=_size("dicom_max_file", "16 GB"),
        idle_seconds=_seconds("dicom_idle_seconds", 60.0),
        artim_seconds=_seconds("dicom_artim_seconds", 30.0),
        plain=plain,
        tls_port=tls_port or None,
        tls=_tls(tls_port),
        processes=_whole("dicom_processes", 1, 1, 64),
    )


def _tls(port: int) -> TlsFiles | None:
    certificate, key = settings._text("dicom_tls_certificate"), settings._text("dicom_tls_key")
    client_ca = settings._text("dicom_tls_client_ca")
    if not port:
        return None
    for option, value in (("dicom_tls_certificate", certificate), ("dicom_tls_key", key)):
        if not value:
            raise SettingsError(f"[monai] dicom_tls_port is set, {option} is not: name a PEM file.")
    return TlsFiles(Path(certificate), Path(key), Path(client_ca) if client_ca else None)


def _whole(option: str, default: int, least: int, most: int) -> int:
    value = settings._number(option, default)
    if value != int(value) or not least <= value <= most:
        raise SettingsError(f"[monai] {option} = {value:g}: write a whole number from {least} to {most}.")
    return int(value)


def _seconds(option: str, default: float) -> float:
    value = settings._number(option, default)
    if value <= 0:
        raise SettingsError(f"[monai] {option} = {value:g}: write a number of seconds above 0.")
    return value


def _size(option: str, default: str) -> int:
    try:
        return memory_bytes(settings._text(option, default))
    except ValueError as error:
        raise SettingsError(f"[monai] {option}: {error}.") from None
