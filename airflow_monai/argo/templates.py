"""WorkflowTemplates as people write them, before they go to a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_monai.errors import InvalidArgument

MAX_BYTES = 1 << 20
"""What a cluster keeps of one object is bounded by about so much (etcd's request limit is 1.5 MiB)."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # RFC 1123, as Kubernetes wants names
_KINDS = {
    "Workflow": "a Workflow runs at once; write a WorkflowTemplate",
    "ClusterWorkflowTemplate": "a ClusterWorkflowTemplate belongs to no namespace; write a WorkflowTemplate",
    "CronWorkflow": "a CronWorkflow starts by itself; write a WorkflowTemplate",
}


def read_template(text: str, source: str) -> dict[str, Any]:
    """The WorkflowTemplate of a YAML or JSON text.

    :param source: its name, for messages.
    :raises InvalidArgument: saying what is wrong with it, and what to do.
    """
    import yaml

    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidArgument(f"{source}: it is larger than {MAX_BYTES} bytes.")
    try:
        documents = [item for item in yaml.load_all(text, yaml.CSafeLoader) if item is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InvalidArgument(f"{source}{place}: it is no YAML: {getattr(error, 'problem', None) or error}.") from None
    except (RecursionError, ValueError):
        raise InvalidArgument(f"{source}: it is no YAML that can be read.") from None
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise InvalidArgument(f"{source}: it has {len(documents)} documents; one WorkflowTemplate is wanted.")
    template = documents[0]
    problems = list(problems_of(template))
    if problems:
        raise InvalidArgument(f"{source}: {'; '.join(problems)}.")
    return template


def problems_of(template: Mapping[str, Any]) -> Iterator[str]:
    """What the server would refuse, and what a task of ours could not start."""
    kind = template.get("kind")
    if kind != "WorkflowTemplate":
        yield _KINDS.get(str(kind), f"its kind is {kind!r}, not WorkflowTemplate")
        return
    if not str(template.get("apiVersion") or "").startswith("argoproj.io/"):
        yield f"its apiVersion is {template.get('apiVersion')!r}, not argoproj.io/v1alpha1"
    metadata, spec = template.get("metadata"), template.get("spec")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield "metadata.name must have lower-case letters, digits, '-' and '.', and is what tasks name it by"
    if not isinstance(spec, dict):
        yield "it has no spec"
        return
    templates = spec.get("templates")
    names = {item.get("name") for item in templates if isinstance(item, dict)} if isinstance(templates, list) else set()
    if not names:
        yield "spec.templates is empty"
    entrypoint = spec.get("entrypoint")
    if not entrypoint:
        yield "spec.entrypoint is missing"
    elif names and entrypoint not in names:
        yield f"spec.entrypoint {entrypoint!r} is none of spec.templates ({', '.join(sorted(map(str, names)))})"
    try:
        json.dumps(template)
    except (TypeError, ValueError):
        yield "it holds a value that JSON cannot hold, such as a date without quotes"
