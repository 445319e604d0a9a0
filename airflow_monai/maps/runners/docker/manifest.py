"""Manifests out of a Docker image, without starting it; read once for each image id."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapNotFound
from airflow_monai.maps.job import store_label
from airflow_monai.maps.manifest import GENERATION_FOLDERS, ManifestFiles
from airflow_monai.maps.references import Reference
from airflow_monai.maps.runners.base import FoundMap
from airflow_monai.maps.runners.docker import clear

if TYPE_CHECKING:
    from airflow_monai.maps.runners.docker.engine import Engine
    from airflow_monai.store.base import Store

_GENERATION = "generation"
_IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")
_LABELS = {"monai.purpose": "manifest"}


def find_image(engine: Engine, store: Store, reference: str) -> FoundMap:
    """The MAP in the image ``reference`` of the engine.

    :raises MapNotFound: when the engine does not have it; it is not pulled.
    :raises ManifestError: when it holds no usable manifests.
    """
    image = engine.image(reference)
    if image is None:
        raise MapNotFound(
            f"The image {reference!r} is not on the Docker engine at {engine.url}. Build or pull it there "
            f"(docker pull {reference}), or correct args.map."
        )
    return found_map(engine, store, reference, image)


def found_map(engine: Engine, store: Store, reference: str, image: Mapping[str, Any]) -> FoundMap:
    """The MAP in an image, of which the engine says this."""
    manifest = image_manifests(engine, store, image["Id"], reference).parsed()
    return FoundMap(reference, image["Id"], manifest, repo_digest(reference, image))


def repo_digest(reference: str, image: Mapping[str, Any]) -> str:
    """By which digest registries know an image, of which the engine says this; empty for one that was built here.

    :param reference: by which it was asked for: of several, the digest in its repository is told.
    """
    known = sorted(map(str, image.get("RepoDigests") or ()))
    repository = Reference.of(reference).repository
    return next((item for item in known if item.partition("@")[0] == repository), known[0] if known else "")


def image_manifests(engine: Engine, store: Store, image_id: str, reference: str) -> ManifestFiles:
    """Both manifests in an image that the engine has, not looked into.

    :param reference: of the image, for messages.
    :raises MapNotFound: when it holds none.
    """
    known = cached_manifests(store, image_id, reference)
    if known is not None:
        return known
    files = _read(engine, store, image_id, reference)
    store.create_json(_key(image_id), {name: base64.b64encode(data).decode() for name, data in files.items()})
    return _manifest_files(files, reference)


def cached_manifests(store: Store, image_id: str, reference: str) -> ManifestFiles | None:
    """Both manifests of an image that somebody has looked into before; None where nobody has."""
    if not _IMAGE_ID.fullmatch(image_id) or not store.exists(_key(image_id)):
        return None
    files = {name: base64.b64decode(text) for name, text in store.read_json(_key(image_id)).items()}
    return _manifest_files(files, reference)


def _key(image_id: str) -> str:
    return f"cache/manifests/{image_id.rpartition(':')[2]}.json"


def _manifest_files(files: Mapping[str, bytes], reference: str) -> ManifestFiles:
    generation = files.get(_GENERATION, b"").decode()
    return ManifestFiles(files.get("app.json"), files.get("pkg.json"), reference, generation)


def _read(engine: Engine, store: Store, image_id: str, reference: str) -> dict[str, bytes]:
    """Both files, from a container that is created, never started, and removed."""
    labels = {**_LABELS, **store_label(store)}
    name = f"monai-manifest-{uuid.uuid4().hex[:12]}"
    engine.create(name, {"Image": image_id, "Cmd": ["none"], "Labels": labels, "HostConfig": {"NetworkMode": "none"}})
    try:
        for generation in GENERATION_FOLDERS:
            app = engine.file(name, f"/etc/{generation}/app.json")
            if app is not None:
                pkg = engine.file(name, f"/etc/{generation}/pkg.json")
                found = {"app.json": app, _GENERATION: generation.encode()}
                return found | ({"pkg.json": pkg} if pkg is not None else {})
    finally:
        engine.remove(name)
    raise MapNotFound(
        f"The image {reference!r} is no MAP: it has neither /etc/holoscan/app.json nor /etc/monai/app.json."
    )


def is_reader(labels: Mapping[str, str]) -> bool:
    """Whether a container is one that manifests are read from, or another that serves for moments only."""
    return any(own.items() <= labels.items() for own in (_LABELS, clear.LABELS))
