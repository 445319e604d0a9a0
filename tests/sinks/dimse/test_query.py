"""A real PACS asked for what it has, and nodes that cannot or will not tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import DestinationError, SinkUnavailable
from airflow_monai.sinks.base import DeliveryState, Destination
from airflow_monai.sinks.dicom import DicomSink
from airflow_monai.sinks.dimse.query import STUDY_ROOT
from tests.conftest import require
from tests.pacs import free_port, make_images, orthanc, storescp
from tests.sinks.difficult import difficult
from tests.sinks.test_dicom import News, instance, sink


def test_orthanc_tells_what_it_has_of_several_series(tmp_path: Path) -> None:
    require("orthanc")
    series = [[instance(path) for path in make_images(tmp_path / str(n), 3)] for n in range(2)]
    with orthanc(tmp_path / "pacs", DicomAlwaysAllowFind=True) as pacs:
        to_pacs = sink(pacs.port, pacs.aet)
        to_pacs.send([series[0][0], series[0][2], series[1][1]], News())
        asked = [*series[0], series[1][1], replace(series[1][2], series_instance_uid="1.2.3")]
        found = to_pacs.ask(asked)
    assert found is not None
    assert [found[str(item.sop_instance_uid)] for item in asked] == [True, False, True, True, False]


def test_a_node_without_queries_cannot_be_asked(tmp_path: Path) -> None:
    require("dcmtk")
    images = [instance(path) for path in make_images(tmp_path / "in", 2)]
    with storescp(tmp_path / "out") as receiver:
        assert sink(receiver.port, receiver.aet).ask(images) is None
    assert sink(free_port(), query="never").ask(images) is None


def test_a_node_that_is_down_or_refuses_the_query(tmp_path: Path) -> None:
    (image,) = [instance(path) for path in make_images(tmp_path / "in", 1)]
    with pytest.raises(SinkUnavailable):
        sink(free_port()).ask([image])
    with finder(lambda _: [(0xA700, None)]) as port:
        assert sink(port).ask([image]) == {}


def test_another_node_may_be_asked(tmp_path: Path) -> None:
    """The archive behind the node that takes the images."""
    (image,) = [instance(path) for path in make_images(tmp_path / "in", 1)]
    asked: list[Any] = []

    def has_it(identifier: Any) -> list[tuple[int, Any]]:
        asked.append((identifier.QueryRetrieveLevel, identifier.StudyInstanceUID, identifier.SeriesInstanceUID))
        return [(0xFF00, identifier), (0x0000, None)]

    with finder(has_it) as port:
        to_pacs = sink(free_port(), query=f"ARCHIVE@127.0.0.1:{port}")
        assert to_pacs.ask([image]) == {image.sop_instance_uid: True}
    assert asked == [("IMAGE", image.study_instance_uid, image.series_instance_uid)]


@pytest.mark.parametrize("query", ["ARCHIVE", "ARCHIVE@host", "@host:104", "MORE THAN 16 CHARS@host:104"])
def test_whom_to_ask_must_be_said_in_full(query: str) -> None:
    with pytest.raises(DestinationError, match="query"):
        DicomSink(Destination("PACS", "dicom", "h", 104, {"query": query}))


def test_an_image_that_arrived_unanswered_is_found_and_not_sent_again(tmp_path: Path) -> None:
    """The PACS keeps what it got, and loses the association before its answer."""
    images = [instance(path) for path in make_images(tmp_path / "in", 4)]
    stored: list[str] = []

    def keep_but_hang_up(receiver: Any, event: Any) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        if len(stored) == 2:
            event.assoc.abort()
        return 0

    def find(identifier: Any) -> list[tuple[int, Any]]:
        return [(0xFF00, identifier), (0x0000, None)] if identifier.SOPInstanceUID in stored else [(0x0000, None)]

    with difficult(keep_but_hang_up) as receiver, finder(find) as port:
        news = News()
        sink(receiver.port, query=f"ARCHIVE@127.0.0.1:{port}").send(images, news)
    assert stored == [item.sop_instance_uid for item in images]
    assert news.states() == {DeliveryState.ACCEPTED: 4}
    assert news.verdicts[stored[1]].verified
    assert "is there when asked for" in news.verdicts[stored[1]].message


@contextmanager
def finder(answer: Any) -> Iterator[int]:
    """A node that answers each query as ``answer(identifier)`` says: (status, identifier)."""
    from pynetdicom import AE, evt

    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(STUDY_ROOT)
    port = free_port()
    handlers = [(evt.EVT_C_FIND, lambda event: iter(answer(event.identifier)))]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield port
    finally:
        server.shutdown()
