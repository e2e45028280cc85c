"""What becomes of virtual tables: only FTS5 says what its rows are.

FTS5 keeps rows of its own, or indexes those of another table (``content='t'``), or keeps nothing
but the index (``content=''``); sqlite.org/fts5.html, section 4.4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sqlstable.schema.schema_objects import SchemaColumn, SchemaTable
from sqlstable.schema.schema_verdicts import OldCode, Probe, SchemaChange, Verdict
from sqlstable.schema.sql_tokens import lower, meaning, quoted

Content = Literal["own", "other", "none"]


@dataclass(frozen=True, slots=True)
class FtsTable:
    """What the arguments of an FTS5 table say."""

    columns: tuple[str, ...]
    content: Content


def fts_table(table: SchemaTable) -> FtsTable:
    """Return what an FTS5 table has, and where.

    Raises:
        AssertionError: It is none.
    """
    assert table.module == "fts5"
    columns = tuple(it.name for it in table.columns if not it.is_hidden)
    for argument in table.arguments:
        keys = meaning(argument)
        if keys[:2] == ("content", "="):
            return FtsTable(columns, "none" if keys[2:] in (("''",), ("",)) else "other")
    return FtsTable(columns, "own")


def virtual_changes(old: SchemaTable, new: SchemaTable) -> Iterator[SchemaChange]:
    """Yield what becomes of a virtual table."""
    if old.module != "fts5" or new.module != "fts5":
        modules = dict.fromkeys((old.module or "", new.module or ""))
        yield _change(
            new,
            "incompatible",
            f"what is in a table of {' and '.join(modules)} only its module knows: copy its rows, "
            "and make it anew",
            "fails",
            needs_value=True,
        )
        return
    before, after = fts_table(old), fts_table(new)
    if "none" in (before.content, after.content):
        yield _change(
            new,
            "incompatible",
            "an FTS5 table with content='' does not know its texts: make it anew, and fill it",
            "fails",
            needs_value=True,
        )
        return
    kept = {lower(it) for it in after.columns}
    gone = [it for it in before.columns if lower(it) not in kept]
    if before.content == "own" and after.content == "other":
        probe = Probe(old.name, "1", (), "forward only", "would be lost")
        text = "it indexes another table now, and its own rows are lost"
        yield _change(new, "forward only", text, "differs", probe=probe)
    elif gone and before.content == "own":
        condition = " OR ".join(f"{quoted(it)} IS NOT NULL" for it in gone)
        probe = Probe(old.name, condition, tuple(gone), "forward only", "have a text that is lost")
        text = f"the texts of {', '.join(gone)} are lost"
        yield _change(new, "forward only", text, "fails", probe=probe)
    else:
        text = "its texts are indexed anew"
        yield _change(new, "both ways", text, "fails" if gone else "differs")


def _change(
    table: SchemaTable,
    verdict: Verdict,
    reason: str,
    old_code: OldCode,
    *,
    probe: Probe | None = None,
    needs_value: bool = False,
) -> SchemaChange:
    return SchemaChange(
        "changed",
        "table",
        table.name,
        verdict,
        reason,
        table.name,
        old_code=old_code,
        probe=probe,
        needs_value=needs_value,
    )


def stored_columns(table: SchemaTable) -> tuple[SchemaColumn, ...]:
    """Return the columns whose values can be copied."""
    return tuple(it for it in table.columns if it.is_stored and not it.is_hidden)
