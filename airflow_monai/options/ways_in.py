"""Options of what the gateway takes studies by."""

from __future__ import annotations

from typing import Any

from airflow_monai.options.option import option


def completeness_options() -> dict[str, Any]:
    """When a study is complete, beside quiet_seconds."""
    return {
        "association_end_seconds": option(
            "A study is complete when no image of it came for so many seconds and the sender of the last ones has "
            "ended its association, if that is less than its quiet_seconds. 0: the end of an association says "
            "nothing, as with senders that open one for each series or image.",
            default="0.0",
            example="2",
            type_="float",
        ),
        "max_open_minutes": option(
            "A study is closed after so many minutes even though images of it go on coming, which are late ones then. "
            "It is never less than its quiet time. 0: never.",
            default="240.0",
            example="60",
            type_="float",
        ),
    }


def inbox_options() -> dict[str, Any]:
    """Ways in beside DICOM."""
    return {
        "inbox_folder": option(
            "Folder that gateways watch: DICOM files, folders and zip archives that are put into a folder of it which "
            "is named after an AE title are taken in, and removed there, as if they had been sent to that AE title. "
            "AE@CALLING names the calling AE title too. Empty: none.",
            example="/data/inbox",
        ),
        "inbox_still_seconds": option(
            "How long nothing of an item in the inbox must have changed before it is taken.",
            default="5.0",
            example="30",
            type_="float",
        ),
        "inbox_s3": option(
            "Prefixes of buckets that gateways watch, separated by commas: DICOM files and zip archives that are put "
            "there are taken in as if they had been sent to the AE title in their name. {date:%Y/%m/%d} is another "
            "form of the day, which is needed unless inbox_s3_taken is delete. Empty: none.",
            example="s3://pacs-export/incoming/{ae}/{date}/",
        ),
        "inbox_s3_conn_id": option(
            "Airflow connection of type aws for these buckets. Empty: store_conn_id.", example="pacs_export"
        ),
        "inbox_s3_taken": option(
            "What becomes of an object that is in the store: keep or delete. One of which a file was refused is kept.",
            default="keep",
            example="delete",
        ),
        "inbox_s3_poll_seconds": option(
            "How often these prefixes are looked at; each AE title and day costs one request.",
            default="10.0",
            example="60",
            type_="float",
        ),
        "inbox_calling_aet": option(
            "Calling AE title of images that come without one; data_origins of a workflow may name it.",
            default="INBOX",
            example="CDDRIVE",
        ),
    }


def dicom_options() -> dict[str, Any]:
    """The DICOM receiver's rules, limits and TLS."""
    return {
        "dicom_allowed_callers": option(
            "Who may send, separated by commas: a calling AE title, or AET@address, AET@network/bits, where AET may be "
            "* for any. Empty: everybody.",
            example="CT01@10.1.2.3, *@10.2.0.0/16",
        ),
        "dicom_max_associations": option(
            "Associations that may be open at once; more are rejected (local limit exceeded), which senders try again.",
            default="100",
            example="200",
            type_="integer",
        ),
        "dicom_max_associations_of_caller": option(
            "The same for one calling AE title.", default="50", example="8", type_="integer"
        ),
        "dicom_max_pdu": option(
            "Longest P-DATA-TF PDU that senders may use, in bytes; each open association costs as much memory.",
            default="131072",
            example="65536",
            type_="integer",
        ),
        "dicom_max_file": option(
            "Largest image. A larger one is refused (A700), without filling the disk.", default="16 GB", example="4 GB"
        ),
        "dicom_idle_seconds": option(
            "An association on which no whole PDU came for so long is aborted.",
            default="60.0",
            example="300",
            type_="float",
        ),
        "dicom_artim_seconds": option(
            "How long a new connection may take until it asks for an association, TLS included.",
            default="30.0",
            example="10",
            type_="float",
        ),
        "dicom_plain": option(
            "Whether associations without TLS are taken, at dicom_port.",
            default="True",
            example="False",
            type_="boolean",
        ),
        "dicom_tls_port": option(
            "Port for associations with TLS (1.2 or later, BCP 195 profile). 0: none.",
            default="0",
            example="2762",
            type_="integer",
        ),
        "dicom_tls_certificate": option(
            "PEM file with the gateway's certificate and its chain. This file, the key and the CA may change at any "
            "time: the next connection gets the new ones.",
            example="/etc/monai/tls/gateway.pem",
        ),
        "dicom_tls_key": option(
            "PEM file with its private key, not encrypted, readable for the gateway only.",
            example="/etc/monai/tls/gateway.key",
        ),
        "dicom_tls_client_ca": option(
            "PEM file with the CAs of clients: then only clients that have a certificate of one of them may connect.",
            example="/etc/monai/tls/modalities-ca.pem",
        ),
        "dicom_processes": option(
            "Processes that receive images; several use several cores, from about three senders on.",
            default="1",
            example="4",
            type_="integer",
        ),
    }
