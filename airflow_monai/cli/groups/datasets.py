"""The commands for datasets, by the App Server API."""

from __future__ import annotations

from airflow_monai.cli.table import Topic, flag, option, positional

_UPLOADED = Topic("datasets", "airflow_monai.cli.remote.datasets")
_DATASET = positional("dataset", "ID", "Of a dataset, or of any payload.")

DATASETS = _UPLOADED.group(
    "Datasets of an Airflow, which jobs of the App Server API run on.",
    "upload study/ --name phantom",
    _UPLOADED.asking(
        "upload",
        "Upload files, folders and zip archives as one dataset.",
        "study/ --name phantom --url http://localhost:8080",
        positional("paths", "PATH", "File, folder or zip archive.", nargs="+"),
        option("--name", "", "For people; name no patient in it.", default=""),
        flag("--partial", "Take the good files where some are refused."),
        description="Upload files, folders and zip archives as one dataset. The same files are one dataset "
        "however often they are uploaded. Exit code 1: it is refused, 2: nothing could be done.",
    ),
    _UPLOADED.asking("list", "List the datasets that were uploaded, the newest first.", "--json", function="list_all"),
    _UPLOADED.asking(
        "describe",
        "Describe a dataset, and the MAPs that it is associated with.",
        "0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11",
        _DATASET,
        flag("--patient", "The patient too; that is noted there."),
    ),
    _UPLOADED.asking(
        "download",
        "Download a dataset as a zip archive.",
        "0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11 --output study.zip",
        _DATASET,
        option("--output", "FILE", "Default: <ID>.zip.", default=""),
    ),
    _UPLOADED.asking(
        "delete",
        "Delete a dataset that no job is at work on.",
        "0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11",
        _DATASET,
        flag("--with-results", "Also when jobs have left results."),
    ),
    _UPLOADED.asking(
        "associate",
        "Associate a dataset with MAPs that are to work on it.",
        "0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11 lung-seg:1.2.0",
        _DATASET,
        positional("maps", "MAP", "Registered, as name:version.", nargs="+"),
        flag("--undo", "Undo it."),
    ),
)
