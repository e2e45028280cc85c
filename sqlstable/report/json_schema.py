"""The JSON Schemas of reports, as they ship in the package."""

import json
from importlib.resources import files
from typing import Any


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that every report in JSON keeps to.

    Examples:
        >>> report_schema()["properties"]["format"]
        {'const': 'sqlstable-report'}
    """
    return _schema("schema.json")


def locality_schema() -> dict[str, Any]:
    """Return likewise the one of ``--by locality``.

    Examples:
        >>> locality_schema()["properties"]["format"]
        {'const': 'sqlstable-locality'}
    """
    return _schema("locality_schema.json")


def _schema(name: str) -> dict[str, Any]:
    text = files("sqlstable.report").joinpath(name).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
