"""Our own certificate, of whatever kind of broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from airflow_monai.broker.base import BrokerAddress, open_broker
from airflow_monai.broker.kafka import Kafka
from airflow_monai.errors import BrokerMisused
from tests.rabbitmq import make_certificates

KINDS = ("monai_kafka", "monai_kubemq", "monai_rabbitmq")


def address(kind: str, **extra: str) -> BrokerAddress:
    return BrokerAddress("site", kind, "localhost", extra={"tls": "true", **extra})


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_without_its_certificate_is_refused(kind: str) -> None:
    with pytest.raises(BrokerMisused, match="key_file is set without cert_file") as caught:
        open_broker(address(kind, key_file="/tls/key.pem"))
    assert "Airflow connection 'site'" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_may_hold_certificate_and_key(kind: str, tmp_path: Path) -> None:
    folder = make_certificates(tmp_path / "tls")
    both = folder / "both.pem"
    both.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    broker = open_broker(address(kind, cert_file=str(both)))
    if isinstance(broker, Kafka):
        AdminClient(broker.configured())  # reads the files
