"""Options of what applications may do, and of the cluster that runs them."""

from __future__ import annotations

from typing import Any

from airflow_monai.options.option import option


def policy_options() -> dict[str, Any]:
    """What applications may do here; a workflow can only ask for less."""
    return {
        "allowed_networks": option(
            "Networks of the engine that a task may ask for (args.network), separated by commas. Never the host's.",
            example="models",
        ),
        "allowed_capabilities": option(
            "Linux capabilities that a task may ask for (args.capabilities), separated by commas.",
            example="SYS_NICE",
        ),
        "allowed_mounts": option(
            "Folders of the container host that a task may ask to read, with all below them (args.mounts), separated "
            "by commas. Never the store, or what gives the host away.",
            example="/srv/models",
        ),
        "allowed_images": option(
            "Patterns (* for anything) of which the reference of an image must match one, separated by commas. Empty: "
            "any image.",
            example="registry.hospital.example/*, docker.io/library/python:3.*",
        ),
        "require_digests": option(
            "Run only images that are named by their digest (name@sha256:...).",
            default="False",
            example="True",
            type_="boolean",
        ),
        "image_pull": option(
            "When the engine gets an image from its registry: never, missing (when it does not have it) or always.",
            default="missing",
            example="never",
        ),
        "pids_limit": option(
            "Processes and threads that an application may have at a time.",
            default="4096",
            example="1024",
            type_="integer",
        ),
        "max_cpu": option(
            "Cores that one task may ask for, itself or by its manifest; 0 for no limit.",
            default="0.0",
            example="16",
            type_="float",
        ),
        "max_memory": option("Memory likewise. Empty: no limit.", example="64Gi"),
        "max_shared_memory": option("Shared memory likewise. Empty: no limit.", example="8Gi"),
        "max_timeout_minutes": option(
            "The longest time limit of a task. A longer one, or none, becomes this; 0 leaves them alone.",
            default="0.0",
            example="240",
            type_="float",
        ),
        "output_quota": option(
            "What an application may write to its output; one that writes more is stopped. 0 for no limit.",
            default="100Gi",
            example="20Gi",
        ),
        "output_files": option(
            "Files and folders that it may write there.", default="100000", example="20000", type_="integer"
        ),
        "stop_grace_seconds": option(
            "How long an application may go on after it was asked to end because its time is over. When Airflow ends "
            "the task it is two seconds, since Airflow itself waits no longer.",
            default="10.0",
            example="30",
            type_="float",
        ),
    }


def kubernetes_options() -> dict[str, Any]:
    return {
        "kubernetes_conn_id": option(
            "Airflow connection of type kubernetes to the cluster that runs MAPs. Empty: the cluster that the worker "
            "itself runs in, else the one of KUBECONFIG.",
            example="kubernetes_gpu",
        ),
        "kubernetes_namespace": option(
            "Namespace of the pods. Empty: the connection's, else the worker's own.", example="monai-maps"
        ),
        "kubernetes_store_volume": option(
            "How pods get at the store, as JSON: a claim that the workers mount too, a folder of the nodes or an NFS "
            "export; path is where in it the store lies.",
            example='{"claim": "monai", "path": "store"}',
        ),
        "kubernetes_transfer_image": option(
            "For a store in a bucket and a cluster without a volume that workers and pods share: an image with this "
            "package and its extra s3, in which steps of each pod bring the input from the bucket and the output to "
            "it. Empty: pods use kubernetes_store_volume.",
            example="registry.hospital.example/airflow-monai@sha256:...",
        ),
        "kubernetes_store_secret": option(
            "Secret in the pods' namespace that these steps get as environment variables: AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3 and the like.",
            example="monai-store",
        ),
        "kubernetes_service_account": option(
            "Service account of the pods. They get no token of it.", example="monai-maps"
        ),
        "kubernetes_image_pull_secrets": option(
            "Secrets, separated by commas, with the logins of registries.", example="registry-hospital"
        ),
        "kubernetes_node_selector": option(
            "Labels, as JSON, of the nodes that pods may run on.", example='{"pool": "imaging"}'
        ),
        "kubernetes_tolerations": option(
            "Taints that pods tolerate: a JSON list as in a pod's spec.",
            example='[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]',
        ),
        "kubernetes_priority_class": option("Priority class of the pods.", example="clinical"),
        "kubernetes_runtime_class": option("Runtime class of the pods.", example="nvidia"),
        "kubernetes_fs_group": option(
            "Group that Kubernetes gives the store's volume to when a pod starts. Empty: it leaves the volume as it "
            "is, since the worker makes the folders of a task for its user.",
            example="1000",
        ),
        "kubernetes_labels": option("More labels of every pod, as JSON.", example='{"team": "radiology"}'),
        "kubernetes_annotations": option(
            "More annotations of every pod, as JSON. A mesh must add no sidecar, which would outlive the application.",
            example='{"sidecar.istio.io/inject": "false"}',
        ),
        "kubernetes_gpu_classes": option(
            "What the classes of cards of the GPU inventory are on the cluster, as JSON: resource (default "
            "nvidia.com/gpu, for MIG slices nvidia.com/mig-<profile>), node_selector and tolerations.",
            example='{"nvidia-a100": {"node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}}}',
        ),
        "kubernetes_pending_minutes": option(
            "How long a pod may wait until it starts, for a card or for its image. Then it is removed and the task "
            "tried again, as far as it has retries.",
            default="30.0",
            example="120",
            type_="float",
        ),
        "kubernetes_tmp_limit": option(
            "How much an application may write to /tmp, which lies on the node's disk.", default="20Gi", example="100Gi"
        ),
    }
