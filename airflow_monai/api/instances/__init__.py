"""Workflow instances as Airflow's database has them, for every API of ours.

All is read and done in the API server's own process, which the tasks talk to as well: a few bounded queries a request.
"""
