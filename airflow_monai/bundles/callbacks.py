"""Keeps callbacks of workflow tasks from making Airflow's DAG processor parse a file without end.

Whenever a trigger ends a task well, as gates do, Airflow 3.3 asks the DAG processor to run the task's success
callbacks, whether it has some or not: a process is forked that loads the file. For a bundle with versions the file then
counts as never parsed, and is parsed again and again until the DAG processor is restarted (apache/airflow#73432, open;
the change that mends it is #73433). So, for requests of our bundle only: a success has nothing to run and is dropped,
and the others are filed under the same name as the file's own parses, so that one parse follows and not one after
another.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.dag_processing.bundles.base import BaseDagBundle


_MANAGER = "airflow.dag_processing.manager"
_MARK = "_airflow_monai_callbacks"


def keep_callbacks_harmless(bundle_class: type[BaseDagBundle]) -> None:
    """Put ourselves before ``prepare_callback_bundle`` where this process is a DAG processor; else do nothing.

    :param bundle_class: whose requests are meant; those of other bundles pass as they are.
    """
    manager = getattr(sys.modules.get(_MANAGER), "DagFileProcessorManager", None)
    original = getattr(manager, "prepare_callback_bundle", None)
    if original is None or hasattr(original, _MARK):
        return
    setattr(manager, "prepare_callback_bundle", _harmless(original, bundle_class))  # noqa: B010


def _harmless(original: Callable[[Any, Any], Any], bundle_class: type[BaseDagBundle]) -> Callable[[Any, Any], Any]:
    @functools.wraps(original)
    def prepare(manager: Any, request: Any) -> Any:
        if not _is_ours(manager, request, bundle_class):
            return original(manager, request)
        if _is_task_success(request):
            return None
        bundle = original(manager, request)  # of the run's version: its path is the version's folder
        request.bundle_version = None
        return bundle

    setattr(prepare, _MARK, True)
    return prepare


def _is_ours(manager: Any, request: Any, bundle_class: type[BaseDagBundle]) -> bool:
    bundles = getattr(manager, "_dag_bundles", ())
    return any(isinstance(bundle, bundle_class) and bundle.name == request.bundle_name for bundle in bundles)


def _is_task_success(request: Any) -> bool:
    """Such requests come from triggers only: a worker runs success callbacks itself."""
    return getattr(request, "task_callback_type", None) == "success"
