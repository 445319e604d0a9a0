"""The files that an export task is to deliver, and the checks before any of them leaves."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import ExportError, ExportRefused, NothingToExport
from airflow_monai.sinks.base import Instance
from airflow_monai.sinks.part10 import Head, read_head
from airflow_monai.store.base import safe_name
from airflow_monai.store.payloads import payload_key, run_id_of, run_key
from airflow_monai.tasks.artifacts import resolve_artifact

if TYPE_CHECKING:
    from airflow_monai.store.base import Store
    from airflow_monai.tasks.run import TaskRun
    from airflow_monai.types import Payload, PayloadFile

OTHER_STUDY, RECEIVED_SERIES = "allow_other_study", "allow_received_series"
"""Extras of a connection that permit what is refused otherwise."""
_DICOM_SUFFIXES = (".dcm", ".dicom")
_START = 16_384
"""Bytes at the beginning of a result that surely hold its UIDs."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of an input artifact.

    :param problem: why it must not go to a DICOM sink; None where it may, or where it is no DICOM file at all.
    :param permits: the extras of a connection that permit it all the same, when all of them are set; empty where
        nothing does.
    :param head: what the file says, None for a received image and for what is no DICOM file.
    """

    artifact: str
    instance: Instance
    problem: str | None = None
    permits: frozenset[str] = frozenset()
    head: Head | None = None

    @property
    def is_dicom(self) -> bool:
        return self.instance.sop_instance_uid is not None


def collect(run: TaskRun, inputs: Sequence[Mapping[str, Any]], scratch: Path) -> list[ExportFile]:
    """All files of the inputs, each once.

    :param scratch: folder for copies of what a remote store holds.
    :raises NothingToExport: when a mandatory input has no files.
    """
    files: dict[str, ExportFile] = {}
    origin = _Origin.of(run)
    for artifact in inputs:
        found = resolve_artifact(run, artifact)
        if not found.keys and artifact.get("mandatory", True):
            raise NothingToExport(
                f"Input artifact {artifact['name']!r} of task {run.task_id} ({artifact['value']}) has no files: the "
                f"task that should have made it did not.{found.why_missing} Set mandatory: false if it may be absent."
            )
        paths = _at_hand(run, [key for key in found.keys if key not in files], scratch)
        for key in found.keys:
            if key not in files:
                path = paths[key]
                name = f"{folder_of(run, key)}/{safe_name(artifact['name'])}/{found.relative(key)}"
                if key in origin.received:
                    files[key] = ExportFile(artifact["name"], origin.instance(key, path, name))
                else:
                    files[key] = _made(origin, artifact["name"], Instance(key, path, name, digest=_digest(path)))
    checked = _with_series_of_their_own(run, list(files.values()))
    return _with_uids_of_their_own(run, checked, scratch) if run.series_uid else checked


def folder_of(run: TaskRun, key: str) -> str:
    """Where a sink with file names keeps a file of the task: ``<payload>/<workflow>/<task>``.

    A run with a name of its own (a rerun, one started by hand) has a folder of its own, and so have files that a
    cleared task made anew: ``.../<task>/g<N>``. What was delivered before stays as it is.
    """
    own_run = [] if run.folder.run_id == run_id_of(run.payload.payload_id) else [safe_name(run.folder.run_id)]
    mapped = [str(run.map_index)] if run.map_index >= 0 else []
    made_by = _generation(run, key)
    again = [f"g{made_by}"] if made_by > 1 else []
    names = [run.payload.payload_id, safe_name(run.folder.dag_id), *own_run, safe_name(run.task_id), *mapped, *again]
    return "/".join(names)


def _generation(run: TaskRun, key: str) -> int:
    """Which generation of its task made the file: ``<run>/<task>[/<map index>]/g<N>/...``; 1 for a received image."""
    top = run_key(run.payload.payload_id, run.folder.dag_id, run.folder.run_id)
    made = re.match(r"[^/]+/(?:[0-9]+/)?g([0-9]+)/", key.removeprefix(f"{top}/"))
    return int(made[1]) if made and key.startswith(f"{top}/") else 1


def for_dicom(files: Sequence[ExportFile], permits: Collection[str]) -> list[Instance]:
    """Those files that go to a DICOM sink: everything that is DICOM, when all of it may go.

    :param permits: the extras that the connection sets of those that permit something.
    :raises ExportRefused: when a DICOM file must not, because such a result is mixed up, or when there are files and
        none of them is DICOM; nothing is sent then.
    """
    dicom = [file for file in files if file.is_dicom or file.problem]
    if files and not dicom:
        there = ", ".join(sorted({_kind(file) for file in files})[:5])
        inputs = ", ".join(sorted({repr(file.artifact) for file in files}))
        raise ExportRefused(
            f"Input {inputs} holds no DICOM file, only {len(files)} other ({there}). Only DICOM can go to a DICOM "
            "node: name another artifact, or a folder as the destination.",
            refused={file.instance.key: "not DICOM" for file in files},
        )
    refused = [file for file in dicom if file.problem and not (file.permits and file.permits <= set(permits))]
    if refused:
        reasons = sorted({f"input {file.artifact!r}: {file.problem}" for file in refused})
        raise ExportRefused(
            f"{len(refused)} of {len(dicom)} DICOM files must not be sent, so none was: {'; '.join(reasons[:5])}.",
            refused={file.instance.key: str(file.problem) for file in refused},
        )
    return _each_once(dicom)


def _each_once(files: Sequence[ExportFile]) -> list[Instance]:
    """One instance for each SOP Instance UID; two different files with one UID are an error."""
    instances: dict[str, Instance] = {}
    for file in files:
        uid = str(file.instance.sop_instance_uid)
        other = instances.setdefault(uid, file.instance)
        if other is not file.instance and other.path.read_bytes() != file.instance.path.read_bytes():
            raise ExportRefused(
                f"Input {file.artifact!r} holds two different files with the same SOP Instance UID: the application "
                "that made them must give each its own.",
                refused={uid: "two different files"},
            )
    return list(instances.values())


@dataclass(frozen=True, slots=True)
class _Origin:
    """What the task's payload holds, to compare results with.

    :param received: store key -> the received image: no need to open those.
    """

    store: Store
    payload: Payload
    received: Mapping[str, PayloadFile]

    @classmethod
    def of(cls, run: TaskRun) -> _Origin:
        top = payload_key(run.payload.payload_id)
        return cls(run.store, run.payload, {f"{top}/{file.path}": file for file in run.payload.files})

    def instance(self, key: str, path: Path, name: str) -> Instance:
        file = self.received[key]
        return Instance(
            key,
            path,
            name,
            file.sop_instance_uid,
            file.sop_class_uid,
            file.transfer_syntax_uid,
            study_instance_uid=_study_of(file, self.payload),
            series_instance_uid=file.series_instance_uid,
        )

    def is_copy(self, instance: Instance, head: Head) -> bool:
        """Whether a task has handed on a received image, byte for byte."""
        for key, file in self.received.items():
            if file.sop_instance_uid == head.sop_instance_uid and file.size == instance.path.stat().st_size:
                return self.store.same(key, instance.path)
        return False


def _study_of(file: PayloadFile, payload: Payload) -> str:
    """A payload of a patient holds several studies: its files lie in ``dcm/<study>/<series>``."""
    parts = file.path.split("/")
    return parts[1] if len(parts) > 3 and parts[1] in payload.studies else payload.study_instance_uid


def _made(origin: _Origin, artifact: str, instance: Instance) -> ExportFile:
    """A file that a task made: DICOM or not, and whether it may leave as DICOM."""
    try:
        head = read_head(instance.path)
    except ExportError as error:
        return ExportFile(artifact, instance, problem=str(error))
    if head is None:
        damaged = instance.name.lower().endswith(_DICOM_SUFFIXES)
        return ExportFile(
            artifact, instance, "its name says DICOM and it is none: cut off or empty" if damaged else None
        )
    sop_instance, sop_class, syntax = head.sop_instance_uid, head.sop_class_uid, head.transfer_syntax_uid
    if not all(map(_is_uid, (sop_instance, sop_class, syntax))):
        problem = "it lacks a valid SOP Instance UID, SOP Class UID or Transfer Syntax UID"
        return ExportFile(artifact, instance, problem)
    dicom = replace(
        instance,
        sop_instance_uid=sop_instance,
        sop_class_uid=sop_class,
        transfer_syntax_uid=syntax,
        study_instance_uid=head.study_instance_uid,
        series_instance_uid=head.series_instance_uid,
    )
    if not (_is_uid(head.study_instance_uid) and _is_uid(head.series_instance_uid)):
        return ExportFile(artifact, dicom, "it lacks a valid StudyInstanceUID or SeriesInstanceUID")
    if _is_received(head, origin.payload):
        # not even where the rest of it is permitted: the far side would lose the original, or silently keep it
        if origin.is_copy(dicom, head):
            return ExportFile(artifact, dicom)
        return ExportFile(
            artifact, dicom, "its SOPInstanceUID is that of a received image: a result needs one of its own"
        )
    problems = {
        permit: f"{problem} ({_permits(permit)})"
        for permit, problem in (
            (OTHER_STUDY, _mix_up(head, origin.payload)),
            (RECEIVED_SERIES, _taken(head, origin.payload)),
        )
        if problem
    }
    return ExportFile(artifact, dicom, "; ".join(problems.values()) or None, frozenset(problems), head)


def _is_uid(text: str) -> bool:
    return len(text) <= 64 and _UID.match(text) is not None


def _permits(extra: str) -> str:
    return f"{extra} in the connection's extra permits it"


def _mix_up(head: Head, payload: Payload) -> str | None:
    """Why a result does not belong to the payload, None when it does."""
    study = head.study_instance_uid
    if study != payload.study_instance_uid and study not in payload.studies:
        return "its StudyInstanceUID is not the one of the payload"
    if payload.patient.id is not None and head.patient_id.strip() != payload.patient.id.strip():
        return "its PatientID is not the one of the payload"
    return None


def _is_received(head: Head, payload: Payload) -> bool:
    """Whether a file would pass for a received image."""
    return any(file.sop_instance_uid == head.sop_instance_uid for file in payload.files)


def _taken(head: Head, payload: Payload) -> str | None:
    """Why a result would pass for a part of what was received, None when it would not."""
    if any(file.series_instance_uid == head.series_instance_uid for file in payload.files):
        return "its SeriesInstanceUID is that of a received series: a result needs a series of its own"
    return None


def _with_series_of_their_own(run: TaskRun, files: list[ExportFile]) -> list[ExportFile]:
    """Results of different tasks do not share a series: which would be of one equipment (PS3.3 section A.1.2.3)."""
    makers: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if file.head is not None:
            makers[file.head.series_instance_uid].add(_maker(run, file.instance.key))
    shared = {series for series, names in makers.items() if len(names) > 1}
    problem = f"its SeriesInstanceUID is also that of another task's result ({_permits(RECEIVED_SERIES)})"
    return [
        replace(
            file,
            problem=f"{file.problem}; {problem}" if file.problem else problem,
            permits=file.permits | {RECEIVED_SERIES},
        )
        if file.head is not None and file.head.series_instance_uid in shared
        else file
        for file in files
    ]


def _with_uids_of_their_own(run: TaskRun, files: list[ExportFile], scratch: Path) -> list[ExportFile]:
    """What a task made for each series has a SOP Instance UID in each: a far side would keep one of them only.

    An export for each series sees its own series' results, so it looks up those of the others, as far as they are made.
    """
    mine = {file.head.sop_instance_uid: file for file in files if file.head is not None}
    shared: set[str] = set()
    for task in {_maker(run, file.instance.key) for file in mine.values()} - {""}:
        keys = list(_of_other_series(run, task, {file.instance.key for file in mine.values()}))
        for key, start in zip(keys, run.store.starts(keys, _START), strict=True):
            uid = _sop_instance_uid_of(start, scratch / "start")
            if uid in mine and not run.store.same(key, mine[uid].instance.path):
                shared.add(uid)
    problem = "its SOPInstanceUID is also that of another series' result: each needs one of its own"
    return [
        replace(file, problem=problem, permits=frozenset())
        if file.head is not None and file.head.sop_instance_uid in shared
        else file
        for file in files
    ]


def _of_other_series(run: TaskRun, task: str, mine: Collection[str]) -> Iterator[str]:
    """What a task made for the other series: its artifacts, and where we deliver more than those, all of it."""
    records = run.folder.records(task)
    artifacts = {record.map_index: {key for keys in record.artifacts.values() for key in keys} for record in records}
    own = next((record.output_dir for record in records if record.map_index == run.map_index), None)
    more = any(own and key.startswith(f"{own}/") and key not in artifacts[run.map_index] for key in mine)
    for record in records:
        if record.map_index != run.map_index:
            yield from run.store.list(record.output_dir) if more and record.output_dir else artifacts[record.map_index]


def _sop_instance_uid_of(start: bytes, scratch: Path) -> str:
    """The SOP Instance UID in the first bytes of a file; empty where it is no DICOM file, or has it further behind."""
    scratch.write_bytes(start)
    try:
        head = read_head(scratch)
    except ExportError:
        return ""
    return head.sop_instance_uid if head is not None else ""


def _maker(run: TaskRun, key: str) -> str:
    """The folder of the task that made a file."""
    top = run_key(run.payload.payload_id, run.folder.dag_id, run.folder.run_id)
    return key.removeprefix(f"{top}/").split("/")[0] if key.startswith(f"{top}/") else ""


def _at_hand(run: TaskRun, keys: Sequence[str], scratch: Path) -> dict[str, Path]:
    """Where the files lie on this host: copies of those that a remote store holds."""
    here = {key: run.store.local_path(key) for key in keys}
    paths = {key: path or scratch / hashlib.sha256(key.encode()).hexdigest() for key, path in here.items()}
    run.store.fetch_all((key, paths[key]) for key, path in here.items() if path is None)
    return paths


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _kind(file: ExportFile) -> str:
    """The kind of a file by its name's end; the name itself could be a patient's."""
    suffix = file.instance.path.suffix.lower()
    return f"*{suffix}" if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else "files without a known ending"
