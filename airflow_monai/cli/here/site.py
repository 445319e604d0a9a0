"""What this site has: its cards, the connections of its destinations, and its applications."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MonaiError
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.site import Application, Site

if TYPE_CHECKING:
    from airflow.models import Connection

    from airflow_monai.gpu.inventory import Inventory
    from airflow_monai.maps.policy import Policy
    from airflow_monai.maps.registry import RegisteredMap
    from airflow_monai.settings import Settings
    from airflow_monai.specs.plan import Resources


def this_site() -> Site:
    """The site that Airflow's configuration describes."""
    from airflow_monai import settings
    from airflow_monai.gpu.inventory import load_inventory
    from airflow_monai.maps.policy import Policy
    from airflow_monai.store import open_store

    known = settings.load()
    inventory = load_inventory(open_store(known.store))
    return Site(
        capacity=lambda resources: capacity_problem(resources, inventory),
        destination=destination_problem,
        connection=connection_problem,
        application=lambda reference: application_of(reference, known),
        policy=lambda args, resources, minutes: policy_problems(
            Policy.of(known), pinned(args, known), resources, minutes, has_images=known.runner != "process"
        ),
    )


def pinned(args: Mapping[str, Any], settings: Settings) -> Mapping[str, Any]:
    """A task's arguments, where the name of a registered MAP is the digest that is run for it.

    One that no registry has is allowed by what it was called when it was registered.
    """
    record = registered(str(args["map"]), settings) if "map" in args else None
    return args if record is None else {**args, "map": record.repo_digest or f"{record.location}@{record.digest}"}


def policy_problems(
    policy: Policy,
    args: Mapping[str, Any],
    resources: Resources | None,
    minutes: float | None,
    *,
    has_images: bool = True,
) -> Iterator[tuple[str, str]]:
    """What of a task the site's policy does not allow, as far as its workflow says it: the field, and why.

    :param has_images: applications are images here, not folders.
    """
    from airflow_monai.maps.policy import Asked
    from airflow_monai.specs.arguments import is_true
    from airflow_monai.specs.units import memory_bytes

    name = "container_image" if "container_image" in args else "map"
    refusals = list(policy.refusals(Asked.of(args)))
    if has_images:
        refusals += policy.image_refusals(str(args[name]), f"args.{name}")
    if resources:
        memory, shared = (memory_bytes(text) if text else None for text in (resources.memory, resources.shared_memory))
        refusals += policy.resource_refusals(resources.cpu, memory, shared)
    for refusal in refusals:
        yield refusal.field, f"{refusal.message} ([monai] {refusal.option})"
    if is_true(args.get("always_pull")) and policy.pull == "never":
        yield "args.always_pull", "nothing is gotten from a registry here ([monai] image_pull)"
    longest = policy.max_timeout_seconds
    if minutes is not None and longest and (minutes == 0 or minutes * 60 > longest):
        yield "timeout_minutes", f"it becomes {longest / 60:g}, the longest of this site ([monai] max_timeout_minutes)"


def capacity_problem(resources: Resources, inventory: Inventory | None) -> str:
    """Why a task's cards can never be had, or an empty text."""
    from airflow_monai.gpu.pools import request_of

    try:
        request_of(resources, inventory)
    except MonaiError as error:
        return str(error)
    return ""


def connection_problem(name: str) -> str:
    """Why a task cannot use a connection, or an empty text."""
    return "" if _connection(name) is not None else f"there is no Airflow connection {name!r}: add it"


def _connection(name: str) -> Connection | None:
    from airflow.exceptions import AirflowNotFoundException
    from airflow.models import Connection

    try:
        return Connection.get_connection_from_secrets(name)
    except AirflowNotFoundException:
        return None


def destination_problem(name: str, task_type: str) -> str:
    """Why a task of this type can deliver nothing to a destination, or an empty text. Nobody is called for it."""
    from airflow_monai.hooks.base import described
    from airflow_monai.sinks.registry import SINKS, open_sink

    kinds = " or ".join(sorted(SINKS))
    connection = _connection(name)
    if connection is None:
        return f"there is no Airflow connection {name!r}: add one of type {kinds}"
    kind = connection.conn_type or ""
    if kind not in SINKS:
        return f"the Airflow connection {name!r} has the type {kind!r}, not {kinds}"
    if kind == "monai_mllp" and task_type != TaskType.EXPORT_HL7:
        return f"{name} takes HL7 v2 messages, which tasks of type export_hl7 deliver"
    if kind == "monai_broker" and not connection.host:
        return ""  # at the site's own broker
    try:
        open_sink(described(name, connection, connection.extra_dejson))
    except MonaiError as error:
        return str(error)
    return ""


def application_of(reference: str, settings: Settings) -> Application:
    """What is known of the application that ``args.map`` names. No image is pulled for it."""
    try:
        record = registered(reference, settings)
        if record is not None:
            return _registered(record, settings)
        if settings.runner == "process":
            from airflow_monai.maps.resolve import find_folder

            return Application(result_keys=find_folder(reference, settings.map_path)[1].result_keys)
        if settings.runner == "kubernetes":
            return Application()  # only a pod could tell
        return _image(reference, settings)
    except MonaiError as error:
        return Application(str(error))


def registered(reference: str, settings: Settings) -> RegisteredMap | None:
    """The newest revision of the registered MAP of this name; None where it was never registered."""
    from airflow_monai.maps.registry import MapRegistry
    from airflow_monai.store import open_store

    return MapRegistry(open_store(settings.store)).of_label(reference)


def _registered(record: RegisteredMap, settings: Settings) -> Application:
    """A registered MAP, of which the registry itself tells the manifest."""
    from airflow_monai.maps.pinning import misfit, unregistered
    from airflow_monai.maps.registry import MapKind

    if not record.is_registered:
        return Application(str(unregistered(record)))
    if problem := misfit(record, settings.runner):
        return Application(problem)
    keys = record.manifest().result_keys
    if record.kind is MapKind.IMAGE and settings.runner == "docker":
        here = _image(record.pinned, settings)
        if here.problem and record.pinned != record.digest:
            here = _image(record.digest, settings)
        return Application(here.problem, keys)
    return Application(result_keys=keys)


def _image(reference: str, settings: Settings) -> Application:
    from airflow_monai.maps.runners.docker.engine import Engine
    from airflow_monai.maps.runners.docker.manifest import find_image
    from airflow_monai.store import open_store

    engine = Engine(settings.docker_url, settings.docker_conn_id, settings.docker_tls_folder)
    if engine.image(reference) is None:
        then = "build or pull it there" if settings.image_pull == "never" else "the first task will have to pull it"
        return Application(f"the image {reference} is not on this Docker host: {then}")
    return Application(result_keys=find_image(engine, open_store(settings.store), reference).manifest.result_keys)
