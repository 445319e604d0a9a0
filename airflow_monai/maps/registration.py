"""Registering a MAP: what it is called, who may start it, and whether its workflow has a place among the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from airflow_monai.errors import RegistryConflict, RegistryError, SpecError
from airflow_monai.maps.inspection import Inspected
from airflow_monai.maps.references import Reference
from airflow_monai.maps.registry import MapKind, MapRegistry, RegisteredMap, check_name, check_version
from airflow_monai.maps.workflows import default_ae_title, plan_of_record
from airflow_monai.specs.claims import Claim, Claims
from airflow_monai.specs.plan import WorkflowPlan

_PLATFORM = re.compile(r"-(x64|arm64|igx|jetson)[a-z0-9-]*-linux-[a-z0-9]+\Z")
"""What the packager puts behind an image's name."""

_RELEASE = re.compile(r"v?[0-9]+([._+-][A-Za-z0-9._+-]*)?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What whoever registers a MAP says; None leaves it to the MAP, or as it is registered already."""

    name: str | None = None
    version: str | None = None
    ae_title: str | None = None
    export_destinations: tuple[str, ...] | None = None
    use_gpu: bool | None = None
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """What came of it.

    :param is_new: False when the same was registered already.
    :param plan: of its workflow.
    :param beside: names of other workflows that listen to its AE title.
    """

    record: RegisteredMap
    is_new: bool
    plan: WorkflowPlan
    beside: tuple[str, ...] = ()


def register(
    registry: MapRegistry, inspected: Inspected, wanted: Wanted, others: Iterable[WorkflowPlan], *, by: str = ""
) -> Registration:
    """Register a MAP.

    :param others: the workflows there are, its own included where it has one.
    :param by: who wants it; by default the host's user.
    :raises RegistryError: when its name, version or AE title will not do; :class:`RegistryConflict` when another
        workflow has its name or AE title, or another content has its version.
    """
    name = check_name(wanted.name or default_name(inspected))
    version = check_version(wanted.version or default_version(inspected))
    current = registry.newest(name, version)
    current = current if current is not None and current.is_registered else None
    record = _record(inspected, wanted, name, version, current)
    plan = _plan(record)
    beside = _place(plan, others, derived=wanted.ae_title is None and current is None)
    record, is_new = registry.register(record, replace_options=wanted.replace, by=by)
    return Registration(record, is_new, plan, beside)


def default_name(inspected: Inspected) -> str:
    """The last part of the image's repository, or the folder's name."""
    if inspected.kind is MapKind.FOLDER:
        return PurePosixPath(inspected.location).name
    return _PLATFORM.sub("", Reference.of(inspected.reference).repository.rpartition("/")[2])


def default_version(inspected: Inspected) -> str:
    """The image's tag where it looks like a version, since specs name the MAP so; else what its manifest says.

    :raises RegistryError: when neither tells one.
    """
    tag = Reference.of(inspected.reference).tag if inspected.kind is MapKind.IMAGE else ""
    if _RELEASE.fullmatch(tag):
        return tag
    version = inspected.manifest.version
    if not version or version == "0.0.0":
        raise RegistryError(f"Neither the tag nor the manifest of {inspected.reference} tells a version: --version.")
    return version


def _record(
    inspected: Inspected, wanted: Wanted, name: str, version: str, current: RegisteredMap | None
) -> RegisteredMap:
    """What is to be registered: what nobody says stays as it is registered."""
    title, exports, use_gpu = wanted.ae_title, wanted.export_destinations, wanted.use_gpu
    if current is not None:
        title = current.ae_title if title is None else title
        exports = current.export_destinations if exports is None else exports
        use_gpu = current.use_gpu if use_gpu is None else use_gpu
    return RegisteredMap(
        name=name,
        version=version,
        kind=inspected.kind,
        location=inspected.location,
        digest=inspected.digest,
        repo_digest=inspected.repo_digest,
        app=(inspected.files.app or b"").decode("utf-8-sig"),
        pkg=(inspected.files.pkg or b"").decode("utf-8-sig"),
        generation=inspected.files.generation,
        ae_title=default_ae_title(name) if title is None else title.strip(),
        export_destinations=tuple(dict.fromkeys(exports or ())),
        use_gpu=use_gpu is not False,
    )


def _plan(record: RegisteredMap) -> WorkflowPlan:
    try:
        return plan_of_record(record)
    except SpecError as error:
        problems = "; ".join(f"{problem.message} ({problem.hint})" for problem in error.problems) or str(error)
        raise RegistryError(f"{record.label} cannot have a workflow: {problems}. Nothing was changed.") from error


def _place(plan: WorkflowPlan, others: Iterable[WorkflowPlan], *, derived: bool) -> tuple[str, ...]:
    """The workflows that will run beside it for what is sent to its AE title."""
    others = [other for other in others if other.source != plan.source]
    claims = Claims()
    for other in others:
        claims.take(Claim(other.name, other.dag_id, other.ae_title, other.grouping, other.source or other.name))
    conflict = claims.take(Claim(plan.name, plan.dag_id, plan.ae_title, plan.grouping, plan.source))
    if conflict is not None:
        raise RegistryConflict(f"Its workflow cannot be: {conflict.message}; {conflict.hint}. Nothing was changed.")
    beside = tuple(sorted(other.name for other in others if other.ae_title == plan.ae_title))
    if beside and derived:
        raise RegistryConflict(
            f"The AE title {plan.ae_title!r}, which follows from the name, is that of {', '.join(beside)}: a study "
            f"that is sent there would run both. Say --ae-title {plan.ae_title} if it should, or give another one. "
            "Nothing was changed."
        )
    return beside
