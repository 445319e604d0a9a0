"""What happens after kill -9, while Airflow is away, and with two gateways on one store."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_monai.gateway import shepherd
from airflow_monai.intake import announcer
from airflow_monai.store.payloads import load_payload, run_id_of
from tests.conftest import require
from tests.gateway import rawscu
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.gateway.rawscu import EXPLICIT, RawScu
from tests.gateway.standin import StandInAirflow
from tests.gateway.stormy import assert_all_arrived, goes_on_after_the_kill, kill_in_mid_image, send, storm
from tests.gateway.studies import CT, storescu, study


def test_kill_9_in_mid_association_loses_and_doubles_nothing(site: Site, tmp_path: Path, free_port: int) -> None:
    write_workflow(site.workflows, quiet=2.0)
    kill_in_mid_image(site, tmp_path, free_port)
    assert len(site.files()) == 11
    assert not site.airflow.runs
    goes_on_after_the_kill(site, free_port)
    wait_for(lambda: not list(site.store.children("pending")))


def test_kill_9_in_some_of_many_sends(site: Site, tmp_path: Path, free_port: int) -> None:
    """The short form of that in tests/chaos."""
    sent = storm(site, tmp_path / "in", free_port, sends=8, kills=3)
    assert_all_arrived(site, sent)
    assert sent.kills == 3


def test_kill_9_between_closing_and_the_run(site: Site, tmp_path: Path, free_port: int) -> None:
    site.airflow.dags = set()  # the DAG is not parsed yet
    process = site.process(free_port)
    send(free_port, study(tmp_path / "in", 3))
    site.wait_for_event("run-waiting")
    process.kill()
    process.wait()
    site.airflow.dags = None
    site.process(free_port)
    site.wait_for_event("run-created", seconds=90)
    assert len(site.airflow.runs) == 1
    assert len(site.events("study-complete")) == 1


def test_sigterm_ends_cleanly(site: Site, tmp_path: Path, free_port: int) -> None:
    process = site.process(free_port)
    send(free_port, study(tmp_path / "in", 1))
    process.terminate()
    assert process.wait(90) == 0
    assert site.events()[-1]["event"] == "gateway-stopped"
    assert not list(site.store.spool().iterdir())


def test_a_taken_port_is_one_line(site: Site, free_port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()
        process = site.process(free_port)
        assert process.wait(90) == 1
    assert f"cannot listen at 127.0.0.1:{free_port}" in (site.folder / "gateway.log").read_text()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry sooner than is polite."""
    monkeypatch.setattr(announcer, "FIRST_RETRY", 0.1)
    monkeypatch.setattr(announcer, "LAST_RETRY", 0.2)
    monkeypatch.setattr(shepherd, "RESCAN_SECONDS", 1.0)
    monkeypatch.setattr(shepherd, "ADOPTION_GRACE", 0.5)


@pytest.mark.usefixtures("impatient")
def test_a_run_is_created_as_soon_as_airflow_can(site: Site, tmp_path: Path) -> None:
    airflow = site.airflow
    airflow.down = True
    gateway = site.gateway()
    send(gateway.port, study(tmp_path / "in", 2))
    (event,) = site.wait_for_event("run-waiting")
    assert "503" in event["reason"]
    airflow.dags, airflow.down = set(), False
    assert "404" in site.wait_for_event("run-waiting", 2)[-1]["reason"]
    airflow.dags, airflow.token = None, "another"  # the API server was restarted: old tokens are void
    (created,) = site.wait_for_event("run-created")
    assert not created["was_there"]
    assert len(airflow.runs) == 1
    assert len(site.events("run-waiting")) == 2  # a reason is told once


@pytest.mark.usefixtures("impatient")
def test_airflow_that_is_not_there_at_all(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, connection = site.airflow.port, site.airflow.connection
    site.airflow.stop()
    monkeypatch.delenv("AIRFLOW_CONN_MONAI_AIRFLOW")
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "test")  # no metadata database here
    gateway = site.gateway()
    send(gateway.port, study(tmp_path / "in", 1))
    assert "AIRFLOW_CONN_MONAI_AIRFLOW" in site.wait_for_event("run-waiting")[0]["reason"]
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_AIRFLOW", connection)
    assert "cannot be reached" in site.wait_for_event("run-waiting", 2)[-1]["reason"]
    later = StandInAirflow(port)
    try:
        site.wait_for_event("run-created")
        assert len(later.runs) == 1
    finally:
        later.stop()


@pytest.mark.usefixtures("impatient")
def test_a_run_that_is_there_already_is_enough(site: Site, tmp_path: Path) -> None:
    """As after a kill between Airflow's answer and our record of it."""
    site.airflow.lie_409 = True
    gateway = site.gateway()
    send(gateway.port, study(tmp_path / "in", 1))
    (event,) = site.wait_for_event("run-waiting")
    assert "409" in event["reason"]  # a 409 for another reason is not taken for success
    key = (event["dag_id"], run_id_of(event["payload_id"]))
    site.airflow.runs[key] = {"dag_run_id": key[1]}
    (created,) = site.wait_for_event("run-created")
    assert created["was_there"]


def test_nobodys_study_is_recorded_with_the_reasons(site: Site, tmp_path: Path) -> None:
    write_workflow(site.workflows, "only-ct02", more="  data_origins: [CT02]")
    more = "predicate: [\"{{ context.dicom.series.any('0008','0060') }} == 'MR'\"]"
    write_workflow(site.workflows, "ct-lung", more=more)
    gateway = site.gateway()
    send(gateway.port, study(tmp_path / "in", 1))
    (event,) = site.wait_for_event("unrouted")
    routing = site.store.read_json(f"payloads/{event['payload_id']}/routing.json")
    reasons = {item["workflow"]: item["reason"] for item in routing if not item["wanted"]}
    assert set(reasons) == {"ct-lung", "only-ct02"} and reasons == event["reasons"]
    assert "predicate" in reasons["ct-lung"] and "CT02" in reasons["only-ct02"]
    assert not site.airflow.posts
    wait_for(lambda: not list(site.store.children("pending")))


def test_each_workflow_that_wants_a_study_gets_a_run(site: Site, tmp_path: Path) -> None:
    for name in ("second", "third"):
        write_workflow(site.workflows, name)
    gateway = site.gateway()
    send(gateway.port, study(tmp_path / "in", 1))
    site.wait_for_event("run-created", 3)
    assert sorted(dag for dag, _ in site.airflow.runs) == ["ct-lung", "second", "third"]
    assert len({run for _, run in site.airflow.runs}) == 1


@pytest.mark.usefixtures("impatient")
def test_two_gateways_take_one_study_together(site: Site, tmp_path: Path) -> None:
    require("dcmtk")
    one, two = site.gateway(), site.gateway()
    files = study(tmp_path / "in", 20)
    with ThreadPoolExecutor(4) as pool:
        ports = [one.port, two.port] * 2
        sent = list(pool.map(lambda port: storescu(port, files), ports))
    assert [result.returncode for result in sent] == [0] * 4
    wait_for(lambda: not list(site.store.children("pending")))
    (payload_id,) = site.store.children("payloads")
    assert len(load_payload(site.store, payload_id).files) == 20
    assert len(site.airflow.runs) == 1
    assert len(site.events("run-created")) == len(site.events("study-complete")) == 1


@pytest.mark.usefixtures("impatient")
def test_a_gateway_waits_for_an_image_that_another_one_is_receiving(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_monai.gateway.shepherd.RESCAN_SECONDS", 0.5)
    monkeypatch.setattr("airflow_monai.gateway.shepherd.ADOPTION_GRACE", 1.0)
    gateway, _ = site.gateway(), site.gateway()
    first, second = study(tmp_path / "in", 2, size=64_000)
    with RawScu(gateway.port) as scu:
        scu.associate(contexts=[(CT, EXPLICIT)])
        scu.send(rawscu.store_file(1, first))
        assert scu.status() == 0
        data = rawscu.store_file(1, second)
        scu.send(data[:30_000])
        with pytest.raises(AssertionError):
            wait_for(lambda: site.events("study-complete"), 6.0)
        scu.send(data[30_000:])
        assert scu.status() == 0
    (event,) = site.wait_for_event("run-created")
    assert len(load_payload(site.store, event["payload_id"]).files) == 2


def test_a_gateway_takes_over_from_a_dead_one(site: Site, tmp_path: Path, free_port: int) -> None:
    write_workflow(site.workflows, quiet=1.5)
    process = site.process(free_port)
    send(free_port, study(tmp_path / "in", 2))
    site.gateway()
    process.kill()
    process.wait()
    (event,) = site.wait_for_event("run-created")
    assert len(load_payload(site.store, event["payload_id"]).files) == 2


def test_both_gateways_closing_at_once_agree(site: Site, tmp_path: Path) -> None:
    """The closing race, on purpose: each gateway receives, both close the same payloads again and again."""
    one, two = site.gateway(), site.gateway()
    files = study(tmp_path / "in", 20)
    done = threading.Event()

    def close_all(gateway: object) -> None:
        while not done.is_set():
            for payload_id in list(site.store.children("pending")):
                if site.store.exists(f"payloads/{payload_id}/open.json"):
                    gateway.intake.close(payload_id)  # type: ignore[attr-defined]
            done.wait(0.005)

    closers = [threading.Thread(target=close_all, args=(gateway,)) for gateway in (one, two)]
    for closer in closers:
        closer.start()
    with ThreadPoolExecutor(4) as pool:
        parts = [(one.port, files[::2]), (two.port, files[1::2]), (one.port, files[5:15]), (two.port, files[2:12])]
        list(pool.map(lambda part: send(*part), parts))
    done.set()
    for closer in closers:
        closer.join()
    wait_for(lambda: not list(site.store.children("pending")))
    ids = list(site.store.children("payloads"))
    listed = [file.sop_instance_uid for pid in ids for file in load_payload(site.store, pid).files]
    assert len(listed) == len(set(listed)) == 20
    assert len(site.files()) == 20
    assert {run["partition_key"] for run in site.airflow.runs.values()} == set(ids)
