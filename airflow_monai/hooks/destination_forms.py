"""The forms of destinations' connection types, as Airflow's provider info wants them."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks import form_fields as field


def dicom_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a DICOM node."""
    return {
        "connection-type": "dicom",
        "hook-class-name": "airflow_monai.hooks.dicom.DicomHook",
        "hook-name": "DICOM node",
        "conn-fields": {
            "called_aet": field.text("Called AE title", "The node's own AE title.", "ANY-SCP"),
            "calling_aet": field.text("Calling AE title", "The AE title that we use; the node must know it.", "MONAI"),
            "associations": field.number("Associations", "How many at a time.", 1),
            **field.time_outs("For the connection and the association.", "Without any progress, for one instance.", 30),
            "convert": field.flag(
                "Convert", "Send in plain little endian what the node does not take in its own transfer syntax.", True
            ),
            "query": field.text(
                "Ask", "Who is asked by C-FIND what arrived: same, never, or another node as AET@host:port.", "same"
            ),
            **field.tls(),
            **field.delivery(verifications=("none", "query", "commitment")),
            "commitment_timeout": field.number("Commitment time-out (s)", "For the node's report.", 60),
            "commitment_port": field.number(
                "Commitment port", "Of the worker, where the node reports on an association of its own. Empty: on ours."
            ),
            **field.dicom_permits(),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "login", "password"],
            "relabeling": {"host": "Host", "port": "DICOM port"},
            "placeholders": {"host": "pacs.example.org", "port": "11112"},
        },
    }


def dicomweb_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a DICOMweb server."""
    return {
        "connection-type": "monai_dicomweb",
        "hook-class-name": "airflow_monai.hooks.dicomweb.DicomWebHook",
        "hook-name": "DICOMweb server",
        "conn-fields": {
            "path": field.text("Path", "Where DICOMweb begins on the host, before /studies."),
            "token_url": field.text(
                "Token address",
                "Address of the OAuth 2 token service. Login and password are client id and secret then.",
            ),
            "scope": field.text("Scope", "Asked for with the token."),
            "audience": field.text("Audience", "Asked for with the token."),
            "client_auth": field.choice(
                "Client authentication", "How the token service gets the client secret.", ("basic", "post")
            ),
            "connections": field.number("Connections", "Requests at a time.", 2),
            "instances_per_request": field.number("Instances a request", "At most.", 20),
            "mb_per_request": field.number(
                "Megabytes a request", "At most; a larger instance has a request of its own.", 25
            ),
            "query": field.flag("Ask", "Ask by QIDO-RS at the same address what arrived.", True),
            **field.time_outs("For the connection.", "Without any progress.", 60),
            "proxy": field.text("Proxy", "Address of an HTTP proxy. Empty: what the environment says."),
            **field.tls(switch=False),
            **field.delivery(),
            **field.dicom_permits(),
        },
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {
                "schema": "http or https",
                "login": "Login or client id",
                "password": "Password, client secret or token",
            },
            "placeholders": {
                "host": "pacs.example.org",
                "schema": "https",
                "port": "443",
                "path": "/dicom-web",
                "login": "empty: the password is a bearer token",
            },
        },
    }


def folder_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a folder."""
    return {
        "connection-type": "monai_folder",
        "hook-class-name": "airflow_monai.hooks.folder.FolderHook",
        "hook-name": "Folder for results",
        "conn-fields": {
            "path": field.text("Folder", "Absolute path of the folder on the workers."),
            "overwrite": field.flag("Overwrite", "Replace a file of the same name and other content."),
            **field.delivery(),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["host", "schema", "login", "password", "port"],
            "relabeling": {},
            "placeholders": {"path": "/mnt/results"},
        },
    }


def s3_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a bucket."""
    return {
        "connection-type": "monai_s3",
        "hook-class-name": "airflow_monai.hooks.s3.S3Hook",
        "hook-name": "Bucket for results (S3)",
        "conn-fields": {
            "prefix": field.text("Prefix", "Of the objects' names."),
            "endpoint_url": field.text("Endpoint", "Address of a service that is not Amazon's."),
            "region_name": field.text("Region", "Empty: what the environment says."),
            "overwrite": field.flag("Overwrite", "Replace an object of the same name and other content."),
            "connections": field.number("Connections", "Files at a time.", 4),
            **field.time_outs("For the connection.", "Without any progress.", 60),
            "ca_file": field.text("Authority", "File (PEM) of the certificate authority. Empty: those of the system."),
            "check_certificate": field.flag("Check certificate", "Whether the server must be who it says.", True),
            **field.delivery(),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "port"],
            "relabeling": {"host": "Bucket", "login": "Access key id", "password": "Secret access key"},
            "placeholders": {
                "host": "results",
                "login": "empty: as the worker's environment or role says",
                "endpoint_url": "https://minio.example.org:9000",
                "prefix": "monai",
            },
        },
    }


def mllp_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for an HL7 v2 listener."""
    return {
        "connection-type": "monai_mllp",
        "hook-class-name": "airflow_monai.hooks.mllp.MllpHook",
        "hook-name": "HL7 v2 listener (MLLP)",
        "conn-fields": {
            **field.time_outs("For the connection.", "Until a message is acknowledged.", 30),
            **field.tls(),
            **field.delivery(verifications=("none",)),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "login", "password"],
            "relabeling": {"host": "Host", "port": "MLLP port"},
            "placeholders": {"host": "his.example.org", "port": "2575"},
        },
    }


def pull_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a sink that export clients fetch from."""
    return {
        "connection-type": "monai_pull",
        "hook-class-name": "airflow_monai.hooks.pull.PullHook",
        "hook-name": "Export client (fetches)",
        "conn-fields": {
            "destinations": field.text("Destinations", "Names that the client knows. Empty: this connection's id."),
            "wait": field.flag("Wait", "For the client's report; else an export is done when it was offered.", True),
            "wait_minutes": field.number("Wait (minutes)", "How long one try waits for the report.", 30),
            "any_file": field.flag("Any file", "Also offer files that are not DICOM."),
            **field.delivery(verifications=("none",), sends=False),
            **field.dicom_permits(),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["host", "port", "schema", "login", "password"],
            "relabeling": {},
            "placeholders": {},
        },
    }


def broker_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a gateway elsewhere that exports when a message asks it to."""
    return {
        "connection-type": "monai_broker",
        "hook-class-name": "airflow_monai.hooks.export_agent.ExportAgentHook",
        "hook-name": "Export agent (by broker)",
        "conn-fields": {
            "agent": field.text("Agent", "Behind md.export.request. in the topic: monaiscu or monaidicomweb."),
            "destinations": field.text("Destinations", "Names that the agent knows. Empty: this connection's id."),
            "bucket": field.text(
                "Bucket", "The agent's, a name of [monai] broker_buckets. Empty: the one that the store lies in."
            ),
            "wait": field.flag("Wait", "For md.export.complete; else an export is done when it was asked for.", True),
            "wait_minutes": field.number("Wait (minutes)", "How long one try waits for the answer.", 30),
            "any_file": field.flag("Any file", "Also ask for files that are not DICOM."),
            "exchange": field.text("Exchange", "Topic exchange of the messages.", "monaideploy"),
            **field.tls(),
            **field.delivery(verifications=("none",)),
            **field.dicom_permits(),
        },
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {"host": "Broker", "schema": "Virtual host"},
            "placeholders": {"host": "empty: the broker of [monai] broker_conn_id", "agent": "monaiscu"},
        },
    }
