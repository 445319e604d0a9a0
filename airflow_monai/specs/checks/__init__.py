"""Checks of a workflow whose fields are well-formed, one module each."""
