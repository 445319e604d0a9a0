"""YAML to DAG: a workflow file to its DAG, against the same DAG in plain Python and in dag-factory.

Six tasks (a router, three MAPs, two exports), six edges (four with conditions), the same operators, arguments and
schedule for all. One process, imports not counted, every file has its own workflow; seconds are of CPU, so that other
work on the machine counts less. Cases:

cold        nothing is known: ours reads YAML, checks, plans and builds; Python compiles its file and runs it
parse       what the DAG processor and every task start do with ours: the generated file with the plan that the bundle
            wrote beside it, against the same Python file
unchanged   what the bundle does every few seconds when no file changed
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from benchmarks.table import Row, Unavailable, print_table

SIZES = (50, 200, 1000)
ROUNDS = 3
BAR = 1.5

SPEC = """\
name: lung-{n}
version: 1.0.0
description: Lungs on CT
informatics_gateway:
  ae_title: CTLUNG
  data_origins: [CT01]
  export_destinations: [PACS, ARCHIVE]
tasks:
  - id: route
    type: router
    task_destinations:
      - {{name: segment, conditions: ["{{{{ context.input.patient_details.sex }}}} == 'M'"]}}
      - {{name: triage, conditions: ["{{{{ context.input.patient_details.sex }}}} == 'F'"]}}
  - id: segment
    type: map
    args: {{map: "lung-seg:1.2.0"}}
    artifacts:
      input: [{{name: study, value: "{{{{ context.input.dicom }}}}"}}]
      output: [{{name: seg, type: SEG}}]
    retries: 2
    timeout_minutes: 30
    task_destinations:
      - {{name: measure, conditions: ["{{{{ context.executions.segment.result.volume_ml }}}} > '500'"]}}
      - {{name: archive}}
  - id: triage
    type: map
    args: {{map: "triage:2.0.0"}}
    artifacts:
      input: [{{name: study, value: "{{{{ context.input.dicom }}}}"}}]
    retries: 2
    timeout_minutes: 30
    task_destinations:
      - {{name: archive, conditions: ["{{{{ context.executions.triage.result.urgent }}}} == 'true'"]}}
  - id: measure
    type: map
    args: {{map: "measure:1.0.0"}}
    artifacts:
      input: [{{name: seg, value: "{{{{ context.executions.segment.artifacts.seg }}}}"}}]
      output: [{{name: report, type: SR}}]
    retries: 2
    timeout_minutes: 30
    task_destinations: [{{name: to-pacs}}]
  - id: to-pacs
    type: export
    export_destinations: [{{name: PACS}}]
    artifacts:
      input: [{{name: report, value: "{{{{ context.executions.measure.artifacts.report }}}}"}}]
    retries: 2
    timeout_minutes: 30
  - id: archive
    type: export
    export_destinations: [{{name: ARCHIVE}}]
    artifacts:
      input: [{{name: study, value: "{{{{ context.input.dicom }}}}"}}]
    retries: 2
    timeout_minutes: 30
"""

# As a person would write it who knows what our factory knows.
PYTHON = """\
from datetime import timedelta

from airflow.sdk import DAG, Asset, PartitionedAssetTimetable

from airflow_monai.operators.export import ExportOperator
from airflow_monai.operators.gate import EdgeNode, GateOperator, RouterOperator
from airflow_monai.operators.map import MapOperator

DICOM = "{{{{ context.input.dicom }}}}"
URGENT = "{{{{ context.executions.triage.result.urgent }}}} == 'true'"
LARGE = "{{{{ context.executions.segment.result.volume_ml }}}} > '500'"

with DAG(
    "lung-{n}",
    dag_display_name="lung-{n}",
    description="Lungs on CT",
    doc_md="Lungs on CT, version 1.0.0",
    tags=["monai", "CTLUNG", "v1.0.0"],
    schedule=PartitionedAssetTimetable(
        assets=Asset("x-monai://workflow/lung-{n}") | Asset("x-monai://ae/CTLUNG/from/CT01")
    ),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=64,
    max_active_tasks=64,
    default_args={{
        "owner": "monai",
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
    }},
) as dag:
    route = RouterOperator(task_id="route", retries=0)
    segment = MapOperator(
        task_id="segment",
        map="lung-seg:1.2.0",
        inputs=[{{"name": "study", "value": DICOM, "mandatory": True}}],
        outputs=[{{"name": "seg", "type": "SEG", "value": None, "mandatory": True}}],
        timeout_minutes=30,
        execution_timeout=timedelta(minutes=35),
        edges=[{{"node": "segment.to.measure", "conditions": [LARGE]}}],
        result_keys=["volume_ml"],
    )
    triage = MapOperator(
        task_id="triage",
        map="triage:2.0.0",
        inputs=[{{"name": "study", "value": DICOM, "mandatory": True}}],
        timeout_minutes=30,
        execution_timeout=timedelta(minutes=35),
        edges=[{{"node": "triage.to.archive", "conditions": [URGENT]}}],
        result_keys=["urgent"],
    )
    measure = MapOperator(
        task_id="measure",
        map="measure:1.0.0",
        inputs=[
            {{"name": "seg", "value": "{{{{ context.executions.segment.artifacts.seg }}}}", "mandatory": True}}
        ],
        outputs=[{{"name": "report", "type": "SR", "value": None, "mandatory": True}}],
        timeout_minutes=30,
        execution_timeout=timedelta(minutes=35),
    )
    to_pacs = ExportOperator(
        task_id="to-pacs",
        destinations=["PACS"],
        inputs=[
            {{"name": "report", "value": "{{{{ context.executions.measure.artifacts.report }}}}", "mandatory": True}}
        ],
        execution_timeout=timedelta(minutes=30),
    )
    archive = ExportOperator(
        task_id="archive",
        destinations=["ARCHIVE"],
        inputs=[{{"name": "study", "value": DICOM, "mandatory": True}}],
        execution_timeout=timedelta(minutes=30),
        trigger_rule="none_failed_min_one_success",
    )
    male = GateOperator(
        task_id="route.to.segment",
        conditions=["{{{{ context.input.patient_details.sex }}}} == 'M'"],
        workflow_name="lung-{n}",
        workflow_description="Lungs on CT",
        retries=3,
        retry_delay=timedelta(seconds=10),
    )
    female = GateOperator(
        task_id="route.to.triage",
        conditions=["{{{{ context.input.patient_details.sex }}}} == 'F'"],
        workflow_name="lung-{n}",
        workflow_description="Lungs on CT",
        retries=3,
        retry_delay=timedelta(seconds=10),
    )
    large = EdgeNode(task_id="segment.to.measure", retries=0)
    kept = EdgeNode(task_id="segment.to.archive", retries=0)
    urgent = EdgeNode(task_id="triage.to.archive", retries=0)
    route >> male >> segment >> large >> measure >> to_pacs
    route >> female >> triage >> urgent >> archive
    segment >> kept >> archive
"""

DAG_FACTORY = """\
lung-{n}:
  dag_display_name: lung-{n}
  description: Lungs on CT
  doc_md: Lungs on CT, version 1.0.0
  tags: [monai, CTLUNG, v1.0.0]
  schedule:
    __type__: airflow.sdk.PartitionedAssetTimetable
    assets:
      __type__: airflow.sdk.AssetAny
      __args__:
        - {{__type__: airflow.sdk.Asset, uri: "x-monai://workflow/lung-{n}"}}
        - {{__type__: airflow.sdk.Asset, uri: "x-monai://ae/CTLUNG/from/CT01"}}
  catchup: false
  is_paused_upon_creation: false
  max_active_runs: 64
  max_active_tasks: 64
  default_args:
    owner: monai
    retries: 2
    retry_delay: {{__type__: datetime.timedelta, seconds: 30}}
    retry_exponential_backoff: 2.0
    max_retry_delay: {{__type__: datetime.timedelta, minutes: 10}}
  tasks:
    - {{task_id: route, operator: airflow_monai.operators.gate.RouterOperator, retries: 0}}
    - task_id: segment
      operator: airflow_monai.operators.map.MapOperator
      map: lung-seg:1.2.0
      inputs: [{{name: study, value: "{{{{ context.input.dicom }}}}", mandatory: true}}]
      outputs: [{{name: seg, type: SEG, mandatory: true}}]
      timeout_minutes: 30
      execution_timeout: {{__type__: datetime.timedelta, minutes: 35}}
      edges:
        - node: segment.to.measure
          conditions: ["{{{{ context.executions.segment.result.volume_ml }}}} > '500'"]
      result_keys: [volume_ml]
      dependencies: [route.to.segment]
    - task_id: triage
      operator: airflow_monai.operators.map.MapOperator
      map: triage:2.0.0
      inputs: [{{name: study, value: "{{{{ context.input.dicom }}}}", mandatory: true}}]
      timeout_minutes: 30
      execution_timeout: {{__type__: datetime.timedelta, minutes: 35}}
      edges:
        - {{node: triage.to.archive, conditions: ["{{{{ context.executions.triage.result.urgent }}}} == 'true'"]}}
      result_keys: [urgent]
      dependencies: [route.to.triage]
    - task_id: measure
      operator: airflow_monai.operators.map.MapOperator
      map: measure:1.0.0
      inputs: [{{name: seg, value: "{{{{ context.executions.segment.artifacts.seg }}}}", mandatory: true}}]
      outputs: [{{name: report, type: SR, mandatory: true}}]
      timeout_minutes: 30
      execution_timeout: {{__type__: datetime.timedelta, minutes: 35}}
      dependencies: [segment.to.measure]
    - task_id: to-pacs
      operator: airflow_monai.operators.export.ExportOperator
      destinations: [PACS]
      inputs: [{{name: report, value: "{{{{ context.executions.measure.artifacts.report }}}}", mandatory: true}}]
      execution_timeout: {{__type__: datetime.timedelta, minutes: 30}}
      dependencies: [measure]
    - task_id: archive
      operator: airflow_monai.operators.export.ExportOperator
      destinations: [ARCHIVE]
      inputs: [{{name: study, value: "{{{{ context.input.dicom }}}}", mandatory: true}}]
      execution_timeout: {{__type__: datetime.timedelta, minutes: 30}}
      trigger_rule: none_failed_min_one_success
      dependencies: [segment.to.archive, triage.to.archive]
    - task_id: route.to.segment
      operator: airflow_monai.operators.gate.GateOperator
      conditions: ["{{{{ context.input.patient_details.sex }}}} == 'M'"]
      workflow_name: lung-{n}
      workflow_description: Lungs on CT
      retries: 3
      retry_delay: {{__type__: datetime.timedelta, seconds: 10}}
      dependencies: [route]
    - task_id: route.to.triage
      operator: airflow_monai.operators.gate.GateOperator
      conditions: ["{{{{ context.input.patient_details.sex }}}} == 'F'"]
      workflow_name: lung-{n}
      workflow_description: Lungs on CT
      retries: 3
      retry_delay: {{__type__: datetime.timedelta, seconds: 10}}
      dependencies: [route]
    - task_id: segment.to.measure
      operator: airflow_monai.operators.gate.EdgeNode
      retries: 0
      dependencies: [segment]
    - task_id: segment.to.archive
      operator: airflow_monai.operators.gate.EdgeNode
      retries: 0
      dependencies: [segment]
    - task_id: triage.to.archive
      operator: airflow_monai.operators.gate.EdgeNode
      retries: 0
      dependencies: [triage]
"""

Load = Callable[[Path], object]


def run(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Measure all cases; one row for each size, case and peer.

    :raises Unavailable: when dag-factory is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="monai-yaml-to-dag-"))
    try:
        with _quiet(), _no_site(folder):
            return [row for size in sizes for row in _rows(folder / str(size), size)]
    finally:
        shutil.rmtree(folder)


def _rows(folder: Path, size: int) -> list[Row]:
    files = _write(folder, size)
    _check_same(files)
    loads: dict[str, Load] = {
        "cold": _load_yaml,
        "parse": _exec_file,
        "python": _exec_file,
        "dag-factory": _load_dag_factory,
    }
    seconds = _timed({name: (load, files[name]) for name, load in loads.items()})
    unchanged = _unchanged(folder / "specs")
    return [
        _row(size, "cold", seconds["cold"], "plain Python", seconds["python"], f"<= {BAR}"),
        _row(size, "cold", seconds["cold"], "dag-factory", seconds["dag-factory"], "< 1"),
        _row(size, "parse", seconds["parse"], "plain Python", seconds["python"], f"<= {BAR}"),
        _row(size, "parse", seconds["parse"], "dag-factory", seconds["dag-factory"], "< 1"),
        _row(size, "unchanged", unchanged, "plain Python", seconds["python"], "about 0"),
    ]


def _row(size: int, case: str, ours: float, peer: str, theirs: float, bar: str) -> Row:
    return {
        "benchmark": "YAML to DAG",
        "case": f"{size} workflows, {case}",
        "ours": _shown(ours, size),
        "peer": peer,
        "theirs": _shown(theirs, size),
        "ratio": ours / theirs,
        "bar": bar,
        "better": "lower",
    }


def _shown(seconds: float, size: int) -> str:
    return f"{seconds:.3f} s ({seconds / size * 1000:.2f} ms each)"


def _write(folder: Path, size: int) -> dict[str, list[Path]]:
    """All files of all kinds; the generated ones and their plans are made by the bundle's own code."""
    from airflow_monai.bundles.reader import SpecFolderReader

    for name in ("specs", "generated", "python", "factory"):
        (folder / name).mkdir(parents=True)
    for n in range(size):
        (folder / "specs" / f"lung-{n}.yaml").write_text(SPEC.format(n=n))
        (folder / "python" / f"lung-{n}.py").write_text(PYTHON.format(n=n))
        (folder / "factory" / f"lung-{n}.yaml").write_text(DAG_FACTORY.format(n=n))
    for name, content in SpecFolderReader(folder / "specs").scan().dag_files().items():
        (folder / "generated" / name).write_bytes(content)
    return {
        "cold": sorted((folder / "specs").iterdir()),
        "parse": sorted((folder / "generated").glob("*.py")),
        "python": sorted((folder / "python").iterdir()),
        "dag-factory": sorted((folder / "factory").iterdir()),
    }


def _load_yaml(path: Path) -> object:
    from airflow_monai.factory import load_workflow_dag

    return load_workflow_dag(path.read_text(), source=path.name)


def _exec_file(path: Path) -> object:
    """As Airflow loads a DAG file it has not seen: read, compile, run."""
    names = {"__file__": str(path), "__name__": path.stem}
    exec(compile(path.read_bytes(), str(path), "exec"), names)
    return names["dag"]


def _load_dag_factory(path: Path) -> object:
    try:
        from dagfactory import load_yaml_dags
    except ImportError:
        raise Unavailable("dag-factory is not installed: pip install 'airflow-monai[bench]'") from None
    names: dict[str, object] = {}
    load_yaml_dags(names, config_filepath=str(path))
    return names[path.stem]


def _check_same(files: dict[str, list[Path]]) -> None:
    """All four must make the same graph, else the comparison is none."""
    ours = _graph(_load_yaml(files["cold"][0]))
    for name, load in {"parse": _exec_file, "python": _exec_file, "dag-factory": _load_dag_factory}.items():
        other = _graph(load(files[name][0]))
        if other != ours:
            raise AssertionError(f"{name} makes another DAG:\n{other}\nthan ours:\n{ours}")


def _graph(dag: object) -> object:
    tasks = {
        task.task_id: (type(task).__name__, sorted(task.upstream_task_ids), task.retries, str(task.trigger_rule))
        for task in dag.tasks  # type: ignore[attr-defined]
    }
    return tasks, sorted(asset.uri for asset in dag.timetable.asset_condition.objects)  # type: ignore[attr-defined]


def _timed(loads: dict[str, tuple[Load, list[Path]]]) -> dict[str, float]:
    """Median seconds of each; the kinds take turns, so that a busy moment of the machine does not favour one."""
    times: dict[str, list[float]] = {name: [] for name in loads}
    for number in range(ROUNDS):
        for name, (load, paths) in loads.items():
            if number and len(paths) > 200 and name == "dag-factory":
                continue  # once is enough: a thousand take it long
            gc.collect()
            began = time.process_time()
            for path in paths:
                load(path)
            times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def _unchanged(specs: Path) -> float:
    """A scan of a folder in which nothing changed, which is all that the bundle's refresh does then."""
    from airflow_monai.bundles.reader import SpecFolderReader
    from airflow_monai.specs.stamp import SETTLED_SECONDS

    reader = SpecFolderReader(specs)
    time.sleep(SETTLED_SECONDS)
    before = reader.scan()
    began = time.process_time()
    if reader.scan() is not before:
        raise AssertionError("the bundle saw a change where there was none")
    return time.process_time() - began


@contextlib.contextmanager
def _no_site(folder: Path):
    """An Airflow home of our own: nothing of the machine's configuration takes part."""
    kept = dict(os.environ)
    os.environ |= {"AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(folder)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


@contextlib.contextmanager
def _quiet():
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


if __name__ == "__main__":
    import json
    import sys

    rows = run()
    print_table(rows)
    json.dump(rows, sys.stdout, indent=1)
