"""What Airflow is told about this package (entry point ``apache_airflow_provider``).

Every Airflow process calls this at start, so it is plain data and what it imports is too.
"""

from __future__ import annotations

from typing import Any

from airflow_monai import __version__
from airflow_monai.hooks.destination_forms import (
    broker_connection_type,
    dicom_connection_type,
    dicomweb_connection_type,
    folder_connection_type,
    mllp_connection_type,
    pull_connection_type,
    s3_connection_type,
)
from airflow_monai.hooks.forms import (
    argo_connection_type,
    kafka_connection_type,
    kubemq_connection_type,
    pubsub_connection_type,
    rabbitmq_connection_type,
)

INTEGRATION = "MONAI Deploy"


def get_provider_info() -> dict[str, Any]:
    """The provider's description, as ``airflow/provider_info.schema.json`` of the Airflow package defines it."""
    return {
        "package-name": "airflow-monai",
        "name": "MONAI",
        "description": "Clinical imaging-AI workflows: DICOM in, MONAI Application Packages, DICOM out.",
        "versions": [__version__],
        "integrations": [{"integration-name": INTEGRATION, "external-doc-url": "https://monai.io", "tags": ["health"]}],
        "hooks": _modules(
            "hooks.dicom",
            "hooks.dicomweb",
            "hooks.folder",
            "hooks.s3",
            "hooks.mllp",
            "hooks.argo",
            "hooks.broker",
            "hooks.export_agent",
            "hooks.pull",
        ),
        "operators": _modules(
            "operators.batch",
            "operators.map",
            "operators.container",
            "operators.export",
            "operators.gate",
            "operators.http",
            "operators.argo",
            "operators.review",
            "operators.email",
            "operators.remote_app",
        ),
        "sensors": _modules("sensors.payload", "sensors.export", "sensors.pacs", "sensors.store_files"),
        "triggers": _modules(
            "triggers.batch",
            "triggers.gate",
            "triggers.http",
            "triggers.http_async",
            "triggers.remote_app",
            "triggers.argo",
            "triggers.payload",
            "triggers.export",
            "triggers.pacs",
            "triggers.store_files",
            "triggers.email",
        ),
        "bundles": _modules("bundles.workflow_folder"),
        "connection-types": [
            dicom_connection_type(),
            dicomweb_connection_type(),
            folder_connection_type(),
            s3_connection_type(),
            mllp_connection_type(),
            broker_connection_type(),
            pull_connection_type(),
            argo_connection_type(),
            rabbitmq_connection_type(),
            kafka_connection_type(),
            kubemq_connection_type(),
            pubsub_connection_type(),
        ],
        "extra-links": [
            "airflow_monai.operators.links.ReviewedTaskLink",
            "airflow_monai.operators.links.ArgoWorkflowLink",
            "airflow_monai.operators.links.ArtifactsLink",
            "airflow_monai.operators.links.ApplicationLink",
        ],
        "cli": ["airflow_monai.cli.definition.get_cli_commands"],
        "config": {"monai": {"description": "Settings of the package airflow-monai.", "options": _options()}},
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": INTEGRATION, "python-modules": [f"airflow_monai.{name}" for name in names]}]


def _options() -> dict[str, Any]:
    return {
        "store": _option(
            "The store, where payloads, artifacts and records are kept: a folder, or a bucket of S3 or of a service "
            "like it, as s3://bucket/prefix. Every component needs it under the same name.",
            default="{AIRFLOW_HOME}/monai-store",
            example="/data/monai",
        ),
        "store_conn_id": _option(
            "Airflow connection of type aws for a store in a bucket: key id as login, secret key as password, in extra "
            "endpoint_url for a service that is not Amazon's, region_name, verify. Empty: boto3 looks itself "
            "(environment, files, the instance's role).",
            example="monai_store",
        ),
        "spool_folder": _option(
            "Folder of each gateway's host for files that are still coming in, where the store is in a bucket.",
            default="{AIRFLOW_HOME}/monai-spool",
            example="/var/lib/monai/spool",
        ),
        "scratch_folder": _option(
            "Folder of each worker's host where an application's input and output lie while it runs, where the store "
            "is in a bucket; its Docker engine must see it under the same path.",
            default="{AIRFLOW_HOME}/monai-scratch",
            example="/var/lib/monai/scratch",
        ),
        "workflow_folder": _option(
            "Folder of the workflow specs (YAML or JSON), read by the gateway and the DAG bundle.",
            default="{AIRFLOW_HOME}/workflow_specs",
            example="/etc/monai/workflow_specs",
        ),
        "runner": _option(
            "What runs MAPs: docker (a container for each task), kubernetes (a pod for each task) or process (a "
            "sandboxed process on the worker, for laptops and tests).",
            default="docker",
            example="process",
        ),
        "map_path": _option(
            "Folders, separated by the path separator of the system, in which the process runner looks for unpacked "
            "MAPs: <folder>/<name>/app.json.",
            example="/opt/maps:/srv/maps",
        ),
        "docker_conn_id": _option(
            "Airflow connection of type docker: the registry that the engine logs in to when it gets an image. Its "
            "extra may name the engine: docker_url and docker_tls_folder, in place of the options of these names.",
            example="docker_gpu01",
        ),
        "docker_url": _option(
            "Address of the Docker engine.",
            default="unix:///var/run/docker.sock",
            example="tcp://gpu01:2376",
        ),
        "docker_tls_folder": _option(
            "Folder with ca.pem, cert.pem and key.pem, by which an engine behind TLS and this worker prove to each "
            "other who they are. Empty: no TLS.",
            example="/etc/monai/docker-tls",
        ),
        **_policy_options(),
        **_kubernetes_options(),
        "container_user": _option(
            "uid:gid that containers run as. Empty: the worker's own, or 1000:1000 where the worker is root.",
            example="1000:1000",
        ),
        "api_conn_id": _option(
            "Airflow connection of type http to Airflow's REST API, through which the gateway creates runs.",
            default="monai_airflow",
            example="monai_airflow",
        ),
        **_api_options(),
        "dicom_host": _option(
            "Address that the gateway listens on for DICOM associations.", default="0.0.0.0", example="10.1.2.3"
        ),
        "dicom_port": _option("Port of the same.", default="11112", example="104", type_="integer"),
        **_dicom_options(),
        **_inbox_options(),
        **_completeness_options(),
        **_mip_options(),
        "quiet_seconds": _option(
            "A study is complete when no image of it came for so many seconds. A workflow may say its own "
            "(informatics_gateway.quiet_seconds).",
            default="10.0",
            example="60",
            type_="float",
        ),
        "disk_used_percent": _option(
            "When more of the store's disk is used, nothing new is taken in: senders are refused with the reason, what "
            "is announced waits, and both go on by themselves when there is space again.",
            default="85.0",
            example="95",
            type_="float",
        ),
        "disk_reserve": _option(
            "The same when less of that disk is free, as 100 GB; 0 for no such limit.",
            default="100 GB",
            example="20 GB",
        ),
        "http_allowed_hosts": _option(
            "Hosts that http and http_async tasks may call, separated by commas: names with * for anything, addresses, "
            "networks. Empty: every host, except link-local and cloud metadata addresses, which only a network that is "
            "listed here opens.",
            example="*.hospital.example, 10.1.0.0/16",
        ),
        "task_log": _option(
            "What of an application's output the task log in Airflow shows: filtered (line by line, with what may be "
            "patient data masked), tail (the same, the last lines, when it fails), none. The store keeps all of it.",
            default="filtered",
            example="tail",
        ),
        "export_deadline_minutes": _option(
            "After so many minutes from the first try of an export task nothing more is sent and its verdict is final, "
            "unless the task or the destination's connection says another time. 0: no limit.",
            default="1440.0",
            example="240",
            type_="float",
        ),
        "export_pools": _option(
            "The Airflow pool that exports to a destination run in: JSON, destination to pool. Its slots say how many "
            "run at a time; it must exist. A task may say its own (args.pool); of several destinations the first that "
            "is named here counts.",
            example='{"PACS": "to_pacs"}',
        ),
        "gpu_lease_folder": _option(
            "Folder on a disk of the host that has the cards, where its workers keep which job has which card. All "
            "workers of a host need the same one, those in containers too; no two hosts may share one.",
            default="{AIRFLOW_HOME}/monai-gpu-leases",
            example="/var/lib/airflow-monai/gpu-leases",
        ),
        "gpu_host": _option(
            "Name of this worker's host in the GPU inventory. Empty: the host's own name, or the only host there is.",
            example="gpu01",
        ),
        "gpu_wait_minutes": _option(
            "How long a task that has its pool slots waits for a card on its host. Then it gives the slots back and "
            "asks again half a minute later, without losing a try or its place in the queue.",
            default="10.0",
            example="30",
            type_="float",
        ),
        "gpu_wait_total_minutes": _option(
            "How long a task waits for a card in all, coming back again and again. Then it fails, of kind no_card, "
            "which retry_policy of a task may answer with another try. 0: it waits without end.",
            default="1440.0",
            example="240",
            type_="float",
        ),
        "smtp_conn_id": _option(
            "Airflow connection of type smtp by which tasks of type email send.",
            default="smtp_default",
            example="smtp_hospital",
        ),
        "reviewer_roles": _option(
            "Who has which role in clinical reviews: JSON, role to a list of user ids as the auth manager knows them. "
            "A review for roles that are named here can be answered by these users only.",
            example='{"radiologist": ["anna", "ben"]}',
        ),
        "recipient_roles": _option(
            "Where e-mails to a role go: JSON, role to a list of addresses.",
            example='{"radiologist": ["reading-room@hospital.example"]}',
        ),
        "broker_conn_id": _option(
            "Airflow connection of type monai_rabbitmq (or amqp): the message broker by which gateways take requests "
            "and answers, and tasks send. Empty: none.",
            example="monai_broker",
        ),
        "broker_dialect": _option(
            "In whose words the life of workflow instances is published on the broker: shipped (md.tasks.update), seed "
            "(workflow.started, task.started, task.completed, workflow.completed) or none.",
            default="shipped",
            example="seed",
        ),
        "notification_hosts": _option(
            "Hosts that notification handlers may be at, separated by commas: host names with *, addresses, networks. "
            "Empty: those of http_allowed_hosts; where that is empty too, no handler can be registered. * allows all "
            "but addresses that no service has.",
            example="*.hospital.example, 10.1.0.0/16",
        ),
        "notification_give_up_hours": _option(
            "After so many hours in vain a notification, or an event on the broker, is told no more, and listed as "
            "failed.",
            default="24.0",
            example="72",
            type_="float",
        ),
        "notification_handler_days": _option(
            "A notification handler is told nothing any more when its owner has not asked for it over HTTP for so many "
            "days, since nobody can see whether they still may; listing one's handlers is enough. 0: for ever.",
            default="90.0",
            example="30",
            type_="float",
        ),
        "broker_buckets": _option(
            "Where the buckets are that messages name, as JSON: name to the URL of a store, a folder or s3://bucket.",
            example='{"monaideploy": "s3://monaideploy"}',
        ),
    }


def _mip_options() -> dict[str, Any]:
    return {
        "mip_workflow": _option(
            "Workflow whose tasks are the modules of the mip job server. Empty: the only workflow that there is.",
            example="maps-to-features",
        ),
        "mip_extra_args": _option(
            "Whether runs of the mip job server may add words to the command lines of modules (extra_args).",
            default="False",
            example="True",
            type_="boolean",
        ),
        "mip_key_variable": _option(
            "Environment variable in which a module gets the openai_key that came with a run.",
            default="OPENAI_API_KEY",
            example="LLM_API_KEY",
        ),
        "mip_deliver_to": _option(
            "Airflow connections, separated by commas, that the outputs of modules are delivered to when a run of the "
            "mip job server has ended: of type http (each module's outputs are posted as a zip), or a destination "
            "that takes files, as monai_s3.",
            example="RESULTS_BUCKET, CDR",
        ),
    }


def _completeness_options() -> dict[str, Any]:
    """When a study is complete, beside quiet_seconds."""
    return {
        "association_end_seconds": _option(
            "A study is complete when no image of it came for so many seconds and the sender of the last ones has "
            "ended its association, if that is less than its quiet_seconds. 0: the end of an association says "
            "nothing, as with senders that open one for each series or image.",
            default="0.0",
            example="2",
            type_="float",
        ),
        "max_open_minutes": _option(
            "A study is closed after so many minutes even though images of it go on coming, which are late ones then. "
            "It is never less than its quiet time. 0: never.",
            default="240.0",
            example="60",
            type_="float",
        ),
    }


def _inbox_options() -> dict[str, Any]:
    """Ways in beside DICOM."""
    return {
        "inbox_folder": _option(
            "Folder that gateways watch: DICOM files, folders and zip archives that are put into a folder of it which "
            "is named after an AE title are taken in, and removed there, as if they had been sent to that AE title. "
            "AE@CALLING names the calling AE title too. Empty: none.",
            example="/data/inbox",
        ),
        "inbox_still_seconds": _option(
            "How long nothing of an item in the inbox must have changed before it is taken.",
            default="5.0",
            example="30",
            type_="float",
        ),
        "inbox_s3": _option(
            "Prefixes of buckets that gateways watch, separated by commas: DICOM files and zip archives that are put "
            "there are taken in as if they had been sent to the AE title in their name. {date:%Y/%m/%d} is another "
            "form of the day, which is needed unless inbox_s3_taken is delete. Empty: none.",
            example="s3://pacs-export/incoming/{ae}/{date}/",
        ),
        "inbox_s3_conn_id": _option(
            "Airflow connection of type aws for these buckets. Empty: store_conn_id.", example="pacs_export"
        ),
        "inbox_s3_taken": _option(
            "What becomes of an object that is in the store: keep or delete. One of which a file was refused is kept.",
            default="keep",
            example="delete",
        ),
        "inbox_s3_poll_seconds": _option(
            "How often these prefixes are looked at; each AE title and day costs one request.",
            default="10.0",
            example="60",
            type_="float",
        ),
        "inbox_calling_aet": _option(
            "Calling AE title of images that come without one; data_origins of a workflow may name it.",
            default="INBOX",
            example="CDDRIVE",
        ),
    }


def _api_options() -> dict[str, Any]:
    """The HTTP APIs below /monai of Airflow's API server."""
    return {
        "finalize_minutes": _option(
            "After so many minutes the results and the log of a job that was finalized through the App Server API are "
            "deleted; until then they can still be fetched. A gateway deletes them.",
            default="60.0",
            example="1440",
            type_="float",
        ),
        "api_rate": _option(
            "Requests that one caller may make to the APIs below /monai in a time, at each API server: 50/s, 600/m, "
            "10000/h; 0 for no limit. More are answered 429 with Retry-After. Known callers are counted by name, "
            "others by address.",
            default="50/s",
            example="600/m",
        ),
        "api_burst": _option(
            "So many of them may come at once after a pause.", default="200", example="50", type_="integer"
        ),
        "api_max_body": _option(
            "Largest request to these APIs that is no upload of data; a larger one is answered 413.",
            default="4Mi",
            example="1Mi",
        ),
        "upload_max_bytes": _option(
            "Largest upload of datasets and studies by HTTP, and the most that an archive in it may unpack to; more is "
            "answered 413.",
            default="64Gi",
            example="8Gi",
        ),
        "upload_max_files": _option(
            "Most files in one upload, those of archives included.", default="100000", example="5000", type_="integer"
        ),
        "upload_max_ratio": _option(
            "Most that the files of an uploaded archive may be larger than the archive, from 64 MiB of files on.",
            default="250",
            example="20",
            type_="integer",
        ),
        "upload_at_a_time": _option(
            "Uploads that one API server takes at a time; one more is answered 503 with Retry-After.",
            default="8",
            example="4",
            type_="integer",
        ),
        "upload_per_caller": _option(
            "Uploads that one API server takes at a time of one caller; one more is answered 429 with Retry-After. "
            "Empty: half of upload_at_a_time.",
            default="",
            example="2",
        ),
        "upload_idle_seconds": _option(
            "After so many seconds in which a sender sends nothing, or less than upload_min_rate, its upload is given "
            "up (408).",
            default="60.0",
            example="20",
            type_="float",
        ),
        "upload_min_rate": _option(
            "Least bytes that a sender of an upload has to send in a second, on average over upload_idle_seconds. The "
            "time in which this server does not keep up does not count.",
            default="4Ki",
            example="16Ki",
        ),
        "callback_url": _option(
            "Where services call back to http_async tasks, what {{ callback.url }} is made of: the address of "
            "/monai/callbacks as they see it. Empty: the same below [api] base_url.",
            example="https://airflow.hospital.example/monai/callbacks",
        ),
    }


def _dicom_options() -> dict[str, Any]:
    """The DICOM receiver's rules, limits and TLS."""
    return {
        "dicom_allowed_callers": _option(
            "Who may send, separated by commas: a calling AE title, or AET@address, AET@network/bits, where AET may be "
            "* for any. Empty: everybody.",
            example="CT01@10.1.2.3, *@10.2.0.0/16",
        ),
        "dicom_max_associations": _option(
            "Associations that may be open at once; more are rejected (local limit exceeded), which senders try again.",
            default="100",
            example="200",
            type_="integer",
        ),
        "dicom_max_associations_of_caller": _option(
            "The same for one calling AE title.", default="50", example="8", type_="integer"
        ),
        "dicom_max_pdu": _option(
            "Longest P-DATA-TF PDU that senders may use, in bytes; each open association costs as much memory.",
            default="131072",
            example="65536",
            type_="integer",
        ),
        "dicom_max_file": _option(
            "Largest image. A larger one is refused (A700), without filling the disk.", default="16 GB", example="4 GB"
        ),
        "dicom_idle_seconds": _option(
            "An association on which no whole PDU came for so long is aborted.",
            default="60.0",
            example="300",
            type_="float",
        ),
        "dicom_artim_seconds": _option(
            "How long a new connection may take until it asks for an association, TLS included.",
            default="30.0",
            example="10",
            type_="float",
        ),
        "dicom_plain": _option(
            "Whether associations without TLS are taken, at dicom_port.",
            default="True",
            example="False",
            type_="boolean",
        ),
        "dicom_tls_port": _option(
            "Port for associations with TLS (1.2 or later, BCP 195 profile). 0: none.",
            default="0",
            example="2762",
            type_="integer",
        ),
        "dicom_tls_certificate": _option(
            "PEM file with the gateway's certificate and its chain. This file, the key and the CA may change at any "
            "time: the next connection gets the new ones.",
            example="/etc/monai/tls/gateway.pem",
        ),
        "dicom_tls_key": _option(
            "PEM file with its private key, not encrypted, readable for the gateway only.",
            example="/etc/monai/tls/gateway.key",
        ),
        "dicom_tls_client_ca": _option(
            "PEM file with the CAs of clients: then only clients that have a certificate of one of them may connect.",
            example="/etc/monai/tls/modalities-ca.pem",
        ),
        "dicom_processes": _option(
            "Processes that receive images; several use several cores, from about three senders on.",
            default="1",
            example="4",
            type_="integer",
        ),
    }


def _policy_options() -> dict[str, Any]:
    """What applications may do here; a workflow can only ask for less."""
    return {
        "allowed_networks": _option(
            "Networks of the engine that a task may ask for (args.network), separated by commas. Never the host's.",
            example="models",
        ),
        "allowed_capabilities": _option(
            "Linux capabilities that a task may ask for (args.capabilities), separated by commas.",
            example="SYS_NICE",
        ),
        "allowed_mounts": _option(
            "Folders of the container host that a task may ask to read, with all below them (args.mounts), separated "
            "by commas. Never the store, or what gives the host away.",
            example="/srv/models",
        ),
        "allowed_images": _option(
            "Patterns (* for anything) of which the reference of an image must match one, separated by commas. Empty: "
            "any image.",
            example="registry.hospital.example/*, docker.io/library/python:3.*",
        ),
        "require_digests": _option(
            "Run only images that are named by their digest (name@sha256:...).",
            default="False",
            example="True",
            type_="boolean",
        ),
        "image_pull": _option(
            "When the engine gets an image from its registry: never, missing (when it does not have it) or always.",
            default="missing",
            example="never",
        ),
        "pids_limit": _option(
            "Processes and threads that an application may have at a time.",
            default="4096",
            example="1024",
            type_="integer",
        ),
        "max_cpu": _option(
            "Cores that one task may ask for, itself or by its manifest; 0 for no limit.",
            default="0.0",
            example="16",
            type_="float",
        ),
        "max_memory": _option("Memory likewise. Empty: no limit.", example="64Gi"),
        "max_shared_memory": _option("Shared memory likewise. Empty: no limit.", example="8Gi"),
        "max_timeout_minutes": _option(
            "The longest time limit of a task. A longer one, or none, becomes this; 0 leaves them alone.",
            default="0.0",
            example="240",
            type_="float",
        ),
        "output_quota": _option(
            "What an application may write to its output; one that writes more is stopped. 0 for no limit.",
            default="100Gi",
            example="20Gi",
        ),
        "output_files": _option(
            "Files and folders that it may write there.", default="100000", example="20000", type_="integer"
        ),
        "stop_grace_seconds": _option(
            "How long an application may go on after it was asked to end because its time is over. When Airflow ends "
            "the task it is two seconds, since Airflow itself waits no longer.",
            default="10.0",
            example="30",
            type_="float",
        ),
    }


def _kubernetes_options() -> dict[str, Any]:
    return {
        "kubernetes_conn_id": _option(
            "Airflow connection of type kubernetes to the cluster that runs MAPs. Empty: the cluster that the worker "
            "itself runs in, else the one of KUBECONFIG.",
            example="kubernetes_gpu",
        ),
        "kubernetes_namespace": _option(
            "Namespace of the pods. Empty: the connection's, else the worker's own.", example="monai-maps"
        ),
        "kubernetes_store_volume": _option(
            "How pods get at the store, as JSON: a claim that the workers mount too, a folder of the nodes or an NFS "
            "export; path is where in it the store lies.",
            example='{"claim": "monai", "path": "store"}',
        ),
        "kubernetes_transfer_image": _option(
            "For a store in a bucket and a cluster without a volume that workers and pods share: an image with this "
            "package and its extra s3, in which steps of each pod bring the input from the bucket and the output to "
            "it. Empty: pods use kubernetes_store_volume.",
            example="registry.hospital.example/airflow-monai@sha256:...",
        ),
        "kubernetes_store_secret": _option(
            "Secret in the pods' namespace that these steps get as environment variables: AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3 and the like.",
            example="monai-store",
        ),
        "kubernetes_service_account": _option(
            "Service account of the pods. They get no token of it.", example="monai-maps"
        ),
        "kubernetes_image_pull_secrets": _option(
            "Secrets, separated by commas, with the logins of registries.", example="registry-hospital"
        ),
        "kubernetes_node_selector": _option(
            "Labels, as JSON, of the nodes that pods may run on.", example='{"pool": "imaging"}'
        ),
        "kubernetes_tolerations": _option(
            "Taints that pods tolerate: a JSON list as in a pod's spec.",
            example='[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]',
        ),
        "kubernetes_priority_class": _option("Priority class of the pods.", example="clinical"),
        "kubernetes_runtime_class": _option("Runtime class of the pods.", example="nvidia"),
        "kubernetes_fs_group": _option(
            "Group that Kubernetes gives the store's volume to when a pod starts. Empty: it leaves the volume as it "
            "is, since the worker makes the folders of a task for its user.",
            example="1000",
        ),
        "kubernetes_labels": _option("More labels of every pod, as JSON.", example='{"team": "radiology"}'),
        "kubernetes_annotations": _option(
            "More annotations of every pod, as JSON. A mesh must add no sidecar, which would outlive the application.",
            example='{"sidecar.istio.io/inject": "false"}',
        ),
        "kubernetes_gpu_classes": _option(
            "What the classes of cards of the GPU inventory are on the cluster, as JSON: resource (default "
            "nvidia.com/gpu, for MIG slices nvidia.com/mig-<profile>), node_selector and tolerations.",
            example='{"nvidia-a100": {"node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}}}',
        ),
        "kubernetes_pending_minutes": _option(
            "How long a pod may wait until it starts, for a card or for its image. Then it is removed and the task "
            "tried again, as far as it has retries.",
            default="30.0",
            example="120",
            type_="float",
        ),
        "kubernetes_tmp_limit": _option(
            "How much an application may write to /tmp, which lies on the node's disk.", default="20Gi", example="100Gi"
        ),
    }


def _option(description: str, *, default: str = "", example: str, type_: str = "string") -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": type_,
        "example": example,
        "default": default,
    }
