"""``airflow monai maps``: what a MAP is, which are registered, and registering them."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from airflow_monai.cli.elsewhere import or_elsewhere
from airflow_monai.cli.ending import ends
from airflow_monai.cli.printing import print_json, print_table
from airflow_monai.cli.registered import Registered
from airflow_monai.errors import ManifestError, MapNotFound
from airflow_monai.maps.doubts import ERROR, Doubt, doubts_of
from airflow_monai.maps.facts import doubt_dict, facts_of, record_dict, revision_dict
from airflow_monai.maps.inspection import Inspected, inspect_folder, inspect_image, inspect_registered
from airflow_monai.maps.pinning import check_kind, problem_here
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.registration import Wanted
from airflow_monai.maps.registration import register as registered
from airflow_monai.maps.registry import MapKind, MapRegistry, RegisteredMap, split_label
from airflow_monai.maps.workflows import wants_gpu, workflow_name

if TYPE_CHECKING:
    from airflow_monai.gpu.inventory import Inventory
    from airflow_monai.settings import Settings
    from airflow_monai.store.base import Store

_SERVER = "airflow_monai.cli.remote.maps"
_HEAD = ("MAP", "STATE", "AE TITLE", "EXPORTS", "GPU", "DIGEST", "REGISTERED", "BY")


@ends()
def inspect(args: Namespace) -> int:
    from airflow_monai import settings

    return run_inspect(settings.load(), args.map, args.json, sys.stdout, pull=args.pull)


@ends()
@or_elsewhere(_SERVER)
def register(args: Namespace) -> int:
    from airflow_monai import settings

    wanted = Wanted(
        name=args.name,
        version=args.version,
        ae_title=args.ae_title,
        export_destinations=tuple(args.export) if args.export else None,
        use_gpu=False if args.no_gpu else None,
        replace=args.replace,
    )
    return run_register(settings.load(), args.map, wanted, args.json, sys.stdout, pull=args.pull)


@ends()
@or_elsewhere(_SERVER)
def list_all(args: Namespace) -> int:
    from airflow_monai import settings

    return run_list(settings.load(), args.all, args.json, sys.stdout)


@ends()
@or_elsewhere(_SERVER)
def describe(args: Namespace) -> int:
    from airflow_monai import settings

    return run_describe(settings.load(), args.map, args.json, sys.stdout)


@ends()
@or_elsewhere(_SERVER)
def unregister(args: Namespace) -> int:
    from airflow_monai import settings

    return run_unregister(settings.load(), args.map, args.json, sys.stdout)


def run_inspect(settings: Settings, target: str, as_json: bool, out: TextIO, *, pull: bool = False) -> int:
    """Print what would be run, with what, and what is wrong with it.

    :param target: image reference, folder, or ``name:version`` of a registered MAP.
    :param pull: let the engine get the image first.
    :return: exit code: 1 when something keeps it from running here.
    """
    store = _store(settings)
    try:
        inspected = _inspected(settings, store, target, pull)
    except ManifestError as error:
        if not as_json:
            raise
        doubt = Doubt(ERROR, error.field, str(error))
        print_json({"reference": target, "problems": [doubt_dict(doubt)]}, out)
        return 1
    inventory = _inventory(store)
    doubts = doubts_of(inspected, inventory=inventory, policy=Policy.of(settings))
    facts = facts_of(inspected, inventory, doubts)
    if as_json:
        print_json(facts, out)
    else:
        out.writelines(f"{line}\n" for line in _inspect_lines(inspected, facts, doubts))
    return 1 if any(doubt.level == ERROR for doubt in doubts) else 0


def run_register(
    settings: Settings, target: str, wanted: Wanted, as_json: bool, out: TextIO, *, pull: bool = False
) -> int:
    """Register an image or a folder, and print what its workflow is.

    :param pull: let the engine get the image first.
    """
    from airflow_monai.specs.folder import load_folder
    from airflow_monai.workflows.site import SiteWorkflows

    store = _store(settings)
    inspected = inspect_folder(Path(target)) if _is_folder(target) else _not_registered(settings, store, target, pull)
    check_kind(inspected.kind, settings.runner)
    folder = load_folder(settings.workflow_folder, more=SiteWorkflows(store).files)
    done = registered(MapRegistry(store), inspected, wanted, folder.workflows)
    record = done.record
    inventory = _inventory(store)
    doubts = doubts_of(inspected, inventory=inventory, policy=Policy.of(settings), use_gpu=record.use_gpu)
    doubts = (*_runner_doubts(record, settings), *doubts)
    if as_json:
        facts = {**record_dict(record), "is_new": done.is_new, "dag_id": done.plan.dag_id, "beside": list(done.beside)}
        print_json({**facts, "problems": [doubt_dict(doubt) for doubt in doubts]}, out)
        return 0
    told = Registered(
        label=record.label,
        is_new=done.is_new,
        what=f"{record.kind.value} {record.location}, {record.pinned}",
        workflow=done.plan.dag_id,
        ae_title=record.ae_title,
        export_destinations=record.export_destinations,
        beside=done.beside,
        doubts=map(str, doubts),
    )
    told.tell(out)
    return 0


def _runner_doubts(record: RegisteredMap, settings: Settings) -> Iterator[Doubt]:
    if record.is_registered and (problem := problem_here(record, settings.runner)):
        yield Doubt(ERROR, "runner", problem)


def run_list(settings: Settings, everything: bool, as_json: bool, out: TextIO) -> int:
    """Print one line for each registered MAP.

    :param everything: also those that are not registered any more.
    :return: exit code: 1 when a record cannot be read.
    """
    listing = MapRegistry(_store(settings)).listing()
    records = [record for record in listing.maps if everything or record.is_registered]
    if as_json:
        damaged = [{"label": label, "problem": problem} for label, problem in listing.damaged.items()]
        print_json([*map(record_dict, records), *damaged], out)
    elif records:
        print_table([_HEAD, *map(_cells, records)], out)
    else:
        print("No MAP is registered yet: `airflow monai maps register IMAGE`.", file=out)
    if not as_json:
        out.writelines(f"error: {problem}\n" for problem in listing.damaged.values())
    return 1 if listing.damaged else 0


def run_describe(settings: Settings, label: str, as_json: bool, out: TextIO) -> int:
    """Print what is known of a registered MAP, and its history.

    :raises MapNotFound: when it was never registered, or the name alone means several.
    """
    store = _store(settings)
    registry = MapRegistry(store)
    record = registry.resolve(label)
    history = registry.history(record.name, record.version)
    inspected, inventory = inspect_registered(record), _inventory(store)
    doubts = doubts_of(inspected, inventory=inventory, policy=Policy.of(settings), use_gpu=record.use_gpu)
    doubts = (*_runner_doubts(record, settings), *doubts)
    facts = facts_of(inspected, inventory, doubts)
    if as_json:
        past = [revision_dict(item) for item in history]
        print_json({**record_dict(record), "dag_id": workflow_name(record), **facts, "history": past}, out)
        return 0
    out.writelines(f"{line}\n" for line in _describe_lines(record, history))
    out.writelines(f"{line}\n" for line in _manifest_lines(inspected, facts, doubts))
    return 0


def run_unregister(settings: Settings, label: str, as_json: bool, out: TextIO) -> int:
    """Take a MAP out of use.

    :raises MapNotFound: when it was never registered, or no version is given.
    """
    parts = split_label(label)
    if parts is None:
        names = [record.label for record in MapRegistry(_store(settings)).listing().registered()]
        same = [name for name in names if name.partition(":")[0] == label] or names
        offer = f"registered: {', '.join(same)}" if same else "none is registered"
        raise MapNotFound(f"{label!r} is no <name>:<version> of a registered MAP ({offer}).")
    record, is_new = MapRegistry(_store(settings)).unregister(*parts)
    if as_json:
        print_json({**record_dict(record), "is_new": is_new}, out)
    elif is_new:
        print(
            f"Unregistered {record.label}. Nothing starts it any more; tasks that run now end normally, and its",
            file=out,
        )
        print("workflow goes when its last run has ended. What it made stays, and so do its records.", file=out)
    else:
        print(f"{record.label} was unregistered at {record.changed_at}{_by(record.changed_by)} already.", file=out)
    return 0


def _inspected(settings: Settings, store: Store, target: str, pull: bool) -> Inspected:
    if _is_folder(target):
        return inspect_folder(Path(target))
    record = MapRegistry(store).of_label(target)
    if record is not None and record.is_registered and not pull:
        return inspect_registered(record)
    return _not_registered(settings, store, target, pull)


def _is_folder(target: str) -> bool:
    """Whether a folder is meant: one that is there, or what can be nothing else."""
    return os.path.isdir(target) or target.startswith((".", "/", "~"))


def _not_registered(settings: Settings, store: Store, reference: str, pull: bool) -> Inspected:
    from airflow_monai.maps.registrations import unpacked_map
    from airflow_monai.maps.runners.docker.engine import Engine

    unpacked = None if pull else unpacked_map(settings, reference)
    if unpacked is not None:
        return inspect_folder(unpacked)
    engine = Engine(settings.docker_url, settings.docker_conn_id, settings.docker_tls_folder)
    if pull:
        from airflow_monai.maps.runners.docker.pull import pull as get

        Policy.of(settings).check_image(reference)
        get(engine, reference, lambda: None)
    return inspect_image(engine, store, reference)


def _store(settings: Settings) -> Store:
    from airflow_monai.store import open_store

    return open_store(settings.store)


def _inventory(store: Store) -> Inventory | None:
    from airflow_monai.gpu.inventory import load_inventory

    return load_inventory(store)


def _inspect_lines(inspected: Inspected, facts: dict[str, Any], doubts: Sequence[Doubt]) -> Iterator[str]:
    yield inspected.reference
    yield _row(inspected.kind.value, inspected.digest)
    if inspected.repo_digest:
        yield _row("registry", inspected.repo_digest)
    if inspected.kind is MapKind.IMAGE and inspected.platform:
        yield _row("platform", f"{inspected.platform}, user {inspected.user or 'root'}, {_size(inspected.size or 0)}")
    yield from _manifest_lines(inspected, facts, doubts)


def _manifest_lines(inspected: Inspected, facts: dict[str, Any], doubts: Sequence[Doubt]) -> Iterator[str]:
    manifest, resources = inspected.manifest, inspected.manifest.resources
    yield "What is run"
    yield _row("command", json.dumps(list(manifest.command)))
    yield _row("working directory", manifest.working_directory)
    yield _row("input", f"{manifest.input_path}{_formats(manifest.input_formats)}")
    yield _row("output", f"{manifest.output_path}{_formats(manifest.output_formats)}")
    yield _row("models", ", ".join(f"{name} ({path})" for name, path in manifest.models.items()) or "none")
    yield _row("time limit", f"{manifest.timeout_seconds:g} s" if manifest.timeout_seconds else "none")
    yield _row("version", f"{manifest.version or '-'}{f', {manifest.sdk}' if manifest.sdk else ''}")
    yield "With which resources"
    yield _row("cores", f"{resources.cpu:g}")
    yield _row("memory", f"{_size(resources.memory_bytes)}, of it shared {_size(resources.shared_memory_bytes)}")
    yield _row("gpu", _gpu(facts, inspected))
    yield "With which environment"
    yield from (f"  {name}={value}" for name, value in facts["environment"].items())
    if doubts:
        yield "What is wrong or doubtful"
        yield from (f"  {doubt}" for doubt in doubts)


def _gpu(facts: dict[str, Any], inspected: Inspected) -> str:
    resources = inspected.manifest.resources
    if not wants_gpu(resources):
        return "none"
    share = f"{_size(resources.gpu_memory_bytes)} of " if resources.gpu_memory_bytes else ""
    pool = facts["pool"]
    where = f", pool {pool['name']}, {pool['slots']} slots" if pool else ", no pool of this site"
    return f"{share}{max(resources.gpu, 1):g} card(s){where}"


def _describe_lines(record: RegisteredMap, history: Sequence[RegisteredMap]) -> Iterator[str]:
    state = "registered" if record.is_registered else f"not registered any more, since {record.changed_at}"
    yield f"{record.label} ({state})"
    yield _row(record.kind.value, record.location)
    yield _row("digest", record.digest)
    if record.repo_digest:
        yield _row("registry", record.repo_digest)
    yield _row("workflow", f"{workflow_name(record)}, AE title {record.ae_title}")
    yield _row("exports", ", ".join(record.export_destinations) or "none")
    for item in history:
        what = "registered" if item.is_registered else "unregistered"
        yield _row(f"revision {item.revision}", f"{what} at {item.changed_at}{_by(item.changed_by)}")


def _cells(record: RegisteredMap) -> tuple[str, ...]:
    resources = record.manifest().resources
    return (
        record.label,
        "registered" if record.is_registered else "unregistered",
        record.ae_title,
        ",".join(record.export_destinations) or "-",
        "yes" if wants_gpu(resources) and record.use_gpu else "-",
        record.digest.rpartition(":")[2][:12],
        record.registered_at[:19],
        record.registered_by or "-",
    )


def _by(user: str) -> str:
    return f" by {user}" if user else ""


def _formats(formats: Sequence[str]) -> str:
    return f" ({'; '.join(formats)})" if formats else ""


def _size(size: int) -> str:
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= step:
            return f"{size / step:.4g} {unit}"
    return f"{size} bytes"


def _row(name: str, value: str) -> str:
    return f"  {name:<18} {value}"
