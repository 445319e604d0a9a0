"""The DICOM sink against real and against difficult receivers."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import DestinationError, SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.dicom import DicomSink, batches
from airflow_monai.sinks.dimse.association import Association, Peer
from airflow_monai.sinks.dimse.wire import Wire
from airflow_monai.sinks.part10 import read_head
from tests.conftest import require
from tests.pacs import CT, Receiver, free_port, make_images, orthanc, storescp
from tests.sinks.difficult import Difficult, difficult, proxy, silent

RLE_LOSSLESS = "1.2.840.10008.1.2.5"


def instance(path: Path) -> Instance:
    head = read_head(path)
    assert head is not None
    return Instance(
        path.name,
        path,
        path.name,
        head.sop_instance_uid,
        head.sop_class_uid,
        head.transfer_syntax_uid,
        study_instance_uid=head.study_instance_uid,
        series_instance_uid=head.series_instance_uid,
    )


def sink(port: int, aet: str = "ANY", **extra: object) -> DicomSink:
    times = {"connect_timeout": 20, "response_timeout": 20, "called_aet": aet}
    return DicomSink(Destination("PACS", "dicom", "127.0.0.1", port, times | extra))


class News:
    """Collects what a sink reports; the last word on each instance is in ``verdicts``."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.verdicts: dict[str, Delivery] = {}

    def __call__(self, delivery: Delivery) -> None:
        if delivery.state is DeliveryState.SENT:
            self.sent.append(delivery.identity)
        else:
            self.verdicts[delivery.identity] = delivery

    def states(self) -> Counter[DeliveryState]:
        return Counter(verdict.state for verdict in self.verdicts.values())


def send(receiver: Receiver, paths: list[Path]) -> News:
    news = News()
    sink(receiver.port, receiver.aet).send([instance(path) for path in paths], news)
    return news


def test_storescp_gets_every_image_unchanged(tmp_path: Path) -> None:
    require("dcmtk")
    from pydicom import dcmread

    images = make_images(tmp_path / "in", 20)
    with storescp(tmp_path / "out") as receiver:
        news = send(receiver, images)
        stored = {dcmread(path).SOPInstanceUID: dcmread(path) for path in receiver.files()}
    assert news.states() == {DeliveryState.ACCEPTED: 20}
    assert {verdict.status for verdict in news.verdicts.values()} == {"0000"}
    for path in images:
        original = dcmread(path)
        assert stored[original.SOPInstanceUID] == original
        assert stored[original.SOPInstanceUID].file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID


def test_orthanc_gets_every_image(tmp_path: Path) -> None:
    require("orthanc")
    images = make_images(tmp_path / "in", 5)
    with orthanc(tmp_path / "pacs") as pacs:
        assert send(pacs, images).states() == {DeliveryState.ACCEPTED: 5}
        assert pacs.sop_uids() == sorted(path.stem for path in images)


def test_a_compressed_image_is_sent_as_it_is(tmp_path: Path) -> None:
    require("dcmtk")
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    source = Path(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    with storescp(tmp_path / "out") as receiver:
        assert send(receiver, [source]).states() == {DeliveryState.ACCEPTED: 1}
        (stored,) = receiver.files()
        assert dcmread(stored).PixelData == dcmread(source).PixelData
        assert dcmread(stored).file_meta.TransferSyntaxUID == RLE_LOSSLESS


def test_a_large_image_goes_in_many_fragments(tmp_path: Path) -> None:
    require("dcmtk")
    from pydicom import dcmread

    (image,) = make_images(tmp_path / "in", 1, rows=2400)  # 11 MB: several blocks of the sender
    with storescp(tmp_path / "out", options=["--max-pdu", "4096"]) as receiver:
        assert send(receiver, [image]).states() == {DeliveryState.ACCEPTED: 1}
        assert dcmread(receiver.files()[0]).PixelData == dcmread(image).PixelData


def test_a_node_without_nagle_off_is_not_slow(tmp_path: Path) -> None:
    require("dcmtk")
    images = make_images(tmp_path / "in", 40)
    with storescp(tmp_path / "out", nodelay=False) as receiver:
        for _ in range(5):  # a host that is busy is slow for another reason, and not for ever
            start = time.monotonic()
            send(receiver, images)
            if (taken := time.monotonic() - start) < 40 * 0.040:
                break
        assert taken < 40 * 0.040  # it would be at least 40 ms an image, each time


def test_a_node_that_takes_implicit_vr_only_gets_that(tmp_path: Path) -> None:
    from pydicom import dcmread

    (image,) = make_images(tmp_path / "in", 1)
    datasets = []

    def keep(receiver: object, event: object) -> int:
        datasets.append(event.dataset)  # type: ignore[attr-defined]
        return 0x0000

    with difficult(keep, contexts={CT: ["1.2.840.10008.1.2"]}) as receiver:
        news = News()
        sink(receiver.port).send([instance(image)], news)
    assert news.states() == {DeliveryState.ACCEPTED: 1}
    assert datasets[0].PixelData == dcmread(image).PixelData
    assert datasets[0].PatientName == dcmread(image).PatientName


def test_a_class_that_is_not_taken_is_refused_by_name_and_the_others_are_sent(tmp_path: Path) -> None:
    images = make_images(tmp_path / "ct", 1)
    segmentation = make_images(tmp_path / "seg", 1, sop_class="1.2.840.10008.5.1.4.1.1.66.4")
    with difficult(lambda *_: 0) as receiver:
        news = News()
        sink(receiver.port).send([instance(path) for path in segmentation + images], news)
    refused = news.verdicts[segmentation[0].stem]
    assert (refused.state, refused.retry) == (DeliveryState.REFUSED, False)
    assert "Segmentation Storage in Explicit VR Little Endian" in refused.message
    assert news.verdicts[images[0].stem].state is DeliveryState.ACCEPTED


def test_warnings_are_acceptances_and_failures_carry_status_and_meaning(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 4)
    answers = dict(zip([path.stem for path in images], [0xB000, 0xA900, 0x0122, 0xC123], strict=True))
    with difficult(lambda _, event: answers[event.request.AffectedSOPInstanceUID]) as receiver:
        news = News()
        sink(receiver.port).send([instance(path) for path in images], news)
        assert len(receiver.seen) == 4  # for-good refusals are not repeated
    found = {uid: (verdict.state.value, verdict.status, verdict.retry) for uid, verdict in news.verdicts.items()}
    assert list(found.values()) == [
        ("accepted", "B000", False),
        ("refused", "A900", False),
        ("refused", "0122", False),
        ("refused", "C123", False),
    ]
    assert "A900: Data set does not match SOP class" in news.verdicts[images[1].stem].message


def test_an_answer_about_another_instance_is_none(tmp_path: Path) -> None:
    from pydicom import Dataset

    def mixed_up(_: Difficult, event: Any) -> Any:
        answer = Dataset()
        answer.Status, answer.AffectedSOPInstanceUID = 0x0000, "1.2.3.4"
        return answer

    news = News()
    with difficult(mixed_up) as receiver:
        sink(receiver.port, query="never").send([instance(path) for path in make_images(tmp_path, 1)], news)
        assert len(receiver.seen) == 3
    assert news.states() == {DeliveryState.UNKNOWN: 1}


def test_a_far_side_that_talks_on_is_left_all_the_same() -> None:
    near, far = socket.socketpair()
    ended = threading.Event()

    def talk() -> None:
        with suppress(OSError):
            while not ended.wait(0.05):
                far.sendall(b"\x04\0\0\0\0\0")  # a P-DATA-TF with nothing in it

    threading.Thread(target=talk, daemon=True).start()
    peer = Peer("127.0.0.1", 1, "PACS", "MONAI", response_timeout=0.5)
    begun = time.monotonic()
    Association(Wire(near, 0.5, Deadline()), peer, {}, 0).release()
    assert time.monotonic() - begun < 30
    ended.set()
    far.close()


def test_a_full_disk_that_clears_up_is_waited_for(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 2)
    with difficult(lambda receiver, _: 0xA700 if len(receiver.seen) < 3 else 0) as receiver:
        news = News()
        sink(receiver.port).send([instance(path) for path in images], news)
        assert receiver.seen == [images[0].stem] * 3 + [images[1].stem]
        assert receiver.associations == 1
    assert news.states() == {DeliveryState.ACCEPTED: 2}


def test_a_full_disk_that_stays_full_ends_the_sending(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 30)
    with difficult(lambda *_: 0xA700) as receiver:
        news = News()
        with pytest.raises(SinkUnavailable, match=r"5 attempts in a row.*A700: Out of resources"):
            sink(receiver.port).send([instance(path) for path in images], news)
        assert len(receiver.seen) == 5
    assert all(verdict.retry for verdict in news.verdicts.values())


def test_an_image_that_is_aborted_once_is_sent_again_alone(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 6)

    def abort_the_third(receiver: object, event: object) -> int:
        if len(receiver.seen) == 3:  # type: ignore[attr-defined]
            event.assoc.abort()  # type: ignore[attr-defined]
        return 0

    with difficult(abort_the_third) as receiver:
        news = News()
        sink(receiver.port).send([instance(path) for path in images], news)
        assert Counter(receiver.seen) == Counter({path.stem: 2 if path == images[2] else 1 for path in images})
        assert receiver.associations == 3  # the one that was lost, the next, and between them one to ask what arrived
    assert news.states() == {DeliveryState.ACCEPTED: 6}


def test_an_image_that_always_kills_the_association_does_not_stop_the_others(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 4)
    poison = images[1].stem

    def abort_poison(receiver: object, event: object) -> int:
        if event.request.AffectedSOPInstanceUID == poison:  # type: ignore[attr-defined]
            event.assoc.abort()  # type: ignore[attr-defined]
        return 0

    with difficult(abort_poison) as receiver:
        news = News()
        sink(receiver.port).send([instance(path) for path in images], news)
    assert news.verdicts[poison].state is DeliveryState.UNKNOWN
    assert "aborted the association" in news.verdicts[poison].message
    assert news.states() == {DeliveryState.ACCEPTED: 3, DeliveryState.UNKNOWN: 1}


def test_a_hanging_node_gets_its_time_and_no_more(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 30)
    released = threading.Event()

    def hang(*_: object) -> int:
        released.wait(60)
        return 0

    with difficult(hang) as receiver:
        news = News()
        start = time.monotonic()
        with pytest.raises(SinkUnavailable, match=r"did not answer within 0.3 s"):
            sink(receiver.port, response_timeout=0.3).send([instance(path) for path in images], news)
        assert time.monotonic() - start < 30
        released.set()
    assert news.verdicts[images[0].stem].state is DeliveryState.UNKNOWN


def test_300_images_over_a_connection_that_breaks_in_the_middle(tmp_path: Path) -> None:
    require("dcmtk")
    images = make_images(tmp_path / "in", 300)
    with (
        storescp(tmp_path / "out") as receiver,
        proxy(receiver.port, cut_after=sum(path.stat().st_size for path in images) // 2) as port,
    ):
        news = News()
        sink(port, receiver.aet).send([instance(path) for path in images], news)
        assert len(receiver.files()) == 300
    assert news.states() == {DeliveryState.ACCEPTED: 300}
    assert sum(count - 1 for count in Counter(news.sent).values()) == 1  # one request was open, one is repeated


@pytest.mark.parametrize(
    ("aet", "message"),
    [("OTHER", "rejected the association of MONAI: Called AE title not recognised.*called_aet.*--called")],
)
def test_a_wrong_ae_title_is_said_to_be_that(aet: str, message: str, tmp_path: Path) -> None:
    (image,) = make_images(tmp_path / "in", 1)
    with difficult(lambda *_: 0, aet="RIGHT") as receiver:
        with pytest.raises(DestinationError, match=message):
            sink(receiver.port, aet).send([instance(image)], News())
        assert sink(receiver.port, "RIGHT").test().endswith("but does not do C-ECHO.")


def test_nobody_there(tmp_path: Path) -> None:
    (image,) = make_images(tmp_path / "in", 1)
    with pytest.raises(SinkUnavailable, match=r"ANY at 127\.0\.0\.1:\d+ cannot be reached"):
        sink(free_port()).send([instance(image)], News())


def test_a_port_that_says_nothing(tmp_path: Path) -> None:
    (image,) = make_images(tmp_path / "in", 1)
    with silent() as port, pytest.raises(SinkUnavailable, match=r"did not answer the association within 0\.2 s"):
        sink(port, connect_timeout=0.2).send([instance(image)], News())


def test_a_port_that_is_no_dicom() -> None:
    import socket

    def greet(listener: socket.socket) -> None:
        near, _ = listener.accept()
        with near:
            near.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            near.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, args=(listener,))
        thread.start()
        with pytest.raises(SinkUnavailable, match="is it a DICOM port"):
            sink(listener.getsockname()[1]).test()
        thread.join()


@pytest.mark.parametrize("transient", [True, False])
def test_a_node_that_takes_one_association_only_gets_everything_on_that(tmp_path: Path, transient: bool) -> None:
    """Some say that it is for now (PS3.8 table 9-21), some reject what is too many for good."""
    images = make_images(tmp_path / "in", 20)
    with one_at_a_time(transient) as receiver:
        news = News()
        sink(receiver.port, associations=4, query="never").send([instance(path) for path in images], news)
        assert Counter(receiver.seen) == dict.fromkeys([path.stem for path in images], 1)
        assert receiver.associations == 1
    assert news.states() == {DeliveryState.ACCEPTED: 20}


@contextmanager
def one_at_a_time(transient: bool) -> Iterator[Difficult]:
    from pynetdicom import evt
    from pynetdicom.acse import ACSE

    busy = threading.Lock()

    def admit(event: Any) -> None:
        if busy.acquire(blocking=False):
            return
        ACSE(event.assoc).send_reject(0x02 if transient else 0x01, 0x03, 0x02)
        event.assoc.kill()

    with difficult(lambda *_: time.sleep(0.02) or 0, handlers=[(evt.EVT_REQUESTED, admit)]) as receiver:
        yield receiver


def test_a_bandwidth_limit_is_kept_by_all_associations_together(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 12, rows=256)  # 1.6 MB
    with difficult(lambda *_: 0) as receiver:
        start = time.monotonic()
        news = News()
        limited = sink(receiver.port, associations=3, max_mb_per_second=2)
        limited.send([instance(path) for path in images], news)
        assert time.monotonic() - start > 0.65
    assert news.states() == {DeliveryState.ACCEPTED: 12}


def test_what_the_report_raises_ends_the_sending(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 3)

    def report(delivery: Delivery) -> None:
        if delivery.identity == images[1].stem:
            raise RuntimeError("fenced")

    with difficult(lambda *_: 0) as receiver:
        with pytest.raises(RuntimeError, match="fenced"):
            sink(receiver.port).send([instance(path) for path in images], report)
        assert receiver.seen == [images[0].stem]


def test_more_kinds_than_one_association_can_propose() -> None:
    many = [Instance(str(n), Path("x"), "x", f"1.{n}", f"1.2.{n}", "1.2.840.10008.1.2.1") for n in range(200)]
    parts = list(batches(many))
    assert [len(part) for part in parts] == [64, 64, 64, 8]  # two contexts each: its own and the default syntax
    assert [item for part in parts for item in part] == many


@pytest.mark.parametrize(
    ("host", "port", "extra", "message"),
    [
        ("", 104, {}, "no host"),
        ("h", None, {}, "no port"),
        ("h", 104, {"called_aet": "MORE THAN 16 CHARS"}, "called_aet 'MORE THAN 16 CHARS' is no AE title"),
        ("h", 104, {"response_timeout": "soon"}, "response_timeout = 'soon' is not a time"),
    ],
)
def test_an_incomplete_connection_is_named(host: str, port: int | None, extra: dict[str, str], message: str) -> None:
    with pytest.raises(DestinationError, match=message):
        DicomSink(Destination("PACS", "dicom", host, port, extra))
