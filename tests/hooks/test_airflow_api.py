"""What counts as a run that was created."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_monai.hooks.airflow_api import AirflowApi, Cleared, DagNotThere, RunNotCreated

TOKEN = json.dumps({"access_token": "t"})
Answer = tuple[int, str, dict[str, str]]


class Scripted:
    """Answers each request as ``answers`` says, and notes what was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.asked: list[tuple[str, str]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind = self.path.rsplit("/", 1)[-1]
                scripted.asked.append((self.command, kind))
                status, body, headers = scripted.answers.get((self.command, kind), (200, "<html>any page</html>", {}))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = answer

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def connection(self) -> str:
        parts = {"conn_type": "http", "host": "127.0.0.1", "port": self.server.server_port, "login": "g"}
        return json.dumps(parts)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    scripted = Scripted()
    scripted.answers["POST", "token"] = 201, TOKEN, {}
    monkeypatch.setenv("AIRFLOW_CONN_SCRIPTED", scripted.connection)
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()


def create() -> bool:
    return AirflowApi("scripted").create_run("dag", "run-1", "key")


def run(run_id: str = "run-1") -> str:
    return json.dumps({"dag_run_id": run_id, "state": "queued"})


@pytest.mark.parametrize(
    "answer",
    [
        (200, "<html>maintenance</html>", {}),
        (200, "[]", {}),
        (200, run("another"), {}),
        (204, "", {}),
        (202, run(), {}),
        (301, "", {"Location": "/https/api/v2/dags/dag/dagRuns"}),
        (302, "", {"Location": "/login"}),
        (307, "", {"Location": "https://sso.example.org/login?next=x"}),
        (304, "", {}),
    ],
)
def test_only_the_run_itself_is_a_created_run(server: Scripted, answer: Answer) -> None:
    server.answers["POST", "dagRuns"] = answer
    with pytest.raises(RunNotCreated, match=f"HTTP {answer[0]}"):
        create()
    assert server.asked == [("POST", "token"), ("POST", "dagRuns")]


def test_a_run_that_is_said_to_exist_must_be_shown(server: Scripted) -> None:
    server.answers["POST", "dagRuns"] = 409, "{}", {}
    with pytest.raises(RunNotCreated, match="409"):
        create()
    server.answers["GET", "run-1"] = 200, run(), {}
    assert create() is False


def test_a_dag_that_is_not_there_is_told_from_all_else(server: Scripted) -> None:
    server.answers["POST", "dagRuns"] = 404, "{}", {}
    with pytest.raises(DagNotThere, match="404"):
        create()


def test_a_run_is_created(server: Scripted) -> None:
    server.answers["POST", "dagRuns"] = 200, run(), {}
    assert create() is True


def test_a_redirect_of_the_login_is_told(server: Scripted) -> None:
    server.answers["POST", "token"] = 302, TOKEN, {"Location": "https://airflow.example.org/auth/token"}
    with pytest.raises(RunNotCreated, match=r"https://airflow\.example\.org"):
        create()


def tasks(*states: str | None) -> Answer:
    found = [{"task_id": "send", "map_index": index, "state": state} for index, state in enumerate(states)]
    return 200, json.dumps({"task_instances": found}), {}


@pytest.mark.parametrize(
    ("there", "cleared"),
    [
        (tasks("success"), Cleared.YES),
        (tasks("success", "failed"), Cleared.YES),
        (tasks("success", "running"), Cleared.RUNNING),
        (tasks("deferred"), Cleared.RUNNING),
        (tasks("queued", None, "up_for_retry"), Cleared.COMING),
        (tasks(*["success"] * 19, "up_for_retry"), Cleared.YES),  # of each series one: most would never run
        (tasks(None), Cleared.COMING),
        (tasks(), Cleared.GONE),
        ((404, "{}", {}), Cleared.GONE),
    ],
)
def test_a_task_is_cleared_where_it_has_ended(server: Scripted, there: Answer, cleared: Cleared) -> None:
    server.answers["GET", "taskInstances?task_id=send&limit=1000"] = there
    server.answers["POST", "clearTaskInstances"] = tasks(None)
    assert AirflowApi("scripted").clear_task("dag", "run-1", "send", "why") is cleared
    asked = ("POST", "clearTaskInstances") in server.asked
    assert asked is (cleared is Cleared.YES)
    server.answers["POST", "clearTaskInstances"] = 409, "{}", {}
    if cleared is Cleared.YES:  # it has begun since
        assert AirflowApi("scripted").clear_task("dag", "run-1", "send", "why") is Cleared.RUNNING
    server.answers["POST", "clearTaskInstances"] = 403, "{}", {}
    if cleared is Cleared.YES:
        with pytest.raises(RunNotCreated, match="HTTP 403"):
            AirflowApi("scripted").clear_task("dag", "run-1", "send", "why")


def runs_there(number: int) -> Answer:
    return 200, json.dumps({"dag_runs": [], "total_entries": number}), {}


@pytest.mark.parametrize(("by_key", "by_conf"), [(0, 0), (1, 0), (0, 1)])
def test_whatever_names_a_payload_works_on_it(server: Scripted, by_key: int, by_conf: int) -> None:
    asked = "dagRuns?state=queued&state=running&limit=1&"
    server.answers["GET", f"{asked}partition_key_prefix_pattern=p"] = runs_there(by_key)
    server.answers["GET", f"{asked}conf_contains=p"] = runs_there(by_conf)
    assert AirflowApi("scripted").is_worked_on("p") is bool(by_key or by_conf)
    server.answers["GET", f"{asked}partition_key_prefix_pattern=p"] = runs_there(0)
    server.answers["GET", f"{asked}conf_contains=p"] = 403, "{}", {}
    with pytest.raises(RunNotCreated, match="does not tell which runs there are"):
        AirflowApi("scripted").is_worked_on("p")
