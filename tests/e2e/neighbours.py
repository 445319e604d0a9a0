"""What a site has around it: a broker with another gateway behind it, a DICOMweb archive, a bucket, an HL7 listener.

They are made before the stack, which is told of them by its environment.
"""

from __future__ import annotations

import json
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import generate_uid

from airflow_monai.broker.base import APPLICATION_ID, Delivered, Message, open_broker
from airflow_monai.broker.events import ExportRequestEvent, read_event
from airflow_monai.broker.events.exports import ExternalAppRequestEvent
from airflow_monai.broker.events.topics import (
    ARTIFACTS_RECEIVED,
    EXPORT_COMPLETE,
    EXPORT_REQUEST,
    EXTERNAL_APP_REQUEST,
    WORKFLOW_REQUEST,
)
from tests.conftest import PARTS
from tests.e2e.helpers import Study
from tests.pacs import Receiver, orthanc
from tests.rabbitmq import RabbitNode, rabbitmq
from tests.s3_server import KEY, S3Server, s3_server
from tests.sinks.mllp_listener import Listener, listening

PARTS_NEEDED = ("rabbitmq", "orthanc-dicomweb", "moto")
AGENT, BUCKET = "monaiscu", "elsewhere"
EXCHANGE = "monaideploy"


@dataclass
class Neighbours:
    """
    :param bucket: the folder that stands for the bucket :data:`BUCKET` of messages.
    :param cloud: name of the bucket of the destination CLOUD.
    """

    broker: RabbitNode
    archive: Receiver
    s3: S3Server
    cloud: str
    ris: Listener
    bucket: Path
    far: FarGateway = field(init=False)

    def __post_init__(self) -> None:
        self.far = FarGateway(self)

    def environment(self) -> dict[str, str]:
        """Connections and settings for the stack."""
        web = {"conn_type": "monai_dicomweb", "host": self.archive.http, "extra": {"path": "/dicom-web"}}
        cloud = {
            "conn_type": "monai_s3",
            "host": self.cloud,
            "login": KEY,
            "password": KEY,
            "extra": {"endpoint_url": self.s3.url, "prefix": "results"},
        }
        broker = json.loads(self.broker.airflow_connection(EXCHANGE))
        far = {**broker, "conn_type": "monai_broker"}
        far["extra"] = {"exchange": EXCHANGE, "agent": AGENT, "bucket": BUCKET, "destinations": "FAR"}
        connections = {
            "WEBPACS": web,
            "CLOUD": cloud,
            "RIS": {"conn_type": "monai_mllp", "host": "127.0.0.1", "port": self.ris.port},
            "FAR": far,
            "MONAI_BROKER": broker,
        }
        return {
            **{f"AIRFLOW_CONN_{name}": json.dumps(connection) for name, connection in connections.items()},
            "AIRFLOW__MONAI__BROKER_CONN_ID": "monai_broker",
            "AIRFLOW__MONAI__BROKER_BUCKETS": json.dumps({BUCKET: str(self.bucket)}),
        }

    def objects(self) -> dict[str, Any]:
        """Name -> time of writing of what lies in the bucket CLOUD."""
        page = self.s3.client().list_objects_v2(Bucket=self.cloud)
        return {item["Key"]: item["LastModified"] for item in page.get("Contents", ())}

    def arrived_at_archive(self) -> int:
        """How many instances the DICOMweb archive has been sent so far, again ones included where they were new."""
        return sum(
            change["ChangeType"] == "NewInstance" for change in self.archive.rest("/changes?limit=9999")["Changes"]
        )

    def publish(self, topic: str, body: Mapping[str, Any], **about: Any) -> None:
        """A message as another system writes it."""
        properties = {
            "message_id": str(uuid.uuid4()),
            "correlation_id": str(uuid.uuid4()),
            "app_id": APPLICATION_ID,
            "content_type": "application/json",
            "timestamp": 1_780_000_000,
            **about,
        }
        message = Message(topic, json.dumps(body).encode(), **properties)
        with open_broker(self.broker.address(EXCHANGE)).publisher() as publisher:
            publisher.publish(message)

    def request(self, study: Study, payload_id: str) -> None:
        """Another gateway has received a study, and asks for what is to be done with it."""
        for number, file in enumerate(study.files):
            target = self.bucket / payload_id / "dcm" / study.uid / "1.2.3" / f"{number}.dcm"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        body = {
            "payload_id": payload_id,
            "workflows": [],
            "file_count": len(study.files),
            "correlation_id": str(uuid.uuid5(uuid.NAMESPACE_OID, payload_id)),
            "bucket": BUCKET,
            "timestamp": "2026-03-01T10:00:00Z",
            "trigger": {"dataService": 1, "source": "CT01", "destination": study.aet},
            "data_origins": [],
            "payload": [],
        }
        self.publish(WORKFLOW_REQUEST, body)


class FarGateway:
    """Delivers and has applications run when a message asks it to, and answers by messages.

    :ivar exports: requests for exports, :ivar applications: requests for an application, as they came.
    """

    def __init__(self, neighbours: Neighbours):
        self.exports: list[ExportRequestEvent] = []
        self.applications: list[ExternalAppRequestEvent] = []
        self._neighbours = neighbours
        topics = {f"{EXPORT_REQUEST}.{AGENT}": self._export, EXTERNAL_APP_REQUEST: self._application}
        broker = open_broker(neighbours.broker.address(EXCHANGE))
        ready = threading.Event()

        def take(delivered: Delivered) -> None:
            work = topics[delivered.message.topic]
            threading.Thread(target=self._work, args=(work, delivered), daemon=True).start()

        self._subscription = broker.subscribe(list(topics), take, lambda reason: None if reason else ready.set())
        assert ready.wait(30), "the far gateway does not come up"

    def close(self) -> None:
        self._subscription.close()

    def _work(self, work: Callable[[Message], None], delivered: Delivered) -> None:
        delivered.message.check()
        work(delivered.message)
        delivered.ack()

    def _export(self, message: Message) -> None:
        event = read_event(ExportRequestEvent, message.body)
        self.exports.append(event)
        there = {path: (self._neighbours.bucket / path).is_file() for path in event.files}
        body = {
            "workflow_instance_id": event.workflow_instance_id,
            "export_task_id": event.export_task_id,
            "status": "Success" if all(there.values()) else "PartialFailure",
            "file_statuses": {path: "Success" if found else "DownloadError" for path, found in there.items()},
            "message": "",
        }
        self._neighbours.publish(EXPORT_COMPLETE, body, correlation_id=message.correlation_id)

    def _application(self, message: Message) -> None:
        """Its application makes a report of the first image."""
        event = read_event(ExternalAppRequestEvent, message.body)
        self.applications.append(event)
        report = dcmread(self._neighbours.bucket / event.files[0])
        report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid(None)
        report.SeriesInstanceUID = generate_uid(None)
        path = f"{event.destination_folder}/report.dcm"
        (self._neighbours.bucket / path).parent.mkdir(parents=True, exist_ok=True)
        report.save_as(self._neighbours.bucket / path)
        body = {
            "workflow_instance_id": event.workflow_instance_id,
            "task_id": event.export_task_id,
            "payload_id": str(uuid.uuid4()),
            "correlation_id": event.correlation_id,
            "bucket": BUCKET,
            "timestamp": "2026-03-01T10:00:00Z",
            "trigger": {"dataService": 1, "source": "FAR", "destination": "MONAI"},
            "artifacts": [{"Type": "OT", "Path": path}],
        }
        self._neighbours.publish(ARTIFACTS_RECEIVED, body, correlation_id=message.correlation_id)


@contextmanager
def neighbours_in(folder: Path) -> Iterator[Neighbours | None]:
    """All of them, on free ports; None where a part is missing on this machine."""
    if any(PARTS[part]() for part in PARTS_NEEDED):
        yield None
        return
    bucket = folder / "bucket"
    bucket.mkdir()
    with ExitStack() as stack:
        # no node that others use: topics are names of queues, and the stack's gateway takes what comes to them
        broker = stack.enter_context(rabbitmq(folder / "broker"))
        archive = stack.enter_context(orthanc(folder / "archive", aet="WEBPACS", dicomweb=True))
        s3 = stack.enter_context(s3_server(folder))
        found = Neighbours(broker, archive, s3, s3.bucket(), stack.enter_context(listening()), bucket)
        stack.callback(found.far.close)
        yield found
