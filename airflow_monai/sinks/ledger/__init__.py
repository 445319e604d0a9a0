"""The ledger of exports: its pages, and who writes and reads them."""
