"""What a real data set is: a schema, rows from files, indexes, and queries with names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


class MissingDataError(Exception):
    """A package or file that a benchmark reads is not there; the text says how to get it."""


Row = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Tables that belong together.

    Numbers come as text, as their files have them: each column's affinity makes numbers of them.
    """

    name: str
    tables: Mapping[str, str]
    "CREATE TABLE statements by table, in an order that foreign keys allow."
    rows: Callable[[str], Iterable[Row]]
    "Gives the rows of a table."
    indexes: Sequence[str]
    "CREATE INDEX statements."
    queries: Mapping[str, str]
    "Queries by name."
