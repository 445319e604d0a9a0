"""Which cards an application sees where NVIDIA's runtime or driver goes by the environment."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_monai.maps.runners.base import MapJob

VISIBLE_CARDS = "NVIDIA_VISIBLE_DEVICES"
NO_CARDS = "void"
"""By it NVIDIA's runtime gives a container no card; images come with ``all``."""


def with_visible_cards(environment: Mapping[str, str], job: MapJob) -> dict[str, str]:
    """The environment with the cards that the job has, whatever image, manifest and workflow say of that."""
    kept = {name: value for name, value in environment.items() if name != VISIBLE_CARDS}
    if job.devices:
        return {**kept, VISIBLE_CARDS: ",".join(job.devices)}
    # who chooses cards by himself, an engine or a device plugin, writes the variable himself
    return kept if job.gpus else {**kept, VISIBLE_CARDS: NO_CARDS}
