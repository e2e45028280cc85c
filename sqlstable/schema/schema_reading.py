"""SQL statements made into objects of a schema, by SQLite itself."""

from typing import Any

from sqlstable.errors import SchemaError


def objects_of_sql(text: str, *, name: str) -> dict[str, Any]:
    """Return the fields of a `Schema` that SQL makes."""
    raise SchemaError(f"{name} cannot be read yet")
