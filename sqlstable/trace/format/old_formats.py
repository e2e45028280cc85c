"""Older formats of the trace file, shown to a reader as the current one.

A reader of an older file gets TEMP tables and views in place of what is missing there. SQLite looks
for a name among TEMP ones first, so every query is written for the current format alone, and the
file stays as it is.
"""

import re
from typing import Final

from sqlstable.ic.words import INSTRUCTIONS, OS_PAGES_ACCESSED, OS_PAGES_DIRTY, STABLE_MEMORY_BYTES
from sqlstable.trace.format.schema import schema
from sqlstable.trace.format.storage import SharedConnection

_TABLE: Final = re.compile(r"^CREATE TABLE (\w+) .*?\n\)[^;]*;", re.MULTILINE | re.DOTALL)


def show_as_current(shared: SharedConnection) -> None:
    """Give a connection to an older trace the tables of the current format; it may be read-only.

    Versions 1 and 2 said of a trapped message no limit, but its words name one.
    """
    connection = shared.connection
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for table in _TABLE.finditer(schema()):
        if table[1] not in there:
            connection.execute(table[0].replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    columns = {row[1] for row in connection.execute("PRAGMA table_info(message)")}
    if "trap_limit" not in columns:
        connection.create_function("limit_named_by", 2, limit_named_by, deterministic=True)
        connection.execute(
            "CREATE TEMP VIEW message AS"
            " SELECT *, limit_named_by(outcome, trap) AS trap_limit FROM main.message"
        )


_WORDS_OF_LIMITS: Final = (
    ("number of accessed pages", OS_PAGES_ACCESSED),
    ("number of modified pages", OS_PAGES_DIRTY),
    ("instructions", INSTRUCTIONS),
    ("exceeded the slice limit", INSTRUCTIONS),
    ("grow failed", STABLE_MEMORY_BYTES),
)
"""Words in the text of a trap, and the limit that they speak of.

Source: dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31; the last one is
that of ic-stable-structures.
"""


def limit_named_by(outcome: str, trap: str | None) -> str | None:
    """Return the limit that trapped a message, of which an old trace has the text alone."""
    if outcome != "trapped" or trap is None:
        return None
    if "xceeded the" not in trap and "grow failed" not in trap:
        return None
    return next((limit for words, limit in _WORDS_OF_LIMITS if words in trap), None)
