"""Options of the HTTP APIs."""

from __future__ import annotations

from typing import Any

from airflow_monai.options.option import option


def api_options() -> dict[str, Any]:
    """The HTTP APIs below /monai of Airflow's API server."""
    return {
        "finalize_minutes": option(
            "After so many minutes the results and the log of a job that was finalized through the App Server API are "
            "deleted; until then they can still be fetched. A gateway deletes them.",
            default="60.0",
            example="1440",
            type_="float",
        ),
        "api_rate": option(
            "Requests that one caller may make to the APIs below /monai in a time, at each API server: 50/s, 600/m, "
            "10000/h; 0 for no limit. More are answered 429 with Retry-After. Known callers are counted by name, "
            "others by address.",
            default="50/s",
            example="600/m",
        ),
        "api_burst": option(
            "So many of them may come at once after a pause.", default="200", example="50", type_="integer"
        ),
        "api_max_body": option(
            "Largest request to these APIs that is no upload of data; a larger one is answered 413.",
            default="4Mi",
            example="1Mi",
        ),
        "upload_max_bytes": option(
            "Largest upload of datasets and studies by HTTP, and the most that an archive in it may unpack to; more is "
            "answered 413.",
            default="64Gi",
            example="8Gi",
        ),
        "upload_max_files": option(
            "Most files in one upload, those of archives included.", default="100000", example="5000", type_="integer"
        ),
        "upload_max_ratio": option(
            "Most that the files of an uploaded archive may be larger than the archive, from 64 MiB of files on.",
            default="250",
            example="20",
            type_="integer",
        ),
        "upload_at_a_time": option(
            "Uploads that one API server takes at a time; one more is answered 503 with Retry-After.",
            default="8",
            example="4",
            type_="integer",
        ),
        "upload_per_caller": option(
            "Uploads that one API server takes at a time of one caller; one more is answered 429 with Retry-After. "
            "Empty: half of upload_at_a_time.",
            default="",
            example="2",
        ),
        "upload_idle_seconds": option(
            "After so many seconds in which a sender sends nothing, or less than upload_min_rate, its upload is given "
            "up (408).",
            default="60.0",
            example="20",
            type_="float",
        ),
        "upload_min_rate": option(
            "Least bytes that a sender of an upload has to send in a second, on average over upload_idle_seconds. The "
            "time in which this server does not keep up does not count.",
            default="4Ki",
            example="16Ki",
        ),
        "callback_url": option(
            "Where services call back to http_async tasks, what {{ callback.url }} is made of: the address of "
            "/monai/callbacks as they see it. Empty: the same below [api] base_url.",
            example="https://airflow.hospital.example/monai/callbacks",
        ),
    }


def mip_options() -> dict[str, Any]:
    return {
        "mip_workflow": option(
            "Workflow whose tasks are the modules of the mip job server. Empty: the only workflow that there is.",
            example="maps-to-features",
        ),
        "mip_extra_args": option(
            "Whether runs of the mip job server may add words to the command lines of modules (extra_args).",
            default="False",
            example="True",
            type_="boolean",
        ),
        "mip_key_variable": option(
            "Environment variable in which a module gets the openai_key that came with a run.",
            default="OPENAI_API_KEY",
            example="LLM_API_KEY",
        ),
        "mip_deliver_to": option(
            "Airflow connections, separated by commas, that the outputs of modules are delivered to when a run of the "
            "mip job server has ended: of type http (each module's outputs are posted as a zip), or a destination "
            "that takes files, as monai_s3.",
            example="RESULTS_BUCKET, CDR",
        ),
    }
