"""The pod of a job, as the API would get it: no cluster and no client library is needed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import MapError, SettingsError
from airflow_monai.maps.manifest import MapResources
from airflow_monai.maps.policy import Confinement
from airflow_monai.maps.runners.base import MapJob, Mount
from airflow_monai.maps.runners.kubernetes import settings as kubernetes_settings
from airflow_monai.maps.runners.kubernetes.pod import (
    GpuClass,
    Placed,
    gpu_resource,
    label_value,
    pod_manifest,
    pod_name,
    selector,
)
from airflow_monai.maps.runners.kubernetes.settings import KubernetesSettings, StoreVolume, store_volume
from tests.maps.test_process import job

CLAIM = StoreVolume({"persistentVolumeClaim": {"claimName": "monai"}}, "clinic/store")


@pytest.fixture
def wanted(tmp_path: Path) -> MapJob:
    resources = MapResources(cpu=1.5, memory_bytes=2 << 30, shared_memory_bytes=256 << 20)
    labels = {"monai.dag": "ct-lung", "monai.run": "monai__0123456789abcdef" * 4, "monai.task": "segment"}
    return job(tmp_path, "", labels=labels, resources=resources, user="1001:1002", timeout_seconds=600.0)


def pod_of(job: MapJob, tmp_path: Path, site: KubernetesSettings | None = None, **placed: Any) -> dict[str, Any]:
    return pod_manifest(job, Placed(site or KubernetesSettings(store_volume=CLAIM), tmp_path, **placed))


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    return container


def test_the_application_is_run_as_its_manifest_says(wanted: MapJob, tmp_path: Path) -> None:
    container = container_of(pod_of(wanted, tmp_path))
    assert container["command"] == ["python3"], "not the image's entry point, which hides failures"
    assert container["args"] == ["/opt/holoscan/app/main.py"]
    assert container["workingDir"] == "/var/holoscan"
    assert {"name": "HOLOSCAN_INPUT_PATH", "value": "/var/holoscan/input/"} in container["env"]
    assert container["resources"]["limits"] == {"cpu": "1500m", "memory": str(2 << 30)}
    assert container["resources"]["requests"] == container["resources"]["limits"]


def test_what_looks_like_a_reference_of_kubernetes_stays_as_it_is(wanted: MapJob, tmp_path: Path) -> None:
    manifest = replace(wanted.found.manifest, command=("/bin/sh", "-c", "echo $(HOME) $HOME"))
    odd = replace(wanted, found=replace(wanted.found, manifest=manifest), environment={"A": "$(B)"})
    container = container_of(pod_of(odd, tmp_path))
    assert container["args"] == ["-c", "echo $$(HOME) $HOME"]
    assert {"name": "A", "value": "$$(B)"} in container["env"]


def test_a_pod_is_shut_in(wanted: MapJob, tmp_path: Path) -> None:
    pod = pod_of(wanted, tmp_path)
    spec, container = pod["spec"], container_of(pod)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["securityContext"] == {
        "runAsUser": 1001,
        "runAsGroup": 1002,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["dnsPolicy"] == "None"
    assert pod["metadata"]["labels"]["monai.network"] == "none", "what a site's NetworkPolicy selects"


def test_it_never_starts_again_by_itself_and_never_runs_for_ever(wanted: MapJob, tmp_path: Path) -> None:
    spec = pod_of(wanted, tmp_path)["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > 600 + 1800, "behind the runner's own limit and the wait for a node"
    assert "activeDeadlineSeconds" not in pod_of(replace(wanted, timeout_seconds=None), tmp_path)["spec"]


def test_it_sees_its_own_folders_of_the_store_and_no_other(wanted: MapJob, tmp_path: Path) -> None:
    pod = pod_of(wanted, tmp_path)
    assert {"name": "store", "persistentVolumeClaim": {"claimName": "monai"}} in pod["spec"]["volumes"]
    mounts = [mount for mount in container_of(pod)["volumeMounts"] if mount["name"] == "store"]
    assert mounts == [
        {"name": "store", "mountPath": "/var/holoscan/input", "subPath": "clinic/store/in", "readOnly": True},
        {"name": "store", "mountPath": "/var/holoscan/output", "subPath": "clinic/store/task/g1", "readOnly": False},
    ]


def test_shared_memory_and_scratch(wanted: MapJob, tmp_path: Path) -> None:
    pod = pod_of(replace(wanted, scratch=("/work",)), tmp_path)
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    places = {mount["mountPath"]: mount["name"] for mount in container_of(pod)["volumeMounts"]}
    assert volumes[places["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": str(256 << 20)}
    assert volumes[places["/tmp"]]["emptyDir"] == {"sizeLimit": str(20 << 30)}, "on disk, not in its memory"
    assert volumes[places["/work"]]["emptyDir"]["medium"] == "Memory"


def test_what_the_policy_allows(wanted: MapJob, tmp_path: Path) -> None:
    host = Mount(Path("/data/atlas"), "/atlas")
    confinement = Confinement(network="results", capabilities=("SYS_NICE",), mounts=(("/data/atlas", "/atlas"),))
    pod = pod_of(replace(wanted, mounts=(*wanted.mounts, host), confinement=confinement), tmp_path)
    assert {"name": "host-2", "hostPath": {"path": "/data/atlas", "type": "Directory"}} in pod["spec"]["volumes"]
    assert {"name": "host-2", "mountPath": "/atlas", "readOnly": True} in container_of(pod)["volumeMounts"]
    assert container_of(pod)["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_NICE"]}
    assert pod["metadata"]["labels"]["monai.network"] == "results"
    assert pod["spec"]["dnsPolicy"] == "ClusterFirst"


def test_a_folder_outside_the_store_is_refused(wanted: MapJob, tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"/etc is not in the store"):
        pod_of(replace(wanted, mounts=(Mount(Path("/etc"), "/x"),)), tmp_path)


def test_without_a_volume_it_says_what_to_set(wanted: MapJob, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="kubernetes_store_volume"):
        pod_of(wanted, tmp_path, KubernetesSettings())


def test_cards(wanted: MapJob, tmp_path: Path) -> None:
    two = replace(wanted, gpus=2, card_class="nvidia-a100")
    assert container_of(pod_of(two, tmp_path))["resources"]["limits"]["nvidia.com/gpu"] == "2"
    slice_of_card = pod_of(replace(two, gpus=1), tmp_path, card_mig="1g.10gb")
    assert container_of(slice_of_card)["resources"]["requests"]["nvidia.com/mig-1g.10gb"] == "1"
    assert gpu_resource(GpuClass(), "1g.10gb+me") == "nvidia.com/mig-1g.10gb.me"


def test_no_image_and_no_workflow_gives_itself_cards(wanted: MapJob, tmp_path: Path) -> None:
    greedy = replace(wanted, environment={"NVIDIA_VISIBLE_DEVICES": "all"})
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container_of(pod_of(greedy, tmp_path))["env"]
    with_card = container_of(pod_of(replace(greedy, gpus=1, card_class="nvidia-a100"), tmp_path))
    assert "NVIDIA_VISIBLE_DEVICES" not in {one["name"] for one in with_card["env"]}, "the device plugin says it"


def test_a_class_of_cards_has_its_nodes(wanted: MapJob, tmp_path: Path) -> None:
    taint = {"key": "gpu", "operator": "Exists"}
    amd = GpuClass("amd.com/gpu", {"cards": "amd"}, (taint,))
    site = KubernetesSettings(store_volume=CLAIM, node_selector={"zone": "a"}, gpu_classes={"amd-mi300": amd})
    pod = pod_of(replace(wanted, gpus=1, card_class="amd-mi300"), tmp_path, site)
    assert container_of(pod)["resources"]["limits"]["amd.com/gpu"] == "1"
    assert pod["spec"]["nodeSelector"] == {"zone": "a", "cards": "amd"}
    assert pod["spec"]["tolerations"] == [taint]
    assert pod_of(wanted, tmp_path, site)["spec"]["nodeSelector"] == {"zone": "a"}


def test_what_the_site_says(wanted: MapJob, tmp_path: Path) -> None:
    site = KubernetesSettings(
        store_volume=StoreVolume({"hostPath": {"path": "/data/monai", "type": "Directory"}}),
        service_account="maps",
        pull_secrets=("registry",),
        pull_policy="Never",
        priority_class="clinical",
        runtime_class="nvidia",
        fs_group=2000,
        labels={"team": "radiology"},
        annotations={"sidecar.istio.io/inject": "false"},
    )
    pod = pod_of(wanted, tmp_path, site)
    spec = pod["spec"]
    assert (spec["serviceAccountName"], spec["priorityClassName"], spec["runtimeClassName"]) == (
        "maps",
        "clinical",
        "nvidia",
    )
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert container_of(pod)["imagePullPolicy"] == "Never"
    assert spec["securityContext"]["fsGroup"] == 2000
    assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    assert pod["metadata"]["labels"]["team"] == "radiology"
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"


def test_names_and_labels_fit_kubernetes(wanted: MapJob, tmp_path: Path) -> None:
    assert pod_name("monai-segment-0123456789abcdef") == "monai-segment-0123456789abcdef"
    long = pod_name("monai-Große_Aufgabe.1-" + "x" * 60)
    assert len(long) <= 63
    assert long != pod_name("monai-große_aufgabe.1-" + "x" * 60)
    assert label_value("ct-lung") == "ct-lung"
    assert label_value("-1").startswith("sha256-"), "a value must begin with a letter or digit"
    assert len(label_value("x" * 200)) <= 63
    metadata = pod_of(wanted, tmp_path)["metadata"]
    assert metadata["annotations"]["monai.run"] == wanted.labels["monai.run"], "whole, where its label is a hash"
    assert selector(wanted.labels).count(",") == 2
    assert f"monai.run={metadata['labels']['monai.run']}" in selector(wanted.labels)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("kubernetes_store_volume", "{", "is not JSON"),
        ("kubernetes_store_volume", '{"emptyDir": {}}', r'must be \{"claim"'),
        ("kubernetes_store_volume", '{"claim": "a", "hostPath": "/x"}', r'must be \{"claim"'),
        ("kubernetes_store_volume", '{"claim": "a", "path": "../b"}', "path"),
        ("kubernetes_store_volume", '{"hostPath": "data"}', "an absolute folder"),
        ("kubernetes_tolerations", '{"key": "a"}', "must be a list"),
        ("kubernetes_node_selector", '{"a": 1}', "an object of texts"),
        ("kubernetes_gpu_classes", '{"a100": {"resource": "gpu"}}', "'a100'"),
        ("kubernetes_namespace", "Not a name", "cannot be a name"),
        ("kubernetes_fs_group", "users", "number of a group"),
        ("kubernetes_tmp_limit", "much", "not an amount"),
        ("kubernetes_pending_minutes", "long", "not a number"),
    ],
)
def test_a_wrong_setting_is_named(option: str, text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AIRFLOW__MONAI__{option.upper()}", text)
    with pytest.raises(SettingsError, match=message) as caught:
        kubernetes_settings.load("missing")
    assert option in str(caught.value)


def test_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for option, text in {
        "STORE_VOLUME": '{"claim": "monai", "path": "/store/"}',
        "IMAGE_PULL_SECRETS": "one, two",
        "TOLERATIONS": '[{"key": "nvidia.com/gpu", "operator": "Exists"}]',
        "GPU_CLASSES": json.dumps({"a100": {"node_selector": {"x": "y"}}}),
        "PENDING_MINUTES": "5",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__MONAI__KUBERNETES_{option}", text)
    site = kubernetes_settings.load("never")
    assert site.store_volume == StoreVolume({"persistentVolumeClaim": {"claimName": "monai"}}, "store")
    assert site.pull_secrets == ("one", "two")
    assert site.pull_policy == "Never"
    assert site.gpu_classes["a100"].node_selector == {"x": "y"}
    assert site.pending_seconds == 300.0
    assert store_volume({"nfs": {"server": "nas", "path": "/v"}}).source == {"nfs": {"server": "nas", "path": "/v"}}
