"""Workflows that are registered through the API or the command line; imports neither Airflow nor FastAPI."""
