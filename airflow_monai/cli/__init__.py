"""The commands: ``airflow monai ...``, and the same as ``python -m airflow_monai ...``."""
