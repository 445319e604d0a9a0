"""What ours is mounted in. Every Airflow process imports this module: it costs nothing."""

SERVER = "airflow_monai.server"
"""Key of a request's scope: the application that ours is mounted in."""
ROOT = "/monai"
"""Where in it."""
