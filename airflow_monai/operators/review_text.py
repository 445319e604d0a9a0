"""What a reviewer reads. Airflow keeps it in its database: names of the workflow, counts and links only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_monai.wording import counted

REMARK_WARNING = (
    "NAME NO PATIENT HERE, and nothing by which one could be known: Airflow keeps this text in its own database."
)
NO_REASON = "no reason given"
"""Of the list of reasons, what is chosen until somebody chooses."""
REASON_HELP = "Why, if you reject it."
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#])")


@dataclass(frozen=True, slots=True)
class Shown:
    """One artifact as the reviewer sees it."""

    name: str
    type: str
    files: int


@dataclass(frozen=True, slots=True)
class ReviewText:
    """The texts of a review.

    :param application: name and version.
    :param reviewed: id of the reviewed task; ``link``: its page in the UI.
    :param roles: who may answer, as the workflow says; ``users``: of how many users these are known to be the roles.
    :param instructions: of the author; may be Markdown.
    :param images: how many, and of how many ``series``; ``part``: which series it is, where it is one of several.
    """

    workflow: str
    application: str
    mode: str
    reviewed: str
    link: str
    roles: Sequence[str]
    users: int
    artifacts: Sequence[Shown]
    instructions: str
    payload_id: str
    images: int
    series: int
    part: str = ""

    @property
    def subject(self) -> str:
        part = f" ({self.mode})" if self.mode != "Clinical" else ""
        series = f", {self.part}" if self.part else ""
        return f"Review {self.application}{part} in {self.workflow}{series}, for {' or '.join(self.roles)}"

    @property
    def body(self) -> str:
        return "\n\n".join(part for part in self._parts() if part)

    def _parts(self) -> list[str]:
        facts = [
            f"**Application:** {plain(self.application)}",
            f"**Mode:** {self.mode}",
            f"**Made by task:** [{plain(self.reviewed)}]({self.link})",
            f"**For:** {plain(', '.join(self.roles))}{self._who()}",
        ]
        return [self.instructions.strip(), "  \n".join(facts), self._table(), self._where(), _ANSWERS]

    def _who(self) -> str:
        return "" if self.users else " (no users are set down for that: anyone with the right to answer may)"

    def _table(self) -> str:
        rows = [f"| {plain(item.name)} | {item.type} | {item.files} |" for item in self.artifacts]
        return "\n".join(["| Artifact | Type | Files |", "|---|---|---|", *rows]) if rows else ""

    def _where(self) -> str:
        return (
            f"Study of {counted(self.images, 'image')} in {counted(self.series, 'series', 'series')}. Which one it is, "
            f"and where the files lie, says `airflow monai payloads show {self.payload_id}`."
        )


_ANSWERS = (
    "**Accept** lets the workflow go on with these results. After **Reject** nothing is done with them but what the "
    "workflow has for that case."
)


def plain(text: str) -> str:
    """A text that shows as it is, whatever Markdown makes of its signs."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def form_of(reasons: Sequence[str]) -> dict[str, Any]:
    """The fields of the answer, as a task's params."""
    from airflow.sdk import Param

    choices = [NO_REASON, *reasons]
    return {
        "reason": Param(NO_REASON, type=["null", "string"], enum=choices, title="Reason", description=REASON_HELP),
        "message": Param(
            None,
            type=["null", "string"],
            format="multiline",
            maxLength=4000,
            title="Remark",
            description=REMARK_WARNING,
        ),
    }
