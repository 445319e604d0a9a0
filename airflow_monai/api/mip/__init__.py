"""The mip job server's API: runs of single modules of a workflow, or of all, and what they gave."""
