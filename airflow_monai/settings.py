"""Settings of the ``[monai]`` section of Airflow's configuration, read in this one place.

Every option is described, with its default, in :mod:`airflow_monai.options`; an environment variable
``AIRFLOW__MONAI__<OPTION>`` sets it too. Secrets are never settings: they live in Airflow connections.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_monai.errors import SettingsError

SECTION = "monai"
PENDING_MINUTES = 30.0
WAIT_TOTAL_MINUTES = 1440.0
RUNNERS = ("docker", "kubernetes", "process")
PULL_POLICIES = ("never", "missing", "always")


@dataclass(frozen=True, slots=True)
class Settings:
    """The site's settings.

    :param store: URL or folder of the store.
    :param workflow_folder: folder of the hand-written workflow specs.
    :param runner: what runs MAPs, ``docker``, ``kubernetes`` or ``process``.
    :param map_path: folders in which the process runner looks for unpacked MAPs (``<folder>/<name>/app.json``).
    :param docker_conn_id: Airflow connection of the Docker engine; empty for the engine at ``docker_url``.
    :param container_user: ``uid:gid`` that containers run as; empty: the worker's own, or 1000:1000 for a root worker.
    :param docker_tls_folder: folder with ``ca.pem``, ``cert.pem`` and ``key.pem`` for an engine behind TLS.
    :param allowed_networks: and what follows, up to ``stop_grace_seconds``: the site's policy, which
        :class:`airflow_monai.maps.policy.Policy` makes of them.
    :param api_conn_id: HTTP connection to Airflow's REST API through which the gateway creates runs.
    :param dicom_host: and ``dicom_port``: where the gateway listens.
    :param disk_used_percent: and ``disk_reserve``: how full the disk may get before nothing new is taken in
        (:class:`airflow_monai.store.space.DiskGuard`).
    :param quiet_seconds: a study is complete when no image came for so long, unless its workflow says otherwise.
    :param association_end_seconds: the same when its sender has ended the association; 0: that changes nothing.
    :param max_open_minutes: a study is closed after so long even though images go on coming; 0: never.
    :param gpu_lease_folder: where the workers of a host keep who has which of its cards.
    :param gpu_host: name of this host in the GPU inventory; empty: its own.
    :param gpu_wait_minutes: how long a task that holds its slots waits for a card.
    :param gpu_wait_total_minutes: how long it waits in all, coming back again and again; 0 for no end.
    :param smtp_conn_id: Airflow connection of type smtp that e-mails go out by.
    :param reviewer_roles: role in lower case -> ids of the users who have it.
    :param recipient_roles: role in lower case -> addresses that e-mails to it go to.
    :param broker_conn_id: Airflow connection of the message broker; empty for none.
    :param broker_buckets: buckets as messages name them -> URL of a store (folder or ``s3://...``) that is this bucket.
    :param http_allowed_hosts: hosts that ``http`` tasks may call; none for all but those that no service has.
    :param task_log: what of a MAP's output the task log shows: ``filtered``, ``tail`` (on failure only) or ``none``.
    """

    store: str
    workflow_folder: str
    runner: str
    map_path: tuple[str, ...]
    docker_conn_id: str
    docker_url: str
    container_user: str
    api_conn_id: str
    dicom_host: str
    dicom_port: int
    quiet_seconds: float
    task_log: str
    association_end_seconds: float = 0.0
    max_open_minutes: float = 240.0
    disk_used_percent: float = 85.0
    disk_reserve: str = "100 GB"
    docker_tls_folder: str = ""
    allowed_networks: tuple[str, ...] = ()
    allowed_capabilities: tuple[str, ...] = ()
    allowed_mounts: tuple[str, ...] = ()
    allowed_images: tuple[str, ...] = ()
    require_digests: bool = False
    image_pull: str = "missing"
    pids_limit: int = 4096
    max_cpu: float = 0.0
    max_memory: str = ""
    max_shared_memory: str = ""
    max_timeout_minutes: float = 0.0
    output_quota: str = "100Gi"
    output_files: int = 100_000
    stop_grace_seconds: float = 10.0
    http_allowed_hosts: tuple[str, ...] = ()
    gpu_lease_folder: str = ""
    gpu_host: str = ""
    gpu_wait_minutes: float = 10.0
    gpu_wait_total_minutes: float = WAIT_TOTAL_MINUTES
    smtp_conn_id: str = "smtp_default"
    reviewer_roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipient_roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    broker_conn_id: str = ""
    broker_buckets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """What a task needs of the settings to lease cards, read without the others. Fields as in :class:`Settings`."""

    lease_folder: Path
    host: str
    wait_minutes: float
    wait_total_minutes: float = WAIT_TOTAL_MINUTES


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What a store in a bucket needs of the settings.

    :param conn_id: Airflow connection of type aws; empty: what boto3 finds itself.
    :param spool_folder: of this host, for what is still coming in.
    """

    conn_id: str
    spool_folder: Path


def load_bucket() -> BucketSettings:
    """Read the settings of a store in a bucket."""
    return BucketSettings(_text("store_conn_id"), Path(_text("spool_folder", str(_home() / "monai-spool"))))


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """What a task needs of the settings to send messages. Fields as in :class:`Settings`."""

    conn_id: str
    buckets: Mapping[str, str]


def load_broker() -> BrokerSettings:
    """Read the settings of the message broker."""
    return BrokerSettings(_text("broker_conn_id"), _names("broker_buckets"))


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Who may be told what happens, and how.

    :param hosts: that handlers may be at; none for none.
    :param give_up_hours: after which an event is told no more.
    :param handler_days: how long a handler is told anything whose owner does not ask for it; 0: for ever.
    :param dialect: of the events on the broker: ``shipped``, ``seed`` or ``none``.
    :param base_url: address of Airflow's API server, for links.
    """

    hosts: tuple[str, ...]
    give_up_hours: float
    handler_days: float
    dialect: str
    base_url: str


def load_notifications() -> NotificationSettings:
    """Read the settings of notifications and of events on the broker."""
    from airflow.sdk.configuration import conf

    return NotificationSettings(
        hosts=_list("notification_hosts") or _list("http_allowed_hosts"),
        give_up_hours=_number("notification_give_up_hours", 24.0),
        handler_days=_number("notification_handler_days", 90.0),
        dialect=_choice("broker_dialect", "shipped", ("shipped", "seed", "none")),
        base_url=str(conf.get("api", "base_url", fallback="") or "").rstrip("/"),
    )


def load_scratch() -> Path:
    """Folder of this host where the inputs and outputs of applications lie while the store is in a bucket."""
    return Path(_text("scratch_folder", str(_home() / "monai-scratch")))


def load_callback_url() -> str:
    """Where services call back to tasks, without a final slash; empty where nobody has said an address."""
    from airflow.sdk.configuration import conf

    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return _text("callback_url").rstrip("/") or (f"{base}/monai/callbacks" if base else "")


def own_folders(site: Settings) -> tuple[str, ...]:
    """Folders of a host with what no application may see but its own part: the store, or what stands in for it."""
    if site.store.startswith("s3://"):
        return str(load_scratch()), str(load_bucket().spool_folder)
    return (site.store.removeprefix("file://"),)


def load_pending_minutes(runner: str | None = None) -> float:
    """How long an application may wait for a place on a cluster; 0 where it runs on none.

    :param runner: in place of the site's.
    """
    if (runner or _text("runner", "docker")) != "kubernetes":
        return 0.0
    return _number("kubernetes_pending_minutes", PENDING_MINUTES)


def load_max_timeout_minutes() -> float:
    """How long one task may take; 0 for no limit."""
    return _number("max_timeout_minutes", 0)


def load_export_deadline_minutes() -> float:
    """After so many minutes from its first try an export task sends nothing more; 0 for no limit."""
    return _number("export_deadline_minutes", 1440.0)


def load_finalize_minutes() -> float:
    """After so many minutes the outputs of a job that was finalized are deleted."""
    return max(0.0, _number("finalize_minutes", 60.0))


def load_export_pools() -> Mapping[str, str]:
    """Destination -> the Airflow pool that exports to it run in, unless a task says another."""
    return _names("export_pools", '{"PACS": "to_pacs"}')


@dataclass(frozen=True, slots=True)
class MipSettings:
    """What the mip job server needs.

    :param workflow: whose tasks are the modules; empty for the only one that there is.
    :param extra_args: whether runs may add words to the command lines of modules.
    :param key_variable: environment variable in which a module gets the key that came with a run.
    :param deliver_to: connections that outputs are delivered to when a run has ended.
    """

    workflow: str
    extra_args: bool
    key_variable: str
    deliver_to: tuple[str, ...]


def load_mip() -> MipSettings:
    """Read the settings of the mip job server."""
    allowed = _choice("mip_extra_args", "False", ("True", "False", "true", "false")).lower() == "true"
    return MipSettings(
        _text("mip_workflow"), allowed, _text("mip_key_variable", "OPENAI_API_KEY"), _list("mip_deliver_to")
    )


def load_gpu() -> GpuSettings:
    """Read the settings of the cards of this host."""
    folder = _text("gpu_lease_folder") or _home() / "monai-gpu-leases"
    return GpuSettings(
        lease_folder=Path(folder),
        host=_text("gpu_host"),
        wait_minutes=_number("gpu_wait_minutes", 10.0),
        wait_total_minutes=_number("gpu_wait_total_minutes", WAIT_TOTAL_MINUTES),
    )


def load() -> Settings:
    """Read the settings, or raise :class:`SettingsError` that names the option."""
    gpu, broker = load_gpu(), load_broker()
    return Settings(
        store=_text("store") or str(_home() / "monai-store"),
        workflow_folder=_text("workflow_folder") or str(_home() / "workflow_specs"),
        runner=_choice("runner", "docker", RUNNERS),
        map_path=tuple(part for part in _text("map_path").split(os.pathsep) if part),
        docker_conn_id=_text("docker_conn_id"),
        docker_url=_text("docker_url", "unix:///var/run/docker.sock"),
        container_user=_text("container_user"),
        api_conn_id=_text("api_conn_id", "monai_airflow"),
        dicom_host=_text("dicom_host", "0.0.0.0"),
        dicom_port=int(_number("dicom_port", 11112)),
        quiet_seconds=_number("quiet_seconds", 10.0),
        association_end_seconds=_number("association_end_seconds", 0.0),
        max_open_minutes=_number("max_open_minutes", 240.0),
        disk_used_percent=_number("disk_used_percent", 85.0),
        disk_reserve=_text("disk_reserve", "100 GB"),
        docker_tls_folder=_text("docker_tls_folder"),
        allowed_networks=_list("allowed_networks"),
        allowed_capabilities=_list("allowed_capabilities"),
        allowed_mounts=_list("allowed_mounts"),
        allowed_images=_list("allowed_images"),
        require_digests=_choice("require_digests", "False", ("True", "False", "true", "false")).lower() == "true",
        image_pull=_choice("image_pull", "missing", PULL_POLICIES),
        pids_limit=int(_number("pids_limit", 4096)),
        max_cpu=_number("max_cpu", 0),
        max_memory=_text("max_memory"),
        max_shared_memory=_text("max_shared_memory"),
        max_timeout_minutes=load_max_timeout_minutes(),
        output_quota=_text("output_quota", "100Gi"),
        output_files=int(_number("output_files", 100_000)),
        stop_grace_seconds=_number("stop_grace_seconds", 10.0),
        http_allowed_hosts=_list("http_allowed_hosts"),
        task_log=_choice("task_log", "filtered", ("filtered", "tail", "none")),
        gpu_lease_folder=str(gpu.lease_folder),
        gpu_host=gpu.host,
        gpu_wait_minutes=gpu.wait_minutes,
        gpu_wait_total_minutes=gpu.wait_total_minutes,
        smtp_conn_id=_text("smtp_conn_id", "smtp_default"),
        reviewer_roles=_roles("reviewer_roles"),
        recipient_roles=_roles("recipient_roles"),
        broker_conn_id=broker.conn_id,
        broker_buckets=broker.buckets,
    )


def _home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()


def _text(option: str, default: str = "") -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get(SECTION, option, fallback=default) or default).strip()


def _list(option: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _text(option).split(",") if part.strip())


def _choice(option: str, default: str, choices: tuple[str, ...]) -> str:
    value = _text(option, default)
    if value not in choices:
        raise SettingsError(f"[{SECTION}] {option} = {value!r}: choose one of {', '.join(choices)}.")
    return value


def _roles(option: str) -> dict[str, tuple[str, ...]]:
    """Role in lower case -> its members, from ``{"role": ["member", ...]}``."""
    text = _text(option)
    try:
        given = json.loads(text or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict) or not all(isinstance(members, list) for members in given.values()):
        raise SettingsError(f'[{SECTION}] {option} must be JSON like {{"radiologist": ["anna", "ben"]}}.')
    return {role.strip().lower(): tuple(str(member).strip() for member in members) for role, members in given.items()}


def _names(option: str, example: str = '{"monaideploy": "s3://monaideploy"}') -> dict[str, str]:
    """Name -> text, from ``{"name": "text", ...}``."""
    try:
        given = json.loads(_text(option) or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, str) and value.strip() for value in given.values()):
        raise SettingsError(f"[{SECTION}] {option} must be JSON like {example}.")
    return {name.strip(): value.strip() for name, value in given.items()}


def _number(option: str, default: float) -> float:
    text = _text(option, str(default))
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f"[{SECTION}] {option} = {text!r} is not a number.") from None
