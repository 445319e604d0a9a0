"""The mip job server's nouns: jobs, runs and modules on a workflow, and what the store keeps of them.

A **job** is a space of results that its user names. The **modules** are the tasks of one workflow. A **run** asks for
some modules of a job on a **map**, which is a dataset of the store; it is one DAG run of the workflow, in which what is
not asked for is skipped and what exists is taken over. No Airflow here but its settings.
"""
