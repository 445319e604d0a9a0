"""The commands for credentials, by the Workflow Manager API."""

from __future__ import annotations

from airflow_monai.cli.table import AT, JSON, SECRET, Topic, option, port, positional, repeated

_CREDENTIALS = Topic("credentials", "airflow_monai.cli.remote.credentials")
_CREDENTIAL = positional("credential", "ID", "What workflows name it by.")
_TYPE = "basic, bearer, header, http, or the type of an Airflow connection."
_VALUES = (
    option("--host", "", "Where the secret is shown, as https://ai.hospital.example."),
    option("--port", "", "Its port, where the host does not say it.", type=port),
    option("--login", "", "User name, of type basic."),
    option("--header", "", "Name of the header, of type header."),
    option("--description", "", "For people."),
    repeated("--option", "NAME=VALUE", "More of the connection's extra, no secrets"),
    *SECRET,
    *AT,
    JSON,
)

CREDENTIALS = _CREDENTIALS.group(
    "Secrets that tasks show to services; they can be written, and are never told again.",
    "list",
    _CREDENTIALS.command(
        "create",
        "Create a credential.",
        "segmenter --type bearer --host https://ai.hospital.example --secret-env SEGMENTER_TOKEN",
        _CREDENTIAL,
        option("--type", "", _TYPE, required=True),
        *_VALUES,
        description="Create a credential. Its secret comes from an environment variable or from standard input.",
    ),
    _CREDENTIALS.asking(
        "list",
        "List the credentials, without their secrets.",
        "--type bearer",
        option("--type", "", "Of this type only."),
        function="list_all",
    ),
    _CREDENTIALS.asking("show", "Show a credential, without its secret.", "segmenter", _CREDENTIAL),
    _CREDENTIALS.command(
        "update",
        "Change a credential; what is not said stays, the secret too.",
        "segmenter --secret-stdin",
        _CREDENTIAL,
        option("--type", "", _TYPE),
        *_VALUES,
    ),
    _CREDENTIALS.asking(
        "delete", "Delete a credential: tasks that name it fail from then on.", "segmenter", _CREDENTIAL
    ),
)
