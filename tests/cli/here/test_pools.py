"""``airflow monai pools sync`` on Airflow's own models, in a database of the test's own."""

from __future__ import annotations

import io
import uuid
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, select
from sqlalchemy.orm import sessionmaker

from airflow_monai.cli.here.pools import Manner, run
from airflow_monai.errors import InventoryError, SettingsError
from airflow_monai.gpu.inventory import load_inventory
from airflow_monai.gpu.sources import Sources
from airflow_monai.store.local import LocalStore

NOW = datetime(2026, 11, 27, tzinfo=timezone.utc)


@pytest.fixture
def database(monkeypatch):
    """A session maker on tables made from Airflow's models, in place of the site's database."""
    from airflow import settings
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.models.pool import Pool

    import_all_models()
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine, expire_on_commit=False)
    monkeypatch.setattr(settings, "Session", sessions)
    with sessions.begin() as session:
        session.add(Pool(pool="default_pool", slots=128, description="", include_deferred=False))
    return sessions


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def _inventory(folder: Path, count: int, model: str = "T4") -> str:
    path = folder / "gpus.yaml"
    path.write_text(f"hosts: {{gpu01: [{{model: {model}, memory: 15, count: {count}}}]}}")
    return str(path)


def _pools(sessions) -> dict[str, int]:
    from airflow.models.pool import Pool

    with sessions() as session:
        return {pool.pool: pool.slots for pool in session.scalars(select(Pool))}


def _sync(store, inventory, code=0, **manner) -> str:
    out = io.StringIO()
    assert run(store, Sources([inventory] if inventory else ()), Manner(**manner), out) == code
    return out.getvalue()


def test_pools_are_made_then_follow_the_inventory(database, store, tmp_path):
    assert "create  gpu_t4  30 slots" in _sync(store, _inventory(tmp_path, 2))
    assert _pools(database) == {"default_pool": 128, "gpu_t4": 30}
    assert "30 -> 45 slots" in _sync(store, _inventory(tmp_path, 3))
    assert _pools(database)["gpu_t4"] == 45
    assert load_inventory(store).classes()[0].count == 3
    assert "keep    gpu_t4  45 slots" in _sync(store, None), "without a file, the store's inventory counts"


def test_a_dry_run_changes_nothing(database, store, tmp_path):
    assert "create  gpu_t4" in _sync(store, _inventory(tmp_path, 2), dry_run=True)
    assert _pools(database) == {"default_pool": 128}
    assert load_inventory(store) is None


def test_a_class_that_vanished_is_reported_and_its_pool_left(database, store, tmp_path):
    _sync(store, _inventory(tmp_path, 2))
    text = _sync(store, _inventory(tmp_path, 1, model="L4"))
    assert "gone    gpu_t4" in text
    assert "airflow pools delete gpu_t4" in text
    assert _pools(database) == {"default_pool": 128, "gpu_t4": 30, "gpu_l4": 15}


def test_without_any_inventory_it_says_what_to_do(database, store):
    with pytest.raises(InventoryError, match="pools sync --inventory FILE"):
        _sync(store, None)


def test_a_database_without_tables_is_one_clear_error(monkeypatch, store, tmp_path):
    from airflow import settings

    monkeypatch.setattr(settings, "Session", sessionmaker(create_engine("sqlite://")))
    with pytest.raises(SettingsError, match="airflow db migrate"):
        _sync(store, _inventory(tmp_path, 1))
    assert load_inventory(store) is None


def _task(sessions, task_id: str, state: str | None, slots: int) -> None:
    """A task instance of a run that is under way, as far as it matters here."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

    run = {"dag_id": "ct-lung", "run_id": "monai__p1"}
    with sessions.begin() as session:
        if not session.scalar(select(DagRun.id)):
            _put(session, DagRun, {**run, "state": "running", "run_type": "manual", "run_after": NOW})
        row = {"id": uuid.uuid4(), "task_id": task_id, "state": state, "pool": "gpu_t4", "pool_slots": slots}
        _put(session, TaskInstance, {**run, **row, "map_index": -1, "try_number": 1, "max_tries": 1})


def _put(session, model, row: dict[str, object]) -> None:
    empty = {
        column.name: 0 if column.type.python_type is int else ""
        for column in model.__table__.columns
        if not column.nullable and not column.primary_key and column.default is None and column.server_default is None
    }
    session.execute(insert(model.__table__), {**empty, **row})


def test_tasks_that_a_smaller_pool_would_strand_are_named_and_nothing_is_changed(database, store, tmp_path):
    _sync(store, _inventory(tmp_path, 3))
    _task(database, "segment", "queued", 30)
    _task(database, "classify", None, 30)
    _task(database, "small", "running", 8)
    text = _sync(store, _inventory(tmp_path, 1), code=1)
    assert "gpu_t4: ct-lung / monai__p1 / segment: queued, 30 slots" in text
    assert "gpu_t4: ct-lung / monai__p1 / classify: not scheduled yet, 30 slots" in text
    assert "small" not in text
    assert "Nothing was changed: let them end, clear or fail them first, or say --force." in text
    assert _pools(database)["gpu_t4"] == 45 and load_inventory(store).classes()[0].count == 3
    assert "Nothing was changed (--dry-run)" in _sync(store, _inventory(tmp_path, 1), dry_run=True)
    assert "The pools are as the inventory says" in _sync(store, _inventory(tmp_path, 1), force=True)
    assert _pools(database)["gpu_t4"] == 15


def test_tasks_in_a_pool_that_is_gone_are_named(database, store, tmp_path):
    _sync(store, _inventory(tmp_path, 2))
    _task(database, "segment", "scheduled", 8)
    _task(database, "over", "success", 8)
    text = _sync(store, _inventory(tmp_path, 2, model="L4"), code=1)
    assert "gpu_t4: ct-lung / monai__p1 / segment: scheduled, 8 slots" in text
    assert "over" not in text
    assert "gpu_l4" not in _pools(database)


def test_a_larger_pool_strands_nobody(database, store, tmp_path):
    _sync(store, _inventory(tmp_path, 1))
    _task(database, "segment", "queued", 15)
    assert "15 -> 30 slots" in _sync(store, _inventory(tmp_path, 2))
