"""The types of artifacts that the language knows."""

from __future__ import annotations

from fastapi import APIRouter

from airflow_monai.api.common.access import TheCaller
from airflow_monai.api.common.problems import responses
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.specs.artifact_types import ARTIFACT_LABELS

router = APIRouter(prefix=f"{PREFIX}/artifacts", tags=["Workflow Manager: artifacts"])


@router.get("/types", responses=responses())
def artifact_types(caller: TheCaller) -> dict[str, str]:
    """Type -> what it stands for."""
    return dict(ARTIFACT_LABELS)
