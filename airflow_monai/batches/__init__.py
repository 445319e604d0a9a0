"""Batches: which stored payloads a workflow's batch takes, and the runs that it starts on them, each exactly once."""
