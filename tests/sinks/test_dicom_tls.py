"""C-STORE over TLS: real receivers, certificates of an authority of our own, and what is wrong with those."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_monai.errors import DestinationError, SinkUnavailable
from airflow_monai.sinks.base import DeliveryState
from tests.conftest import require
from tests.pacs import Receiver, make_images, orthanc, storescp
from tests.sinks.test_dicom import News, instance, sink


@dataclass(frozen=True)
class Authority:
    """Certificates for localhost in a folder, all of one authority: ``server`` and ``client``."""

    folder: Path

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def options(self, *, client: bool) -> list[str]:
        """What dcmtk's tools take."""
        peer = "-rc" if client else "-ic"
        return ["+tls", self.file("server-key.pem"), self.file("server.pem"), "+cf", self.file("ca.pem"), peer]

    def trust(self, **extra: object) -> dict[str, object]:
        return {"tls": True, "ca_file": self.file("ca.pem"), **extra}

    def shown(self) -> dict[str, str]:
        return {"cert_file": self.file("client.pem"), "key_file": self.file("client-key.pem")}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require("openssl")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    commands = ["req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca-key.pem -out ca.pem"]
    for name, names in (("server", "-extfile names"), ("client", ""), ("nameless", "")):
        commands += [
            f"req -newkey rsa:2048 -nodes -subj /CN={name}.example -keyout {name}-key.pem -out {name}.csr",
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 {names} -out {name}.pem",
        ]
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return Authority(folder)


@pytest.fixture
def receiver(authority: Authority, tmp_path: Path) -> Iterator[Receiver]:
    require("dcmtk")
    with storescp(tmp_path / "out", options=authority.options(client=False)) as running:
        yield running


def test_storescp_gets_every_image_over_tls(authority: Authority, receiver: Receiver, tmp_path: Path) -> None:
    from pydicom import dcmread

    images = [*make_images(tmp_path / "in", 20), *make_images(tmp_path / "large", 1, rows=1600)]
    news = News()
    sink(receiver.port, receiver.aet, **authority.trust(associations=3)).send([instance(path) for path in images], news)
    assert news.states() == {DeliveryState.ACCEPTED: 21}
    stored = {dcmread(path).SOPInstanceUID: dcmread(path) for path in receiver.files()}
    assert stored == {dcmread(path).SOPInstanceUID: dcmread(path) for path in images}


def test_orthanc_gets_images_over_tls_from_a_client_that_it_knows(authority: Authority, tmp_path: Path) -> None:
    require("orthanc")
    images = make_images(tmp_path / "in", 5)
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": authority.file("server.pem"),
        "DicomTlsPrivateKey": authority.file("server-key.pem"),
        "DicomTlsTrustedCertificates": authority.file("ca.pem"),
        "DicomTlsRemoteCertificateRequired": True,
        "DicomAlwaysAllowFind": True,
    }
    with orthanc(tmp_path / "pacs", **settings) as pacs:
        news = News()
        known = sink(pacs.port, pacs.aet, **authority.trust(**authority.shown()))
        known.send([instance(path) for path in images], news)
        assert news.states() == {DeliveryState.ACCEPTED: 5}
        assert pacs.sop_uids() == sorted(path.stem for path in images)
        assert known.ask([instance(path) for path in images]) == {path.stem: True for path in images}
        with pytest.raises((DestinationError, SinkUnavailable), match=r"cert_file|hung up|broke off"):
            sink(pacs.port, pacs.aet, **authority.trust()).test()


def test_a_client_certificate_that_is_missing_is_named(authority: Authority, tmp_path: Path) -> None:
    require("dcmtk")
    with storescp(tmp_path / "out", options=authority.options(client=True)) as running:
        assert "C-ECHO" in sink(running.port, running.aet, **authority.trust(**authority.shown())).test()
        with pytest.raises((DestinationError, SinkUnavailable), match=r"cert_file and key_file|broke off"):
            sink(running.port, running.aet, **authority.trust()).test()


def test_an_unknown_authority_is_refused_and_said(authority: Authority, receiver: Receiver, tmp_path: Path) -> None:
    (image,) = make_images(tmp_path / "in", 1)
    news = News()
    with pytest.raises(DestinationError, match=r"certificate that is not accepted .*set ca_file"):
        sink(receiver.port, receiver.aet, tls=True).send([instance(image)], news)
    assert news.sent == []
    assert receiver.files() == []


def test_a_certificate_for_another_host_is_refused_unless_that_is_allowed(authority: Authority, tmp_path: Path) -> None:
    require("dcmtk")
    options = ["+tls", authority.file("nameless-key.pem"), authority.file("nameless.pem"), "-ic"]
    with storescp(tmp_path / "out", options=options) as running:
        with pytest.raises(DestinationError, match="check_host"):
            sink(running.port, running.aet, **authority.trust()).test()
        assert "C-ECHO" in sink(running.port, running.aet, **authority.trust(check_host=False)).test()


def test_a_plain_node_is_not_taken_for_one_with_tls_and_the_other_way(authority: Authority, tmp_path: Path) -> None:
    require("dcmtk")
    with storescp(tmp_path / "plain") as plain, pytest.raises(SinkUnavailable, match="is TLS on there"):
        sink(plain.port, plain.aet, **authority.trust()).test()
    with (
        storescp(tmp_path / "tls", options=authority.options(client=False)) as running,
        pytest.raises(SinkUnavailable, match=r"is it a DICOM port|aborted"),
    ):
        sink(running.port, running.aet).test()


@pytest.mark.parametrize("extra", ["ca_file", "cert_file"])
def test_a_file_that_is_not_there_is_named(extra: str) -> None:
    with pytest.raises(DestinationError, match=f"{extra} = '/nowhere/a.pem' is no file"):
        sink(104, tls=True, **{extra: "/nowhere/a.pem"})
