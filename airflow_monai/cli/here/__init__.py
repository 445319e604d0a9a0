"""What the commands do on this host: with its store, its engines, and what its Airflow is set to."""
