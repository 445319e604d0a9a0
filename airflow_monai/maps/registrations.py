"""Registering a MAP from afar: what was asked for, and, where that takes long, a note that tells how far it is.

maps-asked/<id>.json    what was asked for, by whom, and what came of it

The registration itself is one conditional create (:mod:`airflow_monai.maps.registry`), so whatever dies there is a
registered MAP or none, and doing it again is harmless: whoever asks how far it is, and hears nothing for a while, has
it done anew.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapNotFound, PolicyRefused
from airflow_monai.maps.inspection import Inspected, inspect_folder, inspect_image
from airflow_monai.maps.pinning import check_kind
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.registration import Registration, Wanted, register
from airflow_monai.maps.registry import MapKind, MapRegistry
from airflow_monai.store.base import Store

if TYPE_CHECKING:
    from airflow_monai.settings import Settings

SIGN_SECONDS = 5.0
STALE_SECONDS = 60.0
"""After so long without a sign of life whoever was at it is taken for dead."""


class AskedState(str, Enum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Asked:
    """What to register.

    :param image: its reference, or empty; ``folder``: a path below one of the site's folders of MAPs.
    :param pull: have the engine get the image first.
    """

    image: str
    folder: str
    wanted: Wanted
    pull: bool
    by: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Asked:
        exports = data["wanted"]["export_destinations"]
        wanted = Wanted(**{**data["wanted"], "export_destinations": None if exports is None else tuple(exports)})
        return cls(**{**data, "wanted": wanted})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a registration is.

    :param seen: when whoever is at it last said so, seconds since the epoch.
    :param label: of what is registered now.
    :param status: and ``detail``: an HTTP status and the reason, for one that failed.
    """

    id: str
    asked: Asked
    state: AskedState
    seen: float
    label: str = ""
    is_new: bool = False
    status: int = 0
    detail: str = ""

    @property
    def is_forsaken(self) -> bool:
        return self.state is AskedState.RUNNING and time.time() - self.seen > STALE_SECONDS

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "state": self.state.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Progress:
        return cls(**{**data, "asked": Asked.from_dict(data["asked"]), "state": AskedState(data["state"])})


class Registrations:
    """The notes of a store."""

    def __init__(self, store: Store):
        self._store = store

    def begin(self, asked: Asked) -> Progress:
        begun = Progress(uuid.uuid4().hex, asked, AskedState.RUNNING, time.time())
        self._store.write_json(_key(begun.id), begun.to_dict())
        return begun

    def find(self, number: str) -> Progress | None:
        if not number.isalnum() or not self._store.exists(_key(number)):
            return None
        return self._store.read_as(_key(number), Progress.from_dict)

    def sign(self, progress: Progress) -> Progress:
        """Say that somebody is at it."""
        return self._write(replace(progress, seen=time.time()))

    def done(self, progress: Progress, made: Registration) -> Progress:
        label = made.record.label
        return self._write(replace(progress, state=AskedState.DONE, label=label, is_new=made.is_new))

    def failed(self, progress: Progress, status: int, detail: str) -> Progress:
        return self._write(replace(progress, state=AskedState.FAILED, status=status, detail=detail))

    def _write(self, progress: Progress) -> Progress:
        self._store.write_json(_key(progress.id), progress.to_dict())
        return progress


def register_asked(settings: Settings, store: Store, asked: Asked, alive: Callable[[], None]) -> Registration:
    """Look into the MAP and register it.

    :param alive: called now and then while an image is being gotten.
    :raises MonaiError: when that cannot be; nothing is changed then.
    """
    from airflow_monai.specs.folder import load_folder
    from airflow_monai.workflows.site import SiteWorkflows

    inspected = inspect_asked(settings, store, asked, alive)
    others = load_folder(settings.workflow_folder, more=SiteWorkflows(store).files)
    return register(MapRegistry(store), inspected, asked.wanted, others.workflows, by=asked.by)


def inspect_asked(settings: Settings, store: Store, asked: Asked, alive: Callable[[], None]) -> Inspected:
    """The MAP that is to be registered, unless the site does not allow it, or could never run it."""
    if asked.folder:
        folder = allowed_folder(settings, asked.folder)
        check_kind(MapKind.FOLDER, settings.runner)
        return inspect_folder(folder)
    unpacked = None if asked.pull else unpacked_map(settings, asked.image)
    if unpacked is not None:
        return inspect_folder(unpacked)
    from airflow_monai.maps.runners.docker.engine import Engine

    policy = Policy.of(settings)
    policy.check_image(asked.image)
    engine = Engine(settings.docker_url, settings.docker_conn_id, settings.docker_tls_folder)
    if asked.pull:
        from airflow_monai.maps.runners.docker.pull import pull

        policy.check_pull(asked.image)
        pull(engine, asked.image, alive)
    return inspect_image(engine, store, asked.image)


def unpacked_map(settings: Settings, reference: str) -> Path | None:
    """The folder below ``[monai] map_path`` that the process runner takes for a name; None where there is none."""
    from airflow_monai.maps.resolve import find_folder

    if settings.runner != "process":
        return None
    try:
        return find_folder(reference, settings.map_path)[0]
    except MapNotFound:
        return None


def allowed_folder(settings: Settings, name: str) -> Path:
    """A folder below one of ``[monai] map_path``.

    :raises PolicyRefused: for one that is not, whether there is one or not.
    """
    for root in settings.map_path:
        top = Path(root).expanduser().resolve()
        found = (top / name).resolve()
        if found != top and top in found.parents:
            if found.is_dir():
                return found
        else:
            raise PolicyRefused(f"The folder {name!r} is not below a folder of [monai] map_path.")
    if not settings.map_path:
        raise PolicyRefused("This site allows no folders: [monai] map_path is empty.")
    raise MapNotFound(f"There is no MAP {name!r} in the folders of [monai] map_path.")


def _key(number: str) -> str:
    return f"maps-asked/{number}.json"
