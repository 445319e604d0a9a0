"""What a module's application gets of its run, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from airflow_monai.errors import SecretsUnsafe
from airflow_monai.hooks.fernet import AirflowFernet
from airflow_monai.mip.extras import NONE, extras_of
from airflow_monai.mip.ledger import Ledger, now, summed_up
from airflow_monai.mip.model import NOTHING_YET, Run, RunId, Status
from airflow_monai.store.local import LocalStore

KEY = "sk-planted-8f1c2a77"


@pytest.fixture
def fernet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from airflow.sdk.crypto import get_fernet

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    get_fernet.cache_clear()
    yield
    get_fernet.cache_clear()


def asked_for(key_name: str = "") -> Run:
    return Run(
        RunId("alpha", 1), "chain", ("a",), "PEACH", "p", False, now(), "anna", {"a": ("--tile", "512")}, key_name
    )


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.usefixtures("fernet")
def test_a_key_rests_encrypted_and_is_gone_when_the_run_has_ended(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ledger = Ledger(store)
    run = ledger.submit(asked_for("n1"), AirflowFernet().encrypt(KEY).encode())
    assert KEY.encode() not in everything(tmp_path)
    extras = extras_of(store, "mip__alpha-1", "a", "OPENAI_API_KEY", AirflowFernet().decrypt)
    assert (extras.words, extras.secrets) == (("--tile", "512"), {"OPENAI_API_KEY": KEY})
    assert KEY not in repr(extras)
    assert extras_of(store, "mip__alpha-1", "b", "OPENAI_API_KEY", AirflowFernet().decrypt).words == ()
    data = ledger.encrypted_key(run)
    assert data is not None
    ledger.end(run, summed_up(run, None, NOTHING_YET, {}, Status.FAILED, (None, None)))
    assert data not in everything(tmp_path)
    with pytest.raises(SecretsUnsafe, match="forgotten"):
        extras_of(store, "mip__alpha-1", "a", "OPENAI_API_KEY", AirflowFernet().decrypt)


@pytest.mark.usefixtures("fernet")
def test_another_fernet_key_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.crypto import get_fernet

    store = LocalStore(tmp_path)
    Ledger(store).submit(asked_for("n1"), AirflowFernet().encrypt(KEY).encode())
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    get_fernet.cache_clear()
    with pytest.raises(SecretsUnsafe, match="another"):
        extras_of(store, "mip__alpha-1", "a", "OPENAI_API_KEY", AirflowFernet().decrypt)


def test_no_key_is_taken_where_nothing_is_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.crypto import get_fernet

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    get_fernet.cache_clear()
    try:
        with pytest.raises(SecretsUnsafe, match="fernet_key"):
            AirflowFernet().encrypt(KEY).encode()
    finally:
        get_fernet.cache_clear()


@pytest.mark.parametrize(
    "run_id", ["monai__6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21", "mip__x", "manual__2026", "mip__b-9"]
)
def test_other_runs_get_nothing(tmp_path: Path, run_id: str) -> None:
    assert extras_of(LocalStore(tmp_path), run_id, "a", "OPENAI_API_KEY", AirflowFernet().decrypt) is NONE
