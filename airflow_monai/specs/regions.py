"""Regions: tasks that run once for each series and follow each other directly, so that each series goes its own way."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from airflow_monai.specs.graph import Graph, reachable
from airflow_monai.specs.plan import Edge

Way = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Region:
    """Connected tasks that run once for each series.

    :param tasks: in the order of the workflow; the first one names the region.
    """

    tasks: tuple[str, ...]

    @property
    def first(self) -> str:
        return self.tasks[0]

    def __contains__(self, task: object) -> bool:
        return task in self.tasks


def series_task_id(region: Region) -> str:
    """Airflow id of the task that counts the series for a region."""
    return f"{region.first}.series"


def regions_of(mapped: Sequence[str], ways: Iterable[Way]) -> tuple[Region, ...]:
    """The regions of a workflow.

    :param mapped: ids of the tasks that run once for each series, in the order of the workflow.
    :param ways: (source, target) of all ways of the workflow.
    """
    leader = {task: task for task in mapped}
    for source, target in ways:
        if source in leader and target in leader:
            leader[_leader(leader, target)] = _leader(leader, source)
    groups: dict[str, list[str]] = {}
    for task in mapped:
        groups.setdefault(_leader(leader, task), []).append(task)
    return tuple(Region(tuple(tasks)) for tasks in groups.values())


def _leader(leader: dict[str, str], task: str) -> str:
    """The task that stands for the region of one, with the way there made shorter."""
    while leader[task] != task:
        leader[task] = leader[leader[task]]
        task = leader[task]
    return task


def returns(region: Region, ways: Sequence[Way]) -> Iterator[tuple[str, ...]]:
    """Paths that leave a region and come back to it, the shortest one for each task where one comes back."""
    following: dict[str, list[str]] = {}
    for source, target in ways:
        following.setdefault(source, []).append(target)
    inside = set(region.tasks)
    paths: list[tuple[str, ...]] = [way for way in ways if way[0] in inside and way[1] not in inside]
    seen: set[str] = set()
    for path in paths:  # grows while it is walked: breadth first
        for target in following.get(path[-1], ()):
            if target not in seen:
                seen.add(target)
                if target in inside:
                    yield (*path, target)
                else:
                    paths.append((*path, target))


def only_ways(edges: Sequence[Edge], mapped: Container[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """(source, target) -> conditions of the way from a task for each series to one for all of them, where it is the
    only way between the two: a series for which they do not hold has not come there."""
    leaving = [edge for edge in edges if edge.conditions and edge.source in mapped and edge.target not in mapped]
    return {
        (edge.source, edge.target): edge.conditions
        for edge in leaving
        if edge.target not in reachable(_graph(other for other in edges if other is not edge), edge.source)
    }


def _graph(edges: Iterable[Edge]) -> Graph:
    found: dict[str, tuple[str, ...]] = {}
    for edge in edges:
        found[edge.source] = (*found.get(edge.source, ()), edge.target)
    return found
