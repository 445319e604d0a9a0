"""Applications as containers of a Docker engine."""
