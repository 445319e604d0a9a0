"""The text of the small Python file that Airflow loads for a workflow file."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_monai.specs.claims import MAP_SUFFIX, WORKFLOW_SUFFIX

_TEMPLATE = """\
# -*- coding: utf-8 -*- (said first, so that no file name below can say otherwise)
# The workflow {source}, as airflow_monai shows it to Airflow. {advice}
SPEC = {literal}
{defaults}
from airflow_monai.factory import {names}  # noqa: E402

{refused}dag = load_workflow_dag(SPEC, source={source}, beside=__file__{argument})
{batch}"""

_BATCH = """\
batch_dag = load_batch_dag(SPEC, source={source}, beside=__file__{argument})
"""


_EDIT = "Edit that file: this one is made from it."
_ADVICE = {
    MAP_SUFFIX: "It is made of a registered MAP: see the commands of `airflow monai maps`.",
    WORKFLOW_SUFFIX: "It is registered, not a file: see the commands of `airflow monai workflows`.",
}

_DEFAULTS = """
# What the workflow does not say it takes from these files, the nearest first.
DEFAULTS = {{
{entries}}}
"""


def dag_file_text(
    text: str,
    source: str,
    refused: str = "",
    defaults: Sequence[tuple[str, str]] = (),
    *,
    batch: bool = False,
    closing: bool = False,
) -> str:
    """Python source that holds the workflow's text as it is and makes its DAG.

    :param source: path of the workflow file within its folder.
    :param refused: why it cannot be used whatever its text says; becomes its import error.
    :param defaults: path and text of the defaults files above it, the nearest first.
    :param batch: it has a schedule, and so a second DAG that starts its batches.
    :param closing: it is not registered any more: its DAGs are there for the runs that they still have.
    """
    batch = batch and not refused
    more = ", defaults=DEFAULTS" if defaults else ""
    over = ", closing=True" if closing else ""
    entries = "".join(f"    {name!a}: {literal(content)},\n" for name, content in defaults)
    return _TEMPLATE.format(
        source=ascii(source),
        advice=next((told for suffix, told in _ADVICE.items() if source.endswith(suffix)), _EDIT),
        literal=literal(text),
        defaults=_DEFAULTS.format(entries=entries) if defaults else "",
        refused=f"REFUSED = {refused!a}\n\n" if refused else "",
        argument=(", refused=REFUSED" if refused else "") + more + over,
        names="load_batch_dag, load_workflow_dag" if batch else "load_workflow_dag",
        batch=_BATCH.format(source=ascii(source), argument=more + over) if batch else "",
    )


def literal(text: str) -> str:
    """A Python expression whose value is ``text``: readable as it is wherever a raw string can hold it."""
    fitting = [quotes for quotes in ("'''", '"""') if quotes not in text]
    if fitting and _is_plain(text):
        # line ends inside both quotes keep a text that ends in a quote or a backslash from closing the string
        return f"r{fitting[0]}\n{text}\n{fitting[0]}[1:-1]"
    lines = text.splitlines(keepends=True) or [""]
    return "(\n" + "".join(f"    {line!a}\n" for line in lines) + ")"


def _is_plain(text: str) -> bool:
    """Whether Python source can hold the text: no line ends that it would change, no NUL, nothing that has no UTF-8."""
    return not any(char in "\r\0\f" or "\ud800" <= char <= "\udfff" for char in text)
