"""``airflow monai pools sync`` on Airflow's own models, in a database of the test's own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from airflow_monai.cli.pools import run
from airflow_monai.errors import InventoryError, SettingsError
from airflow_monai.gpu.inventory import load_inventory
from airflow_monai.store.local import LocalStore


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
    from sqlalchemy import select

    with sessions() as session:
        return {pool.pool: pool.slots for pool in session.scalars(select(Pool))}


def _sync(store, inventory, dry_run=False) -> str:
    out = io.StringIO()
    assert run(store, inventory, dry_run, out) == 0
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
        run(store, None, False, io.StringIO())


def test_a_database_without_tables_is_one_clear_error(monkeypatch, store, tmp_path):
    from airflow import settings

    monkeypatch.setattr(settings, "Session", sessionmaker(create_engine("sqlite://")))
    with pytest.raises(SettingsError, match="airflow db migrate"):
        run(store, _inventory(tmp_path, 1), False, io.StringIO())
    assert load_inventory(store) is None
