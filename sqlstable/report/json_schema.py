"""The JSON Schema of ``sqlstable.report.as_json``, as it ships in the package."""

import json
from importlib.resources import files
from typing import Any


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that every report in JSON keeps to.

    Examples:
        >>> report_schema()["properties"]["format"]
        {'const': 'sqlstable-report'}
    """
    text = files("sqlstable.report").joinpath("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
