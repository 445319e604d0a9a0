"""pynetdicom's acceptor, made quick and bounded: sockets, associations and the server that makes them.

What differs from the stock one: answers leave at once (TCP_NODELAY), PDUs are read whole into one buffer, a PDU longer
than negotiated ends the connection before it is read, presentation contexts are made for what is proposed.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import MODE_ACCEPTOR, Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.presentation import build_context
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from airflow_monai.gateway.dimse import Desk, StorageProvider
from airflow_monai.gateway.sop_classes import acceptable

MAX_PDU_BYTES = 128 * 1024
_MAX_ASSOCIATE_BYTES = 1024 * 1024  # A-ASSOCIATE-RQ with 128 contexts is far below
_IDLE_POLL_MS = 5
_P_DATA = 0x04
_PDV_HEAD = struct.Struct(">LB")


class QuickSocket(AssociationSocket):
    """A socket whose reads cost one copy, and whose polling does not keep a core busy."""

    def __init__(self, assoc: Association, client_socket: socket.socket):
        super().__init__(assoc, client_socket=client_socket)
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client_socket.settimeout(assoc.network_timeout)
        self._poll = select.poll()
        self._poll.register(client_socket, select.POLLIN)

    @property
    def ready(self) -> bool:
        if self.socket is None or not self._is_connected:
            return False
        wait = _IDLE_POLL_MS if self.provider_queue.empty() else 0
        return bool(self._poll.poll(wait))  # a closed connection is readable too: its end is read

    def recv(self, nr_bytes: int) -> bytearray:
        if self.socket is None or nr_bytes > _MAX_ASSOCIATE_BYTES:
            raise OSError("the far side sent a PDU that is longer than negotiated")
        buffer = bytearray(nr_bytes)
        view, position = memoryview(buffer), 0
        while position < nr_bytes:
            received = self.socket.recv_into(view[position:])
            if not received:
                return buffer[:position]
            position += received
        return buffer


@dataclass(frozen=True, slots=True)
class DataFragments:
    """A P-DATA-TF PDU (PS3.8 section 9.3.5) whose fragments are not copied."""

    presentation_data_value_list: list[tuple[int, memoryview]]

    @classmethod
    def decode(cls, pdu: bytearray) -> DataFragments:
        view, position, fragments = memoryview(pdu), 6, []
        while position < len(pdu):
            length, context_id = _PDV_HEAD.unpack_from(pdu, position)
            end = position + 4 + length
            if length < 2 or end > len(pdu):
                raise ValueError("a P-DATA-TF PDU is malformed")
            fragments.append((context_id, view[position + 5 : end]))
            position = end
        return cls(fragments)

    def to_primitive(self) -> DataFragments:
        return self


class QuickProvider(DULServiceProvider):
    """The upper layer, with a short way for the PDUs that carry images."""

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        if bytestream[0] == _P_DATA:
            return DataFragments.decode(bytestream), "Evt10"
        return super()._decode_pdu(bytestream)

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except InvalidEventError:  # the far side left while it was being answered; the association sees that we end
            if self.socket:
                self.socket.close()


class StorageAssociation(Association):
    """An association that tidies up after itself."""

    at_end: Callable[[Association], None] | None = None

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            if isinstance(self.dimse, StorageProvider):
                self.dimse.discard()
            if self.at_end:
                self.at_end(self)


class StorageRequestHandler(RequestHandler):
    """Makes an association of an accepted connection."""

    server: StorageServer

    def _create_association(self) -> Association:
        server = self.server
        assoc = StorageAssociation(self.ae, MODE_ACCEPTOR)
        assoc._server = server
        # pynetdicom finds its associations by this name
        assoc.name = f"AcceptorThread@{datetime.now(timezone.utc):%Y%m%d%H%M%S}"
        assoc.dimse = StorageProvider(assoc, server.desk)
        assoc.at_end = server.association_ended
        assoc.dul = QuickProvider(assoc)
        assoc.dul._run_loop_delay = 0.0005
        assoc.set_socket(QuickSocket(assoc, self.request))
        assoc.acceptor.maximum_length = MAX_PDU_BYTES
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.requestor.address_info = self.remote
        for event, handler in server.event_handlers:
            assoc.bind(event, handler)
        return assoc


class StorageServer(ThreadedAssociationServer):
    """Listens, and starts a thread for each connection.

    :param knows: tells whether a called AE title is served here.
    :param ended: is told of every association that ends.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        *,
        desk: Desk,
        knows: Callable[[str], bool],
        ended: Callable[[Association], None],
    ):
        self.desk = desk
        self._knows = knows
        self._ended = ended
        self.event_handlers: list[tuple[Any, Callable[[evt.Event], Any]]] = [(evt.EVT_REQUESTED, self._requested)]
        super().__init__(ae, address, ae.ae_title, [], request_handler=StorageRequestHandler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse connections that can only be meant to use up threads; associations are limited by the AE."""
        return len(self.active_associations) < 2 * self.ae.maximum_associations

    def association_ended(self, assoc: Association) -> None:
        self._ended(assoc)

    def _requested(self, event: evt.Event) -> None:
        """Prepare the negotiation. ``require_called_aet`` of the AE rejects what does not get its called title here."""
        assoc = event.assoc
        request = assoc.requestor.primitive
        assert request is not None  # this event comes with it
        called = request.called_ae_title
        other = "-" if called != "-" else "+"
        assoc.acceptor.ae_title = called if self._knows(called) else other
        proposed = [
            (str(context.abstract_syntax), [str(uid) for uid in context.transfer_syntax])
            for context in request.presentation_context_definition_list
        ]
        assoc.acceptor.supported_contexts = [
            build_context(abstract, syntaxes) for abstract, syntaxes in acceptable(proposed).items()
        ]
