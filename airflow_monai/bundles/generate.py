"""The text of the small Python file that Airflow loads for a workflow file."""

from __future__ import annotations

_TEMPLATE = """\
# -*- coding: utf-8 -*- (said first, so that no file name below can say otherwise)
# The workflow file {source}, as airflow_monai shows it to Airflow. Edit that file: this one is made from it.
SPEC = {literal}

from airflow_monai.factory import load_workflow_dag  # noqa: E402

{refused}dag = load_workflow_dag(SPEC, source={source}, beside=__file__{argument})
"""


def dag_file_text(text: str, source: str, refused: str = "") -> str:
    """Python source that holds the workflow's text as it is and makes its DAG.

    :param source: path of the workflow file within its folder.
    :param refused: why it cannot be used whatever its text says; becomes its import error.
    """
    return _TEMPLATE.format(
        source=ascii(source),
        literal=literal(text),
        refused=f"REFUSED = {refused!a}\n\n" if refused else "",
        argument=", refused=REFUSED" if refused else "",
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
