"""Applications as processes of this host."""
