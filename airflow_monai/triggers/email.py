"""Sends the e-mail of an ``email`` task, once."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING

from airflow_monai.errors import OutcomeUnknown, ServiceRefused, ServiceUnavailable
from airflow_monai.tasks.run import Outcome
from airflow_monai.triggers.light import LightRun, LightTrigger

if TYPE_CHECKING:
    from airflow_monai.hooks.smtp import Posted
    from airflow_monai.triggers.letter import Letter


class EmailTrigger(LightTrigger):
    """Composes the e-mail from the store and sends it to those who have not got it.

    Before the server may deliver, that is noted in the store; a note without an answer means that nobody knows.
    """

    async def perform(self, run: LightRun) -> Outcome:
        from airflow_monai.hooks.smtp import post, smtp_server
        from airflow_monai.triggers.letter import compose

        letter = await asyncio.to_thread(compose, run, self.light_task)
        missing = [address for address in letter.recipients if address not in run.state.get("sent", ())]
        if not missing:
            return _outcome(letter)
        conn_id = await asyncio.to_thread(self._checked, run)
        server = await smtp_server(conn_id)
        text = letter.to_bytes(server.sender, formatdate())
        try:
            posted = await post(server, text, missing, before_data=lambda: asyncio.to_thread(_note, run))
        except (ServiceRefused, ServiceUnavailable):
            await asyncio.to_thread(_answered, run, ())
            raise
        await asyncio.to_thread(_answered, run, posted.accepted)
        self._judge(letter, posted)
        return _outcome(letter)

    def _checked(self, run: LightRun) -> str:
        """The connection to send by; :class:`OutcomeUnknown` when an earlier sending has had no answer."""
        from airflow_monai import settings

        if run.noted(_name(run)) is not None:
            raise OutcomeUnknown(
                f"Task {run.run.task_id}: an earlier sending was cut off, and the e-mail may or may not have gone out. "
                "It is not sent again by itself. Clear the task to send it again."
            )
        return settings.load().smtp_conn_id

    def _judge(self, letter: Letter, posted: Posted) -> None:
        """Fail, now that all others have it, when the server took one of the recipients not."""
        total = len(letter.recipients)
        self.log.info("Sent to %d of %d recipients", len(posted.accepted), total)
        if not posted.refused:
            return
        who = ", ".join(f"{address} (reply {code})" for address, code in posted.refused.items())
        message = f"The SMTP server does not take {len(posted.refused)} of {total} recipients: {who}."
        if any(400 <= code < 500 for code in posted.refused.values()):
            raise ServiceUnavailable(f"{message} Another try sends to these only.")
        raise ServiceRefused(f"{message} All others have got the e-mail.")


def _outcome(letter: Letter) -> Outcome:
    return Outcome(result={"sent": len(letter.recipients), "message_id": letter.id})


def _name(run: LightRun) -> str:
    """One note for each sending that may have delivered; the next name is free when this one has its answer."""
    return f"sending-{run.state.get('answered', 0)}"


def _note(run: LightRun) -> None:
    run.run.fence.check()
    if not run.note_once(_name(run), {"life": run.life}):
        raise OutcomeUnknown(f"Another process sends the e-mail of task {run.run.task_id}.")


def _answered(run: LightRun, accepted: tuple[str, ...]) -> None:
    """The sending has its answer; one that was not begun has none, and another process may have begun it."""
    if (run.noted(_name(run)) or {}).get("life") != run.life:
        return
    sent = [*run.state.get("sent", ()), *accepted]
    run.keep(answered=run.state.get("answered", 0) + 1, sent=sent)
