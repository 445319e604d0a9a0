"""The plugin through which Airflow's processes know this package.

Airflow finds it by the entry point ``airflow.plugins`` and imports it in the API server, the scheduler and every task
process, so it imports nothing of ours.
"""

from __future__ import annotations

from airflow.sdk.plugins_manager import AirflowPlugin


class MonaiPlugin(AirflowPlugin):
    """Lists this package under Admin > Plugins, where an operator can see that every component has it installed."""

    name = "monai"
