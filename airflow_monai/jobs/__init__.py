"""Jobs: an instance of a registered MAP's workflow that somebody asked for. Imports neither Airflow nor FastAPI."""
