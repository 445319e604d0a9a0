"""C-STORE to a DICOM node (PS3.4 annex B), with a verdict on every instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from airflow_monai.errors import ExportError
from airflow_monai.sinks.base import Destination, Instance, OnResult, Sink
from airflow_monai.sinks.dimse.association import MAX_CONTEXTS, Peer, associate
from airflow_monai.sinks.dimse.conversion import IMPLICIT_LITTLE, alternatives
from airflow_monai.sinks.dimse.lines import TRIES, Sending
from airflow_monai.sinks.tls import context_of

VERIFICATION = "1.2.840.10008.1.1"
ASSOCIATIONS = 1
"""Associations at a time, unless the connection says otherwise."""


class DicomSink(Sink):
    """Sends to a DICOM node.

    The connection holds ``host`` and ``port``, and as extras:

    - ``called_aet`` (default ANY-SCP) and ``calling_aet`` (MONAI);
    - ``connect_timeout`` (10 s) and ``response_timeout`` (30 s without any progress);
    - ``tls`` and what :func:`airflow_monai.sinks.tls.context_of` reads with it;
    - ``associations``: how many at a time, each instance on one of them;
    - ``convert`` (true): send in plain little endian what the node does not take as it is;
    - ``resend_changed`` (false): send new content under a SOP Instance UID that the node has accepted before;
    - ``query``: ``same`` (default), ``never``, or ``AET@host:port``: who is asked for what the node did not answer;
    - ``verify``: ``none`` (default), ``query``, or ``commitment`` (DICOM storage commitment), with
      ``commitment_timeout`` (60 s) and ``commitment_port``: where a node that reports on an association of its own
      finds us; without it the report must come on ours.
    """

    dicom_only = True
    verifications = ("none", "query", "commitment")

    def __init__(self, destination: Destination):
        super().__init__(destination)
        self.peer = peer_of(destination)
        self.associations = int(destination.number("associations", ASSOCIATIONS, 1, 16))
        self.converts = destination.flag("convert", True)
        self.calls = TRIES  # how often an association is asked for in a row
        self._asked = asked_of(destination, self.peer)
        self._commitment_timeout = destination.seconds("commitment_timeout", 60.0)
        self._commitment_port = int(destination.number("commitment_port", 0, 0, 65_535))

    def identity(self, instance: Instance) -> str:
        return str(instance.sop_instance_uid)

    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        for batch in batches(instances, self.converts):
            Sending(self, batch, on_result).run()

    def syntaxes_of(self, instance: Instance) -> tuple[tuple[str, str], ...]:
        return syntaxes_of(instance, self.converts)

    def ask(self, instances: Sequence[Instance]) -> Mapping[str, bool] | None:
        from airflow_monai.sinks.dimse.query import present

        found = present(self._asked, instances, self.deadline) if self._asked else None
        if found is None:
            self._asked = None
        return found

    def count(self, study_instance_uid: str) -> int | None:
        from airflow_monai.sinks.dimse.query import count

        return count(self._asked, study_instance_uid, self.deadline) if self._asked else None

    def verify(self, instances: Sequence[Instance]) -> Mapping[str, bool] | None:
        if self.verification != "commitment":
            return self.ask(instances)
        from airflow_monai.sinks.dimse.commitment import commit

        return commit(self.peer, instances, self.deadline, port=self._commitment_port, seconds=self._commitment_timeout)

    def test(self) -> str:
        association = associate(self.peer, [(VERIFICATION, IMPLICIT_LITTLE)], self.deadline)
        if not association.contexts:
            association.release()
            return f"{self.peer} accepts associations of {self.peer.calling_aet}, but does not do C-ECHO."
        answer = association.echo()
        association.release()
        if answer.status:
            raise ExportError(f"{self.peer} answered C-ECHO with status {answer.status:04X}.")
        return f"{self.peer} answered C-ECHO to {self.peer.calling_aet}."


def peer_of(destination: Destination) -> Peer:
    """The node that a connection of type ``dicom`` names; :class:`DestinationError` when it is not complete."""
    if not destination.host:
        raise destination.error("the connection has no host")
    if not destination.port or not 0 < destination.port < 65_536:
        raise destination.error("the connection has no port (DICOM nodes often listen on 104 or 11112)")
    return Peer(
        host=destination.host,
        port=destination.port,
        called_aet=_ae_title(destination, "called", "ANY-SCP"),
        calling_aet=_ae_title(destination, "calling", "MONAI"),
        connect_timeout=destination.seconds("connect_timeout", 10.0),
        response_timeout=destination.seconds("response_timeout", 30.0),
        tls=context_of(destination) if destination.flag("tls") else None,
    )


def _ae_title(destination: Destination, which: str, default: str) -> str:
    """An AE title: up to 16 characters of the default repertoire without backslash (PS3.5 section 6.2, VR AE)."""
    title = destination.text(f"{which}_aet", f"{which}_ae_title", default=default)
    return _checked_title(destination, f"{which}_aet", title)


def _checked_title(destination: Destination, extra: str, title: str) -> str:
    if len(title) > 16 or "\\" in title or not (title.isascii() and title.isprintable()):
        raise destination.error(f"{extra} {title!r} is no AE title: at most 16 plain characters")
    return title


def asked_of(destination: Destination, peer: Peer) -> Peer | None:
    """Whom to ask what the node has, by the extra ``query``; None for nobody."""
    text = destination.text("query", default="same")
    if text.lower() in ("never", "no", "false", "none"):
        return None
    if text.lower() in ("same", "yes", "true"):
        return peer
    title, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (title and host and port.isdecimal() and 0 < int(port) < 65_536):
        raise destination.error(f"query = {text!r} is none of same, never, and AET@host:port")
    return replace(peer, called_aet=_checked_title(destination, "query", title), host=host, port=int(port))


def syntaxes_of(instance: Instance, converts: bool = True) -> tuple[tuple[str, str], ...]:
    """The presentation contexts to propose for an instance: its own transfer syntax, then what may stand for it."""
    return _syntaxes_of(instance.sop_class_uid, instance.transfer_syntax_uid, converts)


@lru_cache(maxsize=1024)
def _syntaxes_of(sop_class: str, transfer_syntax: str, converts: bool) -> tuple[tuple[str, str], ...]:
    others = alternatives(transfer_syntax) if converts else ()
    return tuple((sop_class, syntax) for syntax in (transfer_syntax, *others))


def batches(instances: Sequence[Instance], converts: bool = True) -> Iterator[list[Instance]]:
    """The instances in order, in runs that one association has enough presentation contexts for."""
    batch: list[Instance] = []
    contexts: set[tuple[str, str]] = set()
    for instance in instances:
        own = syntaxes_of(instance, converts)
        wanted = contexts.union(own)
        if len(wanted) > MAX_CONTEXTS:
            yield batch
            batch, wanted = [], set(own)
        batch.append(instance)
        contexts = wanted
    if batch:
        yield batch
