"""The registered MAPs, in the store: which there are, exactly which image or folder each is, and its two manifests.

maps/<name>/<version>.json        the first revision
maps/<name>/<version>@<N>.json    the N-th: registered again, with other options, or unregistered
maps-used/<name>/<version>.json   exists once a task has run it: from then on the version means this content for ever

A revision is created if it is not there, and never changes: of two who register at once one is told what the other did,
and a task that has begun on a revision can read it as long as it runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from airflow_monai.errors import MapNotFound, RegistryConflict, RegistryError, StoreError
from airflow_monai.maps.manifest import Manifest, ManifestFiles
from airflow_monai.person import person_here
from airflow_monai.store.base import Store

ROOT, USED = "maps", "maps-used"
MAX_NAME, MAX_VERSION = 100, 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
_VERSION = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._+-]{{0,{MAX_VERSION - 1}}}")
_FILE = re.compile(r"(?P<version>[^@]+?)(?:@(?P<revision>[1-9][0-9]{0,5}))?\.json")


class MapKind(str, Enum):
    """What a registered MAP is."""

    IMAGE = "image"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class RegisteredMap:
    """One revision of a registered MAP.

    :param location: image reference as it was given, or the folder's path.
    :param digest: what is run, whatever the reference comes to mean: of an image its id, of a folder a hash of its
        files.
    :param repo_digest: ``<repository>@sha256:...`` of an image that has been in a registry; else empty.
    :param app: text of ``app.json``, and ``pkg`` of ``pkg.json``.
    :param generation: of the folder in the image that they lie in; empty where that is not known.
    :param ae_title: studies that are sent there start its workflow.
    :param export_destinations: where its workflow delivers the results to.
    :param use_gpu: False runs it without a card although its manifest asks for one.
    :param changed_at: when this revision was made (UTC, ISO 8601), and ``changed_by``: by which user of the host, or of
        Airflow where it came through an API.
    :param is_registered: False for a revision that says that it is not any more.
    :param marks_use: the first task that runs it leaves a mark; of revisions that an earlier release made nobody knows.
    """

    name: str
    version: str
    kind: MapKind
    location: str
    digest: str
    app: str
    pkg: str
    ae_title: str
    repo_digest: str = ""
    generation: str = ""
    export_destinations: tuple[str, ...] = ()
    use_gpu: bool = True
    revision: int = 1
    changed_at: str = ""
    changed_by: str = ""
    registered_at: str = ""
    registered_by: str = ""
    is_registered: bool = True
    marks_use: bool = False

    @property
    def label(self) -> str:
        """``name:version``, as a spec's ``args.map`` says it."""
        return f"{self.name}:{self.version}"

    @property
    def pinned(self) -> str:
        """What an engine is asked for: the digest in its repository where there is one, else the image's id."""
        return self.repo_digest or self.digest

    def manifest(self) -> Manifest:
        files = ManifestFiles(self.app.encode(), self.pkg.encode(), self.label, self.generation)
        return files.parsed()

    def same_content(self, other: RegisteredMap) -> bool:
        """Whether both are one image or folder, down to the last byte."""
        if self.kind is not other.kind:
            return False
        return self.digest == other.digest or bool(self.repo_digest and self.repo_digest == other.repo_digest)

    def same_options(self, other: RegisteredMap) -> bool:
        """Whether both have the same workflow."""
        return (self.ae_title, self.export_destinations, self.use_gpu) == (
            other.ae_title,
            other.export_destinations,
            other.use_gpu,
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "kind": self.kind.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RegisteredMap:
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        known["kind"] = MapKind(known["kind"])
        known["export_destinations"] = tuple(known["export_destinations"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Listing:
    """All registered MAPs.

    :param maps: the newest revision of each, also of those that are not registered any more, by name and version.
    :param damaged: ``name:version`` -> why its newest revision cannot be read.
    """

    maps: tuple[RegisteredMap, ...]
    damaged: Mapping[str, str]

    def registered(self) -> tuple[RegisteredMap, ...]:
        return tuple(item for item in self.maps if item.is_registered)


def check_name(name: str) -> str:
    """The name, or :class:`RegistryError` when a MAP cannot be registered under it."""
    if not _NAME.fullmatch(name):
        raise RegistryError(
            f"{name!r} cannot be the name of a MAP: it must be 1 to {MAX_NAME} letters, digits, '.', '_' and '-', and "
            "begin with a letter or digit. Give one with --name."
        )
    return name


def check_version(version: str) -> str:
    """The version, or :class:`RegistryError` when a MAP cannot be registered under it."""
    if not _VERSION.fullmatch(version):
        raise RegistryError(
            f"{version!r} cannot be the version of a MAP: it must be 1 to {MAX_VERSION} letters, digits, '.', '_', '+' "
            "and '-', and begin with a letter, digit or '_'. Give one with --version."
        )
    return version


def split_label(label: str) -> tuple[str, str] | None:
    """Name and version of ``name:version``; None for a text that cannot be one of a registered MAP."""
    name, colon, version = label.strip().partition(":")
    if colon and _NAME.fullmatch(name) and _VERSION.fullmatch(version):
        return name, version
    return None


class MapRegistry:
    """The registered MAPs of a store. Revisions that were read once are not read again."""

    def __init__(self, store: Store):
        self.store = store
        self._known: dict[str, RegisteredMap] = {}

    def newest(self, name: str, version: str) -> RegisteredMap | None:
        """The newest revision; it may be one that says that the MAP is not registered any more.

        :raises StoreError: when it cannot be read.
        """
        revision = self._revisions(name).get(version)
        return self.revision(name, version, revision) if revision else None

    def of_label(self, label: str) -> RegisteredMap | None:
        """The newest revision of what ``name:version`` names; None for what was never registered."""
        parts = split_label(label)
        return self.newest(*parts) if parts else None

    def revision(self, name: str, version: str, revision: int) -> RegisteredMap:
        """A certain revision; :class:`StoreError` when it is not there or damaged."""
        key = _key(name, version, revision)
        if key not in self._known:
            self._known[key] = self.store.read_as(key, RegisteredMap.from_dict)
        return self._known[key]

    def history(self, name: str, version: str) -> list[RegisteredMap]:
        """All revisions, the first one first."""
        newest = self._revisions(name).get(version, 0)
        return [self.revision(name, version, number) for number in range(1, newest + 1)]

    def listing(self) -> Listing:
        """All that were ever registered."""
        maps, damaged = [], {}
        for name in filter(_NAME.fullmatch, self.store.children(ROOT)):
            for version, revision in sorted(self._revisions(name).items()):
                try:
                    maps.append(self.revision(name, version, revision))
                except StoreError as error:
                    damaged[f"{name}:{version}"] = str(error)
        return Listing(tuple(maps), damaged)

    def register(
        self, wanted: RegisteredMap, *, replace_options: bool = False, by: str = ""
    ) -> tuple[RegisteredMap, bool]:
        """Register a MAP.

        :param wanted: with the number of no revision in it.
        :param replace_options: give one that is registered already the options of this one.
        :param by: who wants it; by default the host's user.
        :return: what is registered now, and whether that is new. The same again changes nothing.
        :raises RegistryConflict: when another image or folder is registered under this name and version, or was and a
            task has run it, or the same is with other options.
        """
        while True:
            current = self.newest(wanted.name, wanted.version)
            if current is not None and not current.same_content(wanted):
                is_used = self.is_used(wanted.name, wanted.version)
                if current.is_registered or is_used:
                    raise RegistryConflict(_other_content(current, wanted, is_used))
            if current is not None and current.is_registered:
                if current.same_options(wanted):
                    return current, False
                if not replace_options:
                    raise RegistryConflict(_other_options(current, wanted))
            record = _stamped(wanted, current, by)
            if self._create(record):
                return record, True

    def mark_used(self, record: RegisteredMap) -> None:
        """Note that a task is about to run it. Whoever runs it must find it registered afterwards, too: then nobody
        has taken it out of use before seeing the mark."""
        key = _used_key(record.name, record.version)
        if not self.store.exists(key):
            self.store.create_json(key, {"revision": record.revision, "digest": record.digest})

    def is_used(self, name: str, version: str) -> bool:
        """Whether a task may have run what was registered so."""
        if self.store.exists(_used_key(name, version)):
            return True
        return any(not item.marks_use for item in self.history(name, version) if item.is_registered)

    def unregister(self, name: str, version: str, *, by: str = "") -> tuple[RegisteredMap, bool]:
        """Take a MAP out of use: nothing starts it any more. Its revisions stay.

        :return: the revision that says so, and whether it is new.
        :raises MapNotFound: when it was never registered.
        """
        while True:
            current = self.newest(name, version)
            if current is None:
                raise MapNotFound(f"There is no registered MAP {name}:{version}. {self._offer(name)}")
            if not current.is_registered:
                return current, False
            record = replace(_stamped(current, current, by), is_registered=False)
            if self._create(record):
                return record, True

    def resolve(self, label: str) -> RegisteredMap:
        """What a person means by ``name:version``, or by the name alone where one version is registered.

        :raises MapNotFound: naming what there is.
        """
        name, colon, version = label.strip().partition(":")
        if colon:
            found = self.newest(name, version) if _NAME.fullmatch(name) and _VERSION.fullmatch(version) else None
        else:
            registered = [item for item in self.listing().registered() if item.name == name]
            if len(registered) > 1:
                versions = ", ".join(item.version for item in registered)
                raise MapNotFound(f"Several versions of {name} are registered ({versions}): say {name}:<version>.")
            found = registered[0] if registered else None
        if found is None:
            raise MapNotFound(f"There is no registered MAP {label!r}. {self._offer(name)}")
        return found

    def _offer(self, name: str) -> str:
        labels = [item.label for item in self.listing().registered()]
        same = [label for label in labels if label.partition(":")[0].lower() == name.lower()] or labels
        more = f" and {len(same) - 10} more" if len(same) > 10 else ""
        return f"Registered are: {', '.join(same[:10])}{more}." if same else "None is registered."

    def _revisions(self, name: str) -> dict[str, int]:
        """Version -> its newest revision."""
        found: dict[str, int] = {}
        for file in self.store.children(f"{ROOT}/{check_name(name)}"):
            match = _FILE.fullmatch(file)
            if match and _VERSION.fullmatch(match["version"]):
                found[match["version"]] = max(found.get(match["version"], 0), int(match["revision"] or 1))
        return found

    def _create(self, record: RegisteredMap) -> bool:
        return self.store.create_json(_key(record.name, record.version, record.revision), record.to_dict())


def _key(name: str, version: str, revision: int) -> str:
    suffix = "" if revision == 1 else f"@{revision}"
    return f"{ROOT}/{check_name(name)}/{check_version(version)}{suffix}.json"


def _used_key(name: str, version: str) -> str:
    return f"{USED}/{check_name(name)}/{check_version(version)}.json"


def _stamped(record: RegisteredMap, before: RegisteredMap | None, by: str) -> RegisteredMap:
    """The record as the next revision, made now."""
    now, user = datetime.now(timezone.utc).isoformat(timespec="seconds"), by or person_here()
    goes_on = before is not None and before.is_registered
    return replace(
        record,
        revision=before.revision + 1 if before else 1,
        changed_at=now,
        changed_by=user,
        registered_at=before.registered_at if before and goes_on else now,
        registered_by=before.registered_by if before and goes_on else user,
        is_registered=True,
        marks_use=True,
    )


def _other_content(current: RegisteredMap, wanted: RegisteredMap, is_used: bool) -> str:
    mistake = (
        f" No task has run what is registered: if it was a mistake, `airflow monai maps unregister {current.label}` "
        "frees the version."
    )
    return (
        f"{current.label} {'is already' if current.is_registered else 'was'} registered as {_told(current)}, and this "
        f"is {_told(wanted)}. A version {'that was run ' if is_used else ''}means one content for ever: register this "
        f"one under another version (--version).{'' if is_used else mistake} Nothing was changed."
    )


def _other_options(current: RegisteredMap, wanted: RegisteredMap) -> str:
    return (
        f"{current.label} is already registered with {_options(current)}, and this asks for {_options(wanted)}. "
        "--replace changes that for studies to come. Nothing was changed."
    )


def _told(record: RegisteredMap) -> str:
    also = f" ({record.repo_digest})" if record.repo_digest else ""
    return f"the {record.kind.value} {record.location} with the digest {record.digest}{also}"


def _options(record: RegisteredMap) -> str:
    exports = ", ".join(record.export_destinations) or "no export"
    return f"AE title {record.ae_title!r}, {exports}{'' if record.use_gpu else ', without a GPU'}"
