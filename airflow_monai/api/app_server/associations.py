"""Which MAPs a dataset is to be worked on by."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, Field

from airflow_monai.api.app_server.datasets import find_dataset
from airflow_monai.api.common.access import Right, TheCaller, needs
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import responses
from airflow_monai.api.runs import site_store
from airflow_monai.datasets.associations import Association, Associations
from airflow_monai.maps.registry import MapRegistry, split_label
from airflow_monai.store.base import Store

router = APIRouter(prefix="/app-server", tags=["App Server: associations"])
Label = Annotated[str, Path(description="`name:version` of a registered MAP.", max_length=200)]


class AssociationAnswer(BaseModel):
    """A dataset, and a MAP that is to work on it."""

    dataset_id: str = Field(examples=["0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11"])
    map: str = Field(examples=["lung-seg:1.2.0"])
    created: str
    created_by: str

    @classmethod
    def of(cls, pair: Association) -> AssociationAnswer:
        return cls(**pair.to_dict())


class AssociationList(BaseModel):
    """Associations, by dataset and MAP.

    ``next`` is to be given as ``after`` for those that follow; null where these are the last.
    """

    associations: list[AssociationAnswer]
    next: str | None = None


@router.get("/associations", dependencies=[needs(Right.SEE_WORKFLOWS)], responses=responses(400))
def list_associations(
    dataset_id: Annotated[str, Query(max_length=100)] = "",
    map: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str, Query(max_length=100, description="Begin behind this dataset id.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> AssociationList:
    """Associations: all, those of a dataset, or those of a MAP."""
    pairs = Associations(site_store())
    if dataset_id:
        found = [pair for pair in pairs.of_dataset(dataset_id.lower()) if map in ("", pair.map)]
        return AssociationList(associations=[AssociationAnswer.of(pair) for pair in found])
    if map:
        return AssociationList(associations=[AssociationAnswer.of(pair) for pair in pairs.of_map(map)])
    shown: list[AssociationAnswer] = []
    for pair in pairs.all(after):
        if len(shown) >= limit and pair.dataset_id != shown[-1].dataset_id:
            return AssociationList(associations=shown, next=shown[-1].dataset_id)
        shown.append(AssociationAnswer.of(pair))
    return AssociationList(associations=shown)


@router.put(
    "/datasets/{dataset_id}/associations/{map_label}",
    status_code=201,
    dependencies=[needs(Right.START_RUNS)],
    responses={
        200: {"model": AssociationAnswer, "description": "They were associated before."},
        **responses(400, 404),
    },
)
def associate(dataset_id: str, map_label: Label, caller: TheCaller, response: Response) -> AssociationAnswer:
    """Associate a dataset with a registered MAP."""
    store = site_store()
    found = find_dataset(store, dataset_id)
    _check_map(store, map_label)
    pair, created = Associations(store).add(found.id, map_label, caller.name)
    response.status_code = 201 if created else 200
    if created:
        note(caller, "monai.association.create", extra={"dataset": found.id, "map": map_label})
    return AssociationAnswer.of(pair)


@router.get("/datasets/{dataset_id}/associations", dependencies=[needs(Right.SEE_WORKFLOWS)], responses=responses(404))
def associations_of(dataset_id: str) -> AssociationList:
    """The MAPs that a dataset is associated with."""
    store = site_store()
    found = find_dataset(store, dataset_id)
    pairs = islice(Associations(store).of_dataset(found.id), 1000)
    return AssociationList(associations=[AssociationAnswer.of(pair) for pair in pairs])


@router.delete(
    "/datasets/{dataset_id}/associations/{map_label}",
    status_code=204,
    dependencies=[needs(Right.START_RUNS)],
    responses=responses(404),
)
def dissociate(dataset_id: str, map_label: Label, caller: TheCaller) -> None:
    """Undo an association, also with a MAP that is not registered any more."""
    if not Associations(site_store()).remove(dataset_id.lower(), map_label):
        raise HTTPException(404, "There is no such association.")
    note(caller, "monai.association.delete", extra={"dataset": dataset_id[:100], "map": map_label})


def _check_map(store: Store, label: str) -> None:
    """HTTP 404 where no MAP of this name and version is registered."""
    parts = split_label(label)
    record = MapRegistry(store).newest(*parts) if parts else None
    if record is None or not record.is_registered:
        raise HTTPException(404, "No MAP of this name and version is registered.")
