"""A defaults file as it was read. Every DAG file imports this module: it costs next to nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_monai.specs.problems import Problem
    from airflow_monai.specs.tree.nodes import Node


@dataclass(frozen=True, slots=True)
class Defaults:
    """A defaults file as it was read.

    :param source: its name, for messages.
    :param problem: why it has no text that could be looked at.
    """

    source: str
    text: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ParsedDefaults:
    """What a defaults file says, as a tree whose nodes know it; None where it cannot be read."""

    root: Node | None
    problems: tuple[Problem, ...]


def text_digest(text: str, defaults: Sequence[Defaults] = ()) -> str:
    """SHA-256 of a workflow's text and, where it takes some, of its defaults."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for one in defaults:
        digest.update(hashlib.sha256(one.text.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()
