"""The commands that receive DICOM files and send them."""

from __future__ import annotations

from airflow_monai.cli.table import JSON, Topic, flag, option, port, positional, positive

_LISTENING = Topic("", "airflow_monai.gateway.command")
_IMPORTING = Topic("", "airflow_monai.cli.here.imports")
_SENDING = Topic("", "airflow_monai.cli.here.send")

GATEWAY = _LISTENING.command(
    "gateway",
    "Receive studies and start the workflows that want them.",
    "--port 11112 --events /var/log/monai/events.jsonl",
    option("--events", "FILE", "Append one JSON line for each event to this file."),
    option("--host", "", "Address to listen on. Default: dicom_host of section monai."),
    option("--port", "", "Port to listen on. Default: dicom_port of section monai.", type=port),
    description="Receive studies by DICOM, keep them in the store, and start the workflows that want them. "
    "Runs until it gets SIGTERM or Ctrl-C. Several may run on one store.",
)

IMPORT = _IMPORTING.command(
    "import",
    "Put DICOM files of this host into the store.",
    "./study --called CTLUNG --announce",
    positional("paths", "PATH", "Folders, zip archives, or files.", nargs="+"),
    option("--called", "AE", "AE title that they are for.", required=True),
    option("--calling", "AE", "AE title that they are from. Default: inbox_calling_aet of section monai."),
    flag("--announce", "Close the studies and create their runs from here, by Airflow's API."),
    flag("--wait", "Wait until a gateway has created their runs."),
    option("--timeout", "MINUTES", "How long to wait. Default: 10.", type=positive, default=10),
    JSON,
    function="import_files",
    description="Put DICOM files of this host into the store, as if they had been sent to an AE title: no "
    "gateway needs to run for that. Of a folder or a zip archive all images are taken, other "
    "files passed over. A gateway that runs on the store, or the next that does, starts the "
    "workflows; --announce does it here. To do it again does no harm. Exit code 0: all is in, 1: "
    "a file was refused, or a run that was waited for is not there, 2: nothing is in.",
)

SEND = _SENDING.command(
    "send",
    "Send DICOM files of this host to a DICOM node.",
    "./study --to pacs.example.org:11112 --called PACS --calling MONAI",
    positional("paths", "PATH", "Folders or files.", nargs="+"),
    option("--to", "HOST:PORT", "The node.", required=True),
    option("--called", "AE", "Its AE title.", required=True),
    option("--calling", "AE", "Our AE title. Default: MONAI.", default="MONAI"),
    flag("--tls", "Speak TLS."),
    option("--ca-file", "PEM", "Authorities to trust, in place of the system's."),
    option("--cert-file", "PEM", "Our certificate, where the node wants one."),
    option("--key-file", "PEM", "Its key, where it is in a file of its own."),
    flag("--no-check", "Do not check the node's certificate."),
    option("--associations", "N", "Associations at a time. Default: 1.", type=positive, default=1),
    flag("--as-is", "Do not offer plain little endian for what is not taken."),
    option("--max-mb-per-second", "MB", "Send no faster than this.", type=float),
    option(
        "--timeout",
        "SECONDS",
        "A node that does nothing for so long counts as hanging. Default: 30.",
        type=positive,
        default=30,
    ),
    option("--tries", "N", "How often to call a node. Default: 3.", type=positive, default=3),
    option("--ledger", "FILE", "In place of the one below .monai/sent."),
    flag("--again", "Send also what was accepted before."),
    JSON,
    description="Send DICOM files of this host to a DICOM node by C-STORE, with a verdict on each. What the "
    "node has accepted is kept in a file below .monai/sent, so that the same command sends only "
    "what is missing. Exit code 0: the node has accepted all, 1: not all, 2: the command or the "
    "folder cannot be used.",
)
