"""Associations with TLS, beside plain ones, from dcmtk and from bare sockets."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import SettingsError
from airflow_monai.gateway.dicom.admission import Admission
from airflow_monai.gateway.dicom.association import Association
from airflow_monai.gateway.dicom.dimse import Answer, Status, StoreRequest
from airflow_monai.gateway.dicom.settings import DicomOptions, TlsFiles
from airflow_monai.gateway.dicom.tls import ServerTls
from airflow_monai.gateway.service import Gateway
from tests.conftest import require
from tests.gateway import rawscu
from tests.gateway.certificates import Pair, make_ca, make_signed
from tests.gateway.conftest import Site, wait_for
from tests.gateway.rawscu import EXPLICIT
from tests.gateway.studies import CT, storescu, study

REFUSED = (ssl.SSLError, ConnectionResetError)
"""A reset can overtake the alert."""


@dataclass(frozen=True, slots=True)
class Papers:
    folder: Path
    ca: Pair
    gateway: Pair
    modality: Pair


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Papers]:
    require("openssl")
    folder = tmp_path_factory.mktemp("tls")
    ca = make_ca(folder)
    yield Papers(folder, ca, make_signed(folder, "gateway", ca), make_signed(folder, "modality", ca))


def start(site: Site, papers: Papers, *, client_ca: Path | None = None, plain: bool = True) -> Gateway:
    files = TlsFiles(papers.gateway.certificate, papers.gateway.key, client_ca)
    return site.gateway(dicom=DicomOptions(tls_port=0, tls=files, plain=plain, artim_seconds=20.0))


def test_dcmtk_sends_with_tls_and_without(site: Site, papers: Papers, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = start(site, papers)
    one, two = study(tmp_path / "a", 3, size=300_000), study(tmp_path / "b", 2)
    sent = storescu(gateway.tls_port, one, "+tla", "+cf", str(papers.ca.certificate))
    assert sent.returncode == 0, sent.stderr
    assert storescu(gateway.port, two).returncode == 0
    assert len(site.files()) == 5
    wait_for(lambda: len(site.airflow.runs) == 2)
    assert not site.events("association-aborted")


def test_a_client_that_must_show_a_certificate(site: Site, papers: Papers, tmp_path: Path) -> None:
    require("dcmtk")
    gateway = start(site, papers, client_ca=papers.ca.certificate)
    files = study(tmp_path / "in", 1)
    trust = ["+cf", str(papers.ca.certificate)]
    assert storescu(gateway.tls_port, files, "+tla", *trust).returncode != 0
    reasons = [event["reason"] for event in site.wait_for_event("connection-failed")]
    assert any("TLS" in reason and "CERTIFICATE" in reason for reason in reasons), reasons
    stranger = make_signed(papers.folder, "stranger", make_ca(papers.folder, "other-ca"))
    for pair, accepted in ((stranger, False), (papers.modality, True)):
        sent = storescu(gateway.tls_port, files, "+tls", str(pair.key), str(pair.certificate), *trust)
        assert (sent.returncode == 0) == accepted, sent.stderr
    assert len(site.files()) == 1


def test_only_tls(site: Site, papers: Papers, tmp_path: Path) -> None:
    gateway = start(site, papers, plain=False)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port or 1), timeout=5)
    with _connect(gateway.tls_port, papers) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")


def _connect(port: int, papers: Papers, **limits: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=papers.ca.certificate)
    context.check_hostname = False
    for name, value in limits.items():
        setattr(context, name, value)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60))


def test_old_versions_and_weak_suites_are_refused(site: Site, papers: Papers) -> None:
    gateway = start(site, papers)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with _connect(gateway.tls_port, papers, minimum_version=version, maximum_version=version) as connection:
            assert connection.version() == version.name.replace("_", ".")
    context = ssl.create_default_context(cafile=papers.ca.certificate)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:AES256-GCM-SHA384")  # no forward secrecy
    with pytest.raises(REFUSED), socket.create_connection(("127.0.0.1", gateway.tls_port)) as plain:
        context.wrap_socket(plain)
    with pytest.warns(DeprecationWarning), pytest.raises(REFUSED):
        _connect(gateway.tls_port, papers, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


def test_what_is_no_tls_at_the_tls_port_ends_only_itself(site: Site, papers: Papers, tmp_path: Path) -> None:
    gateway = start(site, papers)
    for junk in (rawscu.associate("CTLUNG", "RAW", [(CT, EXPLICIT)]), bytes(300), b"\x16\x03\x01\x40\x00" + bytes(99)):
        with socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=60) as connection:
            with suppress(OSError):  # hung up on before all was sent
                connection.sendall(junk)
                connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while connection.recv(1024):
                    pass
    with _connect(gateway.tls_port, papers):
        assert site.wait_for_event("connection-failed")


def test_a_probe_of_the_port_is_nothing_to_tell(site: Site, papers: Papers) -> None:
    gateway = start(site, papers)
    for port in (gateway.port, gateway.tls_port):
        socket.create_connection(("127.0.0.1", port)).close()
    with _connect(gateway.tls_port, papers) as connection:
        connection.sendall(bytes(100))
        with suppress(ConnectionResetError):
            while connection.recv(100):
                pass
    (event,) = site.wait_for_event("connection-failed")
    assert "A-ASSOCIATE-RQ" in event["reason"] or "PDU" in event["reason"]


def test_an_association_of_many_images_by_tls_and_its_stop(site: Site, papers: Papers, tmp_path: Path) -> None:
    gateway = start(site, papers)
    files = study(tmp_path / "in", 20, size=200_000)
    with _connect(gateway.tls_port, papers) as connection:
        connection.sendall(rawscu.associate("CTLUNG", "RAW", [(CT, EXPLICIT)]))
        sender = threading.Thread(target=lambda: [connection.sendall(rawscu.store_file(1, file)) for file in files])
        sender.start()
        wait_for(lambda: len(site.files()) == 20)
        sender.join()
        gateway.stop(grace=0.2)  # which ends it
        with suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
    assert "stopping" in site.wait_for_event("association-aborted")[0]["reason"]


def test_certificates_change_while_it_runs(papers: Papers, tmp_path: Path, site: Site) -> None:
    mine = Papers(tmp_path, papers.ca, Pair(tmp_path / "c.pem", tmp_path / "k.pem"), papers.modality)
    shutil.copy(papers.gateway.certificate, mine.gateway.certificate)
    shutil.copy(papers.gateway.key, mine.gateway.key)
    gateway = start(site, mine)

    def shown() -> bytes:
        with _connect(gateway.tls_port, papers) as connection:
            return connection.getpeercert(binary_form=True) or b""

    first = shown()
    mine.gateway.certificate.write_text("half a file")
    assert shown() == first
    renewed = make_signed(papers.folder, "renewed", papers.ca)
    shutil.copy(renewed.key, mine.gateway.key)
    shutil.copy(renewed.certificate, mine.gateway.certificate)
    assert shown() == ssl.PEM_cert_to_DER_cert(renewed.certificate.read_text())


def test_files_that_cannot_be_used_are_named_at_start(papers: Papers, tmp_path: Path) -> None:
    missing, certificate, key = tmp_path / "missing.pem", papers.gateway.certificate, papers.gateway.key
    for files, message in (
        (TlsFiles(missing, key), "dicom_tls_certificate = .*missing.pem"),
        (TlsFiles(certificate, papers.modality.key), "must be PEM, belong together"),
        (TlsFiles(certificate, key, missing), "dicom_tls_client_ca = .*missing.pem"),
        (TlsFiles(certificate, key, key), "dicom_tls_client_ca"),
    ):
        with pytest.raises(SettingsError, match=message):
            ServerTls(files)
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", str(key), "-out", str(encrypted)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(SettingsError, match="must not be encrypted"):
        ServerTls(TlsFiles(certificate, encrypted))


def test_a_cut_in_the_midst_of_an_image_keeps_nothing_that_was_not_sent(papers: Papers) -> None:
    """What has come and is not decrypted yet must not be taken for the rest of the image."""
    kept: list[bytes] = []

    class Reception:
        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, fragment: memoryview) -> None:
            self.data += fragment

        def finish(self) -> Answer:
            kept.append(bytes(self.data))
            return Answer(Status.SUCCESS)

        def discard(self) -> None:
            pass

    class Desk:
        def receive(self, request: StoreRequest) -> Reception:
            return Reception()

    class CutWithin(ssl.SSLSocket):
        def recv_into(self, *args: Any, **more: Any) -> int:
            count = super().recv_into(*args, **more)
            if count > 10_000 and not assoc.is_cut:
                time.sleep(0.2)  # the rest of the PDU has come
                assoc.cut()
            return count

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(papers.gateway.certificate, papers.gateway.key)
    server.sslsocket_class = CutWithin
    client = ssl.create_default_context(cafile=papers.ca.certificate)
    client.check_hostname = False
    ours, theirs = socket.socketpair()
    options = DicomOptions(idle_seconds=60)
    assoc = Association(
        ours, "peer", options=options, admission=Admission(options, lambda title: True), desk=Desk(), context=server
    )
    thread = threading.Thread(target=assoc.run)
    thread.start()
    with client.wrap_socket(theirs) as connection:
        connection.sendall(rawscu.associate("CTLUNG", "RAW", [(CT, EXPLICIT)]))
        connection.recv(4096)
        with suppress(OSError):
            connection.sendall(rawscu.store(1, CT, "1.2.3", bytes(100_000), piece=110_000))
        thread.join(60)
    assert not thread.is_alive() and assoc.is_cut
    assert kept in ([], [bytes(100_000)])
