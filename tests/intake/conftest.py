"""The gateway of tests/gateway, for what is compared with it."""

from __future__ import annotations

from tests.gateway.conftest import airflow, site  # noqa: F401
