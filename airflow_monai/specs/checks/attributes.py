"""Checks of the DICOM attributes that paths name."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_monai.specs.attributes import Attribute, attribute, canonical, nearest_keyword
from airflow_monai.specs.findings import Finding, Location, warning

_FORMS = "write a keyword such as 'Modality', or group and element: '0008','0060'"


def names_attribute(path: str) -> bool:
    """Whether a path has the form of one that names an attribute, be there such an attribute or not."""
    return path.startswith("context.dicom.") and attribute(canonical(path)) is not None


def attribute_of(path: str, at: Location, offset: int) -> Iterator[Finding]:
    """An attribute that does not exist, or that has no value to compare."""
    found = attribute(path) or attribute(canonical(path))
    if found is None:
        return
    if found.tag is None:
        near = nearest_keyword(found.keyword or "")
        message = f"there is no DICOM attribute {(found.keyword or '')[:100]!r}"
        hint = f"did you mean {near!r}?" if near else _FORMS
        yield Finding(at, "unknown-attribute", message, hint, offset=offset)
    elif reason := _without_value(found):
        message = f"{found.keyword or ''}({found.tag[:4]},{found.tag[4:]}) {reason}, and is always NULL here"
        yield warning(at, "attribute-without-value", message, "take a standard attribute with text or numbers", offset)


def _without_value(found: Attribute) -> str:
    if found.is_private:
        return "is private"
    if found.is_header:
        return "belongs to the file's header, not to the image"
    return "" if found.has_text else "holds no text and no number"
