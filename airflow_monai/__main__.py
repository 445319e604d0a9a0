"""``python -m airflow_monai COMMAND``."""

from __future__ import annotations

from airflow_monai.cli.standalone import main

main()
