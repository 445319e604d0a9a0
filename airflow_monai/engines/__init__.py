"""What runs workflows, seen through one small interface: Airflow itself, and others beside it."""
