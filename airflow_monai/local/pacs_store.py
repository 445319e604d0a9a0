"""A small DICOM store: receives by C-STORE, answers C-ECHO, keeps files and a log of what it accepted.

The receiving PACS of the demo where Orthanc is not installed, and the one that tests count deliveries with. Every
receipt is a line of ``received.log`` (SOPInstanceUID, tab, calling AE title): an instance delivered twice shows twice.

    python -m airflow_monai.local.pacs_store --port 11112 --folder received
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from airflow_monai.errors import MonaiError

log = logging.getLogger(__name__)

VERIFICATION = "1.2.840.10008.1.1"
LOG_NAME = "received.log"
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700  # PS3.4 table B.2-1
CANNOT_UNDERSTAND = 0xC000
UID_PATTERN = re.compile(r"[0-9.]{1,64}")
COMPRESSED = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
)
TRANSFER_SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    *(UID(uid) for uid in COMPRESSED),
]


class CannotListen(MonaiError):
    """The port is taken or not allowed."""


@dataclass(frozen=True)
class Behaviour:
    """How the store treats what it gets.

    :param refuse_every: every n-th C-STORE is refused with status A700 (out of resources); 0 for none.
    :param delay_seconds: waited before each answer, with the file already written.
    """

    refuse_every: int = 0
    delay_seconds: float = 0.0


class PacsStore:
    """The store itself; also usable within a process, as ``with PacsStore(folder).listening(port): ...``.

    :param folder: files go to ``<folder>/<StudyInstanceUID>/<SOPInstanceUID>.dcm``; the log beside them.
    :param aet: the called AE title; others are accepted too, as most test equipment does.
    """

    def __init__(self, folder: Path | str, *, aet: str = "PACS", behaviour: Behaviour | None = None):
        self.folder = Path(folder)
        self.aet = aet
        self.behaviour = behaviour or Behaviour()
        self._requests = itertools.count(1)
        self._log_lock = threading.Lock()

    @contextlib.contextmanager
    def listening(self, port: int, host: str = "127.0.0.1") -> Iterator[int]:
        """Listen in threads of this process until the block ends; gives the port, a free one for port 0.

        :raises CannotListen: when the port is taken.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_path.touch()
        handlers: list[Any] = [(evt.EVT_C_STORE, self._on_store), (evt.EVT_CONN_OPEN, _answer_at_once)]
        try:
            server = self._entity().start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise CannotListen(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from error
        assert server is not None  # start_server returns the server when it does not block
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()

    @property
    def log_path(self) -> Path:
        return self.folder / LOG_NAME

    def _entity(self) -> AE:
        ae = AE(ae_title=self.aet)
        ae.maximum_associations = 64
        ae.maximum_pdu_size = 0
        ae.add_supported_context(VERIFICATION)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), TRANSFER_SYNTAXES)
        return ae

    def _on_store(self, event: Event) -> int:
        """Answer one C-STORE: success only after the file and its line in the log are written."""
        every = self.behaviour.refuse_every
        if every and next(self._requests) % every == 0:
            return OUT_OF_RESOURCES
        ds = event.dataset
        study_uid, sop_uid = str(ds.get("StudyInstanceUID", "")), str(event.file_meta.MediaStorageSOPInstanceUID)
        if not (UID_PATTERN.fullmatch(study_uid) and UID_PATTERN.fullmatch(sop_uid)):
            return CANNOT_UNDERSTAND
        try:
            self._write(study_uid, sop_uid, event.encoded_dataset())
            self._record(sop_uid, event.assoc.requestor.ae_title)
        except OSError as error:
            log.error("Cannot keep an instance in %s: %s", self.folder, error.strerror)
            return OUT_OF_RESOURCES
        time.sleep(self.behaviour.delay_seconds)
        return SUCCESS

    def _write(self, study_uid: str, sop_uid: str, part10: bytes) -> None:
        """Make the file appear whole: the bytes are as they came, behind a new file meta header."""
        target = self.folder / study_uid / f"{sop_uid}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_suffix(f".{threading.get_ident()}.part")
        scratch.write_bytes(part10)
        os.replace(scratch, target)

    def _record(self, sop_uid: str, calling_aet: str) -> None:
        with self._log_lock, self.log_path.open("a", encoding="ascii", errors="replace") as file:
            file.write(f"{sop_uid}\t{calling_aet.strip()}\n")


def received(folder: Path | str) -> Counter[str]:
    """How often each SOPInstanceUID was accepted by the store of this folder."""
    path = Path(folder) / LOG_NAME
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return Counter(line.split("\t")[0] for line in lines)


def _answer_at_once(event: Event) -> None:
    """Without this the small answers wait for an acknowledgement of the last: 40 ms an image."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the module: serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_monai.local.pacs_store", description="A small DICOM store."
    )
    parser.add_argument("--port", type=int, required=True, help="0 for a free one")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--aet", default="PACS", help="its AE title")
    parser.add_argument("--refuse-every", type=int, default=0, metavar="N", help="refuse each N-th instance (A700)")
    parser.add_argument("--delay", type=float, default=0.0, metavar="S", help="seconds to wait before each answer")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    ended = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        ended.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, end)
    store = PacsStore(args.folder, aet=args.aet, behaviour=Behaviour(args.refuse_every, args.delay))
    try:
        with store.listening(args.port, args.host) as port:
            print(f"pacs_store: {args.aet} listens on {args.host}:{port}", flush=True)
            ended.wait()
    except CannotListen as error:
        parser.exit(1, f"pacs_store: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
