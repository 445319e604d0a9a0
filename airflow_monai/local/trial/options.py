"""What a trial run is told."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_monai.errors import MonaiError
from airflow_monai.specs.plan import Kind, Param, WorkflowPlan
from airflow_monai.types import FailureKind

STATE = Path(".monai")
SECTION = "monai"


class TrialError(MonaiError):
    """The trial cannot be made as it was asked for."""

    failure = FailureKind.INVALID


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """What the author chose.

    :param spec: workflow file; ``study``: folder of DICOM.
    :param store: folder that keeps payload and results; None for one in the run's own folder.
    :param runner: ``docker``, ``process``, or None for the site's.
    :param map_path: folders in which the process runner looks for applications; none for the site's.
    :param called: and ``calling``: AE titles; None for those that the workflow names.
    :param params: values of the workflow's parameters, as texts.
    :param approve: answer to reviews; None to ask on the terminal.
    :param deliver: exports go to the destinations whose connections are in the environment, not to folders.
    :param send_email: e-mails go out, and are not only kept as files.
    :param keep: the run's folder is never removed, and its database stays.
    :param state: folder of everything that a trial leaves.
    """

    spec: Path
    study: Path
    store: Path | None = None
    runner: str | None = None
    map_path: tuple[Path, ...] = ()
    called: str | None = None
    calling: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    approve: bool | None = None
    deliver: bool = False
    send_email: bool = False
    keep: bool = False
    as_json: bool = False
    verbose: bool = False
    state: Path = STATE


def given_params(words: Sequence[str]) -> dict[str, str]:
    """``name=value`` words; :class:`TrialError` for one that is none."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise TrialError(f"--param {word!r}: write name=value.")
        found[name.strip()] = value
    return found


def params_of(plan: WorkflowPlan, given: Mapping[str, str]) -> dict[str, Any]:
    """The given parameters as values of their types.

    :raises TrialError: when the workflow has no such parameter, a value is not of its type, or one is missing.
    """
    known = {param.name: param for param in plan.params}
    for name in given:
        if name not in known:
            names = f"it has {', '.join(known)}" if known else "it has none"
            raise TrialError(f"--param {name}: the workflow {plan.name} has no such parameter; {names}.")
    missing = [param.name for param in plan.params if param.default is None and param.name not in given]
    if missing:
        raise TrialError(f"The workflow {plan.name} needs --param {missing[0]}=... (it has no default).")
    return {name: _value(known[name], text) for name, text in given.items()}


def _value(param: Param, text: str) -> Any:
    try:
        if param.kind is Kind.INTEGER:
            return int(text)
        if param.kind is Kind.NUMBER:
            return float(text)
    except ValueError:
        raise TrialError(f"--param {param.name}={text}: that is no {param.kind.value}.") from None
    if param.kind is Kind.BOOLEAN:
        if text.lower() not in ("true", "false"):
            raise TrialError(f"--param {param.name}={text}: write true or false.")
        return text.lower() == "true"
    return text


def site_options() -> dict[str, str]:
    """The ``[monai]`` section of the author's own Airflow, without the cost of importing Airflow.

    Options set by a command or a secrets backend are not seen.
    """
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    parser = configparser.RawConfigParser()
    try:
        parser.read(os.environ.get("AIRFLOW_CONFIG") or home / "airflow.cfg", encoding="utf-8")
        found = dict(parser[SECTION]) if parser.has_section(SECTION) else {}
    except (configparser.Error, OSError, UnicodeDecodeError):
        found = {}
    prefix = f"AIRFLOW__{SECTION.upper()}__"
    from_environment = {
        name.removeprefix(prefix).lower(): value for name, value in os.environ.items() if name.startswith(prefix)
    }
    return {**found, **from_environment}
