"""The options of the commands, each with its help."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sqlstable.cli.failures import note
from sqlstable.database.settings import (
    DEFAULTS,
    GROWTH_POLICIES,
    JOURNAL_MODES,
    PRESETS,
)
from sqlstable.errors import SettingsError
from sqlstable.layout.layouts import LAYOUT_NAMES
from sqlstable.memory.image.durability import DURABILITIES

if TYPE_CHECKING:
    from sqlstable.canister.machine import EngineName
    from sqlstable.ic.limits import Limits
    from sqlstable.ic.words import CacheState
    from sqlstable.trace.recording.recorder import Depth as DepthName

LATEST: Final = "latest"
NO_LIMITS: Final = "none"


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


CACHE_STATES: "Final[Mapping[Cache, CacheState]]" = {
    Cache.FRESH: "fresh",
    Cache.COLD: "cold",
    Cache.WARM: "warm",
}
assert set(CACHE_STATES) == set(Cache)


class EngineChoice(StrEnum):
    """What executes the SQL."""

    NATIVE = "native"
    WASM = "wasm"


ENGINE_NAMES: "Final[Mapping[EngineChoice, EngineName]]" = {
    EngineChoice.NATIVE: "native",
    EngineChoice.WASM: "wasm",
}
assert set(ENGINE_NAMES) == set(EngineChoice)


class Depth(StrEnum):
    """How much is asked of SQLite for each statement."""

    COUNTERS = "counters"
    PAGES = "pages"


DEPTHS: "Final[Mapping[Depth, DepthName]]" = {Depth.COUNTERS: "counters", Depth.PAGES: "pages"}
assert set(DEPTHS) == set(Depth)


class Build(StrEnum):
    """How the module of the wasm engine is built."""

    STANDARD = "standard"
    PROFILE = "profile"
    LEAN = "lean"


EngineOption = Annotated[
    EngineChoice,
    typer.Option(
        "--engine",
        metavar="|".join(EngineChoice),
        help="SQLite in this process, or in a Wasm module as a canister runs it, with its "
        "instructions counted.",
    ),
]
BuildOption = Annotated[
    Build | None,
    typer.Option(
        "--build",
        metavar="|".join(Build),
        help="Of the wasm module: as canisters have it; with the rows that loops visit; set up "
        "for prices that charge the heap. [default: standard]",
        show_default=False,
    ),
]
DatabaseOption = Annotated[
    Path | None,
    typer.Option("--database", metavar="APP.db", help="A SQLite database to import first."),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="|".join(LAYOUT_NAMES),
        help="Where the database lies: in a memory manager of ic-stable-structures, at address 0, "
        f"or as a product has it. [default: {DEFAULTS.layout}]",
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
        help="Of a SQLite page, 512 to 65536; the copy of an imported database gets it, too. "
        f"[default: {DEFAULTS.page_size}; a database from elsewhere keeps its own]",
    ),
]
OnConnectOption = Annotated[
    Path | None,
    typer.Option(
        "--on-connect",
        metavar="FILE.py",
        help="Defines on_connect(connection), which gives each apsw connection the functions, "
        "collations and modules that the database needs.",
    ),
]
IntegrityCheckOption = Annotated[
    bool,
    typer.Option(
        "--integrity-check",
        help="Compare the indexes with their tables, too, which takes longer than quick_check.",
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
        help="SQLite's journal: in the heap, none, or in stable memory. "
        f"[default: {DEFAULTS.journal_mode}]",
    ),
]
GrowthOption = Annotated[
    str | None,
    typer.Option(
        "--growth",
        metavar="|".join(GROWTH_POLICIES),
        help=f"What a file in a memory manager grows by. [default: {DEFAULTS.growth}]",
    ),
]
ImageOption = Annotated[
    Path | None,
    typer.Option(
        "--image", metavar="IMAGE", help="Keep stable memory in a file; made if it is not there."
    ),
]
DurabilityOption = Annotated[
    str | None,
    typer.Option(
        "--durability",
        metavar="|".join(DURABILITIES),
        help="What an answered message in the image survives: the end of the process, however it "
        f"ends, or a loss of power, too. [default: {DURABILITIES[0]}]",
    ),
]
LimitsOption = Annotated[
    str,
    typer.Option(
        "--limits", metavar="DATE|none", help="Enforce the Internet Computer's limits of a date."
    ),
]
CacheOption = Annotated[
    Cache | None,
    typer.Option(
        "--cache",
        metavar="|".join(Cache),
        help="What a query finds in the heap: nothing; the schema; what updates cached. "
        "[default: cold, or with --engine wasm: warm]",
        show_default=False,
    ),
]
TraceOption = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE", help="Keep the trace, for sqlstable report."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the trace if there is one already.")
]
KeepGoingOption = Annotated[
    bool,
    typer.Option("--keep-going", help="Go on after a message that failed; then exit with 1."),
]
NoEnforceOption = Annotated[
    bool,
    typer.Option(
        "--no-enforce", help="Measure against the limits of messages, and trap at none of them."
    ),
]
NowOption = Annotated[
    str | None,
    typer.Option(
        "--now", metavar="DATETIME", help=f"The time that SQL sees. [default: {DEFAULTS.now}]"
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", metavar="NUMBER", help=f"Of SQL's random(). [default: {DEFAULTS.seed}]"),
]
BucketPagesOption = Annotated[
    int | None,
    typer.Option(
        "--bucket-pages",
        metavar="COUNT",
        help=f"Wasm pages of a bucket of a new memory manager. [default: {DEFAULTS.bucket_pages}]",
    ),
]
ForeignKeysOption = Annotated[
    bool | None,
    typer.Option(
        "--foreign-keys/--no-foreign-keys",
        help="Whether SQLite enforces foreign keys. [default: no, or as the preset has it]",
        show_default=False,
    ),
]
TrackHeapOption = Annotated[
    bool | None,
    typer.Option(
        "--track-heap/--no-track-heap",
        help="Of the wasm engine: whether to watch and charge the heap. [default: as the prices "
        "of the limits' date do]",
        show_default=False,
    ),
]
DepthOption = Annotated[
    Depth,
    typer.Option(
        "--depth",
        metavar="|".join(Depth),
        help="With SQLite's own counters, or without: OS pages only.",
    ),
]
OwnersOption = Annotated[
    bool,
    typer.Option(
        "--owners/--no-owners", help="Whether to say whose the OS pages are.", show_default=False
    ),
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


PlanOption = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Show the plan under each statement; with run --build profile also the rows that "
        "each loop visited, beside the estimate.",
    ),
]
SettingsOption = Annotated[
    bool, typer.Option("--settings", help="Name all settings, also those that are the default.")
]


def chosen_limits(text: str) -> "Limits | None":
    """Return the limits that ``--limits`` asks for.

    Raises:
        SettingsError: It is no date, or one before the first limits.
    """
    # Memories and the history of limits are not what a report needs.
    from sqlstable.ic.limits import LATEST_LIMITS_DATE, resolve_limits

    limits = None if text.lower() == NO_LIMITS else resolve_limits(text)
    if limits is not None and limits.date > LATEST_LIMITS_DATE:
        note(f"no limits are known after {LATEST_LIMITS_DATE}, so these are those of that day")
    return limits


def check_durability(durability: str | None) -> None:
    """Refuse an unknown level before any file is touched.

    Raises:
        SettingsError: There is no such level.
    """
    if durability not in (None, *DURABILITIES):
        raise SettingsError(
            f"durability is {durability!r}; it must be one of {', '.join(DURABILITIES)}"
        )
