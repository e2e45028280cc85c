"""The schema of a file, whatever it is: SQL, a database, an image, a snapshot."""

from pathlib import Path

from sqlstable.errors import SchemaError
from sqlstable.schema.schema_model import Schema


def read_schema(path: Path | str) -> Schema:
    """Return the schema of a file.

    Args:
        path: A SQL file, a SQLite database, an image of stable memory or a snapshot's folder.

    Raises:
        SchemaError: It holds no schema that can be read.
        ImageError: It is a damaged database or image.
    """
    raise SchemaError(f"{path} cannot be read yet")
