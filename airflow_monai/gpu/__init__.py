"""GPU capacity: what cards there are (inventory) and the Airflow pools that share them out."""
