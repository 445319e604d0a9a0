"""Which associations are taken: by AE titles, by how many are open, and by the space on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_monai.gateway.dicom.board import Board
from airflow_monai.gateway.dicom.pdu import APPLICATION_CONTEXT, AssociateRequest, Rejection, is_only
from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.gateway.dicom.sop_classes import VERIFICATION
from airflow_monai.store.space import DiskGuard

# Result, source and reason, PS3.8 table 9-21
_BAD_VERSION = (1, 2, 2)
_NO_APPLICATION_CONTEXT = (1, 1, 2)
_NO_CALLING_AET = (1, 1, 3)
_NO_CALLED_AET = (1, 1, 7)
_LOCAL_LIMIT = (2, 3, 2)


class Refused(Exception):
    """An association is rejected."""

    def __init__(self, rejection: Rejection):
        super().__init__(rejection.text)
        self.rejection = rejection


class Admission:
    """Safe for threads.

    :param knows: tells whether a called AE title is served.
    :param board: where open associations are written down, when those of other processes count too.
    """

    def __init__(
        self,
        options: DicomOptions,
        knows: Callable[[str], bool],
        guard: DiskGuard | None = None,
        board: Board | None = None,
    ):
        self._options = options
        self._knows = knows
        self._guard = guard
        self._board = board or Board.private(options.associations)

    @contextmanager
    def admitted(self, request: AssociateRequest, address: str) -> Iterator[None]:
        """Count the association as open within.

        :param address: of the peer.
        :raises Refused: when it is not to be taken.
        """
        self._check(request, address)
        slot = self._enter(request.calling)
        try:
            yield
        finally:
            self._board.leave(slot)

    def _check(self, request: AssociateRequest, address: str) -> None:
        if not request.version & 1:
            raise _refused(_BAD_VERSION, "it asks for another version of the protocol than 1")
        if request.application_context != APPLICATION_CONTEXT:
            raise _refused(_NO_APPLICATION_CONTEXT, "it asks for another application context than DICOM's")
        if not self._knows(request.called):
            raise _refused(
                _NO_CALLED_AET,
                "no workflow listens to the called AE title: set informatics_gateway.ae_title of one",
            )
        callers = self._options.callers
        if callers and not any(caller.matches(request.calling, address) for caller in callers):
            raise _refused(
                _NO_CALLING_AET,
                "the calling AE title may not send, or not from this address: add it to [monai] dicom_allowed_callers",
            )
        if self._guard and not is_only(VERIFICATION, request.contexts):  # an echo needs no space
            refusal = self._guard.refusal()
            if refusal:
                raise _refused(_LOCAL_LIMIT, refusal)

    def _enter(self, calling: str) -> int:
        options = self._options
        slot = self._board.enter(calling, options.associations, options.associations_of_caller)
        if isinstance(slot, int):
            return slot
        if slot == "all":
            raise _refused(
                _LOCAL_LIMIT,
                f"more than {options.associations} associations are open: see [monai] dicom_max_associations",
            )
        raise _refused(
            _LOCAL_LIMIT,
            f"more than {options.associations_of_caller} associations of this calling AE title are open: see "
            "[monai] dicom_max_associations_of_caller",
        )


def _refused(codes: tuple[int, int, int], text: str) -> Refused:
    return Refused(Rejection(*codes, text))
