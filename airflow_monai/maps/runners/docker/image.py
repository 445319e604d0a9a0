"""Any container image of a Docker engine, gotten from its registry as the site's policy says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapNotFound
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.references import LATEST, names_by_id
from airflow_monai.maps.runners.base import ContainerImage
from airflow_monai.maps.runners.docker.manifest import repo_digest
from airflow_monai.maps.runners.docker.pull import pull

if TYPE_CHECKING:
    from airflow_monai.maps.runners.docker.engine import Engine


def get_image(
    engine: Engine, policy: Policy, reference: str, *, always_pull: bool = False, check: Callable[[], None]
) -> dict[str, Any]:
    """What the engine says of the image ``reference``, which it gets where it has to and may.

    :param check: called now and then meanwhile; what it raises ends it.
    :raises PolicyRefused: when the image is not to run here.
    :raises MapNotFound: when it is not here and nobody gives it.
    :raises RegistryUnavailable: when the registry cannot be asked.
    """
    found = engine.image(reference)
    is_id = _is_by_id(reference, found)
    check_image(policy, reference, found)
    if always_pull:
        policy.check_pull(reference)
    if not is_id and policy.pull != "never" and (found is None or always_pull or policy.pull == "always"):
        pull(engine, reference, check)
        found = engine.image(reference)
    if found is None:
        why = ", and [monai] image_pull = never lets nothing be gotten" if policy.pull == "never" else ""
        raise MapNotFound(
            f"The image {reference!r} is not on the Docker engine at {engine.url}{why}. Build, load or pull it there "
            f"(docker pull {reference}), or correct the reference."
        )
    return found


def check_image(policy: Policy, reference: str, found: Mapping[str, Any] | None) -> None:
    """:class:`PolicyRefused` when the image is not to run here.

    :param found: what the engine says of it, None where it does not have it.
    """
    policy.check_image(reference, _names(found) if found and _is_by_id(reference, found) else None)


def as_container(reference: str, found: Mapping[str, Any]) -> ContainerImage:
    """An image as a runner knows it, from what the engine says of it."""
    config = found.get("Config") or {}
    return ContainerImage(
        reference=reference,
        location=found["Id"],
        entrypoint=_words(config.get("Entrypoint")),
        command=_words(config.get("Cmd")),
        working_directory=config.get("WorkingDir") or "/",
        digest=repo_digest(reference, found),
    )


def _is_by_id(reference: str, found: Mapping[str, Any] | None) -> bool:
    """Whether an image was named by its content, or the beginning of it: no registry is asked, and none could tell."""
    if found is None or not names_by_id(reference, found["Id"]):
        return reference.startswith("sha256:")
    return f"{reference}:{LATEST}" not in (found.get("RepoTags") or ())  # engines look for a name first


def _names(found: Mapping[str, Any]) -> list[str]:
    return [found["Id"], *(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ())]


def _words(value: Iterable[Any] | None) -> tuple[str, ...]:
    return tuple(map(str, value or ()))
