"""TLS of the DICOM receiver (BCP 195 profile, PS3.15 annex B.9), with certificates that may change while it runs."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

from airflow_monai.errors import SettingsError
from airflow_monai.gateway.dicom.settings import TlsFiles
from airflow_monai.intake.events import log

# Only suites with forward secrecy and authenticated encryption, as BCP 195 (RFC 9325) section 4.2 recommends. Those of
# TLS 1.3 are all such
_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"


class ServerTls:
    """Gives the context for the next connection, made again when its files have changed.

    :raises SettingsError: when the files cannot be used.
    """

    def __init__(self, files: TlsFiles):
        self._files = files
        self._lock = threading.Lock()
        self._state = self._look()
        self._context = _context(files)

    def context(self) -> ssl.SSLContext:
        """As the files are now; as they were, where they cannot be used now."""
        with self._lock:
            state = self._look()
            if state != self._state:
                self._state = state
                try:
                    self._context = _context(self._files)
                    log.info("TLS certificates were read again")
                except SettingsError as error:
                    log.error("%s It goes on with the certificates of before.", error)
            return self._context

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        paths = (self._files.certificate, self._files.key, self._files.client_ca)
        return tuple(_stamp(path) for path in paths if path)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_mtime_ns, status.st_size


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_SUITES)
    try:
        # without a password OpenSSL would ask the terminal for that of an encrypted key
        context.load_cert_chain(files.certificate, files.key, password="")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"[monai] dicom_tls_certificate = {files.certificate} and dicom_tls_key = {files.key} cannot be used: "
            f"{_cause(error)}. Both must be PEM, belong together, and the key must not be encrypted."
        ) from None
    if files.client_ca:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"[monai] dicom_tls_client_ca = {files.client_ca} cannot be used: {_cause(error)}. It must hold "
                "certificates of CAs as PEM."
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__
