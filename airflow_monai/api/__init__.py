"""What Airflow's API server shows of ours, behind its own authentication and permissions."""
