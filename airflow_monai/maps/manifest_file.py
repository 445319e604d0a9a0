"""A manifest file: its fields in any spelling, and complaints that name the file."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_monai.errors import ManifestError
from airflow_monai.specs.units import memory_bytes

MAX_BYTES = 1024 * 1024
UNUSABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that JSON can name and no process can be given."""


class ManifestFile:
    """One manifest file: reads fields in any spelling, complains with the file's name."""

    def __init__(self, name: str, where: str, content: bytes | None):
        self.name, self.where, self.within = name, where, ""
        if content is None:
            raise self.error("is missing")
        if len(content) > MAX_BYTES:
            raise self.error(f"is larger than {MAX_BYTES} bytes")
        self.raw = self._loaded(content)
        self.fields = {plain(key): value for key, value in self.raw.items()}

    @classmethod
    def of(cls, fields: Mapping[str, Any], name: str, where: str, within: str = "") -> ManifestFile:
        """A part of a file, whose field ``within`` it is."""
        file = cls.__new__(cls)
        file.name, file.where, file.within = name, where, within
        file.raw = file.fields = dict(fields)
        return file

    def _loaded(self, content: bytes) -> dict[str, Any]:
        try:
            # Decimal keeps the text of a version that was written as a number: 1.0 is "1.0", 1.10 is "1.10"
            value = json.loads(content.decode("utf-8-sig"), parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise self.error(f"is not valid JSON: {error}") from None
        if not isinstance(value, dict):
            raise self.error("must hold a JSON object")
        return value

    def error(self, problem: str, field: str = "") -> ManifestError:
        path = ".".join(part for part in (self.within, field) if part)
        where = f" (in {self.within})" if self.within else ""
        return ManifestError(f"{self.name} of {self.where} {problem}{where}.", field=f"{self.name} {path}".strip())

    def get(self, key: str) -> Any:
        return self.fields.get(plain(key))

    def section(self, key: str) -> ManifestFile:
        value = self.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.error(f"has a {key!r} that is not an object", key)
        within = ".".join(part for part in (self.within, key) if part)
        return ManifestFile.of(
            {plain(name): item for name, item in (value or {}).items()}, self.name, self.where, within
        )

    def text(self, key: str) -> str:
        value = self.get(key)
        if isinstance(value, (Mapping, list)):
            raise self.error(f"has a {key!r} that is not text", key)
        return "" if value is None else str(value).strip()

    def number(self, key: str, default: float = 0.0) -> float:
        value = self.get(key)
        if value is None or value == "":
            return default
        try:
            number = math.nan if isinstance(value, (bool, Mapping, list)) else float(Decimal(str(value).strip()))
        except (InvalidOperation, ValueError):
            number = math.nan
        if not math.isfinite(number) or number < 0:
            raise self.error(f"has {key} = {value!r}: it must be a number, 0 or more", key)
        return number

    def memory(self, key: str, default: int) -> int:
        value = self.get(key)
        if value is None or value == "":
            return default
        try:
            return memory_bytes(str(value))
        except ValueError as error:
            raise self.error(f"has {key}: {error}", key) from None

    def names(self, key: str) -> tuple[str, ...] | None:
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"has a {key!r} that is no list of texts", key)
        return tuple(value)

    def formats(self, key: str) -> tuple[str, ...]:
        """Formats of the section ``input`` or ``output``, which is ``formats`` or ``format``, as text."""
        section = self.section(key)
        value = section.get("formats") if section.get("formats") is not None else section.get("format")
        items = value if isinstance(value, list) else [value]
        return tuple(shown(item) for item in items if item not in (None, "", {}, []))

    def path(self, key: str, default: str) -> str:
        """An absolute folder, without a final slash."""
        path = self.text(key) or default
        if not path.startswith("/") or UNUSABLE.search(path):
            raise self.error(f"has {key} = {path!r}: it must be an absolute path", key)
        return normal(path)

    def folder(self, key: str, workdir: str) -> str:
        """Path of the section ``input`` or ``output``, made absolute."""
        path = self.section(key).text("path") or key
        if UNUSABLE.search(path):
            raise self.error(f"has an {key} path with a null character or half a character", f"{key}.path")
        return normal(posixpath.join(workdir, path))


def plain(key: str) -> str:
    """One spelling for ``working-directory``, ``workingDirectory`` and ``working_directory``."""
    return key.replace("-", "").replace("_", "").lower()


def normal(path: str) -> str:
    """A path of the container without final slash or dots."""
    return "/" + posixpath.normpath(path).lstrip("/")


def shown(value: Any) -> str:
    """A value of a manifest in one short line."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return " ".join(text.encode("utf-8", "replace").decode().split())[:200]
