"""Who works at this host, for histories."""

from __future__ import annotations

import getpass


def person_here() -> str:
    """The name of the user of this process; empty for a user id without a name, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
