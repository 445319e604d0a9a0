"""A migrated, empty database, made once for each version of Airflow and then copied: a start needs no migration."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from airflow_monai.errors import MonaiError
from airflow_monai.local.postgres import DATABASE, Cluster, programs

_FORMAT = 1
_WITH_TABLES = ("fab", "edge3")
"""Providers of Airflow that bring tables of their own, which a migration makes wherever they are installed."""


def template_folder(cache: Path) -> Path:
    """Where the database of the installed versions of Airflow, its providers and PostgreSQL is kept."""
    airflow = importlib.metadata.version("apache-airflow-core")
    parts = [f"airflow-{airflow}", *_providers(), programs().parent.name, str(_FORMAT)]
    return cache / "-".join(parts)


def _providers() -> Iterator[str]:
    for name in _WITH_TABLES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{name}-{importlib.metadata.version(f'apache-airflow-providers-{name}')}"


def ensure_template(cache: Path, *, env: Mapping[str, str], log: Path) -> Path:
    """The template's data folder, made when it is not there yet (about 10 s)."""
    template = template_folder(cache)
    if template.is_dir():
        return template
    cache.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
    try:
        building.chmod(0o755)  # the server's user, when that is another, must get through
        _build(building / "data", env=env, log=log)
        _publish(building / "data", template)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return template


def _build(folder: Path, *, env: Mapping[str, str], log: Path) -> None:
    cluster = Cluster(folder, log=log, env=env)
    cluster.create()
    try:
        cluster.start()
        cluster.execute(f"CREATE DATABASE {DATABASE}", database="postgres")
        _migrate({**env, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": cluster.url}, log)
    finally:
        cluster.stop()


def _migrate(env: Mapping[str, str], log: Path) -> None:
    with log.open("ab") as output:
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, env=dict(env), stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    if done.returncode:
        raise MonaiError(f"`airflow db migrate` failed (exit code {done.returncode}): see {log}")


def _publish(folder: Path, template: Path) -> None:
    try:
        os.rename(folder, template)
    except OSError:
        if not template.is_dir():  # else another stack was quicker, with the same result
            raise
