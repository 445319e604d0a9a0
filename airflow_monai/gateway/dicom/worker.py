"""A process of a gateway that only receives. What it has stored it tells the gateway, which sees it through."""

from __future__ import annotations

import logging
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from airflow_monai.gateway.dicom import metrics
from airflow_monai.gateway.dicom.admission import Admission
from airflow_monai.gateway.dicom.board import Board
from airflow_monai.gateway.dicom.desk import StoreDesk
from airflow_monai.gateway.dicom.receiver import Receiver
from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.gateway.dicom.transport import Doors
from airflow_monai.intake.events import EventKind, EventLog
from airflow_monai.intake.workflows import Workflows
from airflow_monai.store import open_store
from airflow_monai.store.intake import Intake
from airflow_monai.store.space import DiskGuard
from airflow_monai.store.spool import SpoolFolder
from airflow_monai.workflows.site import SiteWorkflows


@dataclass(frozen=True, slots=True)
class Orders:
    """What a receiving process has to know.

    :param number: of this process, from 0.
    :param board: memory of :class:`Board`, shared with the others.
    :param guard: limits of the disk guard: percent and bytes.
    """

    number: int
    store: str
    workflow_folder: str
    events: Path | None
    guard: tuple[float, int]
    dicom: DicomOptions
    doors: Doors
    board: Any


class _Silent(EventLog):
    """The gateway itself tells when workflows change."""

    def emit(self, kind: EventKind, **fields: Any) -> None:
        return


def work(orders: Orders, news: Connection, questions: Connection) -> None:
    """Receive until the gateway says how long open associations may still take, or is gone.

    :param news: what is stored goes here: ``("received", Placed, called AE title)`` and ``("left", payload id)``.
    :param questions: from here come payloads, of which it is asked whether an image is just coming in, and the end.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # they are the gateway's, which then says so
    _log_to_stderr()
    metrics.begin()
    store = open_store(orders.store)
    events = EventLog(orders.events)
    workflows = Workflows(orders.workflow_folder, 0.0, _Silent(), SiteWorkflows(store).files)
    guard = DiskGuard(store.spool(), *orders.guard)
    spool = SpoolFolder(store)
    lock = threading.Lock()

    def tell(*message: object) -> None:
        with lock:
            news.send(message)

    desk = StoreDesk(
        Intake(store),
        spool.path,
        events,
        received=lambda placed, called: tell("received", placed, called),
        grouping=workflows.grouping,
        guard=guard,
        max_file=orders.dicom.max_file,
        sender_left=lambda payload_id: tell("left", payload_id),
    )
    board = Board(orders.board, orders.dicom.processes, orders.dicom.associations, orders.number)
    admission = Admission(orders.dicom, workflows.knows, guard, board)
    receiver = Receiver(desk, admission, events, "", 0, orders.dicom, orders.doors)
    receiver.start()
    tell("ready")
    receiver.stop(_answer(desk, questions))
    spool.remove()


def _answer(desk: StoreDesk, questions: Connection) -> float:
    """Answer the gateway's questions until it says how long the rest may take."""
    while True:
        try:
            question = questions.recv()
        except (EOFError, OSError):
            os._exit(1)  # the gateway was killed: so are we, by the same rules
        if isinstance(question, float):
            return question
        questions.send((question.payload_id, desk.arriving(question)))


def _log_to_stderr() -> None:
    logger = logging.getLogger("airflow_monai.gateway")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
