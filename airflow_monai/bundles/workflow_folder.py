"""The folder of workflow files as an Airflow DAG bundle: one DAG file for each, a version for each state of the folder.

A DAG run stays on the version it began with. Every version is one immutable object in the store, written before Airflow
hears of the version, so that any worker can make its files again.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion, get_bundle_tracking_dir

from airflow_monai.bundles.callbacks import keep_callbacks_harmless
from airflow_monai.bundles.ending import EndingWorkflows
from airflow_monai.bundles.reader import SpecFolderReader
from airflow_monai.bundles.snapshot import Snapshot
from airflow_monai.errors import StoreError

if TYPE_CHECKING:
    from airflow_monai.specs.registered import RegisteredText
    from airflow_monai.store.base import Store
    from airflow_monai.workflows.site import SiteWorkflows

log = logging.getLogger(__name__)

_TEMPORARY = ".tmp-"
_ABANDONED_SECONDS = 3600.0
_UNUSED_SECONDS = 7 * 24 * 3600.0
_MTIME_AHEAD_SECONDS = 3.0


class WorkflowSpecBundle(BaseDagBundle):
    """DAGs of the workflow files in a folder, of the registered workflows, and of the registered MAPs.

    :param path: the folder; by default the setting ``[monai] workflow_folder``.
    """

    supports_versioning = True

    def __init__(self, *, path: str | os.PathLike[str] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.folder = Path(path or _default_folder()).expanduser().absolute()
        self._reader = SpecFolderReader(self.folder, self._registered)
        self._workflows: SiteWorkflows | None = None
        self._ending = EndingWorkflows()
        self._snapshot: Snapshot | None = None

    @property
    def path(self) -> Path:
        """Folder of the generated files of this version."""
        return self.versions_dir / (self.version or (self._snapshot.version if self._snapshot else "none"))

    def get_current_version(self) -> BundleVersion | None:
        version = self.version or (self._snapshot.version if self._snapshot else None)
        return BundleVersion(version) if version else None

    def initialize(self) -> None:
        """Make the files of the asked version be there: free when they are, one object read when not.

        :raises StoreError: when the store does not hold the version.
        """
        if self.version is None:
            self.refresh()
        elif not self.path.is_dir():
            with self.lock():
                self._restore(self.version)
        super().initialize()

    def refresh(self) -> None:
        """Take the folder's present state as the version; a bundle of a fixed version stays as it is.

        :raises StoreError: when a new version cannot be kept; the one before stays current.
        """
        if self.version is not None:
            return
        keep_callbacks_harmless(WorkflowSpecBundle)
        snapshot = self._reader.scan()
        if snapshot is self._snapshot and self.path.is_dir():
            return
        with self.lock():
            self._publish(snapshot)
        self._snapshot = snapshot

    def _publish(self, snapshot: Snapshot) -> None:
        previous = self.path if self._snapshot else None
        self._store().create_json(self._key(snapshot.version), snapshot.to_dict())
        files = snapshot.dag_files()
        target = self.versions_dir / snapshot.version
        if target.is_dir():
            _touch_changed(target, files, previous)
        else:
            _build(target, files, previous)
        _remove_old(self.versions_dir, get_bundle_tracking_dir(self.name), keep=target)

    def _restore(self, version: str) -> None:
        if self.path.is_dir():
            return  # another process was quicker
        key = self._key(version)
        try:
            snapshot = Snapshot.from_dict(self._store().read_json(key))
        except (ValueError, LookupError, TypeError) as error:
            raise StoreError(f"Version {version} of the workflows, {key}, cannot be read: {error}.") from error
        _build(self.path, snapshot.dag_files(), None)

    def _key(self, version: str) -> str:
        from airflow_monai.factory.versions import version_key

        return version_key(self.name, version)

    def _registered(self) -> list[RegisteredText]:
        """The registered workflows and those of registered MAPs as they are now, and those that still have runs."""
        from airflow_monai.workflows.site import SiteWorkflows

        if self._workflows is None:
            self._workflows = SiteWorkflows(self._store())
        return self._workflows.texts(self._ending)

    def _store(self) -> Store:
        from airflow_monai import settings
        from airflow_monai.store import open_store

        return open_store(settings.load().store)


def _default_folder() -> str:
    from airflow_monai import settings

    return settings.load().workflow_folder


def _build(target: Path, files: Mapping[str, bytes], previous: Path | None) -> None:
    """Make a version's folder, whole or not at all.

    Files that are as in the version before are links to them: they keep their time, so that Airflow parses only
    what changed.
    """
    temporary = target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if previous is None or not _link_same(previous / name, path, content):
                _write(path, content)
        os.rename(temporary, target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.is_dir():  # else another process made it first
            raise


def _link_same(before: Path, path: Path, content: bytes) -> bool:
    try:
        if before.read_bytes() != content:
            return False
        os.link(before, path)
    except OSError:
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        if path.suffix == ".py":  # an empty DAG file after a power cut would be a workflow that is silently gone
            file.flush()
            os.fsync(file.fileno())
    _freshen(path)


def _touch_changed(target: Path, files: Mapping[str, bytes], previous: Path | None) -> None:
    """A version that was current before is so again: make Airflow parse what differs from the one in between."""
    for name, content in files.items():
        if previous is None or not _same(previous / name, content):
            _freshen(target / name)


def _same(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _freshen(path: Path) -> None:
    """Give the file a time a little ahead.

    Airflow parses a file again when it is newer than the end of its last parse; a parse of the version before that is
    going on right now ends after this moment, and would otherwise hide the change for a whole
    ``min_file_process_interval``.
    """
    ahead = time.time() + _MTIME_AHEAD_SECONDS
    os.utime(path, (ahead, ahead))


def _remove_old(versions: Path, tracked: Path, *, keep: Path) -> None:
    """Remove what a killed process left half made, and old versions that no task ever used.

    Airflow itself removes those that were used, and only those. A version that is needed after all comes back from the
    store.
    """
    for path in _removable(versions, tracked, keep):
        try:
            shutil.rmtree(path)
        except OSError as error:
            log.warning("Could not remove the old folder %s: %s", path, error.strerror)


def _removable(versions: Path, tracked: Path, keep: Path) -> Iterator[Path]:
    for path in list(versions.iterdir()):
        limit = _ABANDONED_SECONDS if path.name.startswith(_TEMPORARY) else _UNUSED_SECONDS
        if path != keep and not (tracked / path.name).exists() and time.time() - path.stat().st_mtime > limit:
            yield path
