"""Airflow connections of a message broker: ``monai_rabbitmq``, ``monai_kafka``, ``monai_kubemq``, ``monai_pubsub``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_monai.broker.base import Broker, BrokerAddress, open_broker
from airflow_monai.errors import BrokerMisused, MonaiError
from airflow_monai.hooks.connections import aconnection_of, connection_of
from airflow_monai.hooks.forms import kafka_connection_type, kubemq_connection_type, pubsub_connection_type
from airflow_monai.hooks.forms import rabbitmq_connection_type as connection_type

if TYPE_CHECKING:
    from airflow.sdk import Connection


def broker_address(conn_id: str) -> BrokerAddress:
    """What a connection says of a broker.

    :raises BrokerMisused: when there is no such connection.
    """
    return _described(conn_id, *connection_of(conn_id, _no_connection(conn_id)))


async def abroker_address(conn_id: str) -> BrokerAddress:
    """As :func:`broker_address`, for the triggerer."""
    return _described(conn_id, *await aconnection_of(conn_id, _no_connection(conn_id)))


def _no_connection(conn_id: str) -> BrokerMisused:
    return BrokerMisused(
        f"There is no Airflow connection {conn_id!r} of a broker. Add one of type monai_rabbitmq, "
        f"monai_kafka, monai_kubemq or monai_pubsub under Admin, Connections, or as AIRFLOW_CONN_{conn_id.upper()}."
    )


def _described(conn_id: str, connection: Connection, extra: dict[str, Any]) -> BrokerAddress:
    return BrokerAddress(
        name=conn_id,
        kind=connection.conn_type or "",
        host=(connection.host or "").strip(),
        port=connection.port,
        login=connection.login or "",
        password=connection.password or "",
        path=(connection.schema or "").strip(),
        extra=extra,
    )


class _BrokerHook(BaseHook):
    """A broker; its connection test logs in.

    :param conn_id: id of the Airflow connection.
    """

    def __init__(self, conn_id: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def get_conn(self) -> Broker:
        """The broker."""
        return open_broker(broker_address(self.conn_id))

    def test_connection(self) -> tuple[bool, str]:
        """Whether it lets us in, and what was found."""
        try:
            return True, self.get_conn().test()
        except MonaiError as error:
            return False, str(error)


class RabbitMqHook(_BrokerHook):
    """A RabbitMQ.

    :param rabbitmq_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "rabbitmq_conn_id"
    default_conn_name = "monai_broker"
    conn_type = "monai_rabbitmq"
    hook_name = "Message broker (RabbitMQ)"

    def __init__(self, rabbitmq_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(rabbitmq_conn_id, **kwargs)
        self.rabbitmq_conn_id = rabbitmq_conn_id


class KafkaHook(_BrokerHook):
    """A Kafka cluster.

    :param kafka_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "kafka_conn_id"
    default_conn_name = "monai_kafka"
    conn_type = "monai_kafka"
    hook_name = "Message broker (Kafka)"

    def __init__(self, kafka_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(kafka_conn_id, **kwargs)
        self.kafka_conn_id = kafka_conn_id


class KubeMqHook(_BrokerHook):
    """A KubeMQ.

    :param kubemq_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "kubemq_conn_id"
    default_conn_name = "monai_kubemq"
    conn_type = "monai_kubemq"
    hook_name = "Message broker (KubeMQ)"

    def __init__(self, kubemq_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(kubemq_conn_id, **kwargs)
        self.kubemq_conn_id = kubemq_conn_id


class PubSubHook(_BrokerHook):
    """Google Cloud Pub/Sub.

    :param pubsub_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "pubsub_conn_id"
    default_conn_name = "monai_pubsub"
    conn_type = "monai_pubsub"
    hook_name = "Message broker (Google Pub/Sub)"

    def __init__(self, pubsub_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(pubsub_conn_id, **kwargs)
        self.pubsub_conn_id = pubsub_conn_id


__all__ = [
    "KafkaHook",
    "KubeMqHook",
    "PubSubHook",
    "RabbitMqHook",
    "abroker_address",
    "broker_address",
    "connection_type",
    "kafka_connection_type",
    "kubemq_connection_type",
    "pubsub_connection_type",
]
