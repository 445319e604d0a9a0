"""A process that registers, updates and deletes workflows without end, and says what it has done; made to be killed."""

from __future__ import annotations

import itertools
import json
import random
import sys

from airflow_monai.errors import WorkflowConflict, WorkflowNotFound
from airflow_monai.store.local import LocalStore
from airflow_monai.workflows.catalog import Catalog
from airflow_monai.workflows.definition import read_body
from airflow_monai.workflows.registration import Registration
from airflow_monai.workflows.registry import WorkflowRegistry
from tests.workflows.definitions import simple


def main(root: str, folder: str, seed: str) -> None:
    store, chance = LocalStore(root), random.Random(seed)
    registry = WorkflowRegistry(store)
    registration = Registration(registry, Catalog(folder, store).plans)
    print("begun", flush=True)
    for count in itertools.count():
        name = f"w{chance.randrange(4)}"
        head = registry.of_name(name)
        try:
            if head is None or head.is_deleted:
                what = "register"
                body = read_body(json.dumps(simple(name)).encode(), is_json=True)
                done = registration.register(body, "writer")
            elif chance.random() < 0.7:
                what = "update"
                body = read_body(json.dumps({"description": f"{seed} {count}"}).encode(), is_json=True)
                done = registration.update(head.workflow_id, body, "writer")
            else:
                what = "delete"
                done = registry.delete(head.workflow_id, "writer")
        except (WorkflowConflict, WorkflowNotFound):
            continue  # the other process was quicker
        print(what, done.workflow_id, done.name, done.number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
