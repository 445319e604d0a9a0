"""URIs of the assets whose events start workflows.

They begin with ``x-``: for any other scheme every task process and every parse would import the URI handlers of all
installed providers.
"""

from __future__ import annotations

from urllib.parse import quote


def ae_uri(ae_title: str, origin: str | None = None) -> str:
    """The asset "a study arrived at this AE title", or "at this AE title from that one"."""
    uri = f"x-monai://ae/{_part(ae_title)}"
    return uri if origin is None else f"{uri}/from/{_part(origin)}"


def workflow_uri(name: str) -> str:
    """The asset "this workflow is wanted for a payload"."""
    return f"x-monai://workflow/{_part(name)}"


def _part(text: str) -> str:
    """One path segment in ASCII, which asset URIs must be."""
    return quote(text, safe="")
