"""Workload Manager 0.1: sinks, and the export tasks that clients elsewhere fetch, carry out and report on."""
