"""Plans kept beside the generated DAG files, so that a parse and every task start cost neither pydantic nor YAML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_monai.specs.defaults.text import Defaults, text_digest
from airflow_monai.specs.plan import WorkflowPlan

PLAN_FORMAT = 5
"""To be raised whenever the shape or the meaning of a stored plan changes: older ones are then made anew."""


def plan_path(dag_file: str) -> Path:
    """Where the plan of a generated DAG file lies: ``x.yaml.plan.json`` beside ``x.yaml.py``."""
    return Path(dag_file.removesuffix(".py") + ".plan.json")


def plan_record(text: str, plan: WorkflowPlan, defaults: Sequence[Defaults] = ()) -> dict[str, Any]:
    """What is stored: the plan, and what it was made from."""
    return {"format": PLAN_FORMAT, "text": text_digest(text, defaults), "plan": plan.to_dict()}


def read_plan(path: Path, text: str, defaults: Sequence[Defaults] = ()) -> WorkflowPlan | None:
    """The stored plan of exactly this text and these defaults; None where there is none that this version can use."""
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != PLAN_FORMAT or record["text"] != text_digest(text, defaults):
            return None
        return WorkflowPlan.from_dict(record["plan"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: the text says it all
