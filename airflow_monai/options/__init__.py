"""The options of section monai, as Airflow describes them. Plain data: every Airflow process reads it at its start."""

from __future__ import annotations

from typing import Any

from airflow_monai.options.apis import api_options, mip_options
from airflow_monai.options.applications import kubernetes_options, policy_options
from airflow_monai.options.site import site_options
from airflow_monai.options.ways_in import completeness_options, dicom_options, inbox_options


def all_options() -> dict[str, Any]:
    """Name of each option -> what it means, its type, its default, an example."""
    return {
        **site_options(),
        **policy_options(),
        **kubernetes_options(),
        **api_options(),
        **dicom_options(),
        **inbox_options(),
        **completeness_options(),
        **mip_options(),
    }
