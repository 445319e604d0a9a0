"""The plugin through which Airflow's processes know this package.

Airflow finds it by the entry point ``airflow.plugins`` and imports it in the API server, the scheduler and every task
process, so it imports of ours only what the scheduler needs.
"""

from __future__ import annotations

from airflow.sdk.plugins_manager import AirflowPlugin

from airflow_monai.api.common.mounting import ROOT
from airflow_monai.api.lazy import LazyApp, monai_app
from airflow_monai.operators.links import ApplicationLink, ArtifactsLink
from airflow_monai.priorities import STRATEGIES


class MonaiPlugin(AirflowPlugin):
    """Lists this package under Admin > Plugins, where an operator can see that every component has it installed,
    makes the priorities of its tasks known to the scheduler, and puts our pages below ``/monai`` of the API server."""

    name = "monai"
    operator_extra_links = [ArtifactsLink(), ApplicationLink()]
    fastapi_apps = [{"name": "monai", "url_prefix": ROOT, "app": LazyApp(monai_app)}]
    priority_weight_strategies = list(STRATEGIES.values())
