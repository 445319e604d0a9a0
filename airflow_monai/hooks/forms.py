"""The forms of services' connection types, as Airflow's provider info wants them."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks.form_fields import choice, flag, number, text, tls


def argo_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for an Argo Server."""
    return {
        "connection-type": "argo",
        "hook-class-name": "airflow_monai.hooks.argo.ArgoHook",
        "hook-name": "Argo Server",
        "conn-fields": {
            "namespace": text("Namespace", "Where workflows are started, unless a task says another.", "argo"),
            "store_path": text(
                "Store in the cluster", "Folder of the store as the cluster's pods see it. Empty: the same as here."
            ),
            "verify": text(
                "Certificate check", "true, false, or the file of the certificate authority to check with.", "true"
            ),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["login"],
            "relabeling": {"host": "Server", "password": "Token", "schema": "http or https"},
            "placeholders": {"host": "argo-server.argo", "schema": "https", "port": "2746"},
        },
    }


def rabbitmq_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a message broker."""
    return {
        "connection-type": "monai_rabbitmq",
        "hook-class-name": "airflow_monai.hooks.broker.RabbitMqHook",
        "hook-name": "Message broker (RabbitMQ)",
        "conn-fields": {
            "exchange": text("Exchange", "Topic exchange of the messages.", "monaideploy"),
            "dead_letter_exchange": text(
                "Dead-letter exchange", "Empty: the exchange's name with -dead-letter behind it."
            ),
            "prefetch": number("Prefetch", "Messages of a queue that a gateway may hold at a time.", 50),
            "delivery_limit": number(
                "Delivery limit",
                "After so many deliveries, each to a gateway that died with it, a message is a dead letter. Only for "
                "queues that do not exist yet.",
                20,
            ),
            "heartbeat": number("Heartbeat (s)", "A broker that is silent for twice as long counts as away.", 10),
            **tls(),
        },
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {"schema": "Virtual host"},
            "placeholders": {"host": "rabbitmq.example.org", "port": "5672", "schema": "monaideploy"},
        },
    }


def kafka_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a Kafka cluster."""
    return {
        "connection-type": "monai_kafka",
        "hook-class-name": "airflow_monai.hooks.broker.KafkaHook",
        "hook-name": "Message broker (Kafka)",
        "conn-fields": {
            "group": text("Group", "Consumer group; gateways of one group share the messages.", "airflow-monai"),
            "mechanism": choice(
                "Mechanism", "How login and password are given.", ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
            ),
            "prefetch": number("Prefetch", "Messages that a gateway may hold at a time.", 50),
            "delivery_limit": number(
                "Delivery limit", "After so many deliveries, each to a gateway that died with it: a dead letter.", 20
            ),
            "partitions": number("Partitions", "Of topics that do not exist yet. Empty: as the cluster says."),
            "replicas": number("Replicas", "Of topics that do not exist yet. Empty: as the cluster says."),
            **tls(),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["schema"],
            "relabeling": {"host": "Servers"},
            "placeholders": {"host": "kafka1.example.org, kafka2.example.org:9093", "port": "9092"},
        },
    }


def kubemq_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a KubeMQ."""
    certificates = tls()
    return {
        "connection-type": "monai_kubemq",
        "hook-class-name": "airflow_monai.hooks.broker.KubeMqHook",
        "hook-name": "Message broker (KubeMQ)",
        "conn-fields": {
            "client_id": text("Client id", "What KubeMQ's access rules and dashboard know us by.", "airflow-monai"),
            "prefetch": number("Prefetch", "Messages of a queue that a gateway may hold at a time, at most 200.", 50),
            "delivery_limit": number(
                "Delivery limit", "After so many deliveries, each to a gateway that died with it: a dead letter.", 20
            ),
            **{name: certificates[name] for name in ("tls", "ca_file", "cert_file", "key_file")},
        },
        "ui-field-behaviour": {
            "hidden-fields": ["login", "schema"],
            "relabeling": {"password": "Token (JWT)"},
            "placeholders": {"host": "kubemq.example.org", "port": "50000"},
        },
    }


def pubsub_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for Google Cloud Pub/Sub."""
    return {
        "connection-type": "monai_pubsub",
        "hook-class-name": "airflow_monai.hooks.broker.PubSubHook",
        "hook-name": "Message broker (Google Pub/Sub)",
        "conn-fields": {
            "project": text("Project", "Of Google Cloud; empty: what Project above says."),
            "group": text(
                "Group", "Begins the names of subscriptions; gateways of one group share them.", "airflow-monai"
            ),
            "prefetch": number("Prefetch", "Messages that a gateway may hold at a time.", 50),
            "delivery_limit": number(
                "Delivery limit", "After so many deliveries without an answer: a dead letter. From 5 to 100.", 20
            ),
            "insecure": flag("Insecure", "Without TLS and log-in, for an emulator at Host."),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["login"],
            "relabeling": {"schema": "Project", "password": "Service account key (JSON)"},
            "placeholders": {"host": "empty: Google's own", "schema": "my-project"},
        },
    }
