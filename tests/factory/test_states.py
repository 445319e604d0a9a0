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

from airflow_monai.specs.regions import regions_of, returns
from tests.factory.reference import Tasks, Verdict, Way, expected_run, expected_states

EXAMPLES = int(os.environ.get("MONAI_PROPERTY_EXAMPLES", "12"))
LIGHT, HEAVY = "router", "map"
OVER_STUDY = (Verdict.NONE, Verdict.TRUE, Verdict.FALSE, Verdict.FAILING)

PATIENT_CONDITIONS = {
    Verdict.TRUE: "{{ context.input.patient_details.sex }} == 'M'",
    Verdict.FALSE: "{{ context.input.patient_details.sex }} == 'F'",
    Verdict.FAILING: "{{ context.input.patient_details.sex }} > '1'",
}


@dataclass(frozen=True)
class Graph:
    """A workflow in numbers: type of each task, the ways between them, which tasks fail, which run for each series."""

    types: tuple[str, ...]
    ways: tuple[Way, ...]
    failing: frozenset[tuple[int, int | None]] = frozenset()
    mapped: frozenset[int] = frozenset()
    going_on: frozenset[int] = frozenset()
    series: int = 1

    @property
    def tasks(self) -> Tasks:
        return Tasks(len(self.types), self.mapped, self.going_on, self.failing, self.series, self.ways)

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
        if number in self.mapped:
            task["for_each"] = "series"
        if number in self.going_on:
            task["on_failure"] = "continue"
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
        """Light tasks ask for the patient or the series, heavy ones for their own result, which their script gives."""
        result = f"context.executions.t{way.source}.result"
        if way.verdict is Verdict.SOME:
            is_light = self.types[way.source] == LIGHT
            number = "context.dicom.series.all('0020','0011')" if is_light else f"{result}.seen"
            return f"['-', {', '.join(repr(str(series)) for series in sorted(way.series))}] CONTAINS {{{{ {number} }}}}"
        if self.types[way.source] == LIGHT:
            return PATIENT_CONDITIONS[way.verdict]
        word = f"{{{{ {result}.word }}}}"
        return {
            Verdict.TRUE: f"{word} == 'yes'",
            Verdict.FALSE: f"{word} == 'no'",
            Verdict.FAILING: f"{word} > '1'",
        }[way.verdict]

    def scripts(self) -> dict[str, Any]:
        return {
            f"t{number}": {"fail": self._fails(number), "result": {"word": "yes"}}
            for number, type_ in enumerate(self.types)
            if type_ != LIGHT
        }

    def _fails(self, number: int) -> bool | list[int]:
        series = [series for task, series in self.failing if task == number]
        return series == [None] if number not in self.mapped else [one for one in series if one is not None]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Every task after the root has one to three predecessors, so splits, joins and chains all come up."""
    types, ways = draw(_shapes())
    heavy = [number for number, type_ in enumerate(types) if type_ != LIGHT]
    failing = draw(st.sets(st.sampled_from(heavy), max_size=1)) if heavy else set()
    return Graph(types, ways, frozenset((task, None) for task in failing))


@st.composite
def graphs_with_series(draw: st.DrawFn) -> Graph:
    """The same, with tasks that run for each of one to three series, that go on after a failure, or both."""
    types, ways = draw(_shapes())
    numbers = st.integers(0, len(types) - 1)
    mapped = _without_returns(draw(st.sets(numbers, min_size=1)), ways)
    going_on = draw(st.frozensets(numbers, max_size=2))
    series = draw(st.integers(1, 3))
    each = st.frozensets(st.integers(0, series - 1))
    ways = tuple(
        Way(way.source, way.target, Verdict.SOME, draw(each)) if way.source in mapped and draw(st.booleans()) else way
        for way in ways
    )
    may_fail: list[tuple[int, int | None]] = [
        (number, one)
        for number, type_ in enumerate(types)
        if type_ != LIGHT
        for one in (range(series) if number in mapped else (None,))
    ]
    failing = draw(st.frozensets(st.sampled_from(may_fail), max_size=2)) if may_fail else frozenset()
    return Graph(types, ways, failing, mapped, going_on, series)


@st.composite
def _shapes(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[Way, ...]]:
    size = draw(st.integers(2, 6))
    types = tuple(draw(st.sampled_from((LIGHT, HEAVY, "export"))) for _ in range(size))
    ways = []
    for target in range(1, size):
        sources = draw(st.sets(st.integers(0, target - 1), min_size=1, max_size=3))
        ways += [Way(source, target, draw(st.sampled_from(OVER_STUDY))) for source in sorted(sources)]
    return types, tuple(ways)


def _without_returns(mapped: set[int], ways: tuple[Way, ...]) -> frozenset[int]:
    """So many of the tasks that none of them is after all series and with one of them, which is refused at load."""
    named = [(f"t{way.source}", f"t{way.target}") for way in ways]
    while True:
        regions = regions_of([f"t{number}" for number in sorted(mapped)], named)
        paths = [path for region in regions for path in returns(region, named)]
        if not paths:
            return frozenset(mapped)
        mapped = mapped - {int(paths[0][-1][1:])}


def assert_as_expected(graph: Graph, answer: Mapping[str, Any]) -> None:
    expected = expected_states(graph.tasks)
    states = {place: _state(answer["tasks"], *place) for place in expected}
    assert states == expected, f"{graph}\n{graph.spec()}\n{answer}"
    assert answer["run"] == expected_run(expected), f"{graph}\n{answer}"


def _state(states: Mapping[str, str], task: int, series: int | None) -> str | None:
    """Of a task that was given up before Airflow expanded it there is one instance for all series."""
    return states.get(f"t{task}[{series}]") or states.get(f"t{task}")


def run(dag_test_server: Any, graph: Graph) -> Mapping[str, Any]:
    answer = dag_test_server.run(graph.spec(), graph.scripts(), graph.series)
    assert_as_expected(graph, answer)
    return answer


several = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="MONAI_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.timeout(60 + 20 * EXAMPLES)
@several
@given(graph=graphs())
def test_random_graphs(dag_test_server: Any, graph: Graph) -> None:
    run(dag_test_server, graph)


@pytest.mark.timeout(60 + 30 * EXAMPLES)
@several
@given(graph=graphs_with_series())
def test_random_graphs_with_tasks_for_each_series_and_tasks_that_go_on(dag_test_server: Any, graph: Graph) -> None:
    run(dag_test_server, graph)


def test_join_runs_when_one_branch_was_taken_and_ended_well(dag_test_server: Any) -> None:
    ways = (Way(0, 1, Verdict.TRUE), Way(0, 2, Verdict.FALSE), Way(1, 3, Verdict.NONE), Way(2, 3, Verdict.NONE))
    answer = run(dag_test_server, Graph((LIGHT, HEAVY, HEAVY, "export"), ways))
    assert answer["tasks"]["t3"] == "success"


def test_join_of_a_rejected_result_does_not_run_because_something_else_succeeded(dag_test_server: Any) -> None:
    """t1 leads to t3 only when its result is right; t2 has no way to t3 at all."""
    ways = (Way(0, 1, Verdict.NONE), Way(0, 2, Verdict.NONE), Way(0, 3, Verdict.FALSE), Way(1, 3, Verdict.FALSE))
    answer = run(dag_test_server, Graph((HEAVY, HEAVY, HEAVY, "export"), ways))
    assert answer["tasks"]["t3"] == "skipped"


def test_one_failed_branch_stops_the_join(dag_test_server: Any) -> None:
    ways = (Way(0, 1, Verdict.NONE), Way(0, 2, Verdict.NONE), Way(1, 3, Verdict.NONE), Way(2, 3, Verdict.TRUE))
    answer = run(dag_test_server, Graph((LIGHT, HEAVY, HEAVY, "export"), ways, frozenset({(1, None)})))
    assert answer["tasks"]["t3"] == "upstream_failed"


def test_a_join_that_goes_on_runs_with_what_ended_well_and_the_run_fails(dag_test_server: Any) -> None:
    ways = (
        Way(0, 1, Verdict.NONE),
        Way(0, 2, Verdict.NONE),
        Way(0, 3, Verdict.FALSE),
        *(Way(source, 4, Verdict.NONE) for source in (1, 2, 3)),
    )
    types = (LIGHT, HEAVY, HEAVY, HEAVY, "export")
    answer = run(dag_test_server, Graph(types, ways, frozenset({(1, None)}), going_on=frozenset({4})))
    assert (answer["tasks"]["t4"], answer["run"]) == ("success", "failed")


@pytest.mark.parametrize("goes_on", [False, True])
def test_one_bad_series_of_three_stops_what_comes_after_unless_that_goes_on(
    dag_test_server: Any, goes_on: bool
) -> None:
    ways = (Way(0, 1, Verdict.NONE), Way(1, 2, Verdict.NONE), Way(2, 3, Verdict.NONE))
    graph = Graph(
        (LIGHT, HEAVY, "export", "export"),
        ways,
        frozenset({(1, 1)}),
        mapped=frozenset({1, 2}),
        going_on=frozenset({3}) if goes_on else frozenset(),
        series=3,
    )
    answer = run(dag_test_server, graph)
    assert [answer["tasks"][f"t2[{series}]"] for series in range(3)] == ["success", "upstream_failed", "success"]
    assert (answer["tasks"]["t3"], answer["run"]) == ("success" if goes_on else "upstream_failed", "failed")


def test_a_join_of_one_series_waits_for_that_series_only(dag_test_server: Any) -> None:
    """Airflow's own rule for joins would give up the join of all series when the way of one fails."""
    ways = (
        Way(0, 1, Verdict.SOME, frozenset({0, 1})),
        Way(0, 2, Verdict.SOME, frozenset({1})),
        Way(1, 3, Verdict.NONE),
        Way(2, 3, Verdict.NONE),
    )
    types = (LIGHT, HEAVY, HEAVY, HEAVY)
    graph = Graph(types, ways, frozenset({(2, 1)}), mapped=frozenset(range(4)), series=3)
    answer = run(dag_test_server, graph)
    assert [answer["tasks"][f"t3[{series}]"] for series in range(3)] == ["success", "upstream_failed", "skipped"]


def test_a_study_without_series_fails_where_the_series_are_counted(dag_test_server: Any) -> None:
    graph = Graph((LIGHT, HEAVY), (Way(0, 1, Verdict.NONE),), mapped=frozenset({1}), series=0)
    answer = dag_test_server.run(graph.spec(), graph.scripts(), 0)
    assert (answer["tasks"]["t1.series"], answer["tasks"]["t1"]) == ("failed", "upstream_failed")
    assert answer["run"] == "failed"


def test_a_router_says_that_it_has_run_for_the_study_and_for_each_series(dag_test_server: Any) -> None:
    def ran(task: str) -> list[str]:
        return [f"{{{{ context.executions.{task}.status }}}} == 'Succeeded'"]

    spec = {
        "name": "property",
        "version": "1",
        "informatics_gateway": {"ae_title": "CTLUNG"},
        "tasks": [
            {"id": "t0", "type": "router", "task_destinations": [{"name": "t1", "conditions": ran("t0")}]},
            {"id": "t1", "type": "router", "for_each": "series", "task_destinations": [{"name": "t2"}]},
            {"id": "t2", "type": "router", "task_destinations": [{"name": "t3", "conditions": ran("t1.all")}]},
            {"id": "t3", "type": "router"},
        ],
    }
    answer = dag_test_server.run(json.dumps(spec), {}, 2)
    assert (answer["run"], answer["tasks"]["t1[1]"], answer["tasks"]["t3"]) == ("success", "success", "success")


def test_nothing_is_counted_when_no_way_leads_to_tasks_for_each_series(dag_test_server: Any) -> None:
    ways = (Way(0, 1, Verdict.FALSE), Way(0, 2, Verdict.FALSE), Way(1, 2, Verdict.NONE), Way(0, 3, Verdict.NONE))
    graph = Graph((LIGHT, HEAVY, HEAVY, HEAVY), ways, mapped=frozenset({1, 2}), series=2)
    answer = run(dag_test_server, graph)
    assert answer["tasks"]["t1.series"] == "skipped"
