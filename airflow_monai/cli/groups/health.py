"""The command that asks how a server is, by the Workflow Manager API."""

from __future__ import annotations

from airflow_monai.cli.table import Topic

_HEALTH = Topic("", "airflow_monai.cli.remote.health")
HEALTH = _HEALTH.asking(
    "health",
    "Tell whether what a site needs can be reached: store, Airflow's database, gateway, broker.",
    "--url http://localhost:8080",
    description="Tell whether what a site needs can be reached: store, Airflow's database, gateway, broker. "
    "It need not be said who asks. Exit code 0: all is well, 1: it is not, 2: the server does not "
    "answer.",
)
