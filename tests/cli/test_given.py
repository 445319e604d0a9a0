"""What people give to commands."""

from __future__ import annotations

import io
from argparse import Namespace

import pytest

from airflow_monai.cli.given import secret_of, texts_of, values_of
from airflow_monai.errors import SettingsError


def test_a_secret_comes_from_the_environment_or_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "one")
    monkeypatch.setattr("sys.stdin", io.StringIO("two words\r\n"))
    assert secret_of(Namespace(secret_env="TOKEN", secret_stdin=False)) == "one"
    assert secret_of(Namespace(secret_env=None, secret_stdin=True)) == "two words"
    assert secret_of(Namespace(secret_env=None, secret_stdin=False)) is None
    for env, stdin in (("TOKEN", True), ("NOWHERE", False), (None, True)):  # standard input is at its end
        with pytest.raises(SettingsError):
            secret_of(Namespace(secret_env=env, secret_stdin=stdin))


def test_values_by_name() -> None:
    assert values_of(["a=1", "b=x=y", "c=true", "d="]) == {"a": 1, "b": "x=y", "c": True, "d": ""}
    assert texts_of(["a=b/c=Success"], last=True) == {"a=b/c": "Success"}
    for bad in ("a", "=b"):
        with pytest.raises(SettingsError, match="NAME=VALUE"):
            values_of([bad])
