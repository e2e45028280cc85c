"""The options of the commands, each with its help."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from sqlstable.database.settings import DEFAULTS, JOURNAL_MODES, LAYOUTS, PRESETS
from sqlstable.engine.protocol import CacheState


class Format(StrEnum):
    """What a report is written as."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class View(StrEnum):
    """What one row of a report stands for."""

    STATEMENT = "statement"
    SHAPE = "shape"
    OWNER = "owner"
    MESSAGE = "message"


class Cache(StrEnum):
    """State of the heap when a query begins."""

    FRESH = "fresh"
    COLD = "cold"
    WARM = "warm"


CACHE_STATES: Final[Mapping[Cache, CacheState]] = {
    Cache.FRESH: "fresh",
    Cache.COLD: "cold",
    Cache.WARM: "warm",
}
assert set(CACHE_STATES) == set(Cache)

DatabaseOption = Annotated[
    Path | None,
    typer.Option("--database", metavar="APP.db", help="A SQLite database to import first."),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="|".join(LAYOUTS),
        help="Stable memory with the memory manager of ic-stable-structures, or without. "
        f"[default: {DEFAULTS.layout}]",
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help=f"PRAGMAs of a product: {' or '.join(PRESETS)}."),
]
PageSizeOption = Annotated[
    int | None,
    typer.Option(
        "--page-size",
        metavar="BYTES",
        help="Of a SQLite page, 512 to 65536; an imported database keeps its own. "
        f"[default: {DEFAULTS.page_size}]",
    ),
]
CacheSizeOption = Annotated[
    int | None,
    typer.Option(
        "--cache-size",
        metavar="COUNT",
        help="SQLite pages that SQLite keeps in the heap; below zero: KiB. "
        f"[default: {DEFAULTS.cache_size}]",
    ),
]
JournalModeOption = Annotated[
    str | None,
    typer.Option(
        "--journal-mode",
        metavar="|".join(JOURNAL_MODES),
        help="SQLite's journal for ROLLBACK; it is kept in the heap. "
        f"[default: {DEFAULTS.journal_mode}]",
    ),
]
LimitsOption = Annotated[
    str,
    typer.Option(
        "--limits", metavar="DATE|none", help="Enforce the Internet Computer's limits of a date."
    ),
]
CacheOption = Annotated[
    Cache,
    typer.Option(
        "--cache",
        metavar="|".join(Cache),
        help="What a query finds in the heap: nothing; the schema; what updates cached.",
    ),
]
TraceOption = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE", help="Keep the trace, for sqlstable report."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the trace if there is one already.")
]
RowsOption = Annotated[bool, typer.Option("--rows", help="Print what the statements return, too.")]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="|".join(Format),
        help="A table to read, or data: then stdout holds nothing else.",
    ),
]
ViewOption = Annotated[
    View,
    typer.Option(
        "--by", metavar="|".join(View), help="What one row stands for; JSON holds everything."
    ),
]
