"""The two manifests of a MONAI Application Package, ``app.json`` and ``pkg.json``, of both generations.

Generation 0.1 writes kebab-case keys and lives under ``/opt/monai``, generation 1.0 writes camelCase and lives under
``/opt/holoscan``; real files mix more: versions that are numbers, a command that is a JSON array within a string,
models as a list or as an object. All come out as one :class:`Manifest`.
"""

from __future__ import annotations

import json
import math
import os
import posixpath
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from airflow_monai.errors import ManifestError, MapNotFound
from airflow_monai.maps.manifest_file import MAX_BYTES, UNUSABLE, ManifestFile, normal, plain

GENERATION_FOLDERS = ("holoscan", "monai")
"""Names below ``/etc``, ``/opt`` and ``/var`` of the generations, newest first."""

_SHELL = re.compile(r"[|&;<>()$`*?~{}\n]|^\s*[A-Za-z_]\w*=")

_BLANK = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")
MAX_MODEL_NAME = 128
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True, slots=True)
class MapResources:
    """What a MAP asks for: ``pkg.json``'s limit where it gives one, else its request.

    :param gpu: cards; ``gpu_memory_bytes`` the share of one that is enough.
    """

    cpu: float = 1.0
    memory_bytes: int = 1024**3
    shared_memory_bytes: int = 64 * 1024**2
    gpu: float = 0.0
    gpu_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """How to run a MAP.

    :param command: argument vector; a command that needs a shell is wrapped in ``/bin/sh -c``.
    :param environment: as ``app.json`` has it; :func:`run_environment` makes it complete.
    :param input_path: and ``output_path``, ``working_directory``, ``application_root``, ``models_path``: absolute.
    :param timeout_seconds: None without limit.
    :param result_keys: ``resultKeys`` of ``app.json``, a field of ours: the keys of ``metadata.json`` that conditions
        may ask for; None where it does not say.
    :param version: of ``app.json``, else of ``pkg.json``, as text; empty when neither says.
    :param models: name -> absolute path of its folder.
    :param input_formats: and ``output_formats``: what the files say, as text; empty in nearly every real one.
    :param platform: ``dgpu``, ``igpu``... as the packager wrote it; empty where it did not.
    """

    command: tuple[str, ...]
    working_directory: str
    input_path: str
    output_path: str
    application_root: str
    models_path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None
    resources: MapResources = MapResources()
    sdk: str = ""
    version: str = ""
    result_keys: tuple[str, ...] | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    input_formats: tuple[str, ...] = ()
    output_formats: tuple[str, ...] = ()
    platform: str = ""


@dataclass(frozen=True, slots=True)
class ManifestFiles:
    """Both files as they are.

    :param where: image or folder, for messages.
    :param generation: of the folder that they lie in, ``holoscan`` or ``monai``; empty where that does not say it.
    """

    app: bytes | None
    pkg: bytes | None
    where: str
    generation: str = ""

    def fields(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The fields of both files as they are, their names in small letters without ``-`` and ``_``.

        :raises ManifestError: when one is missing or no JSON object.
        """
        app, pkg = ManifestFile("app.json", self.where, self.app), ManifestFile("pkg.json", self.where, self.pkg)
        return app.fields, pkg.fields

    def parsed(self) -> Manifest:
        return parse_manifest(self.app, self.pkg, where=self.where, generation=self.generation)


def load_manifests(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of an unpacked MAP: ``app.json`` and ``pkg.json`` in the folder or below ``etc/``.

    :raises MapNotFound: when there is no ``app.json``.
    :raises ManifestError: when one of the files cannot be used; it names file, field and cause.
    """
    return manifest_files(Path(folder)).parsed()


def manifest_files(folder: Path) -> ManifestFiles:
    """Both files of an unpacked MAP, not looked into.

    :raises MapNotFound: when there is no ``app.json``.
    :raises ManifestError: when one cannot be read.
    """
    below = {folder / "etc" / name: name for name in GENERATION_FOLDERS}
    for top in (folder, folder / "etc", *below):
        if (top / "app.json").is_file():
            generation = below.get(top, top.name if top.name in GENERATION_FOLDERS else "")
            return ManifestFiles(_read(top / "app.json"), _read(top / "pkg.json"), str(top), generation)
    raise MapNotFound(f"{folder} is no unpacked MAP: it holds no app.json, nor does its etc/.")


def parse_manifest(app: bytes | None, pkg: bytes | None, *, where: str, generation: str = "") -> Manifest:
    """The manifest that the two files say.

    :param where: image or folder, for messages.
    :param generation: of the folder that they lie in, where that is known; what the files say goes first.
    :raises ManifestError: naming file, field and cause.
    """
    application = ManifestFile("app.json", where, app)
    package = ManifestFile("pkg.json", where, pkg)
    if _is_kebab(application.raw) or _is_kebab(package.raw):
        generation = "monai"
    generation = generation or "holoscan"
    workdir = application.path("workingDirectory", f"/var/{generation}")
    environment = _environment(application)
    models_path = package.path("modelRoot", f"/opt/{generation}/models")
    sdk = application.text("sdk")
    manifest = Manifest(
        command=_with_config(_command(application), sdk, environment),
        environment=environment,
        working_directory=workdir,
        input_path=application.folder("input", workdir),
        output_path=application.folder("output", workdir),
        application_root=_application_root(package, workdir, f"/opt/{generation}/app"),
        models_path=models_path,
        timeout_seconds=application.number("timeout") or None,
        resources=_resources(package),
        sdk=sdk,
        version=application.text("version") or package.text("version"),
        result_keys=application.names("resultKeys"),
        models=_models(package, models_path),
        input_formats=application.formats("input"),
        output_formats=application.formats("output"),
        platform=package.text("platformConfig"),
    )
    return _with_separate_folders(manifest, application)


def run_environment(manifest: Manifest, *, job_id: str, timeout_seconds: float | None) -> dict[str, str]:
    """The environment that a hosting service owes an application of either generation.

    :param job_id: 32 hexadecimal digits (``MONAI_JOBID``).
    """
    timeout = str(math.ceil(timeout_seconds or 0))
    folders = {
        "INPUT": f"{manifest.input_path}/",
        "OUTPUT": f"{manifest.output_path}/",
        "MODEL": f"{manifest.models_path}/",
    }
    supplied = {
        "HOLOSCAN_WORKDIR": f"{manifest.working_directory}/",
        "HOLOSCAN_APPLICATION": manifest.application_root,
        "MONAI_WORKDIR": f"{manifest.working_directory}/",
        "MONAI_APPLICATION": manifest.application_root,
        "MONAI_HOSTNAME": "airflow-monai",
        "MONAI_JOBID": job_id,
        "MONAI_TIMEOUT": timeout,
        "HOLOSCAN_TIMEOUT": timeout,
        "PYTHONUNBUFFERED": "1",  # a log that can be followed
        "PYTHONDONTWRITEBYTECODE": "1",  # its file system is read-only
    }
    for name, path in folders.items():
        supplied[f"HOLOSCAN_{name}_PATH"] = path
        supplied[f"MONAI_{name}PATH"] = path
    # app.json holds relative values for the two I/O folders, which only mean something once they are joined
    own = {key: value for key, value in manifest.environment.items() if not _is_io_folder(key)}
    return {**supplied, **own}


def with_resources(manifest: Manifest, wanted: Mapping[str, Any] | None) -> Manifest:
    """The manifest with the resources of a spec in place of its own, where the spec says any.

    :param wanted: ``cpu``, ``memory``, ``shared_memory``, ``gpu``, ``gpu_memory``, in either spelling.
    :raises ManifestError: when one is no amount.
    """
    if not wanted:
        return manifest
    known = {plain(key): value for key, value in wanted.items() if value is not None}
    file = ManifestFile.of(known, "resources", "the task")
    return replace(manifest, resources=_amounts(file, manifest.resources))


def same_version(wanted: str, version: str) -> bool:
    """Whether two versions are one: ``1.0`` and ``1.0.0`` are."""
    return _version_parts(wanted) == _version_parts(version)


def _version_parts(version: str) -> list[str]:
    parts = version.strip().removeprefix("v").split(".")
    while len(parts) > 1 and parts[-1] == "0":
        parts.pop()
    return parts


def _is_io_folder(name: str) -> bool:
    return name in ("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH", "MONAI_INPUTPATH", "MONAI_OUTPUTPATH")


def _command(file: ManifestFile) -> tuple[str, ...]:
    command: Any = file.get("command")
    if isinstance(command, str) and command.lstrip().startswith("["):
        try:
            command = json.loads(command)
        except (ValueError, RecursionError) as error:
            raise file.error(f"has a command that begins like a JSON array but is none: {error}", "command") from None
    if isinstance(command, str) and command.strip():
        command = _split(file, command)
    if isinstance(command, (list, tuple)) and command and all(_is_word(part) for part in command) and command[0]:
        return tuple(command)
    raise file.error("has no usable command: it must be a shell command or a JSON array of its words", "command")


def _is_word(part: object) -> bool:
    return isinstance(part, str) and not UNUSABLE.search(part)


def _split(file: ManifestFile, command: str) -> tuple[str, ...]:
    if _SHELL.search(command):
        return ("/bin/sh", "-c", command)
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise file.error(f"has a command that cannot be split into words: {error}", "command") from None


def _environment(file: ManifestFile) -> dict[str, str]:
    value = file.get("environment") or {}
    if not isinstance(value, Mapping):
        raise file.error("has an environment that is not an object", "environment")
    environment: dict[str, str] = {}
    for name, text in value.items():
        if not _VARIABLE.match(name) or isinstance(text, (Mapping, list)) or UNUSABLE.search(str(text)):
            raise file.error(f"has the environment variable {name!r}, which cannot be set", f"environment.{name}")
        environment[name] = _variable(text)
    return environment


def _variable(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_kebab(fields: Mapping[str, Any]) -> bool:
    return any("-" in name for name in fields)


def _with_config(command: tuple[str, ...], sdk: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The command of a Holoscan application (HAP), which its host owes ``--config FILE``; of any other as it is."""
    if sdk.lower() != "holoscan" or any("--config" in word for word in command):
        return command
    config = environment.get("HOLOSCAN_CONFIG_PATH") or "/var/holoscan/app.yaml"
    if command[:2] == ("/bin/sh", "-c"):
        return (*command[:2], f"{command[2]} --config {shlex.quote(config)}")
    return (*command, "--config", config)


def _models(package: ManifestFile, models_path: str) -> dict[str, str]:
    """Models by name, from a list of objects (the specification) or an object of paths (the packager)."""
    value = package.get("models")
    if not value:
        return {}
    if isinstance(value, list):
        items = [_model(package, item) for item in value]
    elif isinstance(value, Mapping):
        items = [(str(name), path) for name, path in value.items()]
    else:
        raise package.error("has models that are neither a list nor an object", "models")
    models: dict[str, str] = {}
    for name, path in items:
        bad_path = path is not None and (not isinstance(path, str) or UNUSABLE.search(path))
        if bad_path or not name or len(name.encode("utf-8", "surrogatepass")) > MAX_MODEL_NAME or _BLANK.search(name):
            raise package.error(
                f"has the model {name!r} in models: it needs a name of at most {MAX_MODEL_NAME} bytes without blanks, "
                "and a path",
                "models",
            )
        models[name] = normal(posixpath.join(models_path, path or name))
    return models


def _model(package: ManifestFile, item: Any) -> tuple[str, Any]:
    fields = {plain(str(key)): value for key, value in item.items()} if isinstance(item, Mapping) else {"name": item}
    if not isinstance(fields.get("name"), str):
        raise package.error("has a model in models without a name", "models")
    return fields["name"], fields.get("path")


def _application_root(package: ManifestFile, workdir: str, default: str) -> str:
    # the packager of generation 0.1 wrote the working directory here
    root = package.path("applicationRoot", default)
    return default if root == workdir else root


def _resources(package: ManifestFile) -> MapResources:
    file = package.section("resources")
    resources = _amounts(file, MapResources())
    for name in file.section("fragments").fields:
        fragment = _amounts(file.section("fragments").section(name), resources)
        # all fragments of an application share its container; a field that one does not say falls back to the top
        resources = MapResources(*(max(pair) for pair in zip(_values(resources), _values(fragment), strict=True)))
    return resources


def _values(resources: MapResources) -> tuple[Any, ...]:
    return (
        resources.cpu,
        resources.memory_bytes,
        resources.shared_memory_bytes,
        resources.gpu,
        resources.gpu_memory_bytes,
    )


def _amounts(file: ManifestFile, default: MapResources) -> MapResources:
    cpu = file.number("cpuLimit") or file.number("cpu") or default.cpu
    gpu_memory = file.memory("gpuMemoryLimit", file.memory("gpuMemory", default.gpu_memory_bytes))
    return MapResources(
        cpu=cpu,
        # 0 would be no limit at all: it says nothing
        memory_bytes=file.memory("memoryLimit", 0) or file.memory("memory", 0) or default.memory_bytes,
        shared_memory_bytes=file.memory("sharedMemoryLimit", 0)
        or file.memory("sharedMemory", 0)
        or default.shared_memory_bytes,
        gpu=file.number("gpuLimit", file.number("gpu", default.gpu)),
        gpu_memory_bytes=gpu_memory,
    )


def _with_separate_folders(manifest: Manifest, file: ManifestFile) -> Manifest:
    first, second = f"{manifest.input_path}/", f"{manifest.output_path}/"
    if first.startswith(second) or second.startswith(first):
        raise file.error(
            f"puts input ({manifest.input_path}) and output ({manifest.output_path}) into one another: "
            "the input is mounted read-only, so they must be folders beside each other",
            "output.path",
        )
    return manifest


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}.") from error
