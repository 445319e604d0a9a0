"""What this site has: its cards, the connections of its destinations, and its applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.errors import MonaiError
from airflow_monai.specs.site import Application, Site

if TYPE_CHECKING:
    from airflow_monai.gpu.inventory import Inventory
    from airflow_monai.settings import Settings
    from airflow_monai.specs.plan import Resources


def this_site() -> Site:
    """The site that Airflow's configuration describes."""
    from airflow_monai import settings
    from airflow_monai.gpu.inventory import load_inventory
    from airflow_monai.store import open_store

    known = settings.load()
    inventory = load_inventory(open_store(known.store))
    return Site(
        capacity=lambda resources: capacity_problem(resources, inventory),
        destination=destination_problem,
        application=lambda reference: application_of(reference, known),
    )


def capacity_problem(resources: Resources, inventory: Inventory | None) -> str:
    """Why a task's cards can never be had, or an empty text."""
    from airflow_monai.gpu.pools import request_of

    try:
        request_of(resources, inventory)
    except MonaiError as error:
        return str(error)
    return ""


def destination_problem(name: str) -> str:
    """Why nothing can be delivered to a destination, or an empty text."""
    from airflow.exceptions import AirflowNotFoundException
    from airflow.models import Connection

    from airflow_monai.sinks.registry import SINKS

    kinds = " or ".join(sorted(SINKS))
    try:
        kind = Connection.get_connection_from_secrets(name).conn_type
    except AirflowNotFoundException:
        return f"there is no Airflow connection {name!r}: add one of type {kinds}"
    return "" if kind in SINKS else f"the Airflow connection {name!r} has the type {kind!r}, not {kinds}"


def application_of(reference: str, settings: Settings) -> Application:
    """What is known of the application that ``args.map`` names. No image is pulled for it."""
    try:
        if settings.runner == "process":
            from airflow_monai.maps.resolve import find_folder

            return Application(result_keys=find_folder(reference, settings.map_path)[1].result_keys)
        return _image(reference, settings)
    except MonaiError as error:
        return Application(str(error))


def _image(reference: str, settings: Settings) -> Application:
    from airflow_monai.maps.runners.docker_engine import Engine
    from airflow_monai.maps.runners.docker_manifest import find_image
    from airflow_monai.store import open_store

    engine = Engine(settings.docker_url, settings.docker_conn_id)
    if engine.image(reference) is None:
        return Application(
            f"the image {reference} is not on this Docker host, and a map task pulls none: build or pull it there"
        )
    return Application(result_keys=find_image(engine, open_store(settings.store), reference).manifest.result_keys)
