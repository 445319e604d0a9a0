"""Files that did not come by C-STORE: what becomes an image, what is refused, and what attacks come to."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_monai.errors import InvalidArgument
from airflow_monai.intake.deposit import DIFFERS, Deposit, Depositor, DepositReport, IntakeHeld, Outcome
from airflow_monai.specs.plan import Grouping
from airflow_monai.store import spooling
from airflow_monai.store.archives import ArchiveLimits
from airflow_monai.store.arrival import arrival_of
from airflow_monai.store.intake import Intake
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import load_payload
from tests.conftest import require
from tests.gateway.studies import image, storescu, study
from tests.s3_server import S3Server, s3  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from airflow_monai.store.base import Store
    from tests.gateway.conftest import Site

KB64 = 64 * 1024


class Full:
    """A disk guard of a full disk."""

    def refusal(self) -> str:
        return "the disk is full"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def begin(store: Store, grouping: Grouping = Grouping.STUDY, **more: object) -> Deposit:
    depositor = Depositor(Intake(store), store.spool(), grouping=lambda called: grouping, **more)  # type: ignore[arg-type]
    return depositor.begin("CTLUNG", "CD")


def deposit(store: Store, path: Path, **more: object) -> DepositReport:
    """Put in a folder or a file, and look that nothing is left in the spool."""
    putting = begin(store, **more)  # type: ignore[arg-type]
    if path.is_dir():
        putting.tree(path)
    else:
        putting.file(path, path.name)
    assert not [path for path in store.spool().iterdir() if not path.name.startswith("gateway-")]
    return putting.finish(whole=True)


def packed(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def reasons(report: DepositReport) -> dict[str, str]:
    return {item.name: item.reason for item in report.refused}


def images_of(store: Store, report: DepositReport) -> list[str]:
    return [key for payload in report.payload_ids for key in store.list(f"payloads/{payload}/dcm")]


def test_a_folder_becomes_one_payload_with_every_byte_of_its_data_sets(store: LocalStore, tmp_path: Path) -> None:
    files = study(tmp_path / "cd" / "a", 3, series=2)
    report = deposit(store, tmp_path / "cd")
    assert (report.images, report.duplicates, report.refused) == (6, 0, ())
    (payload_id,) = report.payload_ids
    payload = Intake(store).close(payload_id)
    assert payload.calling_aets == ("CD",)
    assert len(payload.files) == 6
    kept = {(store.root / key).read_bytes()[-2048:] for key in images_of(store, report)}
    assert kept == {file.read_bytes()[-2048:] for file in files}


def test_an_image_is_the_same_file_whichever_way_it_came(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    files = study(tmp_path / "s", 2)
    gateway = site.gateway()
    assert storescu(gateway.port, files).returncode == 0
    report = deposit(site.store, tmp_path / "s")
    assert (report.images, report.duplicates, report.refused) == (0, 2, ())  # identical ones, else it would say so


def test_what_a_medium_holds_besides_images_is_passed_over_and_counted(store: LocalStore, tmp_path: Path) -> None:
    cd = tmp_path / "cd"
    study(cd / "DICOM", 2)
    (cd / "README.TXT").write_text("hello")
    (cd / "VIEWER.EXE").write_bytes(b"MZ" + bytes(500))
    (cd / "empty").write_bytes(b"")
    ds = image("1.2.3", "1.2.3.4", 1)
    ds.SOPClassUID = "1.2.840.10008.1.3.10"
    ds.save_as(cd / "DICOMDIR", enforce_file_format=True)
    report = deposit(store, cd)
    assert (report.images, report.passed_over_count, report.refused) == (2, 4, ())
    assert set(report.passed_over) == {"README.TXT", "VIEWER.EXE", "empty", "DICOMDIR"}


def test_each_file_that_cannot_be_taken_is_named_with_its_reason_and_keeps_no_other_out(
    store: LocalStore, tmp_path: Path
) -> None:
    cd = tmp_path / "cd"
    files = study(cd, 2)
    (cd / "half.dcm").write_bytes(files[0].read_bytes()[:-1000])
    (cd / "head.dcm").write_bytes(files[0].read_bytes()[:200])
    (cd / "text.dcm").write_text("no DICOM")
    raw = files[0].read_bytes()
    (cd / "raw").write_bytes(raw[raw.index(b"\x08\x00\x16\x00") :])  # a data set without the header of a file
    nameless = image("1.2.3", "1.2.3.4", 1)
    del nameless.StudyInstanceUID
    nameless.save_as(cd / "nameless", enforce_file_format=True)
    os.symlink("/etc/passwd", cd / "link")
    os.symlink("/", cd / "folder-link")
    os.mkfifo(cd / "fifo")
    (cd / "more.tar.gz").write_bytes(b"\x1f\x8b" + bytes(200))
    report = deposit(store, cd)
    assert report.images == 2
    said = reasons(report)
    assert "breaks off" in said.pop("half.dcm")
    assert said.pop("head.dcm")
    assert "named as DICOM" in said.pop("text.dcm")
    assert "without the header" in said.pop("raw")
    assert said.pop("nameless") == "StudyInstanceUID is not a valid UID"
    assert said.pop("link") == said.pop("folder-link") == "it is a link"
    assert said.pop("fifo") == "it is no regular file"
    assert "archive" in said.pop("more.tar.gz")
    assert not said


def test_zeros_at_the_end_of_a_file_do_no_harm(store: LocalStore, tmp_path: Path) -> None:
    (file,) = study(tmp_path / "s", 1)
    file.write_bytes(file.read_bytes() + bytes(100))
    assert deposit(store, tmp_path / "s").images == 1


def test_an_unusually_long_header_is_read_to_its_end(store: LocalStore, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    ds = image("1.2.3", "1.2.3.4", 1)
    ds.add_new(0x00090010, "LO", "LONG")
    ds.add_new(0x00091001, "OB", bytes(600_000))
    ds.save_as(folder / "long.dcm", enforce_file_format=True)
    report = deposit(store, folder)
    assert report.images == 1
    (key,) = images_of(store, report)
    assert (store.root / key).read_bytes()[-2048:] == ds.PixelData


def test_the_same_again_is_noted_and_another_image_of_its_uid_is_refused(store: LocalStore, tmp_path: Path) -> None:
    files = study(tmp_path / "s", 3)
    deposit(store, tmp_path / "s")
    changed = bytearray(files[0].read_bytes())
    changed[-1] ^= 1
    files[0].write_bytes(changed)
    report = deposit(store, tmp_path / "s")
    assert (report.images, report.duplicates) == (0, 3)
    assert reasons(report) == {files[0].name: DIFFERS}


def test_several_studies_become_payloads_of_their_own_and_series_where_they_are_grouped_so(
    store: LocalStore, tmp_path: Path
) -> None:
    study(tmp_path / "cd" / "a", 2, series=2)
    study(tmp_path / "cd" / "b", 2)
    assert len(deposit(store, tmp_path / "cd").payload_ids) == 2
    assert len(deposit(LocalStore(tmp_path / "other"), tmp_path / "cd", grouping=Grouping.SERIES).payload_ids) == 3


def test_a_zip_is_taken_file_by_file_and_its_names_are_never_paths(store: LocalStore, tmp_path: Path) -> None:
    files = study(tmp_path / "s", 3)
    members = {f"../../../../tmp/evil-{n}.dcm": file.read_bytes() for n, file in enumerate(files)}
    archive = packed(tmp_path / "a.zip", {**members, "/etc/README": b"text", "viewer/": b""})
    report = deposit(store, archive)
    assert (report.images, report.passed_over_count, report.refused) == (3, 1, ())
    assert not list(Path("/tmp").glob("evil-*"))


def test_a_zip_within_a_folder_is_unpacked_and_one_within_a_zip_is_not(store: LocalStore, tmp_path: Path) -> None:
    files = study(tmp_path / "s", 2)
    (tmp_path / "cd").mkdir()
    inner = packed(tmp_path / "inner.zip", {"1": files[0].read_bytes()}).read_bytes()
    packed(tmp_path / "cd" / "outer.zip", {"1": files[1].read_bytes(), "inner.zip": inner})
    report = deposit(store, tmp_path / "cd")
    assert report.images == 1
    assert reasons(report) == {"outer.zip/inner.zip": "it is an archive that is not unpacked here"}


def test_links_and_encrypted_files_in_a_zip_are_refused(store: LocalStore, tmp_path: Path) -> None:
    (file,) = study(tmp_path / "s", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("secret.dcm", file.read_bytes())
        archive.writestr("good.dcm", file.read_bytes())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)  # the second file's entry in the directory
    data[at + 8] |= 1  # encrypted
    (tmp_path / "a.zip").write_bytes(data)
    report = deposit(store, tmp_path / "a.zip")
    assert report.images == 1
    assert reasons(report) == {"a.zip/link": "it is a link", "a.zip/secret.dcm": "it is encrypted"}


def test_a_damaged_member_is_refused_and_the_others_are_taken(store: LocalStore, tmp_path: Path) -> None:
    files = study(tmp_path / "s", 3)
    packed(tmp_path / "a.zip", {file.name: file.read_bytes() for file in files}, zipfile.ZIP_STORED)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(files[1].read_bytes()[-64:])] ^= 1  # its checksum is wrong now
    (tmp_path / "a.zip").write_bytes(data)
    report = deposit(store, tmp_path / "a.zip")
    assert report.images == 2
    assert "damaged" in reasons(report)[f"a.zip/{files[1].name}"]


@pytest.mark.parametrize("kept", [0, 10, 100, 2000])
def test_half_an_archive_is_refused_whole(store: LocalStore, tmp_path: Path, kept: int) -> None:
    files = study(tmp_path / "s", 2)
    packed(tmp_path / "a.zip", {file.name: file.read_bytes() for file in files})
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + (tmp_path / "a.zip").read_bytes()[4 : 4 + kept])
    report = deposit(store, tmp_path / "a.zip")
    assert report.is_empty
    assert "directory" in reasons(report)["a.zip"]


def test_bombs_go_no_further_than_the_limits(store: LocalStore, tmp_path: Path) -> None:
    (file,) = study(tmp_path / "s", 1)
    head = file.read_bytes()[:-2048]
    zeros = head[:-4] + struct.pack("<L", 100 << 20) + bytes(100 << 20)  # pixel data of 100 MiB of zeros
    packed(tmp_path / "ratio.zip", {"bomb.dcm": zeros, "good.dcm": file.read_bytes()})
    report = deposit(store, tmp_path / "ratio.zip")
    assert report.is_empty
    assert "times its size" in reasons(report)["ratio.zip"]
    small = ArchiveLimits(files=10, file_bytes=KB64, total_bytes=2 * KB64)
    packed(tmp_path / "file.zip", {"big": bytes(128) + b"DICM" + file.read_bytes()[132:-2048] + os.urandom(2 * KB64)})
    assert "larger than 65536" in reasons(deposit(store, tmp_path / "file.zip", limits=small))["file.zip"]
    many = {str(n): os.urandom(50_000) for n in range(5)}
    assert (
        "more than 131072" in reasons(deposit(store, packed(tmp_path / "total.zip", many), limits=small))["total.zip"]
    )
    many = {str(n): b"" for n in range(11)}
    assert (
        "more than 10 files" in reasons(deposit(store, packed(tmp_path / "files.zip", many), limits=small))["files.zip"]
    )


def test_an_archive_whose_files_share_their_bytes_is_refused(store: LocalStore, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("one", os.urandom(50_000))
        info = archive.infolist()[0]
        for name in ("two", "three"):
            again = zipfile.ZipInfo(name)
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(again, field, getattr(info, field))
            archive.filelist.append(again)
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    assert reasons(deposit(store, tmp_path / "a.zip")) == {"a.zip": "its files overlap one another"}


def test_an_archive_without_an_image_is_refused(store: LocalStore, tmp_path: Path) -> None:
    packed(tmp_path / "a.zip", {"README": b"text"})
    assert "no DICOM image" in reasons(deposit(store, tmp_path / "a.zip"))["a.zip"]


def test_nothing_is_taken_while_the_disk_guard_refuses(store: LocalStore, tmp_path: Path) -> None:
    study(tmp_path / "s", 2)
    with pytest.raises(IntakeHeld, match="the disk is full"):
        deposit(store, tmp_path / "s", guard=Full())
    assert list(store.list("payloads")) == []


def test_a_large_file_is_held_when_the_disk_runs_full_while_it_is_read(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "WRITTEN_BYTES", 100_000)
    study(tmp_path / "s", 1, size=1_500_000)
    looks = iter([None, None])

    class Filling:
        def refusal(self) -> str | None:
            return next(looks, "the disk is full")

    with pytest.raises(IntakeHeld, match="the disk is full"):
        deposit(store, tmp_path / "s", guard=Filling())
    assert list(store.list("payloads")) == []
    assert not [path for path in store.spool().iterdir() if not path.name.startswith("gateway-")]


def test_a_source_that_breaks_off_takes_nothing(store: LocalStore, tmp_path: Path) -> None:
    (file,) = study(tmp_path / "s", 1)
    putting = begin(store)
    assert putting.take(io.BytesIO(file.read_bytes()[:-1]), "x") is Outcome.REFUSED
    assert putting.report().is_empty
    assert list(store.list("payloads")) == []


@pytest.mark.parametrize("title", ["", "   ", "A" * 17, "A\\B", "A\nB", "Ä"])
def test_an_ae_title_must_be_one(store: LocalStore, title: str) -> None:
    with pytest.raises(InvalidArgument, match="AE title"):
        Depositor(Intake(store), store.spool(), grouping=lambda called: Grouping.STUDY).begin("CTLUNG", title)


def test_a_whole_study_is_closed_at_once_and_one_that_grows_on_waits(store: LocalStore, tmp_path: Path) -> None:
    study(tmp_path / "s", 2, uid="1.2.3")
    (payload_id,) = deposit(store, tmp_path / "s").payload_ids
    intake = Intake(store)
    state = intake.look(payload_id)
    assert state is not None and state.whole
    study(tmp_path / "t", 1, uid="1.2.3")
    begin(store).tree(tmp_path / "t")
    state = intake.look(payload_id)
    assert state is not None and not state.whole
    assert len(intake.close(payload_id).files) == 3
    assert not intake.tell_whole(payload_id)
    assert len(load_payload(store, payload_id).files) == 3


def test_a_store_in_a_bucket_takes_deposits_too(tmp_path: Path, s3: S3Server) -> None:  # noqa: F811
    files = study(tmp_path / "s", 3)
    store = s3.store(tmp_path)
    packed(tmp_path / "s.zip", {file.name: file.read_bytes() for file in files})
    assert deposit(store, tmp_path / "s.zip").images == 3
    report = deposit(store, tmp_path / "s")
    assert (report.images, report.duplicates, report.refused) == (0, 3, ())
    (payload_id,) = report.payload_ids
    state = Intake(store).look(payload_id)
    assert state is not None and state.whole and state.images == 3
    payload = Intake(store).close(payload_id)
    arrival = arrival_of(store, payload_id, payload)
    assert (arrival.duplicates, arrival.differing, arrival.series) == (3, 0, 1)
    assert {store.read(key)[-2048:] for key in images_of(store, report)} == {
        file.read_bytes()[-2048:] for file in files
    }


def _scandir(folder: str, errors: list[OSError]) -> Callable[..., Any]:
    """Fails for a folder as often as there are errors."""
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith(folder) and errors:
            raise errors.pop()
        return real(path)

    return scandir


def test_a_folder_that_cannot_be_read_does_not_look_empty(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        study(tmp_path / "in" / name, 2)
    errors = [OSError(errno.ESTALE, "Stale file handle", str(tmp_path / "in" / "b"))]
    monkeypatch.setattr(os, "scandir", _scandir("in/b", errors))
    with pytest.raises(OSError, match="Stale"):
        begin(store).tree(tmp_path / "in")
    errors.append(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "in" / "b")))
    deposit = begin(store)
    deposit.tree(tmp_path / "in")
    report = deposit.finish(whole=False)
    assert report.images + report.duplicates == 2
    assert [item.name for item in report.refused] == ["b"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_python_unpacks_without_bounds_are_refused(store: LocalStore, tmp_path: Path, method: int) -> None:
    (file,) = study(tmp_path / "in", 1, size=400_000)
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", method) as out:
        out.writestr("bomb.dcm", bytes(64 << 20))
        out.write(file, "image.dcm")
    deposit = begin(store)
    assert deposit.file(archive, "a.zip") is Outcome.REFUSED
    assert {item.reason for item in deposit.report().refused} == {"it is compressed otherwise than by deflate"}


def test_a_directory_that_hides_behind_another_is_refused(store: LocalStore, tmp_path: Path) -> None:
    """The locator points to a small one, and Python reads the large one before it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for number in range(50):
            out.writestr(str(number), b"")
    data = buffer.getvalue()
    size, begins = struct.unpack_from("<LL", data, data.rfind(b"PK\5\6") + 12)

    def record(count: int, size: int, at: int) -> bytes:
        return struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)

    small = record(1, 50, begins)
    large = record(50, size, begins + len(small))
    ends = struct.pack("<4s4H2LH", b"PK\5\6", *[0xFFFF] * 4, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    directory = data[begins : begins + size]
    for at, refused in ((begins, True), (begins + len(small) + size, False)):
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        (tmp_path / "a.zip").write_bytes(data[:begins] + small + directory + large + locator + ends)
        deposit = begin(store, limits=ArchiveLimits(files=10))
        deposit.file(tmp_path / "a.zip", "a.zip")
        (problem,) = deposit.report().refused
        assert ("where it says" if refused else "more than 10 files") in problem.reason


def test_a_member_without_a_name_is_as_good_as_any(store: LocalStore, tmp_path: Path) -> None:
    (file,) = study(tmp_path / "in", 1)
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("MEMBER", file.read_bytes())
    archive.write_bytes(archive.read_bytes().replace(b"MEMBER", b"\0EMBER"))  # a zero ends it
    assert begin(store).file(archive, "a.zip") is Outcome.TAKEN
