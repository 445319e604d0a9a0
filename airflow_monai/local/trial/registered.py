"""The MAPs that a workflow names and that are registered at the site: a trial runs what the site would run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from airflow_monai.local.trial.options import TrialError, site_options
from airflow_monai.maps.registry import ROOT, MapRegistry, split_label
from airflow_monai.specs.plan import TaskType, WorkflowPlan
from airflow_monai.store.local import LocalStore


def registered_at_site(store: LocalStore, plan: WorkflowPlan) -> Iterator[tuple[str, Path]]:
    """Copy the site's records of the MAPs that a workflow names into a trial's own store.

    :return: each that the site has a record of, and the site's store.
    """
    given = site_options().get("store", "").removeprefix("file://")
    if not given or not (site := Path(given).expanduser()).is_dir():
        return
    there = LocalStore(site.resolve())
    for label in sorted({str(task.args["map"]) for task in plan.tasks if task.type == TaskType.MAP}):
        parts = split_label(label)
        keys = list(there.list(f"{ROOT}/{parts[0]}")) if parts else []
        for key in keys:
            try:
                store.write(key, there.read(key), durable=False)
            except OSError as error:
                raise TrialError(f"The record {key} of {given} cannot be read: {error.strerror or error}.") from error
        if keys and MapRegistry(store).of_label(label) is not None:
            yield label, site
