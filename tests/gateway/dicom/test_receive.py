"""What a sender sees, and what is in the store then."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import subprocess
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import pydicom
import pydicom.data
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import generate_uid

from airflow_monai.errors import StoreError
from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.intake.events import EventKind
from airflow_monai.store.intake import Placed
from airflow_monai.store.payloads import load_payload, load_series_tags, payload_id_of, run_id_of
from tests.conftest import require
from tests.gateway import rawscu
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.rawscu import EXPLICIT, RELEASE, RawScu, data_set_of
from tests.gateway.studies import CT, image, storescu, study
from tests.small_disk import mounted

CONTEXTS = [(CT, EXPLICIT)]


def payload_ids(site: Site, count: int = 1) -> list[str]:
    return [event["payload_id"] for event in site.wait_for_event("run-created", count)]


def test_a_study_becomes_one_payload_and_one_run(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    files = study(tmp_path / "in", 5, series=2)
    sent = storescu(gateway.port, files)
    assert sent.returncode == 0, sent.stderr
    (payload_id,) = payload_ids(site)
    payload = load_payload(site.store, payload_id)
    assert len(payload.files) == 10
    assert (payload.called_aet, payload.calling_aets, payload.sequence) == ("CTLUNG", ("CT01",), 0)
    assert (payload.patient.id, payload.patient.name, payload.patient.dob) == ("SECRET-ID", "SECRET^NAME", "19700102")
    run = {
        "dag_run_id": run_id_of(payload_id),
        "partition_key": payload_id,
        "logical_date": None,
        "conf": {},
    }
    assert site.airflow.runs == {("ct-lung", run_id_of(payload_id)): run}
    wait_for(lambda: not list(site.store.children("pending")))
    tags = load_series_tags(site.store, payload_id)
    assert [(series["00080060"], series["00180050"]) for series in tags.values()] == [(["CT"], ["1.6"])] * 2
    assert not site.unfinished()


def test_events_tell_what_happened_and_nothing_of_the_patient(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    files = study(tmp_path / "in", 3)
    storescu(gateway.port, files)
    (payload_id,) = payload_ids(site)
    text = site.events_file.read_text()
    ds = pydicom.dcmread(files[0])
    for secret in ("SECRET", "19700102", ds.StudyInstanceUID, ds.SOPInstanceUID):
        assert secret not in text
    order = ["gateway-started", "image-received", "study-complete", "run-created"]
    kinds = [event["event"] for event in site.events(*order)]
    assert [kind for kind, _ in groupby(kinds)] == order
    assert sum(e["count"] for e in site.events("image-received")) == 3  # those of each second by themselves
    (complete,) = site.events("study-complete")
    assert (complete["payload_id"], complete["images"], complete["series"]) == (payload_id, 3, 1)


def _sources() -> dict[str, tuple[Path, pydicom.Dataset]]:
    """pydicom's own test files with distinct instances that name their series: many classes and transfer syntaxes."""
    found = {}
    for path in sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm")):
        if path.read_bytes()[128:136] != b"DICM\2\0\0\0" or path.name == "SC_rgb_jpeg.dcm":  # not what it says it is
            continue
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # noqa: BLE001 - some of these files are broken on purpose
            continue
        meta = ds.file_meta
        same = meta.get("MediaStorageSOPInstanceUID") == ds.get("SOPInstanceUID")
        if same and ds.get("SeriesInstanceUID"):
            found.setdefault(ds.SOPInstanceUID, (path, ds))
    return found


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_transfer_syntax_is_kept_bit_for_bit(site: Site) -> None:
    write_workflow(site.workflows, quiet=600)
    gateway = site.gateway()
    syntaxes, kept = set(), 0
    for source, ds in _sources().values():
        sop_class, sop, syntax = ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID
        with RawScu(gateway.port) as scu:
            if scu.associate(contexts=[(sop_class, syntax)])[1] != 0:
                assert "Storage" not in sop_class.name, source
                continue
            scu.send(rawscu.store(1, sop_class, sop, data_set_of(source)))
            assert scu.status() == 0, source
        payload_id = payload_id_of(ds.StudyInstanceUID, "CTLUNG", 0)
        folder = site.store.root / "payloads" / payload_id / "dcm" / ds.StudyInstanceUID / ds.SeriesInstanceUID
        stored = folder / f"{sop}.dcm"
        assert data_set_of(stored) == data_set_of(source)
        assert pydicom.dcmread(stored, specific_tags=[]).file_meta.TransferSyntaxUID == syntax
        syntaxes.add(syntax)
        kept += 1
    assert kept > 30 and len(syntaxes) >= 10, (kept, sorted(syntaxes))


@pytest.mark.parametrize(
    ("option", "convert"),
    [("-xe", None), ("-xi", ["+ti"]), ("-xb", ["+tb"]), ("-xd", ["+td"])],
    ids=["explicit", "implicit", "big-endian", "deflated"],
)
def test_dcmtk_sends_in_any_uncompressed_syntax(site: Site, tmp_path: Path, option: str, convert: list[str]) -> None:
    require("dcmtk")
    gateway = site.gateway()
    files = study(tmp_path / "in", 2)
    if convert:
        for file in files:
            subprocess.run(["dcmconv", *convert, file, file], check=True)
    sent = storescu(gateway.port, files, option)
    assert sent.returncode == 0, sent.stderr
    (payload_id,) = payload_ids(site)
    payload = load_payload(site.store, payload_id)
    assert len(payload.files) == 2 and payload.patient.id == "SECRET-ID"
    (tags,) = load_series_tags(site.store, payload_id).values()
    assert tags["00280010"] == ["32"] and sorted(tags["00200013"]) == ["1", "2"]


def test_private_sop_class_is_stored(site: Site, tmp_path: Path) -> None:
    gateway = site.gateway()
    private = "1.3.12.2.1107.5.9.1"
    (file,) = study(tmp_path / "in", 1)
    ds = pydicom.dcmread(file)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = private
    ds.save_as(file)
    with RawScu(gateway.port) as scu:
        assert scu.associate(contexts=[(private, EXPLICIT)]) == {1: 0}
        scu.send(rawscu.store_file(1, file))
        assert scu.status() == 0


@pytest.mark.parametrize(
    "convert", ["+te", "+ti", "+tb", "+td"], ids=["explicit", "implicit", "big-endian", "deflated"]
)
def test_a_private_transfer_syntax_is_kept_however_it_encodes(site: Site, tmp_path: Path, convert: str) -> None:
    require("dcmtk")
    gateway = site.gateway()
    private = "1.2.276.0.99.7"
    (file,) = study(tmp_path / "in", 1)
    subprocess.run(["dcmconv", convert, file, file], check=True)
    data, sop = data_set_of(file), pydicom.dcmread(file).SOPInstanceUID
    with RawScu(gateway.port) as scu:
        assert scu.associate(contexts=[(CT, private)]) == {1: 0}
        assert private.encode() in scu.accepted
        scu.send(rawscu.store(1, CT, sop, data))
        assert scu.status() == 0
    (payload_id,) = payload_ids(site)
    assert load_payload(site.store, payload_id).patient.id == "SECRET-ID"
    (stored,) = [site.store.root / key for key in site.files()]
    assert data_set_of(stored) == data
    assert pydicom.dcmread(stored, specific_tags=[], force=True).file_meta.TransferSyntaxUID == private


def test_other_services_are_not_offered(site: Site) -> None:
    gateway = site.gateway()
    find, commitment, echo = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1", "1.2.840.10008.1.1"
    with RawScu(gateway.port) as scu:
        results = scu.associate(contexts=[(find, EXPLICIT), (commitment, EXPLICIT), (echo, EXPLICIT), (CT, "1.2.3.4")])
        assert results == {1: 3, 3: 3, 5: 0, 7: 0}


def test_echo(site: Site) -> None:
    require("dcmtk")
    gateway = site.gateway()
    command = ["echoscu", "-aec", "CTLUNG", "127.0.0.1", str(gateway.port)]
    assert subprocess.run(command, timeout=90).returncode == 0


def test_unknown_called_ae_title_is_refused_by_the_association(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    files = study(tmp_path / "in", 1)
    sent = storescu(gateway.port, files, called="NOBODY")
    assert sent.returncode != 0
    assert "Called AE Title Not Recognized" in sent.stderr
    (event,) = site.wait_for_event("association-rejected")
    assert (event["called_aet"], event["calling_aet"]) == ("NOBODY", "CT01")
    assert not site.files()


def test_ae_titles_follow_the_workflow_folder(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    files = study(tmp_path / "in", 1)
    assert storescu(gateway.port, files, called="LATER").returncode != 0
    added = write_workflow(site.workflows, "later", ae="LATER")
    # the folder is not read again for every association that asks for a title which nobody has
    wait_for(lambda: storescu(gateway.port, files, called="LATER").returncode == 0)
    payload_ids(site)
    assert ("later", run_id_of(payload_ids(site)[0])) in site.airflow.runs
    added.unlink()
    wait_for(lambda: storescu(gateway.port, files, called="LATER").returncode != 0)


def test_two_studies_interleaved_in_one_association(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    one, two = study(tmp_path / "a", 4), study(tmp_path / "b", 4)
    mixed = [file for pair in zip(one, two, strict=True) for file in pair]
    assert storescu(gateway.port, mixed).returncode == 0
    payloads = [load_payload(site.store, payload_id) for payload_id in payload_ids(site, 2)]
    assert [len(payload.files) for payload in payloads] == [4, 4]
    assert len({payload.study_instance_uid for payload in payloads}) == 2
    assert len(site.airflow.runs) == 2


def test_the_same_study_for_two_ae_titles_is_two_payloads(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    write_workflow(site.workflows, "other", ae="OTHER")
    gateway = site.gateway()
    files = study(tmp_path / "in", 2)
    for called in ("CTLUNG", "OTHER"):
        assert storescu(gateway.port, files, called=called).returncode == 0
    assert len(set(payload_ids(site, 2))) == 2
    assert sorted(dag for dag, _ in site.airflow.runs) == ["ct-lung", "other"]


def test_known_images_are_duplicates_and_start_nothing(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    files = study(tmp_path / "in", 3)
    assert storescu(gateway.port, [*files, files[0]]).returncode == 0  # within the open payload
    (payload_id,) = payload_ids(site)
    assert storescu(gateway.port, files).returncode == 0  # and after it is closed
    wait_for(lambda: sum(event["count"] for event in site.events("duplicate-received")) == 4)
    lines = site.store.read(f"payloads/{payload_id}/duplicates.jsonl").decode().splitlines()
    assert [json.loads(line)["identical"] for line in lines] == [True] * 4
    assert len(list(site.store.children("payloads"))) == 1
    assert len(load_payload(site.store, payload_id).files) == 3
    assert len(site.airflow.runs) == 1


def test_a_duplicate_with_other_content_is_told_and_not_kept(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    (file,) = study(tmp_path / "in", 1)
    assert storescu(gateway.port, [file]).returncode == 0
    (payload_id,) = payload_ids(site)
    before = site.store.read(site.files()[0])
    ds = pydicom.dcmread(file)
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(file)
    assert storescu(gateway.port, [file]).returncode == 0
    (event,) = site.wait_for_event("duplicate-differs")
    assert event["payload_id"] == payload_id
    assert [site.store.read(key) for key in site.files()] == [before]


def test_late_images_make_a_new_payload_with_only_them(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    files = study(tmp_path / "in", 5)
    assert storescu(gateway.port, files[:3]).returncode == 0
    (first,) = payload_ids(site)
    assert storescu(gateway.port, files).returncode == 0
    second = payload_ids(site, 2)[1]
    assert [len(load_payload(site.store, payload_id).files) for payload_id in (first, second)] == [3, 2]
    assert load_payload(site.store, second).sequence == 1
    assert len(site.airflow.runs) == 2


def test_quiet_time_counts_from_the_last_new_image(site: Site, tmp_path: Path) -> None:
    write_workflow(site.workflows, quiet=2.5)
    write_workflow(site.workflows, "hasty", quiet=0.1)  # the longest of an AE title counts
    gateway = site.gateway()
    files = study(tmp_path / "in", 4)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        for file in files:
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
            threading.Event().wait(0.9)
    payload_ids(site, 2)
    (complete,) = site.events("study-complete")
    assert complete["images"] == 4


def test_a_study_is_not_closed_while_one_of_its_images_is_coming_in(site: Site, tmp_path: Path) -> None:
    gateway = site.gateway()
    first, second = study(tmp_path / "in", 2, size=64000)
    data = rawscu.store_file(1, second)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        scu.send(rawscu.store_file(1, first))
        assert scu.status() == 0
        scu.send(data[:30000])
        threading.Event().wait(3.0)  # three quiet times
        assert not site.events("study-complete")
        scu.send(data[30000:])
        assert scu.status() == 0
    payload_ids(site)
    assert site.events("study-complete")[0]["images"] == 2


def test_four_senders_at_once(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    studies = [study(tmp_path / str(number), 6) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda files: storescu(gateway.port, files), studies))
    assert [result.returncode for result in sent] == [0] * 12
    ids = payload_ids(site, 12)
    assert len(set(ids)) == 12 and len(site.airflow.runs) == 12
    assert {len(load_payload(site.store, payload_id).files) for payload_id in ids} == {6}
    assert site.airflow.most_in_flight <= 4
    assert set(site.airflow.posts.values()) == {1}


def test_one_study_from_four_senders_at_once(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    write_workflow(site.workflows, quiet=4.0)  # all four have begun by then
    gateway = site.gateway()
    files = study(tmp_path / "in", 12)
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda n: storescu(gateway.port, files, calling=f"CT0{n}"), range(4)))
    assert [result.returncode for result in sent] == [0] * 4
    (payload_id,) = payload_ids(site)
    payload = load_payload(site.store, payload_id)
    assert len(payload.files) == 12
    assert payload.calling_aets == ("CT00", "CT01", "CT02", "CT03")
    assert len(site.store.read(f"payloads/{payload_id}/duplicates.jsonl").splitlines()) == 36


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("where", ["request", "study", "series", "both"])
def test_hostile_uids_are_refused_and_write_nothing(site: Site, where: str) -> None:
    gateway = site.gateway()
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        for uid in ("../../../../etc/x", "1.2.3/4", "1" * 65, "", "1..2", ".1", "1.2.", "1.\n2", "a.b"):
            series = generate_uid(None)
            ds = image(uid if where == "study" else "1.2.3", uid if where == "series" else series, 1)
            ds.SOPInstanceUID = uid if where == "both" else f"{series}.1"
            sop = uid if where in ("request", "both") else f"{series}.1"
            scu.send(rawscu.store(1, CT, sop, _encoded(ds)))
            assert scu.status() in (0xC000, 0xA900), uid
    assert not site.files() and not site.unfinished()
    assert not list(site.folder.rglob("*.dcm"))


def _encoded(ds: pydicom.Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    with warnings.catch_warnings():  # about the UIDs
        warnings.simplefilter("ignore")
        write_dataset(buffer, ds)
    return buffer.getvalue()


def test_identity_must_be_that_of_the_request(site: Site, tmp_path: Path) -> None:
    gateway = site.gateway()
    (file,) = study(tmp_path / "in", 1)
    data = data_set_of(file)
    sop = pydicom.dcmread(file).SOPInstanceUID
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=[*CONTEXTS, ("1.2.840.10008.5.1.4.1.1.4", EXPLICIT)])
        for context, sop_class, claimed, expected in (
            (3, "1.2.840.10008.5.1.4.1.1.4", sop, 0xA900),
            (3, CT, sop, 0x0122),  # another SOP class than that of its presentation context
            (1, CT, "1.2.3", 0xA900),
            (1, CT, sop, 0x0000),
        ):
            scu.send(rawscu.store(context, sop_class, claimed, data))
            assert scu.status() == expected
        for junk in (b"", b"\x08\0", bytes(5000), random.Random(1).randbytes(5000)):
            scu.send(rawscu.store(1, CT, sop, junk))
            assert scu.status() == 0xC000
    assert len(site.files()) == 1


def test_an_abort_at_any_byte_leaves_nothing_half_done(site: Site, tmp_path: Path) -> None:
    gateway = site.gateway()
    files = study(tmp_path / "in", 3, size=20000)
    whole = rawscu.associate("CTLUNG", "RAW", CONTEXTS) + b"".join(rawscu.store_file(1, file) for file in files)
    cuts = random.Random(7)
    for _ in range(200):
        with RawScu(gateway.port) as scu:
            scu.send(whole[: cuts.randrange(len(whole))])
    wait_for(lambda: not site.unfinished())
    sent = {data_set_of(file) for file in files}
    assert {data_set_of(site.store.root / key) for key in site.files()} <= sent
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        for file in files:
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
    assert {data_set_of(site.store.root / key) for key in site.files()} == sent


def test_nonsense_on_the_wire_ends_only_its_connection(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = site.gateway()
    find_in_store_context = rawscu.p_data(1, 3, rawscu.store_command(CT, "1.2", field=0x20))
    for junk in (
        random.Random(3).randbytes(3000),
        b"\x01\0\xff\xff\xff\xff" + bytes(100),  # an A-ASSOCIATE-RQ of 4 GiB
        rawscu.associate("CTLUNG", "RAW", CONTEXTS) + b"\x04\0\xff\xff\xff\xf0" + bytes(100),
        rawscu.associate("CTLUNG", "RAW", CONTEXTS) + rawscu.p_data(1, 2, b"data first"),
        rawscu.associate("CTLUNG", "RAW", CONTEXTS) + rawscu.p_data(99, 3, rawscu.store_command(CT, "1.2")),
        rawscu.associate("CTLUNG", "RAW", CONTEXTS) + rawscu.p_data(1, 3, b"\xff" * 64),
        rawscu.associate("CTLUNG", "RAW", CONTEXTS) + rawscu.p_data(1, 1, bytes(16000)) * 5,
        rawscu.associate("CTLUNG", "RAW", CONTEXTS) + find_in_store_context,
    ):
        with RawScu(gateway.port) as scu, suppress(OSError):  # hung up on before all was sent
            scu.send(junk)
            scu.socket.shutdown(1)
            while scu.receive()[0]:
                pass
    assert storescu(gateway.port, study(tmp_path / "in", 1)).returncode == 0


def test_a_full_disk_is_out_of_resources_and_leaves_nothing(site: Site, tmp_path: Path) -> None:
    """The file size limit stands for the full disk: the same write fails in the middle of an image."""
    gateway = site.gateway()
    small, large = study(tmp_path / "in", 1)[0], study(tmp_path / "in2", 1, size=400_000)[0]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            scu.send(rawscu.store_file(1, large))
            assert scu.status() == 0xA700
            assert not site.files() and not site.unfinished()
            scu.send(rawscu.store_file(1, small))
            assert scu.status() == 0
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        scu.send(rawscu.store_file(1, large))
        assert scu.status() == 0
    (event,) = site.wait_for_event("image-refused")
    assert event["status"] == "A700"


def test_a_full_file_system_is_out_of_resources(site: Site, tmp_path: Path) -> None:
    with mounted(tmp_path / "store", "600k"):
        gateway = site.gateway()
        files = study(tmp_path / "in", 6, size=200_000)
        with RawScu(gateway.port) as scu:
            scu.associate(contexts=CONTEXTS)
            statuses = []
            for file in files:
                scu.send(rawscu.store_file(1, file))
                statuses.append(scu.status())
        assert statuses[0] == 0 and statuses[-1] == 0xA700
        assert len(site.files()) == statuses.count(0) and not site.unfinished()
        gateway.stop(1)


def test_the_number_of_associations_is_limited(site: Site, tmp_path: Path) -> None:
    gateway = site.gateway(dicom=DicomOptions(associations=2))
    with RawScu(gateway.port) as one, RawScu(gateway.port) as two:
        for scu in (one, two):
            scu.associate(contexts=CONTEXTS)
        three = RawScu(gateway.port)
        three.send(rawscu.associate("CTLUNG", "RAW", CONTEXTS))
        kind, body = three.receive()
        assert (kind, body[1:4]) == (3, b"\2\3\2")  # transient: local limit exceeded
        three.socket.close()
    (event,) = site.wait_for_event("association-rejected")
    assert "more than 2 associations" in event["reason"]


def test_stop_lets_an_open_association_end(site: Site, tmp_path: Path) -> None:
    gateway = site.gateway()
    files = study(tmp_path / "in", 2)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        stopping = threading.Thread(target=gateway.stop, args=(60,))
        stopping.start()
        threading.Event().wait(0.5)
        for file in files:
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
        scu.send(RELEASE)
        assert scu.receive()[0] == 6
    stopping.join(90)
    assert not stopping.is_alive()
    assert len(site.files()) == 2


def test_a_store_that_fails_without_an_error_of_the_system_is_out_of_resources_too(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that does not answer, for one: no fault of the image, and its sender may try again."""
    gateway = site.gateway()
    (file,) = study(tmp_path / "in", 1)

    def fails(*_: Any, **__: Any) -> Placed:
        raise StoreError("The store cannot write 'x': no answer.")

    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        with monkeypatch.context() as broken:
            broken.setattr(gateway.intake, "add", fails)
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0xA700
        scu.send(rawscu.store_file(1, file))
        assert scu.status() == 0
    (event,) = site.wait_for_event("image-refused")
    assert (event["status"], event["reason"]) == ("A700", "cannot store: the store failed")


def test_a_store_that_fails_is_told_without_the_uids_in_its_paths(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = site.gateway()
    uid = "1.2.826.0.1.3680043.8.498.17"
    (file,) = study(tmp_path / "in", 1, uid=uid)
    real = os.link

    def link(source: Any, target: Any, **more: Any) -> None:
        if "/dcm/" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))
        real(source, target, **more)

    monkeypatch.setattr(os, "link", link)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=CONTEXTS)
        scu.send(rawscu.store_file(1, file))
        assert scu.status() == 0xA700
    told = caplog.text + site.events_file.read_text()
    assert "No space left on device" in told and uid not in told
    gateway.events.emit(EventKind.PAYLOAD_WAITING, payload_id="p", reason=f"payloads/p/dcm/2.25.123456789/{uid}.1.dcm")
    told = caplog.text + site.events_file.read_text()
    assert "payloads/p/dcm/<uid>/<uid>.dcm" in told and uid not in told and "2.25.1" not in told
