"""What a site allows, and that a workflow can only ask for less."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.cli.here.site import policy_problems
from airflow_monai.errors import PolicyRefused, SettingsError
from airflow_monai.maps.policy import Asked, Policy
from airflow_monai.settings import load
from airflow_monai.specs.plan import Resources

DIGEST = "sha256:" + "a" * 64
GIB = 2**30


def refused(policy: Policy, **args: Any) -> list[str]:
    return [f"{refusal.field} {refusal.option}" for refusal in policy.refusals(Asked.of(args))]


def test_left_alone_a_site_allows_nothing_beyond() -> None:
    policy = Policy()
    assert refused(policy) == []
    assert refused(policy, network="none") == []
    assert refused(policy, network="models") == ["args.network allowed_networks"]
    assert (
        refused(policy, capabilities=["NET_ADMIN", "cap_sys_ptrace"]) == ["args.capabilities allowed_capabilities"] * 2
    )
    assert refused(policy, mounts="/srv/a:/a") == ["args.mounts allowed_mounts"]
    confinement = policy.confine(Asked(), what="task")
    assert (confinement.network, confinement.capabilities, confinement.mounts) == ("none", (), ())


def test_what_a_site_lists_can_be_had_and_limits_only_narrowed() -> None:
    policy = Policy(
        networks=("models",), capabilities=("SYS_NICE",), mounts=("/srv",), pids=1000, output_bytes=10 * GIB
    )
    args = {"network": "models", "capabilities": "CAP_SYS_NICE", "mounts": ["/srv/models:/models:ro"]}
    got = policy.confine(Asked.of({**args, "pids": "100", "output_quota": "1Gi"}), what="task")
    assert (got.network, got.capabilities, got.pids, got.output_bytes) == ("models", ("SYS_NICE",), 100, GIB)
    assert got.mounts == (("/srv/models", "/models"),)
    with pytest.raises(
        PolicyRefused, match=r"task asks for more .*args\.pids.*args\.output_quota.*\[monai\] output_quota"
    ):
        policy.confine(Asked.of({"pids": "2000", "output_quota": "11Gi"}), what="task")


def test_a_folder_may_be_mounted_twice() -> None:
    confined = Policy(mounts=("/srv",)).confine(Asked(mounts=("/srv/a:/one", "/srv/a/:/two/")), what="task")
    assert confined.mounts == (("/srv/a", "/one"), ("/srv/a", "/two"))


def test_what_was_allowed_is_mounted_whatever_a_link_comes_to_mean(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "models")
    policy = Policy(mounts=(str(tmp_path / "models"),))
    confined = policy.confine(Asked(mounts=(f"{tmp_path}/link/:/models",)), what="task")
    assert confined.mounts == ((os.path.realpath(tmp_path / "models"), "/models"),)


@pytest.mark.parametrize("network", ["host", "bridge", "default", "container:abc"])
def test_no_setting_opens_the_host_s_network(network: str) -> None:
    assert refused(Policy(networks=(network,)), network=network) == ["args.network allowed_networks"]


@pytest.mark.parametrize(
    "mount",
    [
        "/:/host",
        "/var/run/docker.sock:/s",
        "/run/docker.sock:/s",
        "/etc:/e",
        "/proc/1:/p",
        "/dev/sda:/d",
        "/data/store:/all",
        "/data/store/payloads:/all",
        "/data:/all",
        "/var:/v",
        "/srv/a:/proc",
        "/srv/a:/",
        "/srv/a:/x/../proc",
        "/srv/../etc:/e",
        "/srv/a:/a:rw",
        "srv/a:/a",
        "volume:/a",
        "/srv/a",
    ],
)
def test_no_setting_gives_away_the_host_or_the_store(mount: str) -> None:
    policy = Policy(mounts=("/", "/data", "/srv"), forbidden=("/data/store",))
    assert refused(policy, mounts=[mount]) == ["args.mounts allowed_mounts"]


def test_a_link_does_not_lead_out_of_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    policy = Policy(mounts=(str(tmp_path / "allowed"),))
    assert refused(policy, mounts=f"{tmp_path}/allowed/link:/x") == ["args.mounts allowed_mounts"]
    assert refused(policy, mounts=f"{tmp_path}/allowed:/x") == []


@pytest.mark.parametrize(
    ("reference", "is_allowed"),
    [
        ("registry.hospital.example/ai/lung:1", True),
        ("registry.hospital.example:5000/ai/lung:1", False),
        ("registry.hospital.example.evil.example/ai/lung:1", False),
        ("evil/registry.hospital.example/ai:1", False),
        ("python:3.11", True),
        ("docker.io/library/python:3.11", True),
        ("library/python:3.11", True),
        ("me/python:3.11", False),
        ("localhost/python:3.11", False),
        (DIGEST, False),
    ],
)
def test_images_are_allowed_by_pattern(reference: str, is_allowed: bool) -> None:
    policy = Policy(images=("registry.hospital.example/*", "docker.io/library/python:3.*"))
    assert bool(list(policy.image_refusals(reference, "args.map"))) != is_allowed


def test_an_image_by_its_id_goes_by_its_other_names() -> None:
    policy = Policy(images=("registry.hospital.example/*",))
    policy.check_image(DIGEST, ["registry.hospital.example/ai/lung:1"])
    with pytest.raises(PolicyRefused):
        policy.check_image(DIGEST, ["other.example/ai/lung:1"])


def test_an_id_is_not_taken_for_a_name() -> None:
    hub, short = Policy(images=("docker.io/*",)), DIGEST[7:19]
    for reference in (DIGEST, short):
        with pytest.raises(PolicyRefused, match="allowed_images"):
            hub.check_image(reference, [DIGEST, "other.example/ai/lung:1"])
        hub.check_image(reference, [DIGEST, "lung:1"])
        Policy(images=(DIGEST,)).check_image(reference, [DIGEST])
    with pytest.raises(PolicyRefused, match="require_digests"):
        Policy(digests=True).check_image(short, [DIGEST])


def test_digests_can_be_required() -> None:
    policy = Policy(digests=True)
    policy.check_image(f"registry.hospital.example/ai/lung@{DIGEST}")
    policy.check_image(f"registry.hospital.example/ai/lung:1@{DIGEST}")
    policy.check_image(DIGEST)
    for reference in ("lung:1", "lung@sha256:abc", f"lung:{'a' * 64}"):
        with pytest.raises(PolicyRefused, match=r"by its digest.*\[monai\] require_digests"):
            policy.check_image(reference)


def test_a_manifest_cannot_ask_for_more_than_one_task_may_have() -> None:
    policy = Policy(max_cpu=4, max_memory=8 * GIB, max_shared_memory=GIB)
    policy.check_resources(4, 8 * GIB, GIB, what="task")
    with pytest.raises(PolicyRefused, match=r"resources\.cpu: 8 cores.*resources\.memory.*resources\.shared_memory"):
        policy.check_resources(8, 9 * GIB, 2 * GIB, what="task")


def test_the_longest_time_limit_counts_for_who_wants_none() -> None:
    policy = Policy(max_timeout_seconds=600)
    assert [policy.time_limit(wanted) for wanted in (None, 0, 60, 6000)] == [600, 600, 60, 600]
    assert Policy().time_limit(None) is None


def test_settings_make_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    for option, value in {
        "ALLOWED_NETWORKS": "models, other",
        "ALLOWED_CAPABILITIES": "cap_sys_nice",
        "MAX_MEMORY": "8Gi",
        "OUTPUT_QUOTA": "0",
        "REQUIRE_DIGESTS": "true",
        "IMAGE_PULL": "never",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)
    policy = Policy.of(load())
    assert (policy.networks, policy.capabilities, policy.max_memory) == (("models", "other"), ("SYS_NICE",), 8 * GIB)
    assert (policy.output_bytes, policy.digests, policy.pull) == (None, True, "never")
    monkeypatch.setenv("AIRFLOW__MONAI__MAX_MEMORY", "much")
    with pytest.raises(SettingsError, match=r"\[monai\] max_memory: 'much' is not an amount"):
        Policy.of(load())


def test_validate_tells_what_the_site_will_refuse() -> None:
    policy = Policy(images=("registry.hospital.example/*",), max_memory=GIB, max_timeout_seconds=600, pull="never")
    args = {"container_image": "alpine:3", "network": "host", "always_pull": "true"}
    told = dict(policy_problems(policy, args, Resources(memory="2Gi"), 60))
    assert set(told) == {
        "args.container_image",
        "args.network",
        "args.always_pull",
        "resources.memory",
        "timeout_minutes",
    }
    assert told["resources.memory"].endswith("([monai] max_memory)")
    assert list(policy_problems(Policy(), {"map": "lung:1"}, None, None)) == []


@pytest.mark.parametrize("pids", [-1, "0"])
def test_fewer_processes_than_one_cannot_be_asked_for(pids: Any) -> None:
    assert refused(Policy(), pids=pids) == ["args.pids pids_limit"]


def test_nobody_gets_an_image_anew_where_none_is_gotten() -> None:
    Policy(pull="missing").check_pull("a:1")
    with pytest.raises(PolicyRefused, match=r"'a:1'.*always_pull.*image_pull = never"):
        Policy(pull="never").check_pull("a:1")
