"""TLS towards servers: whom we believe, and how we show who we are. Reads files, so not for an event loop."""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(maxsize=16)
def client_context(verify: bool | str = True, cert: tuple[str, ...] = (), check_host: bool = True) -> ssl.SSLContext:
    """What a client trusts and shows; the same object for the same arguments.

    :param verify: check the server's certificate: with the system's authorities, with those of a file, or not at all.
    :param cert: files of a client certificate and its key; one file may hold both.
    :param check_host: whether the certificate must be made out to the host that we call.
    :raises OSError: (:class:`ssl.SSLError` is one) or ``ValueError`` when a file cannot be used.
    """
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is True:
        import certifi

        context.load_verify_locations(certifi.where())  # beside the system's, where a hospital's own authority is
    context.check_hostname = check_host and verify is not False
    if verify is False:
        context.verify_mode = ssl.CERT_NONE
    if cert:
        # without a password OpenSSL would ask for that of an encrypted key, at a terminal that nobody sees
        context.load_cert_chain(cert[0], cert[1] if len(cert) > 1 else None, password="")
    return context
