"""Random workflows, run by Airflow, end in the states that the reference says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factory.reference import Verdict, Way, expected_run, expected_states

EXAMPLES = int(os.environ.get("MONAI_PROPERTY_EXAMPLES", "12"))
LIGHT, HEAVY = "router", "map"

PATIENT_CONDITIONS = {
    Verdict.TRUE: "{{ context.input.patient_details.sex }} == 'M'",
    Verdict.FALSE: "{{ context.input.patient_details.sex }} == 'F'",
    Verdict.FAILING: "{{ context.input.patient_details.sex }} > '1'",
}


@dataclass(frozen=True)
class Graph:
    """A workflow in numbers: type of each task, the ways between them, and which tasks fail."""

    types: tuple[str, ...]
    ways: tuple[Way, ...]
    failing: frozenset[int]

    def spec(self) -> str:
        return json.dumps(
            {
                "name": "property",
                "version": "1",
                "informatics_gateway": {"ae_title": "CTLUNG", "export_destinations": ["PACS"]},
                "tasks": [self._task(number) for number in range(len(self.types))],
            }
        )

    def _task(self, number: int) -> dict[str, Any]:
        task: dict[str, Any] = {"id": f"t{number}", "type": self.types[number]}
        if task["type"] == "map":
            task["args"] = {"map": "scripted:1"}
        if task["type"] == "export":
            task["export_destinations"] = [{"name": "PACS"}]
        if task["type"] != LIGHT:
            task["artifacts"] = {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]}
        leaving = [way for way in self.ways if way.source == number]
        if leaving:
            task["task_destinations"] = [self._destination(way) for way in leaving]
        return task

    def _destination(self, way: Way) -> dict[str, Any]:
        destination: dict[str, Any] = {"name": f"t{way.target}"}
        if way.verdict is not Verdict.NONE:
            destination["conditions"] = [self._condition(way)]
        return destination

    def _condition(self, way: Way) -> str:
        """Light tasks ask for the patient, heavy ones for their own result, which their script gives."""
        if self.types[way.source] == LIGHT:
            return PATIENT_CONDITIONS[way.verdict]
        word = f"{{{{ context.executions.t{way.source}.result.word }}}}"
        return {
            Verdict.TRUE: f"{word} == 'yes'",
            Verdict.FALSE: f"{word} == 'no'",
            Verdict.FAILING: f"{word} > '1'",
        }[way.verdict]

    def scripts(self) -> dict[str, Any]:
        return {
            f"t{number}": {"fail": number in self.failing, "result": {"word": "yes"}}
            for number, type_ in enumerate(self.types)
            if type_ != LIGHT
        }


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Every task after the root has one to three predecessors, so splits, joins and chains all come up."""
    size = draw(st.integers(2, 6))
    types = tuple(draw(st.sampled_from((LIGHT, HEAVY, "export"))) for _ in range(size))
    ways = []
    for target in range(1, size):
        sources = draw(st.sets(st.integers(0, target - 1), min_size=1, max_size=3))
        ways += [Way(source, target, draw(st.sampled_from(Verdict))) for source in sorted(sources)]
    heavy = [number for number in range(size) if types[number] != LIGHT]
    failing = draw(st.sets(st.sampled_from(heavy), max_size=1)) if heavy else set()
    return Graph(types, tuple(ways), frozenset(failing))


def assert_as_expected(graph: Graph, answer: Mapping[str, Any]) -> None:
    expected = expected_states(len(graph.types), graph.ways, graph.failing)
    states = {number: answer["tasks"][f"t{number}"] for number in expected}
    assert states == expected, f"{graph}\n{answer}"
    assert answer["run"] == expected_run(expected), f"{graph}\n{answer}"


@pytest.mark.timeout(60 + 20 * EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="MONAI_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(graph=graphs())
def test_random_graphs(dag_test_server: Any, graph: Graph) -> None:
    assert_as_expected(graph, dag_test_server.run(graph.spec(), graph.scripts()))


def test_join_runs_when_one_branch_was_taken_and_ended_well(dag_test_server: Any) -> None:
    ways = (Way(0, 1, Verdict.TRUE), Way(0, 2, Verdict.FALSE), Way(1, 3, Verdict.NONE), Way(2, 3, Verdict.NONE))
    graph = Graph((LIGHT, HEAVY, HEAVY, "export"), ways, frozenset())
    answer = dag_test_server.run(graph.spec(), graph.scripts())
    assert_as_expected(graph, answer)
    assert answer["tasks"]["t3"] == "success"


def test_join_of_a_rejected_result_does_not_run_because_something_else_succeeded(dag_test_server: Any) -> None:
    """t1 leads to t3 only when its result is right; t2 has no way to t3 at all."""
    ways = (Way(0, 1, Verdict.NONE), Way(0, 2, Verdict.NONE), Way(0, 3, Verdict.FALSE), Way(1, 3, Verdict.FALSE))
    graph = Graph((HEAVY, HEAVY, HEAVY, "export"), ways, frozenset())
    answer = dag_test_server.run(graph.spec(), graph.scripts())
    assert_as_expected(graph, answer)
    assert answer["tasks"]["t3"] == "skipped"


def test_one_failed_branch_stops_the_join(dag_test_server: Any) -> None:
    ways = (Way(0, 1, Verdict.NONE), Way(0, 2, Verdict.NONE), Way(1, 3, Verdict.NONE), Way(2, 3, Verdict.TRUE))
    graph = Graph((LIGHT, HEAVY, HEAVY, "export"), ways, frozenset({1}))
    answer = dag_test_server.run(graph.spec(), graph.scripts())
    assert_as_expected(graph, answer)
    assert answer["tasks"]["t3"] == "upstream_failed"
