"""What this site's settings name."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_monai.store.base import Store


def this_store() -> Store:
    from airflow_monai import settings
    from airflow_monai.store import open_store

    return open_store(settings.load().store)


def workflow_folder() -> str:
    from airflow_monai import settings

    return settings.load().workflow_folder


def known_workflow_folder() -> str | None:
    """The site's folder of workflows where it can be told without starting Airflow for it."""
    if "airflow.configuration" in sys.modules:
        return workflow_folder()
    return os.environ.get("AIRFLOW__MONAI__WORKFLOW_FOLDER") or None
