"""The command line as a user meets it: help, exit codes, and what it costs to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from importlib import import_module

import pytest

from airflow_monai.cli.commands import MONAI
from airflow_monai.cli.model import Command, Group
from airflow_monai.cli.standalone import main, parser
from airflow_monai.store.local import LocalStore

HEAVY = {"pynetdicom", "pydicom", "numpy", "docker", "boto3"}


def _all_commands(group: Group = MONAI, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    for command in group.commands:
        if isinstance(command, Group):
            yield from _all_commands(command, (*prefix, command.name))
        else:
            yield (*prefix, command.name), command


COMMANDS = dict(_all_commands())


def _exit_code(*argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    return ended.value.code or 0


@pytest.fixture
def store(tmp_path, monkeypatch) -> LocalStore:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    return LocalStore(tmp_path / "store")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_a_function_help_and_an_example(words, capsys):
    command = COMMANDS[words]
    module, _, name = command.function.rpartition(".")
    assert callable(getattr(import_module(module), name))
    assert _exit_code(*words, "--help") == 0
    assert f"Example: python -m airflow_monai {' '.join(words)}" in " ".join(capsys.readouterr().out.split())
    assert parser().parse_args(command.example.split()[2:]), "the example is a valid command line"


def test_every_command_that_asks_a_server_prints_json_for_programs():
    asking = {
        words: {flag for argument in command.arguments for flag in argument.flags}
        for words, command in COMMANDS.items()
    }
    asking = {words: flags for words, flags in asking.items() if "--url" in flags}
    assert len(asking) > 40
    assert all({"--json", "--user"} <= flags for flags in asking.values())


def test_airflow_offers_the_same_commands():
    from airflow.cli.cli_parser import _add_command

    from airflow_monai.cli.definition import get_cli_commands

    top = ArgumentParser()
    below = top.add_subparsers()
    for command in get_cli_commands():
        _add_command(below, command)
    for command in COMMANDS.values():
        assert callable(top.parse_args(command.example.split()[1:]).func)


def test_airflow_shows_the_command_and_its_help_imports_nothing_heavy(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "airflow", "monai", "--help"],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "false"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert "validate" in done.stdout and "Check workflow specs" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "airflow_monai.cli.commands" in imported
    assert not imported.intersection(HEAVY)


def test_validate_without_airflow_starts_no_airflow(tmp_path):
    spec = tmp_path / "bad.yaml"
    spec.write_text("name: x\ntasks: 3\n")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "airflow_monai", "validate", str(spec), "--json"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["file"] == str(spec)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported.intersection({"airflow", "airflow.sdk", *HEAVY})


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("pools",),
        ("nonsense",),
        ("validate",),
        ("gateway", "--port", "high"),
        ("gateway", "--port", "65536"),
        ("payloads", "list", "--limit", "0"),
    ],
)
def test_a_wrong_command_line_ends_with_2(argv, capsys):
    assert _exit_code(*argv) == 2
    assert "usage:" in capsys.readouterr().err


def test_an_error_of_ours_is_one_line_and_exit_code_1(store, capsys):
    assert _exit_code("payloads", "show", "none") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: No payload of the store has this id") and captured.err.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_crash(store):
    script = f"{sys.executable} -m airflow_monai payloads list --json | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=180)
    assert "Traceback" not in done.stderr
