"""What every route of ours has in common: who may, how errors look, what is noted."""
