"""``airflow monai health``: whether what a site needs can be reached, by the Workflow Manager API."""

from __future__ import annotations

from argparse import Namespace

from airflow_monai.cli.remote.asking import OK, REFUSED, WORKFLOW_MANAGER, answer, asks
from airflow_monai.client.server import Server, place


@asks(WORKFLOW_MANAGER, login=False)
def health(server: Server, args: Namespace) -> int:
    """Exit code 1: something cannot be reached, or nothing new comes in."""
    found = server.call("GET", place("health"), also=503)
    answer(args, found, table="checks", columns=("check", "result"))
    return OK if found["status"] == "Healthy" else REFUSED
