"""Pages as the Workflow Manager's clients know them."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_monai.api.common.problems import handle_errors
from airflow_monai.api.workflow_manager.paging import MAX_SIZE, Page, ThePaging

MANY = 25


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    handle_errors(app)

    @app.get("/things")
    def things(paging: ThePaging) -> Page[int]:
        return paging.page_of(range(MANY))

    return TestClient(app, raise_server_exceptions=False)


def test_a_page_and_its_links(client: TestClient) -> None:
    assert client.get("/things?pageNumber=2&pageSize=10").json() == {
        "PageNumber": 2,
        "PageSize": 10,
        "FirstPage": "/things?pageNumber=1&pageSize=10",
        "LastPage": "/things?pageNumber=3&pageSize=10",
        "TotalPages": 3,
        "TotalRecords": 25,
        "NextPage": "/things?pageNumber=3&pageSize=10",
        "PreviousPage": "/things?pageNumber=1&pageSize=10",
        "Data": list(range(10, 20)),
        "Succeeded": True,
        "Errors": None,
        "Message": None,
    }


def test_following_the_links_gives_everything_once_and_keeps_the_question(client: TestClient) -> None:
    seen, link = [], "/things?status=a%20b%26c&pageSize=7"
    while link:
        page = client.get(link).json()
        seen += page["Data"]
        link = page["NextPage"]
        assert link is None or parse_qs(urlsplit(link).query)["status"] == ["a b&c"]
    assert seen == list(range(MANY))


@pytest.mark.parametrize(
    ("query", "number", "size", "count"),
    [
        ("", 1, 10, 10),
        ("pageNumber=0", 1, 10, 10),
        ("pageNumber=-4&pageSize=-1", 1, 10, 10),
        ("pageSize=3", 1, 3, 3),
        ("pageSize=123456789", 1, MAX_SIZE, MANY),
        ("pageNumber=4", 4, 10, 0),
        ("pageNumber=99999999999999999999", 1_000_000_000, 10, 0),
    ],
)
def test_what_is_out_of_bounds_is_brought_within(
    client: TestClient, query: str, number: int, size: int, count: int
) -> None:
    answer = client.get(f"/things?{query}")
    page = answer.json()
    assert answer.status_code == 200
    assert (page["PageNumber"], page["PageSize"], len(page["Data"])) == (number, size, count)


@pytest.mark.parametrize("query", ["pageNumber=x", "pageSize=1.5", "pageNumber=", "pageNumber=" + "9" * 5000])
def test_what_is_no_number_is_a_bad_request(client: TestClient, query: str) -> None:
    answer = client.get(f"/things?{query}")
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"
