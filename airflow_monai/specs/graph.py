"""The graph of a workflow's tasks: who follows whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Graph = Mapping[str, tuple[str, ...]]


def reachable(graph: Graph, *starts: str) -> set[str]:
    """Tasks that can be reached from some, these included."""
    found, waiting = set(starts), list(starts)
    while waiting:
        for target in graph.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def reversed_graph(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The same tasks with every way turned round."""
    backwards: dict[str, list[str]] = {task: [] for task in graph}
    for source, targets in graph.items():
        for target in targets:
            backwards[target].append(source)
    return {task: tuple(sources) for task, sources in backwards.items()}


def loops(graph: Graph) -> Iterator[list[str]]:
    """Each loop found by one walk over all tasks, as the tasks along it, the first one again at the end."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        on_path: set[str] = set()
        branches = [iter((start,))]
        while branches:
            task = next(branches[-1], None)
            if task is None:
                branches.pop()
                if path:
                    last = path.pop()
                    on_path.discard(last)
                    done.add(last)
            elif task in on_path:
                yield [*path[path.index(task) :], task]
            elif task not in done and task in graph:
                path.append(task)
                on_path.add(task)
                branches.append(iter(graph[task]))
