"""Which modules run, are taken over, or stay away."""

from __future__ import annotations

import pytest

from airflow_monai.mip.model import Decision
from airflow_monai.mip.modules import Module, Modules
from airflow_monai.specs.compile import plan_of
from airflow_monai.specs.reading import load_text

# a -> b -> c -> e, a -> d -> e
GRAPH = {"a": "", "b": "a", "c": "b", "d": "a", "e": "cd"}
MODULES = Modules({name: Module(name, "1", frozenset(needs)) for name, needs in GRAPH.items()})
LETTER = {Decision.RUN: "R", Decision.REUSE: "=", Decision.SKIP: "."}


@pytest.mark.parametrize(
    ("asked", "force", "there", "decided"),
    [
        ("c", False, "", "RRR.."),
        ("c", False, "a", "=RR.."),
        ("c", False, "b", ".=R.."),
        ("c", False, "abc", "..=.."),
        ("c", True, "abc", ".=R.."),
        ("ac", True, "abc", "RRR.."),
        ("a", True, "abcde", "R...."),
        ("ae", True, "abcde", "RRRRR"),
        ("e", False, "abd", ".=R=R"),
        ("de", False, "ace", "=.=RR"),
    ],
)
def test_decisions(asked: str, force: bool, there: str, decided: str) -> None:
    made = MODULES.decide(asked, force=force, exists=lambda module: module.name in there)
    assert "".join(LETTER[made[name]] for name in GRAPH) == decided


def test_all_means_all_and_routers_are_no_modules() -> None:
    text = """
name: routed
version: 3.1.4
informatics_gateway: {ae_title: R}
tasks:
  - {id: start, type: router, task_destinations: [{name: a}]}
  - id: a
    type: map
    args: {map: "registry:5000/x/tool@sha256:ab"}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}]}
    task_destinations: [{name: fork}]
  - {id: fork, type: router, task_destinations: [{name: b}]}
  - id: b
    type: map
    args: {map: "tool:2.1"}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}]}
"""
    modules = Modules.of(plan_of(load_text(text, "routed.yaml")))
    assert {name: (module.version, set(module.needs)) for name, module in modules.by_name.items()} == {
        "a": ("sha256:ab", set()),
        "b": ("2.1", {"a"}),
    }
    assert modules.wanted(["ALL"]) == ["a", "b"]
    assert modules.unknown(["ALL", "a", "fork"]) == ["fork"]
