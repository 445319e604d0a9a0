"""``airflow monai map``: which AE title runs an application, and where its results go."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import asdict
from typing import TextIO

from airflow_monai.cli.ending import ends
from airflow_monai.person import person_here
from airflow_monai.settings import Settings
from airflow_monai.store import open_store
from airflow_monai.workflows.applications import Applications, Mapped
from airflow_monai.workflows.catalog import Catalog


def applications(settings: Settings, by: str) -> Applications:
    store = open_store(settings.store)
    return Applications(store, Catalog(settings.workflow_folder, store), by)


@ends()
def ae(args: Namespace) -> int:
    from airflow_monai import settings

    found = applications(settings.load(), person_here())
    return run_ae(found, args.ae_title, args.application, args.json, sys.stdout)


@ends()
def sink(args: Namespace) -> int:
    from airflow_monai import settings

    found = applications(settings.load(), person_here())
    return run_sink(found, args.application, args.sink, args.remove, args.json, sys.stdout)


def run_ae(found: Applications, ae_title: str, application: str, as_json: bool, out: TextIO) -> int:
    """Map an AE title to an application; the exit code."""
    return _print(found.map_ae(application, ae_title), as_json, out)


def run_sink(found: Applications, application: str, sink: str, remove: bool, as_json: bool, out: TextIO) -> int:
    """Map an application to a sink, or not any more; the exit code."""
    return _print(found.map_sink(application, sink, remove=remove), as_json, out)


def _print(mapped: Mapped, as_json: bool, out: TextIO) -> int:
    if as_json:
        print(json.dumps(asdict(mapped)), file=out)
        return 0
    print(f"{mapped.application}{'' if mapped.changed else ' (unchanged)'}", file=out)
    print(f"  for studies sent to  {mapped.ae_title or '-'}", file=out)
    print(f"  results go to        {', '.join(mapped.sinks) or 'nobody; they stay in the store'}", file=out)
    print(f"  DAG                  {mapped.dag_id}", file=out)
    return 0
