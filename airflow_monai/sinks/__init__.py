"""Where results are delivered: one file a sink, one registry, one ledger of what was accepted."""
