"""What is told of a MAP that has just been registered, on this host or by a server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from airflow_monai.cli.printing import text_of


@dataclass(frozen=True, slots=True)
class Registered:
    """
    :param label: ``name:version``, and ``what`` that is.
    :param workflow: id of its DAG.
    :param beside: workflows that listen to the same AE title.
    :param doubts: what is wrong or may surprise, each as ``level: field: message``.
    """

    label: str
    is_new: bool
    what: str
    workflow: str
    ae_title: str
    export_destinations: Iterable[str]
    beside: Iterable[str]
    doubts: Iterable[str]

    def tell(self, out: TextIO) -> None:
        """A few lines for a person."""
        beside = ", ".join(self.beside)
        word = "Registered" if self.is_new else "Already registered:"
        print(text_of(f"{word} {self.label}: {self.what}"), file=out)
        for name, value in (
            ("workflow", f"{self.workflow}, for studies sent to AE title {self.ae_title}, or by hand"),
            ("exports", ", ".join(self.export_destinations) or "none; its results stay in the store"),
            ("note", f"{beside} listens to AE title {self.ae_title} too" if beside else ""),
        ):
            if value:
                print(f"  {name:<9} {text_of(value)}", file=out)
        for doubt in self.doubts:
            print(f"  {text_of(doubt)}", file=out)
