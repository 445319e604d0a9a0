"""The groups of commands that ask a server, as plain data; one module an API."""
