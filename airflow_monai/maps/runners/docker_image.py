"""Any container image of a Docker engine, gotten from its registry where the engine does not have it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapNotFound
from airflow_monai.maps.runners.base import ContainerImage

if TYPE_CHECKING:
    from airflow_monai.maps.runners.docker_engine import Engine

log = logging.getLogger(__name__)


def container_image(engine: Engine, reference: str, *, always_pull: bool) -> ContainerImage:
    """The image ``reference``.

    :raises MapNotFound: when neither the engine nor its registry has it.
    :raises RunnerUnavailable: when the registry cannot be asked.
    """
    found = None if always_pull else engine.image(reference)
    if found is None:
        log.info("Pulling %s to the Docker engine at %s", reference, engine.url)
        engine.pull(reference)
        found = engine.image(reference)
    if found is None:
        raise MapNotFound(f"The image {reference!r} was pulled, but the Docker engine at {engine.url} has no such one.")
    config = found.get("Config") or {}
    return ContainerImage(
        reference=reference,
        location=found["Id"],
        entrypoint=_words(config.get("Entrypoint")),
        command=_words(config.get("Cmd")),
        working_directory=config.get("WorkingDir") or "/",
    )


def _words(value: Iterable[Any] | None) -> tuple[str, ...]:
    return tuple(map(str, value or ()))
