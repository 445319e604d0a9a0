"""Datasets that were uploaded, and which MAPs they go with.

A dataset is a payload: it lies where received studies lie and has their manifest, so any workflow runs on it and a job
copies nothing. It is routed to no workflow by itself.
"""
