"""How quick the App Server API's lists and states of jobs are, against Airflow's own list of DAG runs, in the same
server and on the same 10,000 rows.

``python benchmarks/api_lists.py [jobs]`` prints a table and JSON; :func:`run` gives the rows. The server is Airflow's
own API server with our plugin in it, on a PostgreSQL of its own; all calls go over one kept-alive connection and are
logged in by a token. The calls take turns, so that what slows the machine down slows down all of them.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from airflow_monai.local.ports import choose
from airflow_monai.local.postgres import Cluster
from airflow_monai.local.stack import project_folder
from airflow_monai.local.template import ensure_template
from airflow_monai.maps.workflows import TASK
from airflow_monai.store.base import Store
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from benchmarks.table import Row, print_table

JOBS, MAPS, PAGE, CALLS = 10_000, 4, 50, 200
AIRFLOW = "Airflow's list of runs"
BAR = 1.5


def run(jobs: int = JOBS, calls: int = CALLS) -> list[Row]:
    """Rows for each call: the 95th percentile of its times over that of Airflow's list of as many runs a page."""
    with _site(jobs) as (port, token):
        asked = _calls(port, token)
        times: dict[str, list[float]] = {name: [] for name in asked}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for number in range(calls + 10):
            for name, path in asked.items():
                seconds = _ask(connection, path, token)[0]
                if number >= 10:  # the first ones warm up
                    times[name].append(seconds)
        connection.close()
    peer = _p95(times.pop(AIRFLOW))
    return [
        Row(
            benchmark="api_lists",
            case=f"{name}, {jobs} jobs",
            ours=f"p95 {_p95(found) * 1000:.1f} ms",
            theirs=f"p95 {peer * 1000:.1f} ms",
            peer=AIRFLOW,
            ratio=_p95(found) / peer,
            bar=f"<= {BAR}",
            better="lower",
        )
        for name, found in times.items()
    ]


def _calls(port: int, token: str) -> dict[str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    jobs = "/monai/app-server/jobs"
    page = json.loads(_ask(connection, f"{jobs}?limit={PAGE}", token)[1])
    assert page["total"] > 0 and len(page["jobs"]) == PAGE, page
    running = json.loads(_ask(connection, f"{jobs}?status=RUNNING&limit=1", token)[1])["jobs"][0]["id"]
    queued = json.loads(_ask(connection, f"{jobs}?status=QUEUED&limit=1", token)[1])["jobs"][0]["id"]
    ended = json.loads(_ask(connection, f"{jobs}?status=SUCCEEDED&limit=1", token)[1])["jobs"][0]["id"]
    assert json.loads(_ask(connection, f"{jobs}/{ended}", token)[1])["outputs"]["files"] == 200
    connection.close()
    return {
        AIRFLOW: f"/api/v2/dags/~/dagRuns?limit={PAGE}&order_by=-id",
        "list of jobs": f"{jobs}?limit={PAGE}",
        "list, by status": f"{jobs}?limit={PAGE}&status=FAILED",
        "list, of one MAP, far back": f"{jobs}?limit={PAGE}&map=lung0:1.0.0&offset=200",
        "state of a running job": f"{jobs}/{running}",
        "state of a queued job": f"{jobs}/{queued}",
        "state of an ended job": f"{jobs}/{ended}",
    }


def _ask(connection: http.client.HTTPConnection, path: str, token: str) -> tuple[float, bytes]:
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - began
    assert answer.status == 200, (path, answer.status, body[:500])
    return seconds, body


def _p95(times: list[float]) -> float:
    return sorted(times)[int(0.95 * (len(times) - 1))]


@contextmanager
def _site(jobs: int) -> Iterator[tuple[int, str]]:
    """Port of an API server whose database has so many jobs, and a token for it."""
    import shutil

    folder = Path(mkdtemp(prefix="airflow-monai-bench-"))
    folder.chmod(0o755)  # the database's user, when that is another, must get through
    log, port = folder / "log", choose()
    postgres = Cluster(folder / "data", log=log, env=dict(os.environ))
    postgres.copy_from(ensure_template(project_folder() / ".demo" / "cache", env=os.environ, log=log))
    postgres.start()
    env = {**os.environ, **_settings(folder, postgres.url, port)}
    try:
        code = "from benchmarks.api_lists import fill; import sys; fill(int(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(jobs)], check=True, env=env, stdout=subprocess.DEVNULL)
        postgres.execute("ANALYZE", database="airflow")
        with log.open("ab") as out:
            command = [sys.executable, "-m", "uvicorn", "airflow.api_fastapi.main:app", "--log-level", "warning"]
            server = subprocess.Popen([*command, "--port", str(port)], env=env, stdout=out, stderr=out)
        try:
            yield port, _token(port, log)
        finally:
            server.kill()
            server.wait()
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path, database: str, port: int) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the benchmark that is long enough to sign tokens with",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__MONAI__STORE": str(folder / "store"),
        "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(folder / "workflows"),
        "AIRFLOW__MONAI__API_RATE": "0",
    }


def _token(port: int, log: Path) -> str:
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/auth/token")
            return str(json.loads(connection.getresponse().read())["access_token"])
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise AssertionError(log.read_text()[-2000:])


def fill(jobs: int) -> None:
    """Register MAPs, and have jobs of them in Airflow's tables, in a process whose Airflow has that database."""
    from airflow import settings as airflow_settings
    from airflow.utils.session import create_session
    from sqlalchemy import text

    from airflow_monai import settings
    from airflow_monai.maps.registry import MapRegistry
    from airflow_monai.maps.workflows import workflow_text
    from airflow_monai.store import open_store
    from tests.api.airflow_rows import parse, run
    from tests.maps.registered import image_map

    airflow_settings.initialize()
    store = open_store(settings.load().store)
    for number in range(MAPS):
        record, _ = MapRegistry(store).register(image_map(f"lung{number}", "1.0.0"))
        dag_id = parse(workflow_text(record))
        run(dag_id, "monai__template", "queued", partition_key=str(uuid.uuid4()))
    with create_session() as session:
        for statement in (_RUNS, _TASKS, _ENDED, _CLEAN):
            session.execute(text(statement), {"each": jobs // MAPS})
        one = "SELECT dag_id, run_id, partition_key FROM dag_run WHERE state = 'success' ORDER BY id DESC LIMIT 1"
        _leave_results(store, *session.execute(text(one)).one())


def _leave_results(store: Store, dag_id: str, run_id: str, payload_id: str) -> None:
    """What a job left that ended well: the newest one, which the list by status has first."""
    folder = RunFolder(store, payload_id, dag_id, run_id)
    output = folder.output_key(TASK, -1, 1)
    keys = tuple(f"{output}/{number:03}.dcm" for number in range(200))
    store.write(f"payloads/{payload_id}/payload.json", b"{}")
    folder.write_record(
        TaskRecord(TASK, "map", TaskStatus.SUCCEEDED, run_id, output_dir=output, artifacts={"results": keys})
    )


_STATE = "(ARRAY['success','success','success','success','success','success','failed','failed','running','queued'])"
_RUNS = f"""
INSERT INTO dag_run (dag_id, run_id, state, run_type, run_after, queued_at, start_date, created_at, partition_key,
    clear_number, span_status, conf, triggering_user_name, log_template_id, created_dag_version_id, context_carrier)
SELECT r.dag_id, 'monai__' || p.key || '__jr' || substr(md5(r.dag_id || n), 1, 20), {_STATE}[1 + n % 10], 'manual',
    now() - n * interval '1 second', now(), now(), now(), p.key, 0, r.span_status, '{{}}', 'anna',
    r.log_template_id, r.created_dag_version_id, r.context_carrier
FROM dag_run r, generate_series(1, :each) n, LATERAL (SELECT md5(r.dag_id || 'p' || n)::uuid::text AS key) p
WHERE r.run_id = 'monai__template'
ORDER BY n"""
_TASKS = """
INSERT INTO task_instance (id, task_id, dag_id, run_id, map_index, state, try_number, max_tries, pool, pool_slots,
    queue, priority_weight, operator, start_date, span_status, dag_version_id)
SELECT gen_random_uuid(), t.task_id, t.dag_id, r.run_id, -1,
    CASE r.state WHEN 'queued' THEN NULL ELSE r.state END, 1, t.max_tries, t.pool, t.pool_slots, t.queue,
    t.priority_weight, t.operator, CASE r.state WHEN 'queued' THEN NULL ELSE r.start_date END, t.span_status,
    t.dag_version_id
FROM dag_run r JOIN task_instance t ON t.dag_id = r.dag_id AND t.run_id = 'monai__template'
WHERE r.run_id <> 'monai__template' AND :each > 0"""
_ENDED = "UPDATE dag_run SET end_date = now() WHERE state IN ('success', 'failed') AND :each > 0"
_CLEAN = "DELETE FROM dag_run WHERE run_id = 'monai__template' AND :each > 0"


if __name__ == "__main__":
    rows = run(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS)
    print_table(rows)
    print(json.dumps(rows, indent=1))
