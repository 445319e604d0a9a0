"""Which unpacked MAP a spec's ``args.map`` means, for a runner that has no engine with images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from airflow_monai.errors import MapNotFound
from airflow_monai.maps.manifest import Manifest, load_manifests, same_version

_REFERENCE = re.compile(r"(?:[A-Za-z0-9._:-]+/)*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?::(?P<version>[A-Za-z0-9._-]+))?")


def find_folder(reference: str, map_path: Iterable[str]) -> tuple[Path, Manifest]:
    """The folder ``<folder of map_path>/<name>`` of the MAP ``name:version`` (a registry in front is ignored).

    :raises MapNotFound: saying where it was looked for and which versions are there.
    """
    match = _REFERENCE.fullmatch(reference.strip())
    if not match:
        raise MapNotFound(
            f"{reference!r} names no unpacked MAP: the process runner needs <name>:<version>, without a digest."
        )
    name, version = match["name"], match["version"] or ""
    seen: list[str] = []
    for top in map_path:
        folder = Path(top) / name
        if not folder.is_dir():
            seen.append(f"{folder} (absent)")
            continue
        manifest = load_manifests(folder)
        if not version or same_version(version, manifest.version):
            return folder.resolve(), manifest
        seen.append(f"{folder} (version {manifest.version or 'unknown'})")
    searched = ", ".join(seen) or "nothing, [monai] map_path is empty"
    raise MapNotFound(
        f"There is no unpacked MAP {reference!r}. Looked at: {searched}. "
        "Add the folder that holds it to [monai] map_path (`airflow monai run`: --map-path), or correct args.map."
    )
