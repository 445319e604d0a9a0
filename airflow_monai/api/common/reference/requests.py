"""An operation as a request that can be typed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from airflow_monai.api.common.reference.examples import Examples

_FILES = {"application/zip": "study.zip", "application/dicom": "image.dcm", "application/yaml": "workflow.yaml"}
_ANSWERS = {"application/zip": "answer.zip", "application/dicom": "image.dcm"}


@dataclass(frozen=True, slots=True)
class Requests:
    """
    :param root: path under which the operations are.
    """

    examples: Examples
    root: str

    def curl(self, method: str, path: str, operation: Mapping[str, Any]) -> str:
        """A command line. ``$SERVER`` and ``$USER_AND_PASSWORD`` stand for what is the reader's."""
        saved = _saved(operation)
        words = ["curl -f" if saved else "curl"]  # else the screen shows the reason of an error
        if operation.get("security"):
            words.append('-u "$USER_AND_PASSWORD"')
        body = list(self._body(operation))
        if method != ("POST" if body else "GET"):
            words.append(f"-X {method}")
        words += [self._address(path, operation), *body]
        if saved:
            words.append(f"-o {saved}")
        return _folded(words)

    def _address(self, path: str, operation: Mapping[str, Any]) -> str:
        query = {}
        for parameter in operation.get("parameters", ()):
            schema, name = parameter.get("schema", {}), parameter["name"]
            if parameter["in"] == "path":
                value = quote(str(self.examples.of(schema, name)), safe=":.")
                path = path.replace(f"{{{name}}}", f"${name.upper()}" if value == quote("…") else value)
            elif parameter["in"] == "query" and (parameter.get("required") or schema.get("examples")):
                query[name] = self.examples.of(schema, name)
        return f'"$SERVER{self.root}{path}{"?" + urlencode(query) if query else ""}"'

    def _body(self, operation: Mapping[str, Any]) -> Iterator[str]:
        """In the first form that a person can type."""
        content = operation.get("requestBody", {}).get("content", {})
        for kind in ("application/json", "application/zip", *content):
            if kind not in content:
                continue
            if kind == "multipart/form-data":
                yield "-F files=@image.dcm"
                return
            yield f"-H {shlex.quote(f'Content-Type: {kind}')}"
            if kind == "application/json":
                example = self.examples.of_media(content[kind], asked=True)
                yield f"-d {shlex.quote(json.dumps(example, ensure_ascii=False))}"
            else:
                yield f"--data-binary @{_FILES.get(kind, 'body')}"
            return


def _saved(operation: Mapping[str, Any]) -> str:
    """Name of a file for an answer that is none to look at."""
    content = operation["responses"].get("200", {}).get("content", {})
    return next((name for kind, name in _ANSWERS.items() if kind in content), "")


def _folded(words: list[str]) -> str:
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) > 100:
            lines.append(line)
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return " \\\n".join([*lines, line])
