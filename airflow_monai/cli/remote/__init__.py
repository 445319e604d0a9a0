"""Commands that ask a server: each module has those of one resource of the HTTP APIs."""
