"""Several receiving processes behind one port, for more than one core: ``[monai] dicom_processes``."""

from __future__ import annotations

import ctypes
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from airflow_monai.errors import MonaiError
from airflow_monai.gateway.dicom.board import Board
from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.gateway.dicom.tls import ServerTls
from airflow_monai.gateway.dicom.transport import Doors
from airflow_monai.gateway.dicom.worker import Orders, work
from airflow_monai.intake.events import EventKind, EventLog, log, log_internal
from airflow_monai.store.intake import OpenPayload, Placed
from airflow_monai.store.space import DiskGuard

_START_SECONDS, _ANSWER_SECONDS, _PAUSE_SECONDS = 120.0, 2.0, 1.0


@dataclass(frozen=True, slots=True)
class Site:
    """What receiving processes need of the gateway's options, to make their own of it."""

    store: str
    workflow_folder: str
    events: Path | None
    host: str
    port: int


class ReceiverPool:
    """A DICOM receiver of several processes. One that dies is replaced; its associations break, nothing else.

    :param received: is called for each image that is durable.
    :param sender_left: as that of :class:`airflow_monai.gateway.dicom.desk.StoreDesk`.
    :param tidy: removes what a process that died has left behind.
    """

    name = "dicom"

    def __init__(
        self,
        site: Site,
        options: DicomOptions,
        guard: DiskGuard,
        events: EventLog,
        *,
        received: Callable[[Placed, str], None],
        sender_left: Callable[[str], None],
        tidy: Callable[[], None],
    ):
        self.port, self.tls_port = site.port, options.tls_port or 0
        self._site = site
        self._options = options
        self._guard = guard
        self._events = events
        self._received = received
        self._sender_left = sender_left
        self._tidy = tidy
        self._doors = Doors()
        self._hands: list[_Hand] = []
        self._stopping = threading.Event()
        self._ready = threading.Semaphore(0)

    def start(self) -> None:
        """Listen; :class:`OSError` when a port is taken, :class:`MonaiError` when a process does not come up."""
        site, options = self._site, self._options
        if options.tls:
            ServerTls(options.tls)  # what is wrong with it is said here, not by each process
        self._doors = Doors.open(site.host, site.port if options.plain else None, options.tls_port)
        self.port, self.tls_port = self._doors.port, self._doors.tls_port
        memory = multiprocessing.get_context("spawn").RawArray(
            ctypes.c_char, Board.size(options.processes, options.associations)
        )
        board = Board(memory, options.processes, options.associations)
        orders = Orders(
            number=0,
            store=site.store,
            workflow_folder=site.workflow_folder,
            events=site.events,
            guard=(self._guard.used_percent, self._guard.reserve_bytes),
            dicom=options,
            doors=self._doors,
            board=memory,
        )
        self._hands = [
            _Hand(replace(orders, number=number), self._hear, lambda number: self._died(board, number), self._stopping)
            for number in range(options.processes)
        ]
        for hand in self._hands:
            hand.start()
        end = time.monotonic() + _START_SECONDS
        if not all(self._ready.acquire(timeout=max(0.0, end - time.monotonic())) for _ in self._hands):
            self.stop(0.0)
            raise MonaiError("A receiving process did not come up: the gateway's log has what it said.")

    def stop(self, grace: float) -> None:
        """As that of :class:`airflow_monai.gateway.dicom.receiver.Receiver`."""
        self._stopping.set()
        for hand in self._hands:
            hand.say_stop(grace)
        for hand in self._hands:  # until they have ended, what they take keeps payloads open
            hand.join(grace + 15.0)
        self._hands = []
        self._doors.close()

    def arriving(self, payload: OpenPayload) -> bool:
        """Whether an image for this payload is just coming in, at any of the processes."""
        return any(hand.arriving(payload) for hand in self._hands)

    def _hear(self, message: tuple) -> None:
        match message:
            case ("received", placed, called):
                self._received(placed, called)
            case ("left", payload_id):
                self._sender_left(payload_id)
            case ("ready",):
                self._ready.release()

    def _died(self, board: Board, number: int) -> None:
        board.clear(number)
        self._events.emit(EventKind.RECEIVER_DIED, number=number)
        self._tidy()


class _Hand:
    """One of the processes, and its successors."""

    def __init__(
        self,
        orders: Orders,
        hear: Callable[[tuple], None],
        died: Callable[[int], None],
        stopping: threading.Event,
    ):
        self._orders = orders
        self._hear = hear
        self._died = died
        self._stopping = stopping
        self._lock = threading.Lock()
        self._process: SpawnProcess | None = None
        self._questions: Connection | None = None
        self._thread = threading.Thread(target=self._keep, name=f"receiver-{orders.number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        process = self._process
        if process and process.is_alive():
            log.error("receiving process %d does not end; it is killed", self._orders.number)
            process.kill()
            self._thread.join(5.0)

    def say_stop(self, grace: float) -> None:
        with self._lock:
            if self._questions:
                try:
                    self._questions.send(float(grace))
                except OSError:
                    return  # it is ending already

    def arriving(self, payload: OpenPayload) -> bool:
        """Whether it has an image of the payload coming in; one that does not answer may have."""
        with self._lock:
            if self._questions is None:
                return False
            try:
                self._questions.send(payload)
                while self._questions.poll(_ANSWER_SECONDS):
                    payload_id, answer = self._questions.recv()
                    if payload_id == payload.payload_id:  # else it is a late answer to an earlier question
                        return bool(answer)
            except (OSError, EOFError):
                return False  # it has just died, and with it what was coming in
        return True

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                news = self._begin()
            except OSError as error:  # the system has no process to give now
                log.error("receiving process %d cannot be started: %s", self._orders.number, error.strerror or error)
                self._stopping.wait(_PAUSE_SECONDS)
                continue
            while True:
                try:
                    message = news.recv()
                except (EOFError, OSError):
                    break
                try:
                    self._hear(message)
                except Exception as error:  # noqa: BLE001 - who does not hear on keeps the process from answering its senders
                    log_internal("hearing of an image, which is stored", error)
            news.close()
            with self._lock:
                if self._questions:
                    self._questions.close()
                self._questions = None
            if self._process:
                self._process.join()
            if not self._stopping.is_set():
                log.error("receiving process %d has died; another one takes its place", self._orders.number)
                self._died(self._orders.number)
                time.sleep(_PAUSE_SECONDS)

    def _begin(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        news, news_there = context.Pipe(duplex=False)
        questions, questions_there = context.Pipe()
        process = context.Process(
            target=work, args=(self._orders, news_there, questions_there), name=f"receiver-{self._orders.number}",
            daemon=True,
        )  # fmt: skip
        process.start()
        news_there.close()  # so that the end of the process is the end of the pipe
        questions_there.close()
        with self._lock:
            self._process, self._questions = process, questions
            if self._stopping.is_set():
                questions.send(0.0)
        return news
