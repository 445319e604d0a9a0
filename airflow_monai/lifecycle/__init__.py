"""What happens to workflow instances, told to whoever wants to know: each thing once, in order, whatever is killed.

Airflow's own state is what counts, not calls from within it: those are lost with the process that makes them.
"""
