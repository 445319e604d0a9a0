"""Examples: those that the OpenAPI document has, and where it has none what its schemas allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_monai.api.common.reference.schemas import Schema, Schemas

UUID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
UID = "1.2.826.0.1.3680043.8.498.1"
DEPTH = 6
_FORMATS = {"date-time": "2026-03-02T09:14:05Z", "uuid": UUID, "uri": "https://ris.hospital.example/", "binary": "…"}
_NAMED = {
    "map_label": "lung-seg:1.0.0",
    "version": "1.0.0",
    "ae_title": "CTLUNG",
    "title": "CTLUNG",
    "sink": "OUTSIDE",
    "job_name": "alpha",
    "module_name": "segment",
}
"""What is the same wherever it is asked for."""
_PLAIN: Mapping[str, Any] = {"integer": 1, "number": 0.5, "boolean": True, "null": None, "string": "…"}


@dataclass(frozen=True, slots=True)
class Examples:
    schemas: Schemas

    def of_media(self, media: Mapping[str, Any], *, asked: bool) -> Any:
        """Of a body of a content type.

        :param asked: it is a request's, which names what it must and what has an example.
        """
        if "example" in media:
            return media["example"]
        for example in media.get("examples", {}).values():
            return example.get("value")
        return self.of(media.get("schema", {}), asked=asked)

    def of(self, schema: Schema, name: str = "", *, asked: bool = False, depth: int = DEPTH) -> Any:
        """
        :param name: of the field, which may tell what it is.
        """
        for word in ("example", "const"):
            if word in schema:
                return schema[word]
        if schema.get("examples"):
            return schema["examples"][0]
        whole = self.schemas.resolved(schema)
        if whole is not schema and (word := next((one for one in ("example", "examples") if whole.get(one)), "")):
            return whole[word] if word == "example" else whole[word][0]
        if "enum" in whole:
            return whole["enum"][0]
        if whole.get("type") == "array":
            return [self.of(whole.get("items", {}), name, asked=asked, depth=depth - 1)] if depth else []
        if "properties" in whole or whole.get("type") == "object":
            return self._object(whole, asked, depth)
        if whole.get("default") not in (None, ""):
            return whole["default"]
        return _plain(whole, name)

    def _object(self, schema: Schema, asked: bool, depth: int) -> dict[str, Any]:
        if not depth:
            return {}
        needed = schema.get("required", ())
        hidden = "readOnly" if asked else "writeOnly"
        return {
            name: self.of(field, name, asked=asked, depth=depth - 1)
            for name, field in schema.get("properties", {}).items()
            if not field.get(hidden) and (not asked or name in needed or "examples" in field)
        }


def _plain(schema: Schema, name: str) -> Any:
    kind = schema.get("type")
    if kind != "string":
        low = schema.get("minimum")
        return low if low and isinstance(kind, str) else _PLAIN.get(kind) if isinstance(kind, str) else "…"
    if "format" in schema:
        return _FORMATS.get(schema["format"], "…")
    name = name.lower()
    if name.endswith("uid"):
        return UID
    return _NAMED.get(name) or (UUID if name == "id" or name.endswith("_id") else "…")
