"""Runs of modules: which run, which are taken over, and what is refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_monai.api.common.access import Caller, Right
from airflow_monai.api.mip.engine import PATIENCE
from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.errors import StoreError
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import RunId
from airflow_monai.store.local import LocalStore
from tests.api import airflow_rows
from tests.api.mip import scene
from tests.api.workflow_manager.scene import only

Api = Callable[[str | None], TestClient]
JSON = {"content-type": "application/json"}


@pytest.fixture
def chain(api: Api, site_store: LocalStore, tmp_path: Path) -> str:
    """The payload id of the map PEACH; the workflow is there."""
    (tmp_path / "workflows" / "chain.yaml").write_text(scene.SPEC)
    airflow_rows.parse(scene.SPEC)
    return scene.dataset(site_store)


def asked(client: TestClient, *modules: str, job: str = "alpha", **more: Any) -> dict[str, Any]:
    body = {"job": job, "modules": list(modules), "map": "PEACH", "force_rerun": False, "openai_key": "", **more}
    answer = client.post("/mip/runs", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as found:
        return {name: found.read(name) for name in found.namelist()}


def audited(event: str) -> list[str]:
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return [str(extra) for extra in session.scalars(select(Log.extra).where(Log.event == event))]


def forget_dag() -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagModel).values(is_stale=True))


def delete_run(run_id: str) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun).where(DagRun.run_id == run_id))


class TestRunning:
    def test_one_module_runs_after_what_is_before_it(self, api: Api, site_store: LocalStore, chain: str) -> None:
        client = api("op")
        run = asked(client, "b")
        assert run == {
            "status": "not started",
            "run_id": "alpha-1",
            "payload": {
                "job": "alpha",
                "modules": ["b"],
                "map": "PEACH",
                "force_rerun": False,
                "openai_key": "",
                "extra_args": {},
            },
            "start_time": None,
            "stop_time": None,
            "log": None,
        }
        found = scene.states("alpha-1")
        assert {task: found[task] for task in scene.TASKS} == {"a": None, "b": None, "c": "skipped", "d": "skipped"}
        assert found["a.to.b"] is None, "the way that may be taken"
        assert found["a.to.d"] == "skipped", "a way to what is not wanted"
        scene.set_run("alpha-1", "running")
        assert client.get("/mip/runs/alpha-1").json()["status"] == "running"
        assert client.get("/mip/jobs/alpha").json()["status"] == "running"
        assert client.get("/mip/modules/alpha/b").json()["status"] == "not started"
        assert client.get("/mip/modules/alpha/b/outputs").status_code == 409

        assert scene.work(site_store, chain, "alpha-1") == ["a", "b"]
        ended = client.get("/mip/runs/alpha-1").json()
        assert ended["status"] == "passed" and ended["stop_time"]
        assert ended["log"] == "a: passed\nb: passed\nrun: passed"
        assert client.get("/mip/jobs/alpha").json()["modules"] == ["a", "b"]
        assert client.get("/mip/modules/alpha").json() == ["a", "b"]
        assert client.get("/mip/modules/alpha/c").status_code == 404

    def test_results_that_exist_are_taken_over(self, api: Api, site_store: LocalStore, chain: str) -> None:
        client = api("op")
        asked(client, "b")
        scene.work(site_store, chain, "alpha-1")
        asked(client, "ALL")
        found = scene.states("alpha-2")
        assert (found["a"], found["b"], found["c"]) == ("success", "success", None)
        assert found["a.to.d"] == "skipped", "what the result that is taken over says"
        assert found["a.to.b"] is None
        assert scene.work(site_store, chain, "alpha-2") == ["c"]
        log = client.get("/mip/runs/alpha-2").json()["log"]
        assert "a: taken over from run alpha-1" in log and "d: not started: no way of the workflow led there" in log
        outputs = names(client.get("/mip/modules/alpha/b/outputs").content)
        assert outputs == {"result/one.txt": b"b of alpha-1"}

    def test_another_map_and_another_job_share_nothing(self, api: Api, site_store: LocalStore, chain: str) -> None:
        client = api("op")
        asked(client, "a")
        scene.work(site_store, chain, "alpha-1")
        other = scene.dataset(site_store, "PLUM")
        asked(client, "a", map="PLUM")
        asked(client, "a", job="beta")
        assert scene.states("alpha-2")["a"] is None
        assert scene.states("beta-1")["a"] is None
        scene.work(site_store, other, "alpha-2")
        client.get("/mip/runs/alpha-2")
        asked(client, "a")
        assert scene.states("alpha-3")["a"] == "success", "the one of the first map is still there"

    def test_force_runs_what_is_named_and_what_comes_of_it(self, api: Api, site_store: LocalStore, chain: str) -> None:
        client = api("op")
        asked(client, "c")
        assert scene.work(site_store, chain, "alpha-1") == ["a", "b", "c"]
        asked(client, "b", force_rerun=True)
        assert scene.work(site_store, chain, "alpha-2") == ["b"]
        assert client.get("/mip/jobs/alpha").json()["force_rerun"] is True
        asked(client, "a", "c", force_rerun=True)
        assert scene.work(site_store, chain, "alpha-3") == ["a", "b", "c"], "b would be of the old a"
        outputs = names(client.get("/mip/jobs/alpha/b/outputs").content)
        assert outputs == {"result/one.txt": b"b of alpha-3"}

    def test_a_failed_job_is_run_again_from_where_it_failed(self, api: Api, site_store: LocalStore, chain: str) -> None:
        client = api("op")
        asked(client, "c")
        assert scene.work(site_store, chain, "alpha-1", fails="b") == ["a", "b"]
        run = client.get("/mip/runs/alpha-1").json()
        assert run["status"] == "failed"
        assert "b: failed: Task b: it broke." in run["log"]
        assert "c: not started: what is before it failed" in run["log"]
        module = client.get("/mip/modules/alpha/b").json()
        assert (module["status"], module["exception"], module["log"]) == ("failed", "Task b: it broke.", "log of b\n")
        logs = names(client.get("/mip/modules/alpha/b/logs").content)
        assert logs["b.log"] == b"log of b\n" and b"it broke" in logs["b.json"]
        asked(client, "c")
        assert scene.work(site_store, chain, "alpha-2") == ["b", "c"]
        assert client.get("/mip/jobs/alpha").json()["status"] == "passed"

    def test_a_new_version_of_a_module_is_no_result(
        self, api: Api, site_store: LocalStore, chain: str, tmp_path: Path
    ) -> None:
        client = api("op")
        asked(client, "c")
        scene.work(site_store, chain, "alpha-1")
        newer = scene.SPEC.replace("noop:1.1.0", "noop:1.2.0")
        (tmp_path / "workflows" / "chain.yaml").write_text(newer)
        assert {"module_name": "c", "version": "1.2.0"} in client.get("/mip/modules").json()
        asked(client, "c")
        assert scene.work(site_store, chain, "alpha-2") == ["c"]

    def test_runs_of_a_job_wait_for_each_other(self, api: Api, site_store: LocalStore, chain: str) -> None:
        client = api("op")
        asked(client, "b")
        assert asked(client, "b")["status"] == "not started"
        assert scene.states("alpha-2") == {}, "its results may be there when the first has ended"
        scene.work(site_store, chain, "alpha-1")
        assert client.get("/mip/runs/alpha-2").json()["status"] == "not started"
        assert scene.states("alpha-2")["b"] == "success"
        assert client.get("/mip/runs/alpha-1").json()["status"] == "passed"

    def test_a_run_whose_workflow_is_not_there_yet_starts_later(
        self, api: Api, site_store: LocalStore, tmp_path: Path
    ) -> None:
        (tmp_path / "workflows" / "chain.yaml").write_text(scene.SPEC)
        scene.dataset(site_store)
        client = api("op")
        assert asked(client, "a")["status"] == "not started"
        assert scene.states("alpha-1") == {}
        airflow_rows.parse(scene.SPEC)
        client.get("/mip/runs/alpha-1")
        assert scene.states("alpha-1")["a"] is None

    def test_temporary_files_are_apart_from_outputs(self, api: Api, site_store: LocalStore, chain: str) -> None:
        client = api("op")
        asked(client, "a")
        scene.work(site_store, chain, "alpha-1")
        for place in ("jobs", "modules"):
            assert names(client.get(f"/mip/{place}/alpha/a/temps").content) == {"temp/scratch.bin": b"temporary"}
            assert names(client.get(f"/mip/{place}/alpha/a/outputs").content) == {"result/one.txt": b"a of alpha-1"}
            assert sorted(names(client.get(f"/mip/{place}/alpha/a/logs").content)) == ["a.json", "a.log"]


class TestEndsWithoutARun:
    """What no DAG run can come of, or has gone with it, ends as failed, and what comes after it in its job goes on."""

    @pytest.fixture
    def waiting(self, chain: str) -> str:
        """Of a run whose workflow Airflow has not read: the payload id."""
        forget_dag()
        return chain

    def test_a_map_with_a_run_that_waits_is_not_deleted(self, api: Api, waiting: str) -> None:
        client = api("op")
        asked(client, "a")
        answer = client.delete(f"/app-server/datasets/{waiting}")
        assert answer.status_code == 409 and "at work" in answer.json()["detail"]
        assert client.get("/mip/runs/alpha-1").json()["status"] == "not started"

    def test_a_map_that_is_gone_all_the_same(self, api: Api, site_store: LocalStore, waiting: str) -> None:
        client = api("op")
        asked(client, "a")
        Datasets(site_store).delete(waiting, "anna")
        run = client.get("/mip/runs/alpha-1").json()
        assert run["status"] == "failed" and run["stop_time"]
        assert run["log"] == "a: not started\nrun: failed: its map was deleted before it began"
        scene.dataset(site_store)
        airflow_rows.parse(scene.SPEC)
        asked(client, "a")
        assert scene.states("alpha-2")["a"] is None

    def test_a_map_that_goes_while_somebody_asks(
        self, api: Api, site_store: LocalStore, chain: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submit = Ledger.submit

        def and_deleted(*more: Any) -> Any:
            run = submit(*more)
            Datasets(site_store).delete(chain, "anna")
            return run

        monkeypatch.setattr(Ledger, "submit", and_deleted)
        assert asked(api("op"), "a")["status"] == "failed"

    def test_who_has_submitted_a_run_is_told_so_whatever_fails_then(
        self, api: Api, chain: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: Any) -> Any:
            raise StoreError("the disk is gone")

        monkeypatch.setattr(Ledger, "settle", fails)
        assert asked(api("op"), "a")["run_id"] == "alpha-1"

    def test_a_workflow_that_does_not_come_back(
        self, api: Api, site_store: LocalStore, waiting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = api("op")
        asked(client, "a")
        ledger = Ledger(site_store)
        site_store.write(f"mip/keys/{RunId('alpha', 1)}-n", b"ciphertext")
        (tmp_path / "workflows" / "chain.yaml").unlink()
        assert client.get("/mip/runs/alpha-1").json()["status"] == "not started", "it may only be on its way"
        noted = datetime.now(timezone.utc) - PATIENCE - timedelta(seconds=1)
        site_store.write_json(ledger.key(RunId("alpha", 1), "refused.json"), {"since": noted.isoformat()})
        run = client.get("/mip/runs/alpha-1").json()
        assert run["log"] == "a: not started\nrun: failed: its workflow was not to be run for 12 hours"
        assert list(site_store.children("mip/keys")) == []

    def test_a_run_that_somebody_deleted_in_airflow_is_not_made_again(
        self, api: Api, site_store: LocalStore, chain: str
    ) -> None:
        client = api("op")
        asked(client, "a")
        asked(client, "a")
        delete_run("mip__alpha-1")
        run = client.get("/mip/runs/alpha-1").json()
        assert run["log"] == "a: not started\nrun: failed: somebody deleted its run in Airflow"
        assert scene.states("alpha-1") == {}
        client.get("/mip/runs/alpha-2")
        assert scene.states("alpha-2")["a"] is None, "the next one goes on"

    def test_a_run_of_a_server_that_died_right_after_it_made_it_counts_as_begun(
        self, api: Api, chain: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(*_: Any) -> None:
            raise StoreError("the server is gone")

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "note_started", dies)
            asked(api("op"), "a")
        api("op").get("/mip/runs/alpha-1")
        delete_run("mip__alpha-1")
        assert api("op").get("/mip/runs/alpha-1").json()["status"] == "failed"


class TestLists:
    def test_runs_jobs_modules_and_maps(self, api: Api, chain: str) -> None:
        client = api("op")
        asked(client, "a")
        asked(client, "a", job="beta-2")
        assert client.get("/mip/runs").json() == ["alpha-1", "beta-2-1"]
        assert client.get("/mip/runs/").json() == ["alpha-1", "beta-2-1"], "as other servers of its kind spell it"
        assert client.get("/mip/jobs").json() == ["alpha", "beta-2"]
        assert client.get("/mip/maps").json() == ["PEACH"]
        assert audited("monai.mip.maps") == ['{"maps": 1}'], "names may be patients'"
        assert client.get("/mip/modules").json() == [
            {"module_name": "a", "version": "1.0.0"},
            {"module_name": "b", "version": "1.0.0"},
            {"module_name": "c", "version": "1.1.0"},
            {"module_name": "d", "version": "1.0.0"},
        ]


def test_who_names_a_dataset_as_another_one_keeps_nobody_from_that(
    api: Api, site_store: LocalStore, chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest one of a name counts, of those that the caller may read."""
    mine = scene.dataset(site_store, by="user")
    theirs = scene.dataset(site_store, by="anna")
    with only(monkeypatch, scene.DAG):
        asked(api("user"), "a")
        assert Ledger(site_store).run(RunId("alpha", 1)).payload_id == mine  # type: ignore[union-attr]
    asked(api("op"), "a")
    assert Ledger(site_store).run(RunId("alpha", 2)).payload_id == theirs  # type: ignore[union-attr]


class TestRefusals:
    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"job": "alpha", "modules": [], "map": "PEACH"},
            {"job": "../x", "modules": ["a"], "map": "PEACH"},
            {"job": "alpha", "modules": ["a"], "map": "PEACH", "forse_rerun": True},
            {"job": "alpha", "modules": "a", "map": "PEACH"},
            {"job": "alpha", "modules": ["a"], "map": "PEACH", "openai_key": "line\nline"},
        ],
    )
    def test_what_is_malformed(self, api: Api, chain: str, body: dict[str, Any]) -> None:
        answer = api("op").post("/mip/runs", json=body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert "line" not in answer.text

    def test_what_is_not_known(self, api: Api, chain: str) -> None:
        client = api("op")
        asked(client, "a")
        body = {"job": "alpha", "modules": ["a"], "map": "PEACH"}
        assert client.post("/mip/runs", json={**body, "modules": ["nose"]}).status_code == 404
        for name in ("NOWHERE", "\ud800"):
            text = json.dumps({**body, "map": name})
            assert client.post("/mip/runs", content=text, headers=JSON).status_code in (400, 404)
        for path in ("runs/alpha-7", "runs/..", "runs/x", "jobs/beta", "modules/beta", "modules/alpha/nose"):
            assert client.get(f"/mip/{path}").status_code == 404, path
        for kind in ("logs", "outputs", "temps"):
            for place in ("jobs", "modules"):
                assert client.get(f"/mip/{place}/beta/a/{kind}").status_code == 404

    def test_who_is_nobody_and_who_may_not(self, api: Api, chain: str) -> None:
        body = {"job": "alpha", "modules": ["a"], "map": "PEACH"}
        assert api(None).post("/mip/runs", json=body).status_code == 401
        assert api("viewer").post("/mip/runs", json=body).status_code == 403
        asked(api("op"), "a")
        for path in ("runs", "runs/alpha-1", "jobs", "jobs/alpha", "modules", "modules/alpha", "modules/alpha/a",
                     "modules/alpha/a/logs", "jobs/alpha/a/outputs", "maps", "mip_client.py"):  # fmt: skip
            assert api(None).get(f"/mip/{path}").status_code == 401, path

    def test_who_has_no_right_to_the_workflow_gets_nothing_of_it(
        self, api: Api, site_store: LocalStore, chain: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The simple auth manager lets everybody look, so its answers are made up here."""
        client = api("op")
        asked(client, "a")
        scene.work(site_store, chain, "alpha-1")
        monkeypatch.setattr(Caller, "may", lambda *_: False)
        below = [f"{place}/alpha/a/{kind}" for place in ("jobs", "modules") for kind in ("logs", "outputs", "temps")]
        lists = ["runs/alpha-1", "runs/none-1", "jobs/alpha", "jobs/none", "modules", "modules/alpha", "maps"]
        for path in (*lists, "modules/alpha/a", *below):
            assert client.get(f"/mip/{path}").status_code == 403, path
        assert client.get("/mip/runs").json() == client.get("/mip/jobs").json() == []
        monkeypatch.setattr(Caller, "may", lambda self, right, name=None: right is not Right.READ_DATA)
        assert client.get("/mip/modules/alpha/a").json()["log"] is None
        assert client.get("/mip/modules/alpha/a/outputs").status_code == 403

    def test_who_may_not_read_a_map_has_nothing_run_on_it(
        self, api: Api, site_store: LocalStore, chain: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = api("op")
        scene.dataset(site_store, "OWN", by="op")
        with only(monkeypatch, scene.DAG):
            body = {"job": "alpha", "modules": ["a"], "map": "PEACH"}
            assert client.post("/mip/runs", json=body).status_code == 403
            assert client.get("/mip/runs").json() == []
            asked(client, "a", job="beta", map="OWN")
        asked(client, "a")
        with only(monkeypatch, scene.DAG):
            asked(client, "a")  # what has run there is theirs to read

    def test_who_may_not_read_data_is_not_told_the_map(
        self, api: Api, chain: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = api("op")
        asked(client, "a")
        assert client.get("/mip/runs/alpha-1").json()["payload"]["map"] == "PEACH"
        with only(monkeypatch, scene.DAG, data=False):
            answer = api("admin").get("/mip/runs/alpha-1")
            assert answer.status_code == 200 and "PEACH" not in answer.text
            assert client.get("/mip/runs/alpha-1").json()["payload"]["map"] == "PEACH", "they have said it themselves"

    def test_places_of_the_site_are_not_told(self, api: Api, site_store: LocalStore, chain: str) -> None:
        client = api("op")
        asked(client, "a")
        scene.work(site_store, chain, "alpha-1", fails="a", error="no engine at tcp://10.1.2.3:2375 for /srv/data/x")
        where = "mip/jobs/alpha/1/deliveries/CDR/a/1"
        site_store.write_json(f"{where}.json", {"since": "2026-03-01T09:00:00+00:00"})
        reason = "CDR at http://cdr.site.example:8080 does not answer"
        news = {
            "destination": "CDR",
            "module": "a",
            "state": "later",
            "reason": reason,
            "at": "2026-03-01T09:00:01+00:00",
        }
        site_store.write_json(f"{where}.done.json", news)
        for path in ("runs/alpha-1", "jobs/alpha", "modules/alpha/a"):
            told = client.get(f"/mip/{path}").text
            assert "of this site" in told, path
            assert not [place for place in ("10.1.2.3", "/srv/data", "cdr.site") if place in told], path

    def test_a_name_and_a_password_will_do(self, api: Api, chain: str) -> None:
        client = api(None)
        assert client.get("/mip/runs", auth=("op", "op")).json() == []
        assert client.get("/mip/runs", auth=("op", "wrong")).status_code == 401

    def test_extra_args_need_the_site_s_word(self, api: Api, chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
        client = api("op")
        body = {"job": "alpha", "modules": ["a"], "map": "PEACH", "extra_args": {"a": ["--fast"]}}
        assert client.post("/mip/runs", json=body).status_code == 403
        monkeypatch.setenv("AIRFLOW__MONAI__MIP_EXTRA_ARGS", "True")
        assert client.post("/mip/runs", json={**body, "extra_args": {"nose": ["x"]}}).status_code == 404
        assert client.post("/mip/runs", json=body).json()["payload"]["extra_args"] == {"a": ["--fast"]}

    def test_a_job_is_of_one_workflow(
        self, api: Api, chain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = api("op")
        asked(client, "a")
        (tmp_path / "workflows" / "other.yaml").write_text(scene.SPEC.replace("name: chain", "name: other"))
        assert client.get("/mip/modules").status_code == 503, "which of the two?"
        monkeypatch.setenv("AIRFLOW__MONAI__MIP_WORKFLOW", "other")
        body = {"job": "alpha", "modules": ["a"], "map": "PEACH"}
        assert client.post("/mip/runs", json=body).status_code == 409
        assert client.get("/mip/jobs/alpha").status_code == 200


class TestTwoServers:
    def test_they_agree_on_every_run(self, api: Api, site_store: LocalStore, chain: str) -> None:
        """Two apps on one store and one database, asked at once: no run is lost, doubled or begun twice."""
        from airflow_monai.api.app import create_app

        first = api("op")
        second = TestClient(create_app(), headers=dict(first.headers), raise_server_exceptions=False)
        body = {"job": "alpha", "modules": ["a"], "map": "PEACH", "force_rerun": True}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda client: client.post("/mip/runs", json=body), [first, second] * 4))
        assert [answer.status_code for answer in answers] == [200] * 8
        told = sorted(answer.json()["run_id"] for answer in answers)
        assert told == [f"alpha-{number}" for number in range(1, 9)] == first.get("/mip/runs").json()
        for number in range(1, 9):
            run_id = f"alpha-{number}"
            with ThreadPoolExecutor(4) as pool:
                seen = list(pool.map(lambda client: client.get(f"/mip/runs/{run_id}"), [first, second] * 2))  # noqa: B023
            assert {answer.json()["status"] for answer in seen} == {"not started"}
            assert scene.states(run_id)["a"] is None
            assert scene.states(f"alpha-{number + 1}") == {}
            assert scene.work(site_store, chain, run_id) == ["a"]
            assert second.get(f"/mip/runs/{run_id}").json()["status"] == "passed"

    def test_a_server_that_dies_after_it_has_decided(
        self, api: Api, site_store: LocalStore, chain: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The plan is in the store, the DAG run is not: whoever asks next makes it, by the same plan."""
        from sqlalchemy.exc import OperationalError

        from airflow_monai.api.instances.starting import RunsHere

        def dies(*_: Any) -> None:
            raise OperationalError("", {}, Exception("the server is gone"))

        with monkeypatch.context() as patch:
            patch.setattr(RunsHere, "_create", dies)
            assert asked(api("op"), "b")["status"] == "not started"
        assert scene.states("alpha-1") == {}
        api("viewer").get("/mip/runs/alpha-1")
        assert scene.triggered_by("alpha-1") == "op", "not whoever asked"
        found = scene.states("alpha-1")
        assert (found["a"], found["b"], found["c"]) == (None, None, "skipped")


class TestKeys:
    KEY = "sk-planted-8f1c2a77"

    def test_a_key_is_neither_stored_nor_shown(
        self, api: Api, site_store: LocalStore, chain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.sdk.crypto import get_fernet
        from cryptography.fernet import Fernet

        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
        get_fernet.cache_clear()
        client = api("op")
        assert asked(client, "a", openai_key=self.KEY)["payload"]["openai_key"] == "********"
        (kept,) = (tmp_path / "store" / "mip" / "keys").iterdir()
        assert get_fernet().decrypt(kept.read_bytes()) == self.KEY.encode(), "as workers will"
        files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
        assert not any(self.KEY.encode() in path.read_bytes() for path in files)
        scene.work(site_store, chain, "alpha-1")
        assert client.get("/mip/runs/alpha-1").json()["status"] == "passed"
        assert not kept.exists()
        get_fernet.cache_clear()

    def test_no_key_where_it_would_not_be_safe(
        self, api: Api, chain: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from airflow.sdk.crypto import get_fernet

        body = {"job": "alpha", "modules": ["a"], "map": "PEACH", "openai_key": self.KEY}
        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
        get_fernet.cache_clear()
        plain = api("op").post("/mip/runs", json=body)
        get_fernet.cache_clear()
        monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "kubernetes")
        cluster = api("op").post("/mip/runs", json=body)
        for answer, reason in ((plain, "fernet_key"), (cluster, "Secret")):
            assert answer.status_code == 409
            assert reason in answer.json()["detail"] and self.KEY not in answer.text
        assert api("op").get("/mip/runs").json() == []
