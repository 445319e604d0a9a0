"""The environment of a trial's Airflow: its own database and home, the author's connections, folders for exports."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_monai.local.environment import Layout, base_environment
from airflow_monai.local.trial.folders import RunFolder
from airflow_monai.local.trial.options import TrialOptions, site_options
from airflow_monai.specs.plan import TaskType, WorkflowPlan

MAIL_CONNECTION = "monai_trial_mail"
CALLING_OUT = frozenset({TaskType.HTTP, TaskType.HTTP_ASYNC, TaskType.ARGO})
_PASSED_ON = ("AIRFLOW_CONN_", "AIRFLOW_VAR_")
_SECRETS = "AIRFLOW__SECRETS__"


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where exports go.

    :param folders: destination -> its folder in place of the real one.
    :param real: destinations that are delivered to.
    """

    folders: Mapping[str, Path]
    real: tuple[str, ...] = ()


def destinations_of(plan: WorkflowPlan, options: TrialOptions, folder: RunFolder) -> Destinations:
    """Every destination of the workflow's tasks becomes a folder, but for those that are to be delivered to."""
    names = dict.fromkeys(name for task in plan.tasks for name in task.export_destinations)
    real = [name for name in names if options.deliver and _variable(name) in os.environ]
    store = folder.exports.resolve()
    return Destinations({name: store / _plain(name) for name in names if name not in real}, tuple(real))


def environment(
    plan: WorkflowPlan, options: TrialOptions, folder: RunFolder, *, token: str, database: str, mail_port: int
) -> dict[str, str]:
    """All variables of the process that runs the workflow."""
    base = base_environment(Layout(folder.work.resolve()), token)
    kept = (*_PASSED_ON, _SECRETS) if options.deliver else _PASSED_ON
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    connections = {
        _variable(name): json.dumps({"conn_type": "monai_folder", "extra": {"path": str(path)}})
        for name, path in destinations_of(plan, options, folder).folders.items()
    }
    return {**base, **passed_on, **connections, **_airflow(folder, database), **_monai(options, folder, mail_port)}


def runner_of(options: TrialOptions) -> str:
    """What runs applications."""
    return options.runner or site_options().get("runner") or "docker"


def _airflow(folder: RunFolder, database: str) -> dict[str, str]:
    work = folder.work.resolve()
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundles = [{"name": "trial", "classpath": local, "kwargs": {"path": str(work / "dags")}}]
    found = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": str(work / "dags"),
        "CORE__UNIT_TEST_MODE": "False",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(work / "bundles"),
        "LOGGING__BASE_LOG_FOLDER": str(folder.logs.resolve() / "tasks"),
        "LOGGING__COLORED_CONSOLE_LOG": "False",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {f"AIRFLOW__{name}": value for name, value in found.items()}


def _monai(options: TrialOptions, folder: RunFolder, mail_port: int) -> dict[str, str]:
    """The site's options, but for those that are the trial's own."""
    site = site_options()
    paths = [str(path.resolve()) for path in options.map_path] or [site.get("map_path", "")]
    own = {
        "store": str((options.store or folder.store).resolve()),
        "runner": runner_of(options),
        "map_path": os.pathsep.join(paths),
        "reviewer_roles": "",  # the author answers, whoever may do so at the site
    }
    found = {f"AIRFLOW__MONAI__{name.upper()}": value for name, value in {**site, **own}.items()}
    if options.send_email:
        return found
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "trial@localhost"}
    mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": mail_port, "extra": extra}
    return {
        **found,
        "AIRFLOW__MONAI__SMTP_CONN_ID": MAIL_CONNECTION,
        _variable(MAIL_CONNECTION): json.dumps(mail),
    }


def _variable(connection: str) -> str:
    return f"AIRFLOW_CONN_{connection.upper()}"


def _plain(name: str) -> str:
    from airflow_monai.store.base import safe_name

    return safe_name(name)
