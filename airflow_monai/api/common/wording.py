"""Messages of ours for people outside: without addresses and paths of the site."""

from __future__ import annotations

import re

_PLACE = re.compile(
    r"(?<![\w.:])[a-z][a-z0-9+.-]{1,15}://[^\s'\"),;]*[^\s'\"),;.:]|(?<![\w./:])/[\w.@+=~-]+(?:/[\w.@+=~-]*)+"
)


def without_places(text: str) -> str:
    """``... engine at unix:///var/run/docker.sock`` as ``... engine at (an address of this site)``."""
    return _PLACE.sub(lambda found: "(an address of this site)" if "://" in found[0] else "(a path of this site)", text)
