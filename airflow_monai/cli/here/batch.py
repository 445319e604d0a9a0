"""``airflow monai batch``: which payloads the next batch of a workflow would take. Prints no patient data."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from datetime import datetime, timezone
from typing import TextIO

from airflow_monai.batches.selection import Selected, select
from airflow_monai.cli.ending import ends
from airflow_monai.cli.here.configured import this_store, workflow_folder
from airflow_monai.errors import SpecError
from airflow_monai.specs.folder import load_folder
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.specs.problems import nearest
from airflow_monai.store.base import Store
from airflow_monai.workflows.site import SiteWorkflows


@ends()
def batch(args: Namespace) -> int:
    return run(this_store(), workflow_folder(), args.workflow, args.json, sys.stdout)


def run(store: Store, folder: str, workflow: str, as_json: bool, out: TextIO) -> int:
    """Print what the workflow's schedule would select now, and why it would not take the other payloads.

    :param folder: of the workflow files.
    :raises SpecError: when there is no such workflow, or it has no schedule.
    """
    plan = _scheduled(store, folder, workflow)
    assert plan.schedule is not None
    selected = select(store, plan, plan.schedule.select, datetime.now(timezone.utc), plan.schedule.limit)
    if as_json:
        print(json.dumps(_data(plan, selected), indent=2), file=out)
        return 0
    print(f"{plan.name} {plan.version}: {len(selected.payloads)} of {len(selected.verdicts)} payloads", file=out)
    for payload_id in selected.payloads:
        print(f"  {payload_id}", file=out)
    for reason, count in selected.passed_over.items():
        print(f"  {count} not taken: {reason}", file=out)
    return 0


def _data(plan: WorkflowPlan, selected: Selected) -> dict[str, object]:
    verdicts = [{"payload_id": item.payload_id, "reason": item.reason} for item in selected.verdicts]
    passed_over = [item for item, verdict in zip(verdicts, selected.verdicts, strict=True) if not verdict.is_taken]
    return {
        "workflow": plan.name,
        "version": plan.version,
        "dag_id": plan.batch_dag_id,
        "taken": list(selected.payloads),
        "passed_over": passed_over,
    }


def _scheduled(store: Store, folder: str, name: str) -> WorkflowPlan:
    workflows = load_folder(folder, more=SiteWorkflows(store).files).workflows
    found = next((plan for plan in workflows if name in (plan.name, plan.dag_id)), None)
    if found is None:
        hint = nearest(name, [plan.name for plan in workflows]) or "`airflow monai validate` tells what is there."
        raise SpecError(f"There is no workflow {name!r} that can be used in {folder}: {hint}")
    if found.schedule is None:
        raise SpecError(f"The workflow {name!r} has no schedule. Add `schedule: {{cron: ...}}` to its file.")
    return found
