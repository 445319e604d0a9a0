"""DICOM storage commitment: a node takes responsibility for what it was sent (PS3.4 annex J, the push model)."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import DeadlinePassed, DestinationError, SinkUnavailable
from airflow_monai.sinks.base import Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.dimse.association import Peer

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom import AE
    from pynetdicom.association import Association

log = logging.getLogger(__name__)

PUSH_MODEL, PUSH_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
_REQUEST = 1  # action type (PS3.4 table J.3-1)
_PORT_PAUSE = 0.5  # seconds between two looks whether another task has left the port


class _Report:
    """The answer to one request, which may come on any association."""

    def __init__(self, transaction: str):
        self.transaction = transaction
        self._came = threading.Event()
        self.found: dict[str, bool] = {}

    def on_report(self, event: Any) -> tuple[int, None]:
        """Take an N-EVENT-REPORT; one for another request is acknowledged, and does nothing."""
        ds = event.event_information
        if ds.get("TransactionUID") == self.transaction:
            failed = ds.get("FailedSOPSequence") or ()
            self.found = {str(item.ReferencedSOPInstanceUID): True for item in ds.get("ReferencedSOPSequence") or ()}
            self.found.update({str(item.ReferencedSOPInstanceUID): False for item in failed})
            for reason, count in Counter(item.get("FailureReason", 0) for item in failed).items():
                log.warning("%d instances are not committed (failure reason %04X)", count, reason)
            self._came.set()
        return 0x0000, None

    def wait(self, seconds: float) -> bool:
        return self._came.wait(seconds)


def commit(
    peer: Peer, instances: Sequence[Instance], deadline: Deadline, *, port: int, seconds: float
) -> dict[str, bool] | None:
    """SOP Instance UID -> whether the node commits itself to keep it; None where it does no storage commitment.

    :param port: where its report is waited for; 0 for the association of the request only.
    :param seconds: how long it may take.
    :raises SinkUnavailable: it does not answer, or does not report in time.
    :raises DestinationError: it does not want such a request of ours.
    """
    longest = 4 * peer.connect_timeout + 2 * peer.response_timeout + seconds  # pynetdicom waits for ever for half a PDU
    limit = Deadline(deadline.left(longest))
    try:
        return limit.within(lambda: _commit(peer, instances, deadline, port=port, seconds=seconds))
    except DeadlinePassed:
        deadline.check()
        raise SinkUnavailable(f"{peer} began an answer for storage commitment and did not end it.") from None


def _commit(
    peer: Peer, instances: Sequence[Instance], deadline: Deadline, *, port: int, seconds: float
) -> dict[str, bool] | None:
    from pydicom.uid import generate_uid

    report = _Report(str(generate_uid(prefix=None)))
    with _listening(peer, report, port, deadline), _association(peer, report, deadline, seconds) as association:
        if not association.accepted_contexts:
            return None
        _request(association, peer, report, instances)
        if port:
            association.release()  # some nodes report only then
        if not report.wait(deadline.left(seconds)):
            deadline.check()
            where = f"on port {port}" if port else "on our association (set commitment_port if it reports on its own)"
            raise SinkUnavailable(f"{peer} did not report on storage commitment within {seconds:g} s {where}.")
    return report.found


def _request(association: Association, peer: Peer, report: _Report, instances: Sequence[Instance]) -> None:
    status, _ = association.send_n_action(_asked(report, instances), _REQUEST, PUSH_MODEL, PUSH_INSTANCE)
    if "Status" not in status:
        raise SinkUnavailable(f"{peer} did not answer the request for storage commitment.")
    if status.Status:
        raise DestinationError(
            f"{peer} refused storage commitment with status {status.Status:04X}: allow it there for our AE title "
            f"{peer.calling_aet}, or set verify to query or none."
        )


def _asked(report: _Report, instances: Sequence[Instance]) -> Dataset:
    from pydicom import Dataset

    ds = Dataset()
    ds.TransactionUID = report.transaction
    ds.ReferencedSOPSequence = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.sop_class_uid
        item.ReferencedSOPInstanceUID = str(instance.sop_instance_uid)
        ds.ReferencedSOPSequence.append(item)
    return ds


@contextmanager
def _association(peer: Peer, report: _Report, deadline: Deadline, seconds: float) -> Iterator[Association]:
    from pynetdicom import evt

    ae = _entity(peer, deadline, seconds)
    ae.add_requested_context(PUSH_MODEL)
    association = ae.associate(
        peer.host,
        peer.port,
        ae_title=peer.called_aet,
        tls_args=(peer.tls, peer.host) if peer.tls else None,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, report.on_report)],
    )
    try:
        if association.is_rejected:
            raise DestinationError(f"{peer} rejected the association of {peer.calling_aet} for storage commitment.")
        if not association.is_established and not association.rejected_contexts:
            raise SinkUnavailable(f"{peer} cannot be reached for storage commitment.")
        yield association
    finally:
        if association.is_established:
            association.release()


@contextmanager
def _listening(peer: Peer, report: _Report, port: int, deadline: Deadline) -> Iterator[None]:
    """While the block runs, take reports on the port, once no other task of this host has it."""
    if not port:
        yield
        return
    from pynetdicom import evt

    ae = _entity(peer, deadline, peer.response_timeout)
    ae.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
    while True:
        try:
            server = ae.start_server(("", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report.on_report)])
            break
        except PermissionError as error:
            raise DestinationError(f"commitment_port {port} cannot be listened on ({error.strerror}).") from None
        except OSError:
            deadline.pause(_PORT_PAUSE)
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()


def _entity(peer: Peer, deadline: Deadline, seconds: float) -> AE:
    from pynetdicom import AE

    ae = AE(ae_title=peer.calling_aet)
    ae.connection_timeout = ae.acse_timeout = deadline.left(peer.connect_timeout)
    ae.dimse_timeout = deadline.left(peer.response_timeout)
    ae.network_timeout = seconds + 10
    return ae
