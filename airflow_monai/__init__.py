"""Clinical imaging-AI workflows on stock Apache Airflow."""

from __future__ import annotations

__version__ = "0.1.0"
