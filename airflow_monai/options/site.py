"""Options of the whole site: store, workflows, runners, GPU, notifications, broker."""

from __future__ import annotations

from typing import Any

from airflow_monai.options.option import option


def site_options() -> dict[str, Any]:
    return {
        "store": option(
            "The store, where payloads, artifacts and records are kept: a folder, or a bucket of S3 or of a service "
            "like it, as s3://bucket/prefix. Every component needs it under the same name.",
            default="{AIRFLOW_HOME}/monai-store",
            example="/data/monai",
        ),
        "store_conn_id": option(
            "Airflow connection of type aws for a store in a bucket: key id as login, secret key as password, in extra "
            "endpoint_url for a service that is not Amazon's, region_name, verify. Empty: boto3 looks itself "
            "(environment, files, the instance's role).",
            example="monai_store",
        ),
        "spool_folder": option(
            "Folder of each gateway's host for files that are still coming in, where the store is in a bucket.",
            default="{AIRFLOW_HOME}/monai-spool",
            example="/var/lib/monai/spool",
        ),
        "scratch_folder": option(
            "Folder of each worker's host where an application's input and output lie while it runs, where the store "
            "is in a bucket; its Docker engine must see it under the same path.",
            default="{AIRFLOW_HOME}/monai-scratch",
            example="/var/lib/monai/scratch",
        ),
        "workflow_folder": option(
            "Folder of the workflow specs (YAML or JSON), read by the gateway and the DAG bundle.",
            default="{AIRFLOW_HOME}/workflow_specs",
            example="/etc/monai/workflow_specs",
        ),
        "runner": option(
            "What runs MAPs: docker (a container for each task), kubernetes (a pod for each task) or process (a "
            "sandboxed process on the worker, for laptops and tests).",
            default="docker",
            example="process",
        ),
        "map_path": option(
            "Folders, separated by the path separator of the system, in which the process runner looks for unpacked "
            "MAPs: <folder>/<name>/app.json.",
            example="/opt/maps:/srv/maps",
        ),
        "docker_conn_id": option(
            "Airflow connection of type docker: the registry that the engine logs in to when it gets an image. Its "
            "extra may name the engine: docker_url and docker_tls_folder, in place of the options of these names.",
            example="docker_gpu01",
        ),
        "docker_url": option(
            "Address of the Docker engine.",
            default="unix:///var/run/docker.sock",
            example="tcp://gpu01:2376",
        ),
        "docker_tls_folder": option(
            "Folder with ca.pem, cert.pem and key.pem, by which an engine behind TLS and this worker prove to each "
            "other who they are. Empty: no TLS.",
            example="/etc/monai/docker-tls",
        ),
        "container_user": option(
            "uid:gid that containers run as. Empty: the worker's own, or 1000:1000 where the worker is root.",
            example="1000:1000",
        ),
        "api_conn_id": option(
            "Airflow connection of type http to Airflow's REST API, through which the gateway creates runs.",
            default="monai_airflow",
            example="monai_airflow",
        ),
        "dicom_host": option(
            "Address that the gateway listens on for DICOM associations.", default="0.0.0.0", example="10.1.2.3"
        ),
        "dicom_port": option("Port of the same.", default="11112", example="104", type_="integer"),
        "quiet_seconds": option(
            "A study is complete when no image of it came for so many seconds. A workflow may say its own "
            "(informatics_gateway.quiet_seconds).",
            default="10.0",
            example="60",
            type_="float",
        ),
        "disk_used_percent": option(
            "When more of the store's disk is used, nothing new is taken in: senders are refused with the reason, what "
            "is announced waits, and both go on by themselves when there is space again.",
            default="85.0",
            example="95",
            type_="float",
        ),
        "disk_reserve": option(
            "The same when less of that disk is free, as 100 GB; 0 for no such limit.",
            default="100 GB",
            example="20 GB",
        ),
        "http_allowed_hosts": option(
            "Hosts that http and http_async tasks may call, separated by commas: names with * for anything, addresses, "
            "networks. Empty: every host, except link-local and cloud metadata addresses, which only a network that is "
            "listed here opens.",
            example="*.hospital.example, 10.1.0.0/16",
        ),
        "task_log": option(
            "What of an application's output the task log in Airflow shows: filtered (line by line, with what may be "
            "patient data masked), tail (the same, the last lines, when it fails), none. The store keeps all of it.",
            default="filtered",
            example="tail",
        ),
        "export_deadline_minutes": option(
            "After so many minutes from the first try of an export task nothing more is sent and its verdict is final, "
            "unless the task or the destination's connection says another time. 0: no limit.",
            default="1440.0",
            example="240",
            type_="float",
        ),
        "export_pools": option(
            "The Airflow pool that exports to a destination run in: JSON, destination to pool. Its slots say how many "
            "run at a time; it must exist. A task may say its own (args.pool); of several destinations the first that "
            "is named here counts.",
            example='{"PACS": "to_pacs"}',
        ),
        "gpu_lease_folder": option(
            "Folder on a disk of the host that has the cards, where its workers keep which job has which card. All "
            "workers of a host need the same one, those in containers too; no two hosts may share one.",
            default="{AIRFLOW_HOME}/monai-gpu-leases",
            example="/var/lib/airflow-monai/gpu-leases",
        ),
        "gpu_host": option(
            "Name of this worker's host in the GPU inventory. Empty: the host's own name, or the only host there is.",
            example="gpu01",
        ),
        "gpu_wait_minutes": option(
            "How long a task that has its pool slots waits for a card on its host. Then it gives the slots back and "
            "asks again half a minute later, without losing a try or its place in the queue.",
            default="10.0",
            example="30",
            type_="float",
        ),
        "gpu_wait_total_minutes": option(
            "How long a task waits for a card in all, coming back again and again. Then it fails, of kind no_card, "
            "which retry_policy of a task may answer with another try. 0: it waits without end.",
            default="1440.0",
            example="240",
            type_="float",
        ),
        "smtp_conn_id": option(
            "Airflow connection of type smtp by which tasks of type email send.",
            default="smtp_default",
            example="smtp_hospital",
        ),
        "reviewer_roles": option(
            "Who has which role in clinical reviews: JSON, role to a list of user ids as the auth manager knows them. "
            "A review for roles that are named here can be answered by these users only.",
            example='{"radiologist": ["anna", "ben"]}',
        ),
        "recipient_roles": option(
            "Where e-mails to a role go: JSON, role to a list of addresses.",
            example='{"radiologist": ["reading-room@hospital.example"]}',
        ),
        "broker_conn_id": option(
            "Airflow connection of type monai_rabbitmq (or amqp): the message broker by which gateways take requests "
            "and answers, and tasks send. Empty: none.",
            example="monai_broker",
        ),
        "broker_dialect": option(
            "In whose words the life of workflow instances is published on the broker: shipped (md.tasks.update), seed "
            "(workflow.started, task.started, task.completed, workflow.completed) or none.",
            default="shipped",
            example="seed",
        ),
        "notification_hosts": option(
            "Hosts that notification handlers may be at, separated by commas: host names with *, addresses, networks. "
            "Empty: those of http_allowed_hosts; where that is empty too, no handler can be registered. * allows all "
            "but addresses that no service has.",
            example="*.hospital.example, 10.1.0.0/16",
        ),
        "notification_give_up_hours": option(
            "After so many hours in vain a notification, or an event on the broker, is told no more, and listed as "
            "failed.",
            default="24.0",
            example="72",
            type_="float",
        ),
        "notification_handler_days": option(
            "A notification handler is told nothing any more when its owner has not asked for it over HTTP for so many "
            "days, since nobody can see whether they still may; listing one's handlers is enough. 0: for ever.",
            default="90.0",
            example="30",
            type_="float",
        ),
        "broker_buckets": option(
            "Where the buckets are that messages name, as JSON: name to the URL of a store, a folder or s3://bucket.",
            example='{"monaideploy": "s3://monaideploy"}',
        ),
    }
