"""From files to payloads and their runs: a gateway does it all the time, some commands do it once."""
