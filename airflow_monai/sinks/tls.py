"""TLS of a destination, by the extras that every sink with TLS has."""

from __future__ import annotations

import ssl
from pathlib import Path

from airflow_monai.sinks.base import Destination
from airflow_monai.tls import client_context


def context_of(destination: Destination) -> ssl.SSLContext:
    """What we trust and show there.

    The connection's extras: ``ca_file`` (PEM file of the authorities to trust, in place of the system's), ``cert_file``
    and ``key_file`` (our own certificate and its key; one file may hold both), ``check_certificate`` (default true) and
    ``check_host`` (default true: the certificate must be made out to the host that we call).

    :raises DestinationError: naming the extra whose file cannot be used.
    """
    ca_file, cert_file, key_file = (destination.text(name) for name in ("ca_file", "cert_file", "key_file"))
    if key_file and not cert_file:
        raise destination.error("key_file is set without cert_file, the certificate that it belongs to")
    for name, file in (("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)):
        if file and not Path(file).is_file():
            raise destination.error(f"{name} = {file!r} is no file on this host")
    check_host = destination.flag("check_host", True)
    try:
        trusted = (
            client_context(ca_file or True, (), check_host) if destination.flag("check_certificate", True) else None
        )
    except (OSError, ValueError) as error:
        raise destination.error(f"ca_file = {ca_file!r} holds no certificate authority ({_words(error)})") from None
    cert = tuple(file for file in (cert_file, key_file) if file)
    if trusted is not None and not cert:
        return trusted
    try:
        return client_context(False if trusted is None else ca_file or True, cert, check_host)
    except (OSError, ValueError) as error:
        raise destination.error(
            f"cert_file = {cert_file!r} and key_file = {key_file!r} are no certificate and its key without a password "
            f"({_words(error)})"
        ) from None


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or type(error).__name__)
