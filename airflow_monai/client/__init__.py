"""A client of our APIs, for the command line; imports neither Airflow nor FastAPI."""
