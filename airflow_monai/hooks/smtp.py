"""Sends an e-mail by an Airflow connection of type ``smtp``, and tells what became of it.

Airflow's own hook repeats a sending that failed whatever the failure was, and so may deliver it twice; here each step
has its own answer: what was refused, what can be tried again, and what nobody knows the outcome of.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import InvalidArgument, OutcomeUnknown, ServiceRefused, ServiceUnavailable
from airflow_monai.hooks.connections import aconnection_of
from airflow_monai.specs.addresses import is_address

if TYPE_CHECKING:
    import aiosmtplib

DEFAULT_TIMEOUT = 30.0
TEMPORARY = range(400, 500)
"""Replies by which a server asks for another try (RFC 5321 section 4.2.1)."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """What a connection says of a server.

    :param timeout: of each step, in seconds.
    :param tls: ``implicit`` from the first byte, ``starttls``, or empty for none.
    """

    conn_id: str
    host: str
    port: int | None
    sender: str
    login: str = ""
    password: str = field(default="", repr=False)
    timeout: float = DEFAULT_TIMEOUT
    tls: str = "starttls"
    verify: bool = True

    def __str__(self) -> str:
        return f"the SMTP server {self.host} of connection {self.conn_id!r}"


@dataclass(frozen=True, slots=True)
class Posted:
    """Who got an e-mail and who did not.

    :param refused: address -> the server's reply code.
    """

    accepted: tuple[str, ...]
    refused: dict[str, int]


async def smtp_server(conn_id: str) -> SmtpServer:
    """The server of a connection, with the extras of Airflow's own connection type.

    :raises InvalidArgument: when there is no such connection, or it cannot be used.
    """
    missing = InvalidArgument(
        f"There is no Airflow connection {conn_id!r} to send e-mails by. Add one of type smtp under Admin, "
        "Connections, or name another one in [monai] smtp_conn_id."
    )
    connection, extra = await aconnection_of(conn_id, missing)
    login = connection.login or ""
    sender = str(extra.get("from_email") or login)
    wrong = _wrong(connection.host, sender, extra)
    if wrong:
        raise InvalidArgument(f"The Airflow connection {conn_id!r} cannot send e-mails: {wrong}.")
    tls = "" if _flag(extra, "disable_tls") else "starttls"
    return SmtpServer(
        conn_id=conn_id,
        host=str(connection.host),
        port=connection.port,
        sender=sender,
        login=login,
        password=connection.password or "",
        timeout=float(extra.get("timeout") or DEFAULT_TIMEOUT),
        tls=tls if _flag(extra, "disable_ssl") else "implicit",
        verify=extra.get("ssl_context") != "none",
    )


def _wrong(host: str | None, sender: str, extra: dict[str, Any]) -> str:
    if not host:
        return "it names no host"
    if not is_address(sender):
        return "its extra from_email is no e-mail address"
    return "OAuth 2 is not supported yet, use a login with a password" if extra.get("auth_type") == "oauth2" else ""


def _flag(extra: dict[str, Any], name: str) -> bool:
    return str(extra.get(name) or "").strip().lower() in ("1", "true", "yes", "on")


async def post(
    server: SmtpServer, message: bytes, recipients: Sequence[str], *, before_data: Callable[[], Awaitable[None]]
) -> Posted:
    """Send one e-mail to those recipients whom the server takes.

    :param message: with the line ends of RFC 5322.
    :param before_data: awaited when the server is ready for the text: from then on it may deliver.
    :raises ServiceUnavailable: nothing was sent; another try may succeed.
    :raises ServiceRefused: nothing was sent, and the server says that another try would not help.
    :raises OutcomeUnknown: the text was sent, and the server did not answer any more.
    """
    async with _connected(server) as client:
        refused: dict[str, int] = {}
        with _translated(server, "takes no e-mail of this sender now"):
            await client.mail(server.sender)
            for address in recipients:
                code = await _refusal(client, address)
                if code:
                    refused[address] = code
        accepted = tuple(address for address in recipients if address not in refused)
        if accepted:
            await before_data()
            await _data(server, client, message)
        return Posted(accepted, refused)


@contextlib.asynccontextmanager
async def _connected(server: SmtpServer) -> AsyncIterator[aiosmtplib.SMTP]:
    import aiosmtplib

    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.login or None,
        password=server.password or None,
        timeout=server.timeout,
        use_tls=server.tls == "implicit",
        start_tls=server.tls == "starttls",
        tls_context=_tls(server),
    )
    with _translated(server, "does not let us in"):
        await client.connect()
    try:
        yield client
    finally:
        with contextlib.suppress(aiosmtplib.SMTPException, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(client.quit(), 2)
        client.close()


def _tls(server: SmtpServer) -> ssl.SSLContext | None:
    if not server.tls:
        return None
    context = ssl.create_default_context()
    if not server.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _refusal(client: aiosmtplib.SMTP, address: str) -> int:
    import aiosmtplib

    try:
        await client.rcpt(address)
    except aiosmtplib.SMTPRecipientRefused as error:
        return error.code
    return 0


async def _data(server: SmtpServer, client: aiosmtplib.SMTP, message: bytes) -> None:
    import aiosmtplib

    try:
        await client.data(message)
    except aiosmtplib.SMTPResponseException as error:
        raise _refused(server, "refused the e-mail", error.code) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise OutcomeUnknown(
            f"{server} did not answer any more after it got the e-mail ({type(error).__name__}): it may or may not "
            "have been delivered, and is not sent again. Clear the task to send it again."
        ) from None


@contextlib.contextmanager
def _translated(server: SmtpServer, what: str) -> Any:
    """Errors of the client as ours. The server's words stay out: it may quote what it was sent."""
    import aiosmtplib

    try:
        yield
    except (ssl.SSLCertVerificationError, aiosmtplib.SMTPNotSupported) as error:
        raise _insecure(server, error) from None
    except aiosmtplib.SMTPResponseException as error:
        raise _refused(server, what, error.code) from None
    except (aiosmtplib.SMTPException, OSError, asyncio.TimeoutError) as error:  # noqa: UP041 - not one in Python 3.10
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise _insecure(server, cause) from None
        if type(error) is aiosmtplib.SMTPException:  # the client's own words: no STARTTLS there, no way to log in
            raise _insecure(server, error) from None
        raise ServiceUnavailable(f"{server} cannot be reached or stopped answering ({type(error).__name__}).") from None


def _insecure(server: SmtpServer, error: Exception) -> InvalidArgument:
    return InvalidArgument(
        f"{server} offers no connection as wanted ({error}). Correct the connection's extras: disable_ssl for "
        "STARTTLS, disable_tls as well for no encryption, ssl_context none to trust any certificate."
    )


def _refused(server: SmtpServer, what: str, code: int) -> ServiceUnavailable | ServiceRefused:
    message = f"{server} {what} (reply {code})."
    return ServiceUnavailable(message) if code in TEMPORARY else ServiceRefused(message, status=code)
