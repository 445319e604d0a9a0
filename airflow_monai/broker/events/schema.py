"""JSON Schemas of the first draft's topics, committed beside this file.

``python -m airflow_monai.broker.events.schema`` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_monai.broker.events.topics import DRAFT

FOLDER = Path(__file__).parent / "schemas"


def schema_of(topic: str) -> dict[str, Any]:
    """The schema of a topic of the first draft. Fields of other names are passed over."""
    made = DRAFT[topic].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:airflow-monai:{topic}", **made}


def text_of(topic: str) -> str:
    return json.dumps(schema_of(topic), indent=2) + "\n"


def file_of(topic: str) -> Path:
    return FOLDER / f"{topic}.json"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for topic in DRAFT:
        file_of(topic).write_text(text_of(topic))


if __name__ == "__main__":
    main()
