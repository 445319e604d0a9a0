"""``airflow monai send``: DICOM files of this host to a DICOM node, resumable, with a verdict on each."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from airflow_monai.cli.ending import ends
from airflow_monai.cli.progress import Progress
from airflow_monai.errors import InvalidArgument, SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.dicom import DicomSink
from airflow_monai.sinks.dimse.wire import NobodyThere
from airflow_monai.store.base import safe_name
from airflow_monai.store.elements import DamagedDataSet
from airflow_monai.store.foreign import HEAD_BYTES, begins_as_dicom, problem_of_stranger, recognise
from airflow_monai.store.part10 import NotIdentified, mapped

SHOWN = 20
INTERRUPTED = 130
PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SendOptions:
    """
    :param ledger: file of what was accepted; None: one below ``.monai/sent`` that is named after the destination.
    :param again: send also what was accepted before.
    :param tries: how often to call a node that stops answering.
    """

    paths: tuple[Path, ...]
    destination: Destination
    ledger: Path | None = None
    again: bool = False
    tries: int = 3
    as_json: bool = False


@ends(refused=2)
def send(args: Namespace) -> int:

    extra = {
        "tls": args.tls,
        "ca_file": args.ca_file,
        "cert_file": args.cert_file,
        "key_file": args.key_file,
        "check_certificate": "false" if args.no_check else "",
        "associations": args.associations,
        "response_timeout": args.timeout,
        "max_mb_per_second": args.max_mb_per_second,
        "convert": "false" if args.as_is else "",
    }
    destination = destination_of(args.to, args.called, args.calling, extra)
    options = SendOptions(
        paths=tuple(map(Path, args.paths)),
        destination=destination,
        ledger=Path(args.ledger) if args.ledger else None,
        again=args.again,
        tries=args.tries,
        as_json=args.json,
    )
    return run(DicomSink(destination), options, sys.stdout, sys.stderr)


def destination_of(to: str, called: str, calling: str, extra: dict[str, Any]) -> Destination:
    """The node at ``HOST:PORT``.

    :raises InvalidArgument: when it is no such thing.
    """
    host, _, port = to.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise InvalidArgument(f"--to {to!r} is not HOST:PORT, as pacs.example.org:11112.")
    given = {key: value for key, value in extra.items() if value not in (None, "", False)}
    return Destination(to, "dicom", host, int(port), {**given, "called_aet": called, "calling_aet": calling})


class SentLedger:
    """Which images a node has accepted: a line of JSON for each verdict, written as it comes. Safe for threads."""

    def __init__(self, file: Path):
        self.file = file
        self.accepted: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)  # it names instances
        self._out = os.fdopen(fd, "a+", encoding="utf-8")
        self._out.seek(0)
        line = "\n"
        for line in self._out:
            self._read(line)
        if not line.endswith("\n"):
            self._out.write("\n")  # a run was killed in the midst of it

    def _read(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if entry["state"] == DeliveryState.ACCEPTED.value:
                self.accepted.add((str(entry["sop_instance_uid"]), int(entry["size"])))
        except (ValueError, KeyError, TypeError):
            return  # the last line of a run that was killed

    def note(self, uid: str, size: int, delivery: Delivery) -> None:
        entry = {"sop_instance_uid": uid, "size": size, "state": delivery.state.value, "status": delivery.status}
        with self._lock:
            self._out.write(json.dumps({**entry, "time": round(time.time(), 3)}) + "\n")
            self._out.flush()

    def close(self) -> None:
        self._out.close()


@dataclass
class _Found:
    instances: list[Instance] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)
    passed_over: int = 0
    duplicates: int = 0


def run(sink: DicomSink, options: SendOptions, out: TextIO, err: TextIO) -> int:
    """Send; the exit code.

    :raises MonaiError: when it cannot be done at all.
    """
    progress = Progress(err)
    found = _find(options.paths, progress)
    progress.clear()
    if not found.instances:
        reason = f" {found.bad[0][0]}: {found.bad[0][1]}." if found.bad else ""
        raise InvalidArgument(f"There is no DICOM image in {', '.join(map(str, options.paths))}.{reason}")
    ledger = SentLedger(options.ledger or _ledger_file(options.destination))
    sending = _Sending(sink, options, found, ledger, progress)
    try:
        code = sending.run(err)
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        ledger.close()
        progress.clear()
    sending.summarise(out, code == INTERRUPTED)
    return code


class _Sending:
    """One run of the command."""

    def __init__(self, sink: DicomSink, options: SendOptions, found: _Found, ledger: SentLedger, progress: Progress):
        self._sink = sink
        self._sink.calls = 1  # calling again is what this command does, and says
        self._options = options
        self._found = found
        self._ledger = ledger
        self._progress = progress
        self._began = time.monotonic()
        self._bytes = 0
        self._lock = threading.Lock()
        self._verdicts: dict[str, Delivery] = {}
        known = set() if options.again else ledger.accepted
        self._todo = [one for one in found.instances if (one.sop_instance_uid, found.sizes[one.name]) not in known]
        self._before = len(found.instances) - len(self._todo)

    def run(self, err: TextIO) -> int:
        for attempt in range(1, self._options.tries + 1):
            left = [one for one in self._todo if not self._is_final(one)]
            if not left:
                break
            try:
                self._sink.send(left, self._on_result)
            except SinkUnavailable as error:
                self._progress.clear()
                print(f"{error}", file=err)
                if isinstance(error, NobodyThere) and not self._verdicts:
                    break  # most likely the address is wrong: who sits before it should not have to wait
                if attempt < self._options.tries:
                    time.sleep(PAUSE_SECONDS)
        return 0 if self._count(DeliveryState.ACCEPTED) == len(self._todo) and not self._found.bad else 1

    def _is_final(self, instance: Instance) -> bool:
        verdict = self._verdicts.get(str(instance.sop_instance_uid))
        if verdict is None:
            return False
        return verdict.state is DeliveryState.ACCEPTED or (verdict.state is DeliveryState.REFUSED and not verdict.retry)

    def _on_result(self, delivery: Delivery) -> None:
        size = self._found.sizes.get(delivery.identity, 0)
        with self._lock:
            self._verdicts[delivery.identity] = delivery
            if delivery.state is DeliveryState.ACCEPTED:
                self._bytes += size
            done = len(self._verdicts)
        if delivery.state is not DeliveryState.SENT:
            self._ledger.note(delivery.identity, size, delivery)
            self._progress.tell(f"{done} of {len(self._todo)} images, {self._rate()}")

    def _count(self, state: DeliveryState) -> int:
        return sum(1 for verdict in self._verdicts.values() if verdict.state is state)

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-3)
        return f"{len(self._verdicts) / seconds:.0f} images/s, {self._bytes / seconds / 1e6:.1f} MB/s"

    def summarise(self, out: TextIO, interrupted: bool) -> None:
        accepted, refused = self._count(DeliveryState.ACCEPTED), self._count(DeliveryState.REFUSED)
        statuses = Counter(
            f"{verdict.state.value} {verdict.status or '-'}"
            for verdict in self._verdicts.values()
            if verdict.status not in ("", "0000") or verdict.state is not DeliveryState.ACCEPTED
        )
        facts = {
            "images": len(self._found.instances),
            "accepted": accepted,
            "accepted_before": self._before,
            "refused": refused,
            "not_answered": len(self._todo) - accepted - refused,
            "statuses": dict(sorted(statuses.items())),
            "passed_over": self._found.passed_over,
            "duplicates": self._found.duplicates,
            "bad_files": [{"name": name, "reason": reason} for name, reason in self._found.bad],
            "seconds": round(time.monotonic() - self._began, 3),
            "bytes": self._bytes,
            "ledger": str(self._ledger.file),
            "interrupted": interrupted,
        }
        if self._options.as_json:
            print(json.dumps(facts, indent=2), file=out)
        else:
            _print(facts, self._rate(), self._verdicts.values(), out)


def _print(facts: dict[str, Any], rate: str, verdicts: Any, out: TextIO) -> None:
    before = f", {facts['accepted_before']} were accepted before" if facts["accepted_before"] else ""
    print(f"{facts['images']} images: {facts['accepted']} accepted{before} ({rate}).", file=out)
    if facts["refused"] or facts["not_answered"]:
        print(f"  {facts['refused']} refused, {facts['not_answered']} without an answer.", file=out)
    messages = {f"{item.state.value} {item.status or '-'}": item.message for item in verdicts}
    for status, count in facts["statuses"].items():
        print(f"  {status}: {count} {messages.get(status, '')}".rstrip(), file=out)
    for item in facts["bad_files"][:SHOWN]:
        print(f"  not sent: {item['name']}: {item['reason']}", file=out)
    if len(facts["bad_files"]) > SHOWN:
        print(f"  and {len(facts['bad_files']) - SHOWN} more; --json lists all", file=out)
    if facts["passed_over"] or facts["duplicates"]:
        print(f"  passed over: {facts['passed_over']} other files, {facts['duplicates']} copies", file=out)
    if facts["interrupted"] or facts["refused"] or facts["not_answered"]:
        print(f"Run it again to send what was not accepted ({facts['ledger']} knows).", file=out)


def _ledger_file(destination: Destination) -> Path:
    called = destination.text("called_aet")
    return Path(".monai", "sent", f"{safe_name(f'{called}-{destination.host}-{destination.port}')}.jsonl")


def _find(paths: Sequence[Path], progress: Progress) -> _Found:
    found = _Found()
    for top in paths:
        if not top.exists():
            raise InvalidArgument(f"There is no file or folder {top}.")
        for path in _files(top):
            name = path.relative_to(top).as_posix() if path != top else path.name
            try:
                _look(path, name, found)
            except (NotIdentified, DamagedDataSet) as error:
                found.bad.append((name, str(error).rstrip(".")))
            except (OSError, ValueError) as error:
                found.bad.append((name, f"it cannot be read: {getattr(error, 'strerror', '') or type(error).__name__}"))
            progress.tell(f"{len(found.instances)} images found")
    return found


def _files(top: Path) -> Iterator[Path]:
    if not top.is_dir():
        yield top
        return
    unread: list[Path] = []  # told as files that are not sent: they must not look empty
    for folder, folders, names in os.walk(top, onerror=lambda error: unread.append(Path(error.filename))):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))
    yield from unread


def _look(path: Path, name: str, found: _Found) -> None:
    if path.is_dir():
        found.bad.append((name, "this folder cannot be read"))
        return
    if not path.is_file():
        return
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if not begins_as_dicom(head):
        if problem := problem_of_stranger(name, head):
            found.bad.append((name, problem))
        else:
            found.passed_over += 1
        return
    with mapped(path) as data:
        image = recognise(data)
    if image is None:
        found.passed_over += 1
        return
    who = image.identity
    if who.sop in found.sizes:
        found.duplicates += 1
        return
    found.sizes[who.sop] = image.size
    found.instances.append(
        Instance(
            key=name,
            path=path,
            name=who.sop,
            sop_instance_uid=who.sop,
            sop_class_uid=who.sop_class,
            transfer_syntax_uid=image.transfer_syntax,
            study_instance_uid=who.study,
            series_instance_uid=who.series,
        )
    )
