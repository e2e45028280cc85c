"""``check_schemas``: may a database of one schema become one of another, and come back?"""

from collections.abc import Mapping

from sqlstable.errors import SchemaError
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_verdicts import SchemaCheck


def check_schemas(
    old: Schema, new: Schema, *, renames: Mapping[str, str] | None = None
) -> SchemaCheck:
    """Compare two schemas, and find the migration between them.

    Args:
        old: The schema of the database as it is.
        new: The schema that it is to have.
        renames: What is renamed: ``{"table": "table"}`` or ``{"table.column": "table.column"}``.
    """
    raise SchemaError("schemas cannot be compared yet")
