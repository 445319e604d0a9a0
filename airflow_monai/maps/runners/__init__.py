"""What runs MAPs: one module for each kind of engine, chosen by the setting ``runner`` or by the task."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from airflow_monai.errors import SettingsError

if TYPE_CHECKING:
    from airflow_monai.maps.runners.base import Runner
    from airflow_monai.settings import Settings
    from airflow_monai.store.base import Store

REGISTRY = {
    "docker": "airflow_monai.maps.runners.docker.runner:DockerRunner",
    "kubernetes": "airflow_monai.maps.runners.kubernetes.runner:KubernetesRunner",
    "process": "airflow_monai.maps.runners.process.runner:ProcessRunner",
}


def create_runner(name: str, settings: Settings, store: Store) -> Runner:
    """The runner of this name; :class:`SettingsError` when there is none such."""
    if name not in REGISTRY:
        raise SettingsError(f"There is no runner {name!r}: choose one of {', '.join(sorted(REGISTRY))}.")
    module, _, attribute = REGISTRY[name].partition(":")
    runner: Runner = getattr(import_module(module), attribute)(settings, store)
    return runner
