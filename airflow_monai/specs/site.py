"""What is known of the place where workflows are to run; the checks of a workflow alone know nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_monai.specs.plan import Resources


@dataclass(frozen=True, slots=True)
class Application:
    """What a site knows of an application.

    :param problem: why it cannot be run there; empty when it can, or when nothing is known.
    :param result_keys: the keys of its result, where its manifest declares them; None where it does not.
    """

    problem: str = ""
    result_keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """Answers about a site, each asked once for what a workflow names.

    :param capacity: resources -> why they can never be had there, or an empty text.
    :param destination: name of an export destination, and type of a task -> why such a task can deliver nothing to it,
        or an empty text.
    :param policy: a task's arguments, resources and time limit in minutes (None where it says none) -> what of it the
        site does not allow: the field, such as ``args.network``, and why.
    :param connection: id of a connection -> why a task cannot use it, or an empty text.
    :param application: what ``args.map`` names -> what is known of it.
    """

    capacity: Callable[[Resources], str]
    destination: Callable[[str, str], str]
    application: Callable[[str], Application]
    connection: Callable[[str], str] = lambda _: ""
    policy: Callable[[Mapping[str, Any], Resources | None, float | None], Iterable[tuple[str, str]]] = lambda *_: ()
