"""``sqlstable schema status``: what has become of the schema of an image."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from sqlstable.cli.image_canister import opened_image
from sqlstable.cli.options import LayoutOption
from sqlstable.cli.output import screen, write
from sqlstable.report.numbers import count, counted
from sqlstable.report.text import clean, wrap

if TYPE_CHECKING:
    from sqlstable.schema.ledger import Applied
    from sqlstable.schema.schema_status import CopyStatus, SchemaStatus, TableStatus

_FORMAT: Final = "sqlstable schema status"
_FORMAT_VERSION: Final = 1
_INDENT: Final = 4


def show_status(
    *,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="An image file, which is only read.")
    ],
    layout: LayoutOption = None,
    output_format: Annotated[
        Literal["table", "json"], typer.Option("--format", help="What to write: text or json.")
    ] = "table",
) -> None:
    """Say which migrations an image has had, where its tables stand, and how far one is."""
    with opened_image(image, layout=layout, is_read_only=True) as canister:
        status = canister.schema_status()
    if output_format == "json":
        write(_as_json(status))
        return
    width = screen().width
    for line in _lines(clean(str(image)), status):
        indent = len(line) - len(line.lstrip())
        first, *rest = wrap(line.strip(), max(width - indent, 20)) or [""]
        write(" " * indent + first + "\n")
        for more in rest:
            write(" " * (indent + _INDENT) + more + "\n")


def _lines(name: str, status: "SchemaStatus") -> Iterator[str]:
    ledger = status.ledger
    if not status.has_ledger:
        yield f"{name} has no ledger: no upgrade or migration has had a schema yet"
    else:
        upgrades = counted(ledger.upgrades, "schema upgrade")
        yield f"{name}: {upgrades}, {counted(len(ledger.applied), 'migration')}"
    for it in ledger.applied:
        reason = "" if it.reason is None else f": {clean(it.reason)}"
        yield f"  migration {clean(it.title)}: {it.way}{_lack(it, status)}{reason}"
    for table in status.tables:
        yield f"  table {clean(table.name)}: {_table_words(table)}"
    for gone in ledger.removed:
        yield f"  table {clean(gone.name)}: removed, with its rows; no way back brings it back"
    if status.run is not None:
        yield f"  under way: a migration to {clean(str(status.run.facts['name']))}"
    for copy in status.copies:
        yield f"    {_copy_words(copy)}"


def _lack(applied: "Applied", status: "SchemaStatus") -> str:
    """Return what the way back of a migration does not bring back, in words."""
    if applied.kind != "schema" or applied.way != "both ways":
        return ""
    names = [clean(it.name) for it in status.ledger.removed if it.is_missed_by(applied)]
    return f", back without {', '.join(names)}, removed since" if names else ""


def _table_words(table: "TableStatus") -> str:
    if table.since is None or table.rows is None:
        return table.state
    words = f"{table.state} since schema upgrade {table.since}, {counted(table.rows, 'row')}"
    return words + ("; sqlstable schema remove drops it" if table.state == "unused" else "")


def _copy_words(copy: "CopyStatus") -> str:
    writes = "writes are kept in step" if copy.is_kept else "writes are refused"
    rows = f"{count(copy.rows)} of {counted(copy.rows_total, 'row')} copied"
    return f"table {clean(copy.source)}: {rows}; {writes}"


def _as_json(status: "SchemaStatus") -> str:
    run = status.run
    fields = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "has_ledger": status.has_ledger,
        "upgrades": status.ledger.upgrades,
        "migrations": [asdict(it) for it in status.ledger.applied],
        "tables": [asdict(it) for it in status.tables],
        "removed": [asdict(it) for it in status.ledger.removed],
        "under_way": None
        if run is None
        else {"name": run.facts["name"], "copies": [asdict(it) for it in status.copies]},
    }
    return json.dumps(fields, indent=2) + "\n"
