"""The process of a trial that knows Airflow: runs one DAG in Airflow's test mode.

Its standard input brings JSON lines: ``{"go": ...}`` when the database is up, then answers to reviews. File descriptor
3 takes one JSON line back: ``{"state": ...}`` or ``{"error": ...}``. All it prints is for the log.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

RUN_ID = "trial"

if TYPE_CHECKING:
    from airflow_monai.specs.plan import WorkflowPlan


def main() -> int:
    answer = os.fdopen(3, "w", buffering=1)
    signal.signal(signal.SIGTERM, _interrupt)
    _import_airflow()
    line = sys.stdin.readline()
    if not line:
        return 1  # the trial was given up
    try:
        told = _run(json.loads(line))
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the edge of this process: told to the one that started it
        import traceback

        traceback.print_exc()
        told = {"error": f"{type(error).__name__}: {error}", "ours": _is_ours(error)}
    print(json.dumps(told), file=answer)
    return 0


def _import_airflow() -> None:
    """What takes long, while the database starts: the modules, and the API by which tasks talk to Airflow."""
    import gc

    gc.disable()  # nothing is freed meanwhile, and looking for it takes a tenth of the time
    import airflow.models.dagbag  # noqa: F401
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    import airflow_monai.factory.builder  # noqa: F401
    from airflow_monai.local.trial.quick_api import use_newest_version_only

    use_newest_version_only()
    in_process_api_server().app  # noqa: B018 - made at first sight
    gc.enable()


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _is_ours(error: BaseException) -> bool:
    from airflow_monai.errors import MonaiError

    return isinstance(error, MonaiError)


def _run(told: Mapping[str, Any]) -> dict[str, Any]:
    from airflow_monai.specs.plan import WorkflowPlan

    dag = _dag(WorkflowPlan.from_dict(told["plan"]))
    _register(dag)
    threading.Thread(target=_take_answers, args=(dag.dag_id,), daemon=True).start()
    _name_run(RUN_ID)
    run = dag.test(run_conf=told["conf"], logical_date=None)
    return {"state": str(run.state), "run_id": run.run_id}


def _dag(plan: WorkflowPlan) -> Any:
    from airflow_monai.factory.builder import build_dag

    return build_dag(plan, inventory=_any_card)


def _name_run(run_id: str) -> None:
    """Airflow makes up a long name for a test run, which would be in the path of every result."""
    from airflow.models.dagrun import DagRun

    DagRun.generate_run_id = staticmethod(lambda **_: run_id)  # type: ignore[method-assign]


def _any_card() -> Any:
    """A trial asks the engine for cards, not the site's pools: every request fits."""
    from airflow_monai.gpu.inventory import GIB, Cards, Host, Inventory

    return Inventory((Host("here", (Cards("trial", "any card", 1024 * GIB, 64),)),))


def _register(dag: Any) -> None:
    """What the DAG processor does with a parsed DAG."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import sync_bag_to_db

    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.py").write_text("# the file that the workflow is said to be from\n")
    DagBundlesManager().sync_bundles_to_db()
    dag.fileloc, dag.relative_fileloc = str(folder / "empty.py"), "empty.py"
    bag: Any = SimpleNamespace(dags={dag.dag_id: dag}, import_errors={}, dag_warnings=set(), bundle_path=None)
    sync_bag_to_db(bag, "trial", None)


def _take_answers(dag_id: str) -> None:
    """Answers to reviews, as Airflow's API takes them."""
    for line in sys.stdin:
        _answer(dag_id, json.loads(line))


def _answer(dag_id: str, given: Mapping[str, Any]) -> None:
    from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
    from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
    from airflow.utils.session import create_session

    user: Any = SimpleNamespace(get_id=lambda: given["user"], get_name=lambda: given["user"])
    payload = UpdateHITLDetailPayload(chosen_options=[given["option"]], params_input=given["params"])
    with create_session() as session:
        update_hitl_detail(
            dag_id, given["run_id"], given["task_id"], payload, user=user, session=session, map_index=given["map_index"]
        )


if __name__ == "__main__":
    sys.exit(main())
