"""``airflow monai schema``: the JSON Schema by which editors complete and check workflow files."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TextIO

from airflow_monai.cli.ending import ends
from airflow_monai.errors import MonaiError
from airflow_monai.specs.schema.workflow import schema_text


@ends()
def schema(args: Namespace) -> int:
    return run(args.output, sys.stdout)


def run(output: str | None, out: TextIO) -> int:
    """Print the schema, or write it to a file and say how an editor finds it.

    :raises MonaiError: when the file cannot be written.
    """
    text = schema_text()
    if output is None:
        out.write(text)
        return 0
    path = Path(output)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MonaiError(f"{path} cannot be written: {error.strerror or error}.") from error
    out.write(f"written to {path}; the first line of a workflow file beside it:\n")
    out.write(f"# yaml-language-server: $schema={path.name}\n")
    return 0
