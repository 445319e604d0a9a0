"""What is wrong with a MAP, or may surprise whoever runs it: for `airflow monai maps inspect` and `register`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import CapacityError, RunnerUnavailable
from airflow_monai.gpu.pools import PoolRequest, request_of
from airflow_monai.maps.inspection import Inspected
from airflow_monai.maps.manifest import MapResources
from airflow_monai.maps.registry import MapKind
from airflow_monai.maps.workflows import wants_gpu

if TYPE_CHECKING:
    from airflow_monai.gpu.inventory import Inventory
    from airflow_monai.maps.policy import Policy

ERROR, WARNING = "error", "warning"
_RESOURCES = {
    "cpu": "cpuLimit",
    "memory": "memoryLimit",
    "sharedMemory": "sharedMemoryLimit",
    "gpu": "gpuLimit",
    "gpuMemory": "gpuMemoryLimit",
}
_KNOWN = {name.lower(): name for pair in _RESOURCES.items() for name in pair} | {"fragments": "fragments"}
_SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|CREDENTIAL", re.IGNORECASE)
_SMALL = 8 * 1024 * 1024
_ROOT = ("", "0", "root")
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")


@dataclass(frozen=True, slots=True)
class Doubt:
    """One finding.

    :param level: ``error`` for what keeps it from running here, ``warning`` for what may surprise.
    :param field: file and field, as ``pkg.json resources.gpu``, or what else it is about.
    """

    level: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.field}: {self.message}"


def doubts_of(
    inspected: Inspected, *, inventory: Inventory | None, policy: Policy | None = None, use_gpu: bool = True
) -> tuple[Doubt, ...]:
    """All findings, errors first.

    :param inventory: of the site; None where none is known.
    :param policy: of the site; None where it is not asked.
    :param use_gpu: False where it is to run without a card.
    """
    app, pkg = inspected.files.fields()
    found = [
        *_command(inspected),
        *_folders(app),
        *_places(inspected),
        *_limits(inspected, app),
        *_resources(pkg),
        *_gpu(inspected.manifest.resources, inventory if use_gpu else None, asks=use_gpu),
        *_image(inspected),
        *_isolation(inspected),
        *(_policy(inspected, policy) if policy else ()),
    ]
    return tuple(sorted(found, key=lambda doubt: doubt.level != ERROR))


def gpu_request(resources: MapResources) -> dict[str, Any]:
    """What a MAP's resources ask of a pool, as a spec would say it."""
    if not wants_gpu(resources):
        return {}
    share = {"gpu_memory": str(resources.gpu_memory_bytes)} if resources.gpu_memory_bytes else {}
    return {"gpu": ceil(resources.gpu) or 1, **share}


def pool_of(resources: MapResources, inventory: Inventory | None) -> PoolRequest | None:
    """The pool that it takes here; None where it needs no card, or can have none."""
    wanted = gpu_request(resources)
    try:
        return request_of(wanted, inventory) if wanted and inventory else None
    except CapacityError:
        return None


def is_secret(name: str) -> bool:
    """Whether an environment variable of this name most likely holds a secret."""
    return _SECRET.search(name) is not None


def _command(inspected: Inspected) -> Iterator[Doubt]:
    manifest = inspected.manifest
    if manifest.command[:2] == ("/bin/sh", "-c"):
        yield Doubt(WARNING, "app.json command", "needs a shell: it runs as /bin/sh -c, which the image must have")
    if manifest.sdk.lower() == "holoscan":
        yield Doubt(WARNING, "app.json sdk", "holoscan: it is given --config FILE, as its own tools do")
    elif manifest.sdk and manifest.sdk.lower() != "monai-deploy":
        yield Doubt(WARNING, "app.json sdk", f"{manifest.sdk[:60]!r} is neither monai-deploy nor holoscan")
    for name in manifest.environment:
        if is_secret(name):
            message = "looks like a secret; whoever can read the image, or the registry, can read it"
            yield Doubt(WARNING, f"app.json environment.{name}", message)


def _isolation(inspected: Inspected) -> Iterator[Doubt]:
    """An unpacked MAP runs as a process of the host, and not every host can shut that in."""
    from airflow_monai.maps.runners.process.sandbox import bubblewrap_works

    if inspected.kind is not MapKind.FOLDER:
        return
    try:
        works = bubblewrap_works()
    except RunnerUnavailable as error:
        yield Doubt(WARNING, "isolation", f"could not be tried: {error}")
        return
    if not works:
        yield Doubt(
            WARNING,
            "isolation",
            "bubblewrap does not work on this host: it would run as a plain process that can read what the worker can "
            "and use the network. Install bubblewrap, or use the docker runner",
        )


def _folders(app: Mapping[str, Any]) -> Iterator[Doubt]:
    for section in ("input", "output"):
        value = app.get(section)
        if value is None:
            yield Doubt(WARNING, f"app.json {section}", f"is missing: the folder {section}/ is taken")
        formats = value if isinstance(value, Mapping) else {}
        if not (formats.get("formats") or formats.get("format")):
            message = "says nothing: it cannot be checked whether a study is of use to it"
            if section == "output":
                message = "says nothing: it cannot be checked what it should make"
            yield Doubt(WARNING, f"app.json {section}.formats", message)


def _places(inspected: Inspected) -> Iterator[Doubt]:
    """Folders of the application that a study or a result would hide."""
    manifest = inspected.manifest
    for section, path in (("input", manifest.input_path), ("output", manifest.output_path)):
        hidden = next((place for place in (manifest.application_root, *_SYSTEM) if _is_within(place, path)), None)
        inside = next((place for place in _SYSTEM if _is_within(path, place)), None)
        if hidden or inside:
            what = f"would hide {hidden}" if hidden else f"lies in {inside}, which belongs to the system"
            yield Doubt(ERROR, f"app.json {section}.path", f"{path} {what}: the application could not start")


def _is_within(path: str, top: str) -> bool:
    return bool(path) and f"{path.rstrip('/')}/".startswith(f"{top.rstrip('/')}/")


def _limits(inspected: Inspected, app: Mapping[str, Any]) -> Iterator[Doubt]:
    if inspected.manifest.timeout_seconds is None:
        message = "sets no limit: only timeout_minutes of a task, or the site's limit, ends it"
        yield Doubt(WARNING, "app.json timeout", message)
    if inspected.manifest.version in ("", "0.0.0"):
        yield Doubt(WARNING, "app.json version", "does not tell the application's version")
    for probe in ("readiness", "liveness"):
        if app.get(probe):
            yield Doubt(WARNING, f"app.json {probe}", "is not asked: a task ends when its command does")


def _resources(pkg: Mapping[str, Any]) -> Iterator[Doubt]:
    resources = pkg.get("resources")
    if not resources:
        yield Doubt(WARNING, "pkg.json resources", "says nothing: 1 core, 1 GiB, 64 MiB shared and no GPU are taken")
        return
    yield from _amounts(resources, "pkg.json resources")
    fragments = next((value for name, value in resources.items() if _plain(name) == "fragments"), None)
    for name, fields in (fragments or {}).items():
        yield from _amounts(fields, f"pkg.json resources.fragments.{name}")
    if fragments:
        message = "share one container here: the largest of each amount is taken"
        yield Doubt(WARNING, "pkg.json resources.fragments", message)


def _amounts(fields: Mapping[str, Any], where: str) -> Iterator[Doubt]:
    plain = {_plain(name): value for name, value in fields.items()}
    for name in fields:
        if _plain(name) not in _KNOWN:
            near = difflib.get_close_matches(_plain(name), _KNOWN, 1)
            hint = f"did you mean {_KNOWN[near[0]]}?" if near else f"known are {', '.join(_RESOURCES)} and their limits"
            yield Doubt(WARNING, f"{where}.{name[:60]}", f"is not known and does nothing; {hint}")
    for name in ("memory", "memoryLimit", "sharedMemory", "sharedMemoryLimit", "gpuMemory", "gpuMemoryLimit"):
        value = plain.get(name.lower())
        if value is not None and re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", str(value)) and float(value) < _SMALL:
            yield Doubt(WARNING, f"{where}.{name}", f"{value} has no unit and so is that many bytes; write Mi or Gi")
    for name, limit in _RESOURCES.items():
        if plain.get(limit.lower()) is not None and plain.get(name.lower()) is not None and name.startswith("gpu"):
            message = f"the limit is what it gets ({plain[limit.lower()]}), not the request ({plain[name.lower()]})"
            yield Doubt(WARNING, f"{where}.{limit}", message)


def _gpu(resources: MapResources, inventory: Inventory | None, *, asks: bool) -> Iterator[Doubt]:
    if not wants_gpu(resources):
        return
    if not asks:
        yield Doubt(WARNING, "pkg.json resources.gpu", "asks for a card; without one it may fail, or crawl")
        return
    if resources.gpu != int(resources.gpu):
        message = f"{resources.gpu:g} cards are rounded up to {ceil(resources.gpu)}; gpuMemory says a part of one"
        yield Doubt(WARNING, "pkg.json resources.gpu", message)
    if not resources.gpu_memory_bytes:
        message = "is missing: each card is taken whole, and nothing else runs on it meanwhile"
        yield Doubt(WARNING, "pkg.json resources.gpuMemory", message)
    elif not resources.gpu:
        yield Doubt(WARNING, "pkg.json resources.gpu", "is missing beside gpuMemory: a share of one card is taken")
    if inventory is None:
        message = "this site has no GPU inventory: its workflow does not load before `airflow monai pools sync`"
        yield Doubt(WARNING, "pkg.json resources.gpu", message)
        return
    try:
        request_of(gpu_request(resources), inventory)
    except CapacityError as error:
        yield Doubt(ERROR, "pkg.json resources.gpu", str(error))


def _image(inspected: Inspected) -> Iterator[Doubt]:
    if inspected.user is not None and inspected.user.partition(":")[0] in _ROOT:
        message = "is root, and it does not run as root here: what only root may read or write is closed to it"
        yield Doubt(WARNING, "image USER", message)
    platform, engine = inspected.platform, inspected.engine_platform
    if platform and engine and "?" not in platform + engine and platform != engine:
        yield Doubt(ERROR, "image platform", f"{platform} does not run on this engine, which is {engine}")
    if inspected.manifest.platform.lower() in ("igpu", "igx-igpu", "jetson") and engine.endswith("/amd64"):
        yield Doubt(WARNING, "pkg.json platformConfig", f"{inspected.manifest.platform} is for integrated GPUs")


def _policy(inspected: Inspected, policy: Policy) -> Iterator[Doubt]:
    resources = inspected.manifest.resources
    refusals = policy.resource_refusals(resources.cpu, resources.memory_bytes, resources.shared_memory_bytes)
    for refusal in refusals:
        yield Doubt(ERROR, f"pkg.json {refusal.field}", f"{refusal.message} ([monai] {refusal.option})")
    if inspected.kind is MapKind.IMAGE:
        for refusal in policy.image_refusals(inspected.pinned, "image", [inspected.pinned, inspected.location]):
            yield Doubt(ERROR, refusal.field, f"{refusal.message} ([monai] {refusal.option})")


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
