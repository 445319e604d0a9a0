"""Which sink serves which connection type. A new sink is one new file and one line here."""

from __future__ import annotations

from importlib import import_module

from airflow_monai.errors import DestinationError
from airflow_monai.sinks.base import Destination, Sink

SINKS = {
    "dicom": "airflow_monai.sinks.dicom:DicomSink",
    "monai_broker": "airflow_monai.sinks.broker:BrokerSink",
    "monai_dicomweb": "airflow_monai.sinks.stow:StowSink",
    "monai_folder": "airflow_monai.sinks.folder:FolderSink",
    "monai_mllp": "airflow_monai.sinks.hl7:MllpSink",
    "monai_pull": "airflow_monai.sinks.pull:PullSink",
    "monai_s3": "airflow_monai.sinks.s3:S3Sink",
}
"""Connection type -> the class, imported when it is first used."""


def open_sink(destination: Destination) -> Sink:
    """The sink of a destination; :class:`DestinationError` when its connection type is none of ours."""
    place = SINKS.get(destination.conn_type)
    if place is None:
        raise DestinationError(
            f"Destination {destination.name}: its Airflow connection has the type {destination.conn_type!r}, and "
            f"results can be delivered to {', '.join(sorted(SINKS))}. Change the connection's type."
        )
    module, _, name = place.partition(":")
    sink_class: type[Sink] = getattr(import_module(module), name)
    return sink_class(destination)
