"""What a workflow of a cluster gets: parameters that tell where its inputs lie, and where it is to leave its results.

How the cluster's pods reach the store is the site's matter, for example a volume over NFS; the connection says where it
is mounted in them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapError
from airflow_monai.maps.staging import input_folder, present_inputs
from airflow_monai.maps.workspace import shared
from airflow_monai.store.base import safe_name

if TYPE_CHECKING:
    from airflow_monai.tasks.run import TaskRun
    from airflow_monai.triggers.light_run import LightRun

OUTPUT_PATH = "output_path"
"""Name of the parameter that says where results go."""
_BRACE_BEFORE_BRACE = re.compile(r"\{(?=\{)")


def parameters(run: LightRun, task: Mapping[str, Any], store_path: str) -> dict[str, str]:
    """The workflow's parameters: the task's own, a folder for each input artifact, and the folder for results.

    :param store_path: the store's folder as pods see it; empty where it is the same.
    :raises MapError: when a mandatory input is not there, or the store is in no folder.
    """
    from airflow_monai.maps.job import staging_folder

    output, staging = shared(run.run.store, run.run.output_key), staging_folder(run.run)
    given = {name: argo_text(run, value) for name, value in task["parameters"].items()}
    inputs = {
        item.name: _as_pods_see(
            run.run, input_folder(run.run.store, [item], staging / safe_name(item.name)), store_path
        )
        for item in present_inputs(run.run, task["inputs"])
    }
    return {**given, **inputs, OUTPUT_PATH: _as_pods_see(run.run, output, store_path)}


def prepare_output(run: TaskRun) -> None:
    """An empty folder for results, writable for the site's container user, whom the pods have to run as."""
    from airflow_monai import settings
    from airflow_monai.maps.runners.folders import default_user, make_folder

    folder = shared(run.store, run.output_key)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder, default_user(settings.load().container_user))
    except OSError as error:
        raise MapError(f"The output folder {folder} cannot be prepared: {error.strerror or error}.") from error


def argo_text(run: LightRun, value: Any) -> str:
    """A text for Argo with its values; what a study holds must not become a template of Argo's."""
    text = str(value)
    resolved = str(run.resolve(text))
    return _BRACE_BEFORE_BRACE.sub("{ ", resolved) if resolved != text else text


def _as_pods_see(run: TaskRun, path: Path, store_path: str) -> str:
    root = Path(run.store.url)
    return f"{store_path}/{path.relative_to(root)}" if store_path and path.is_relative_to(root) else str(path)
