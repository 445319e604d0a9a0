"""What the tests of every broker begin with: a topic of their own, and an inbox."""

from __future__ import annotations

import uuid

import pytest

from tests.broker.inbox import Inbox


@pytest.fixture
def topic() -> str:
    return f"md.{uuid.uuid4().hex[:10]}"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()
