"""Fields of the forms of connections, as Airflow's provider info wants them; imports nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Fields = dict[str, Any]


def text(label: str, description: str, default: str | None = None) -> Fields:
    schema: Fields = {"type": ["string", "null"]}
    return {"label": label, "description": description, "schema": schema | ({"default": default} if default else {})}


def number(label: str, description: str, default: float | None = None) -> Fields:
    schema: Fields = {"type": ["number", "null"]}
    given = {} if default is None else {"default": default}
    return {"label": label, "description": description, "schema": schema | given}


def flag(label: str, description: str, default: bool = False) -> Fields:
    return {"label": label, "description": description, "schema": {"type": ["boolean", "null"], "default": default}}


def choice(label: str, description: str, choices: Sequence[str]) -> Fields:
    """The first of the words is the default."""
    schema = {"type": ["string", "null"], "enum": [*choices], "default": choices[0]}
    return {"label": label, "description": description, "schema": schema}


def time_outs(connect: str, response: str, response_seconds: float) -> Fields:
    return {
        "connect_timeout": number("Connect time-out (s)", connect, 10),
        "response_timeout": number("Response time-out (s)", response, response_seconds),
    }


def tls(*, switch: bool = True) -> Fields:
    """What :func:`airflow_monai.sinks.tls.context_of` reads.

    :param switch: whether TLS is on is a field too.
    """
    return {
        **({"tls": flag("TLS", "Speak TLS.")} if switch else {}),
        "ca_file": text("Authority", "File (PEM) of the certificate authority. Empty: those of the system."),
        "cert_file": text("Client certificate", "File (PEM) of the certificate that we show. Empty: none."),
        "key_file": text("Client key", "File of its key, without a password. Empty: in the same file."),
        "check_certificate": flag("Check certificate", "Whether the server must be who it says.", True),
        "check_host": flag("Check host name", "The certificate must be made out to the host that we call.", True),
    }


def delivery(*, verifications: Sequence[str] = ("none", "query"), sends: bool = True) -> Fields:
    """What every destination has.

    :param sends: whether it is us who send.
    """
    verify = {
        "verify": choice("Verify", "How to make sure that what was accepted is there.", verifications),
    }
    limit = number("Bandwidth limit (MB/s)", "Megabytes a second that one delivery may use.")
    return {
        **(verify if len(verifications) > 1 else {}),
        **({"max_mb_per_second": limit} if sends else {}),
        "deadline_minutes": number(
            "Deadline (minutes)",
            "So many minutes after a task's first try nothing more is sent. Empty: as [monai] says; 0: no limit.",
        ),
    }


def dicom_permits() -> Fields:
    """What may be delivered as DICOM although it looks like a mistake."""
    return {
        "allow_other_study": flag(
            "Allow other studies", "Also deliver results that belong to another study or patient than the input."
        ),
        "allow_received_series": flag(
            "Allow series of the input", "Also deliver results that claim a series of the input, or share one."
        ),
        "resend_changed": flag(
            "Send changed content",
            "Also send new content under a UID that was accepted before. The far side may keep the old, and say yes.",
        ),
    }
