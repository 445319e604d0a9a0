"""The way routes of the job server are declared: with and without a final slash, as its clients write both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter

from airflow_monai.api.common.problems import responses

F = TypeVar("F", bound=Callable[..., Any])


def route(
    router: APIRouter, method: str, path: str, *errors: int, media_type: str = "", **options: Any
) -> Callable[[F], F]:
    """Declare a route.

    :param errors: statuses that it may answer with, beside 401 and 403.
    :param media_type: of what it answers, where that is not JSON.
    """
    binary = {"schema": {"type": "string", "format": "binary"}}
    good: dict[int | str, dict[str, Any]] = (
        {200: {"description": "The archive.", "content": {media_type: binary}}} if media_type else {}
    )

    def declare(function: F) -> F:
        router.add_api_route(path, function, methods=[method], responses={**good, **responses(*errors)}, **options)
        router.add_api_route(f"{path}/", function, methods=[method], include_in_schema=False, **options)
        return function

    return declare
