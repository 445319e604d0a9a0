"""Stores of each kind: what the tests of this folder say holds for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from tests.s3_server import s3  # noqa: F401


@pytest.fixture(params=["local", "s3"])
def make_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Store]:
    """Makes empty stores of one kind."""
    if request.param == "local":
        return lambda: LocalStore(tmp_path_factory.mktemp("store"))
    server = request.getfixturevalue("s3")
    return lambda: server.store(tmp_path_factory.mktemp("host"))


@pytest.fixture
def store(make_store: Callable[[], Store]) -> Store:
    return make_store()


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")
