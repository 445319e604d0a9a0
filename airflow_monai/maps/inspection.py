"""What is known of a MAP before it runs: of an image without starting it, of a folder, of a registered one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_monai.errors import MapNotFound
from airflow_monai.maps.contents import folder_digest
from airflow_monai.maps.manifest import Manifest, ManifestFiles, manifest_files
from airflow_monai.maps.registry import MapKind, RegisteredMap

if TYPE_CHECKING:
    from airflow_monai.maps.runners.docker.engine import Engine
    from airflow_monai.store.base import Store


@dataclass(frozen=True, slots=True)
class Inspected:
    """A MAP and what its manifests say.

    :param reference: as it was asked for.
    :param location: of a folder its absolute path, of an image the reference.
    :param digest: of an image its id, of a folder a hash of its files.
    :param repo_digest: ``<repository>@sha256:...``; empty for a folder and for an image that was in no registry.
    :param platform: ``linux/amd64``; empty for a folder.
    :param engine_platform: of the engine that has the image.
    :param user: that the image runs as by itself; None for a folder.
    :param size: of the image in bytes; None for a folder.
    """

    reference: str
    kind: MapKind
    location: str
    digest: str
    files: ManifestFiles
    manifest: Manifest
    repo_digest: str = ""
    platform: str = ""
    engine_platform: str = ""
    user: str | None = None
    size: int | None = None

    @property
    def pinned(self) -> str:
        """What an engine is asked for, once it is registered."""
        return self.repo_digest or self.digest


def inspect_folder(folder: Path) -> Inspected:
    """An unpacked MAP.

    :raises MapNotFound: when there is no MAP in it; :class:`ManifestError` when its manifests cannot be used.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise MapNotFound(f"There is no folder {folder}.")
    files = manifest_files(folder)
    manifest = files.parsed()
    return Inspected(str(folder), MapKind.FOLDER, str(folder), folder_digest(folder), files, manifest)


def inspect_image(engine: Engine, store: Store, reference: str) -> Inspected:
    """A MAP in an image that the engine has. A container is made of it and removed, and never started.

    :raises MapNotFound: when the engine does not have it, or it is no MAP.
    :raises ManifestError: when its manifests cannot be used.
    """
    from airflow_monai.maps.runners.docker.manifest import image_manifests, repo_digest

    image = engine.image(reference)
    if image is None:
        raise MapNotFound(
            f"The image {reference!r} is not on the Docker engine at {engine.url}. Build or pull it there "
            f"(docker pull {reference}), or correct the reference. A folder must exist on this host."
        )
    files = image_manifests(engine, store, image["Id"], reference)
    return Inspected(
        reference=reference,
        kind=MapKind.IMAGE,
        location=reference,
        digest=image["Id"],
        files=files,
        manifest=files.parsed(),
        repo_digest=repo_digest(reference, image),
        platform=f"{image.get('Os') or '?'}/{image.get('Architecture') or '?'}",
        engine_platform=_engine_platform(engine),
        user=str((image.get("Config") or {}).get("User") or ""),
        size=image.get("Size"),
    )


def inspect_registered(record: RegisteredMap) -> Inspected:
    """A registered MAP, from the registry alone."""
    files = ManifestFiles(record.app.encode(), record.pkg.encode(), record.label, record.generation)
    return Inspected(
        record.label, record.kind, record.location, record.digest, files, files.parsed(), repo_digest=record.repo_digest
    )


def _engine_platform(engine: Engine) -> str:
    with engine.errors("say what it is"):
        version = engine.api.version()
    return f"{version.get('Os') or '?'}/{version.get('Arch') or '?'}"
