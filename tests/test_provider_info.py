"""What Airflow knows of this package without importing it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from airflow_monai import settings
from airflow_monai.api.common import options as api_options
from airflow_monai.api.common import uploads
from airflow_monai.gateway import configured
from airflow_monai.gateway.dicom import settings as dicom_settings
from airflow_monai.get_provider_info import get_provider_info
from airflow_monai.maps.runners.kubernetes import settings as kubernetes_settings

INFO = get_provider_info()


def _modules() -> list[str]:
    kinds = ("hooks", "operators", "sensors", "triggers", "bundles")
    return [name for kind in kinds for item in INFO[kind] for name in item["python-modules"]]


def test_it_keeps_to_airflow_s_schema():
    import airflow
    import jsonschema

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_airflow_finds_it_by_its_entry_points():
    (found,) = metadata.entry_points(
        group="apache_airflow_provider", value="airflow_monai.get_provider_info:get_provider_info"
    )
    assert found.load() is get_provider_info
    (plugin,) = metadata.entry_points(group="airflow.plugins", name="monai")
    from airflow.plugins_manager import _get_plugins

    plugins, errors = _get_plugins()
    assert plugin.load().name in {made.name for made in plugins}
    # started in the root of an editable install, Python finds the package's metadata twice
    assert all("already registered" in error for place, error in errors.items() if "monai" in place)


def test_importing_it_imports_nothing_else():
    code = "import sys, airflow_monai.get_provider_info as m; m.get_provider_info(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    ours = {name for name in done.stdout.split() if name.startswith("airflow")}
    assert ours == {
        "airflow_monai",
        "airflow_monai.get_provider_info",
        "airflow_monai.hooks",
        "airflow_monai.hooks.destination_forms",
        "airflow_monai.hooks.form_fields",
        "airflow_monai.hooks.forms",
        "airflow_monai.options",
        "airflow_monai.options.apis",
        "airflow_monai.options.applications",
        "airflow_monai.options.option",
        "airflow_monai.options.site",
        "airflow_monai.options.ways_in",
    }, done.stderr


@pytest.mark.parametrize("name", _modules())
def test_every_module_it_names_is_there(name):
    import_module(name)


@pytest.mark.parametrize("connection", INFO["connection-types"], ids=lambda c: c["connection-type"])
def test_a_connection_type_names_its_hook_and_labels_its_fields(connection):
    module, _, name = connection["hook-class-name"].rpartition(".")
    hook = getattr(import_module(module), name)
    assert (hook.conn_type, hook.hook_name) == (connection["connection-type"], connection["hook-name"])
    assert callable(hook.test_connection), "the Test button works"
    for label, field in connection.get("conn-fields", {}).items():
        assert field["label"] and field["schema"]["type"], label


def test_every_setting_is_described_with_the_default_that_it_has(monkeypatch, tmp_path):
    options = INFO["config"]["monai"]["options"]
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    for name in options:
        monkeypatch.delenv(f"AIRFLOW__MONAI__{name.upper()}", raising=False)
    read = {}
    monkeypatch.setattr(settings, "_text", lambda option, default="": read.setdefault(option, default))
    fallbacks = settings.load()
    assert set(read) == set(settings.Settings.__dataclass_fields__)
    settings.load_bucket()
    settings.load_scratch()
    settings.load_export_deadline_minutes()
    settings.load_export_pools()
    kubernetes_settings.load("missing")
    dicom_settings.load()
    configured.load()
    settings.load_callback_url()
    settings.load_finalize_minutes()
    settings.load_mip()
    settings.load_notifications()
    api_options.load()
    uploads.load_options()
    assert set(read) == set(options)
    for name, option in options.items():
        assert option["example"] and option["description"].endswith(".")
        value = getattr(fallbacks, name, read[name])
        shown = "" if value in ((), {}) else str(value)
        assert option["default"].replace("{AIRFLOW_HOME}", str(tmp_path)) == shown, name


def test_airflow_gives_the_defaults(tmp_path):
    code = (
        "from airflow.configuration import conf\n"
        "from airflow.sdk.configuration import conf as task_conf\n"
        "for c in (conf, task_conf): print(c.get('monai', 'store'), c.getint('monai', 'dicom_port'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"AIRFLOW_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=180
    )
    assert done.stdout.splitlines() == [f"{tmp_path}/monai-store 11112"] * 2, done.stderr
