"""An e-mail about a study, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import InvalidArgument
from airflow_monai.specs.addresses import is_address

if TYPE_CHECKING:
    from airflow_monai.triggers.light_run import LightRun

MAX_SUBJECT = 200
MAX_VALUE = 300
MAX_BODY = 100_000


@dataclass(frozen=True, slots=True)
class Letter:
    """An e-mail before it has a sender.

    :param id: the same for each sending of one generation of the task, so that a mailbox can tell it has it already.
    """

    id: str
    recipients: tuple[str, ...]
    subject: str
    body: str

    def to_bytes(self, sender: str, when: str) -> bytes:
        message = EmailMessage(policy=SMTP)
        message["From"], message["To"] = sender, ", ".join(self.recipients)
        message["Subject"], message["Date"] = self.subject, when
        message["Message-ID"] = f"<{self.id}@{sender.partition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer by a machine
        message.set_content(self.body, cte="quoted-printable")
        return bytes(message)


def compose(run: LightRun, task: Mapping[str, Any]) -> Letter:
    """The e-mail of a task, its templates filled in. Reads the store.

    :raises InvalidArgument: when nobody is to get it, or what stands for an address is none.
    """
    subject = " ".join(str(run.resolve(task["subject"])).split()) or f"MONAI workflow {run.run.workflow_name}"
    parts = [
        str(run.resolve(task["body"])).strip() or f"A study has come to task {run.run.task_id}.",
        "\n".join(_metadata(run, task["metadata"])),
        f"Sent by the workflow {run.run.workflow_name}, task {run.run.task_id}, for payload "
        f"{run.run.payload.payload_id}.",
    ]
    body = "\n\n".join(part for part in parts if part)
    return Letter(run.run.execution_id, _recipients(task), subject[:MAX_SUBJECT], body[:MAX_BODY])


def _metadata(run: LightRun, wanted: Sequence[tuple[str, str]]) -> Iterator[str]:
    from airflow_monai.specs.arguments import as_text

    series = run.context.series_tags().values() if wanted else ()
    for keyword, tag in wanted:
        texts = (" ".join(as_text(value).split()) for tags in series for value in tags.get(tag) or ())
        found = ", ".join(dict.fromkeys(text for text in texts if text))
        yield f"{keyword}: {found[:MAX_VALUE] or '-'}"


def _recipients(task: Mapping[str, Any]) -> tuple[str, ...]:
    from airflow_monai import settings

    addresses = list(task["recipient_emails"])
    known = settings.load().recipient_roles if task["recipient_roles"] else {}
    for role in task["recipient_roles"]:
        if not known.get(role.lower()):
            raise InvalidArgument(
                f"[monai] recipient_roles gives no address for the role {role!r}. Add it there, as JSON: "
                f'{{"{role}": ["name@hospital.example"]}}.'
            )
        addresses += known[role.lower()]
    for address in addresses:
        if not is_address(address):
            raise InvalidArgument(f"{address!r} is no e-mail address.")
    if not addresses:
        raise InvalidArgument("The e-mail has no recipient.")
    return tuple(dict.fromkeys(addresses))
