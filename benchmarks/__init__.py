"""Benchmarks: each measures ours beside a peer or a limit in one run and gives ratios (``make bench``)."""
