"""References of images, taken apart: ``registry.example:5000/name:tag@sha256:...``."""

from __future__ import annotations

import re
from dataclasses import dataclass

LATEST = "latest"
_HEXADECIMAL = re.compile(r"(?:sha256:)?(?P<digits>[0-9a-f]{4,64})")


@dataclass(frozen=True, slots=True)
class Reference:
    """
    :param repository: with its registry, where one is named.
    :param tag: and ``digest``: empty where none is named.
    """

    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def of(cls, text: str) -> Reference:
        named, _, digest = text.partition("@")
        head, _, tail = named.rpartition(":")
        # a colon before a slash is that of a registry's port
        return cls(head, tail, digest) if head and "/" not in tail else cls(named, "", digest)

    def for_pull(self) -> tuple[str, str | None]:
        """``name`` and ``tag`` as an engine's pull wants them.

        A digest says it all, and engines do not take both; without a tag they would get all of them.
        """
        if self.digest:
            return f"{self.repository}@{self.digest}", None
        return self.repository, self.tag or LATEST


def names_by_id(reference: str, image_id: str) -> bool:
    """Whether a reference may be the beginning of this id, as people write it, rather than a name."""
    match = _HEXADECIMAL.fullmatch(reference)
    return match is not None and image_id.rpartition(":")[2].startswith(match["digits"])
