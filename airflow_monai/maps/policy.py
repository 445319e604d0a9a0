"""What a site lets the applications of its workflows do; a workflow can ask for less, and for nothing beyond it.

The site says it in ``[monai]``. Left alone, an application gets no network, no capability and no folder of the host, at
most 4096 processes, and 100 GiB of output.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import PolicyRefused, SettingsError
from airflow_monai.specs.units import memory_bytes

if TYPE_CHECKING:
    from airflow_monai.settings import Settings

NO_NETWORK, HOST_NETWORK = "none", "host"
MAX_OUTPUT_FILES = 100_000
DOCKER_HUB = "docker.io/"
_DIGEST = re.compile(r"(?:.+@)?sha256:[0-9a-f]{64}")
_ID = re.compile(r"sha256:[0-9a-f]+")
_SHARED_NETWORKS = (HOST_NETWORK, "default", "bridge")
"""The host's own, and the one on which containers of all kinds meet."""
_NEVER_MOUNTED = ("/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var/run", "/var/lib/docker")
"""Folders of the host that give it away: who can read or use what is in them can become its root."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task asks for beyond its resources; empty where it asks for nothing.

    :param network: a network of the engine.
    :param mounts: ``/host/folder:/container/folder``, which it may read.
    :param pids: processes and threads at a time, fewer than the site allows; ``output_bytes`` likewise.
    """

    network: str = ""
    capabilities: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    pids: int | None = None
    output_bytes: int | None = None

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> Asked:
        """What a task's arguments ask for.

        :raises PolicyRefused: when one of them cannot be read.
        """
        try:
            return cls(
                network=str(args.get("network") or "").strip(),
                capabilities=tuple(name.upper().removeprefix("CAP_") for name in _names(args.get("capabilities"))),
                mounts=_names(args.get("mounts")),
                pids=int(args["pids"]) if args.get("pids") else None,
                output_bytes=memory_bytes(str(args["output_quota"])) if args.get("output_quota") else None,
            )
        except ValueError as error:
            raise PolicyRefused(f"What the task asks for cannot be read: {error}.") from None


@dataclass(frozen=True, slots=True)
class Confinement:
    """How an application is shut in, after policy and task have been put together.

    :param mounts: host folders, as they are without links, each with the folder of the container where it can read it.
    :param grace_seconds: from the signal that asks it to end, when its time is over, to the one that ends it.
    """

    network: str = NO_NETWORK
    capabilities: tuple[str, ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    pids: int = 4096
    output_bytes: int | None = None
    output_files: int = MAX_OUTPUT_FILES
    grace_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of the host that a task wants to read.

    :param text: as the task says it.
    :param parts: both folders in it; empty where it cannot be read.
    :param source: without links, looked at once: what is allowed is what is mounted.
    """

    text: str
    parts: tuple[str, ...] = ()
    source: str = ""
    target: str = ""

    @classmethod
    def of(cls, text: str) -> _Folder:
        named, *more = text.split(":")
        if not (named.startswith("/") and more and more[0].startswith("/") and more[1:] in ([], ["ro"])):
            return cls(text)
        return cls(text, (named, more[0]), os.path.realpath(named), os.path.normpath(more[0]))


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that a task may not have here.

    :param field: of the task, as a workflow file names it.
    :param option: of ``[monai]`` that decides.
    """

    field: str
    option: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message} ([monai] {self.option})"


@dataclass(frozen=True, slots=True)
class Policy:
    """The site's word.

    :param networks: of the engine that a task may ask for; ``capabilities`` and ``mounts`` (host folders) likewise.
    :param images: patterns of which an image's reference must match one; none for any image.
    :param digests: only images that are named by their digest.
    :param pull: ``never``, ``missing`` or ``always``.
    :param max_cpu: of one task, as ``max_memory``, ``max_shared_memory`` (bytes), ``max_timeout_seconds``; None for no
        limit.
    :param forbidden: host folders that no task sees, the store among them.
    """

    networks: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    digests: bool = False
    pull: str = "missing"
    pids: int = 4096
    max_cpu: float | None = None
    max_memory: int | None = None
    max_shared_memory: int | None = None
    max_timeout_seconds: float | None = None
    output_bytes: int | None = None
    output_files: int = MAX_OUTPUT_FILES
    grace_seconds: float = 10.0
    forbidden: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """What ``[monai]`` says; :class:`SettingsError` when an amount in it cannot be read."""
        from airflow_monai.settings import own_folders

        return cls(
            networks=settings.allowed_networks,
            capabilities=tuple(name.upper().removeprefix("CAP_") for name in settings.allowed_capabilities),
            mounts=settings.allowed_mounts,
            images=settings.allowed_images,
            digests=settings.require_digests,
            pull=settings.image_pull,
            pids=settings.pids_limit,
            max_cpu=settings.max_cpu or None,
            max_memory=_amount("max_memory", settings.max_memory),
            max_shared_memory=_amount("max_shared_memory", settings.max_shared_memory),
            max_timeout_seconds=settings.max_timeout_minutes * 60 or None,
            output_bytes=_amount("output_quota", settings.output_quota),
            output_files=min(settings.output_files, MAX_OUTPUT_FILES),
            grace_seconds=settings.stop_grace_seconds,
            forbidden=own_folders(settings),
        )

    def check_image(self, reference: str, names: Sequence[str] | None = None) -> None:
        """:class:`PolicyRefused` for an image that is not to run here.

        :param names: where the reference is its id, or the beginning of it: the whole id and what it is called. Those
            count then, as an id looks like a name.
        """
        for refusal in self.image_refusals(reference, "the image", names):
            raise PolicyRefused(
                f"The image {reference!r} is refused by this site's policy: {refusal.message} ([monai] "
                f"{refusal.option}).",
                refusals=(refusal,),
            )

    def check_pull(self, reference: str) -> None:
        """:class:`PolicyRefused` for a task that wants its image from the registry each time where none is asked."""
        if self.pull == "never":
            raise PolicyRefused(
                f"The task wants the image {reference!r} from its registry each time (args.always_pull), and [monai] "
                "image_pull = never lets nothing be gotten. Remove always_pull."
            )

    def image_refusals(self, reference: str, field: str, names: Sequence[str] | None = None) -> Iterator[Refusal]:
        called = {name for text in ((reference,) if names is None else names) for name in (text, _full(text))}
        if self.images and not any(fnmatchcase(name, pattern) for pattern in self.images for name in called):
            allowed = ", ".join(self.images)
            yield Refusal(field, "allowed_images", f"it matches none of the patterns that are allowed: {allowed}")
        if self.digests and not _DIGEST.fullmatch(reference):
            message = "it must be named by its digest, name@sha256:..., since what a tag means can change"
            yield Refusal(field, "require_digests", message)

    def confine(self, asked: Asked, *, what: str) -> Confinement:
        """How a task that asks for so much is shut in.

        :param what: which task, for the message.
        :raises PolicyRefused: when it asks for more than it may have.
        """
        folders = tuple(map(_Folder.of, asked.mounts))
        _refuse(what, [*self._plain_refusals(asked), *self._mounts(folders)])
        limits = [limit for limit in (asked.output_bytes, self.output_bytes) if limit]
        return Confinement(
            network=asked.network or NO_NETWORK,
            capabilities=asked.capabilities,
            mounts=tuple((folder.source, folder.target) for folder in folders),
            pids=min(asked.pids or self.pids, self.pids),
            output_bytes=min(limits, default=None),
            output_files=self.output_files,
            grace_seconds=self.grace_seconds,
        )

    def check_resources(self, cpu: float, memory: int, shared_memory: int, *, what: str) -> None:
        """:class:`PolicyRefused` when a task, or its application's manifest, wants more than one task may have."""
        _refuse(what, list(self.resource_refusals(cpu, memory, shared_memory)))

    def resource_refusals(self, cpu: float | None, memory: int | None, shared_memory: int | None) -> Iterator[Refusal]:
        if cpu and self.max_cpu and cpu > self.max_cpu:
            yield Refusal("resources.cpu", "max_cpu", f"{cpu:g} cores are more than the {self.max_cpu:g} of one task")
        for name, option, wanted, limit in (
            ("memory", "max_memory", memory, self.max_memory),
            ("shared_memory", "max_shared_memory", shared_memory, self.max_shared_memory),
        ):
            if wanted and limit and wanted > limit:
                message = f"{wanted // MIB} MiB are more than the {limit // MIB} MiB of one task"
                yield Refusal(f"resources.{name}", option, message)

    def time_limit(self, seconds: float | None) -> float | None:
        """The time limit of a task that wants this one: the site's where it wants none, or a longer one."""
        return min((limit for limit in (seconds, self.max_timeout_seconds) if limit), default=None)

    def refusals(self, asked: Asked) -> Iterator[Refusal]:
        """What a task may not have here."""
        yield from self._plain_refusals(asked)
        yield from self._mounts(map(_Folder.of, asked.mounts))

    def _plain_refusals(self, asked: Asked) -> Iterator[Refusal]:
        """All but its mounts."""
        yield from self._network(asked.network)
        for name in asked.capabilities:
            if name not in self.capabilities:
                yield Refusal("args.capabilities", "allowed_capabilities", f"{name} is {_not_among(self.capabilities)}")
        if asked.pids is not None and asked.pids < 1:
            yield Refusal("args.pids", "pids_limit", f"{asked.pids} is no number of processes")
        if asked.pids and asked.pids > self.pids:
            yield Refusal("args.pids", "pids_limit", f"{asked.pids} are more than the {self.pids} of one task")
        if asked.output_bytes and self.output_bytes and asked.output_bytes > self.output_bytes:
            message = f"{asked.output_bytes // MIB} MiB are more than the {self.output_bytes // MIB} MiB of one task"
            yield Refusal("args.output_quota", "output_quota", message)

    def _network(self, name: str) -> Iterator[Refusal]:
        if name in ("", NO_NETWORK):
            return
        option = "allowed_networks"
        if name in _SHARED_NETWORKS or name.startswith("container:"):
            message = f"{name!r} would put it among what else runs here, which no setting allows: make it a network"
            yield Refusal("args.network", option, f"{message} of its own")
        elif name not in self.networks:
            yield Refusal("args.network", option, f"{name!r} is {_not_among(self.networks)}")

    def _mounts(self, folders: Iterable[_Folder]) -> Iterator[Refusal]:
        field, option = "args.mounts", "allowed_mounts"
        for folder in folders:
            if not folder.parts:
                message = f"{folder.text!r} is not /host/folder:/container/folder, which can only be read"
            elif folder.target == "/" or ".." in folder.parts[1].split("/") or _is_of_the_system(folder.target):
                message = f"nothing can be mounted at {folder.parts[1]!r}"
            elif _gives_away(folder.source) or _overlaps(folder.source, self.forbidden):
                message = f"{folder.parts[0]!r} would open the host or the store, which no setting allows"
            elif not _within_any(folder.source, [os.path.realpath(allowed) for allowed in self.mounts]):
                message = f"{folder.parts[0]!r} is {_not_among(self.mounts)}"
            else:
                continue
            yield Refusal(field, option, message)


def _refuse(what: str, refusals: Sequence[Refusal]) -> None:
    if refusals:
        reasons = "; ".join(map(str, refusals))
        raise PolicyRefused(
            f"{what} asks for more than this site's policy allows: {reasons}.", refusals=tuple(refusals)
        )


def _amount(option: str, text: str) -> int | None:
    """An amount such as ``8Gi`` in bytes; None for no limit, which 0 means too."""
    try:
        return memory_bytes(text) or None if text else None
    except ValueError as error:
        raise SettingsError(f"[monai] {option}: {error}.") from None


def _names(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, (list, tuple)) else str(value or "").split(",")
    return tuple(text for item in items if (text := str(item).strip()))


def _not_among(allowed: Sequence[str]) -> str:
    return f"not among what is allowed: {', '.join(allowed)}" if allowed else "not allowed: none is"


def _full(reference: str) -> str:
    """A reference with the registry that an engine goes to for it; an id is that of one engine."""
    if _ID.fullmatch(reference):
        return reference
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return reference
    return f"{DOCKER_HUB}{reference}" if slash else f"{DOCKER_HUB}library/{reference}"


def _within_any(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _is_of_the_system(target: str) -> bool:
    return _within_any(target, ("/proc", "/sys", "/dev"))


def _gives_away(source: str) -> bool:
    return source == "/" or os.path.basename(source) == "docker.sock" or _overlaps(source, _NEVER_MOUNTED)


def _overlaps(source: str, folders: Sequence[str]) -> bool:
    """Whether a folder is, holds, or lies in one of these."""
    others = [os.path.realpath(folder) for folder in folders]
    return _within_any(source, others) or any(_within_any(other, [source]) for other in others)
