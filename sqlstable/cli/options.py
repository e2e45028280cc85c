"""The options of the commands, each with its help."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

import typer

from sqlstable.cli.failures import UsageError, note
from sqlstable.database.settings import (
    DEFAULTS,
    GROWTH_POLICIES,
    JOURNAL_MODES,
    PRESETS,
)
from sqlstable.errors import SettingsError
from sqlstable.ic.words import CacheState, Depth, EngineName, RunEngineName
from sqlstable.layout.layouts import LAYOUT_NAMES
from sqlstable.memory.image.durability import DURABILITIES
from sqlstable.report.map_look import MapBy, MapCurve, MapLook
from sqlstable.report.picture_names import PictureChoice
from sqlstable.report.views import By

if TYPE_CHECKING:
    from sqlstable.ic.limits import Limits
    from sqlstable.ic.prices import PriceRegime

LATEST: Final = "latest"
NO_LIMITS: Final = "none"


MAP_VIEW: Final[By] = "os-page"
"""The view that ``--map`` asks for."""

Format = Literal["table", "json", "csv"]
"""What a report is written as."""

BuildName = Literal["standard", "profile", "lean"]
"""How the module of the wasm engine is built; names of ``engine/measured/module/builds.py``."""


def _words(choice: object) -> str:
    return "|".join(get_args(choice))


EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        metavar=_words(EngineName),
        help="SQLite in this process, or in a Wasm module as a canister runs it, with its "
        "instructions counted.",
    ),
]
RunEngineOption = Annotated[
    RunEngineName,
    typer.Option(
        "--engine",
        metavar=_words(RunEngineName),
        help="SQLite in this process; or in a Wasm module as a canister runs it, with its "
        "instructions counted; or both: in this process, and measured beside it.",
    ),
]
MeasureOption = Annotated[
    str,
    typer.Option(
        "--measure",
        metavar="auto|all|N|N%",
        help="Of both engines: which messages are measured: as many of each shape as its spread "
        "needs, all, so many of each shape at first and whenever there are twice as many, or a "
        "share.",
    ),
]
StoryEngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine",
        metavar=_words(EngineName),
        help="As of run. [default: native; of survival: wasm]",
        show_default=False,
    ),
]
BuildOption = Annotated[
    BuildName | None,
    typer.Option(
        "--build",
        metavar=_words(BuildName),
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
RenameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="NAME=NAME",
        help="A table, or TABLE.COLUMN, that goes on under a new name.",
    ),
]
LimitsOption = Annotated[
    str,
    typer.Option(
        "--limits", metavar="DATE|none", help="Enforce the Internet Computer's limits of a date."
    ),
]
PricesOption = Annotated[
    str | None,
    typer.Option(
        "--prices",
        metavar="NAME|DATE",
        help="What instructions are counted by: a price list, or a day on which one held; "
        "sqlstable prices lists them. [default: that of the limits' date]",
        show_default=False,
    ),
]
RepriceOption = Annotated[
    str | None,
    typer.Option(
        "--prices",
        metavar="NAME|DATE",
        help="Instructions as another price list counts them, or that of a day; sqlstable prices "
        "lists them. [default: as recorded]",
        show_default=False,
    ),
]
AssumeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--assume",
        metavar="NAME=VALUE",
        help="What the sources of the prices leave open, as in stable-write-charges=once; once "
        "for each; sqlstable prices lists them with their defaults.",
        show_default=False,
    ),
]
CacheOption = Annotated[
    CacheState | None,
    typer.Option(
        "--cache",
        metavar=_words(CacheState),
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
    bool,
    typer.Option("--force", help="Replace the trace, page or picture if there is one already."),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write a page for a browser: one file, that loads nothing; - is stdout.",
    ),
]
PictureOption = Annotated[
    PictureChoice | None,
    typer.Option(
        "--picture",
        metavar=_words(PictureChoice),
        help="Draw a picture into the file --output, or all into that folder.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE",
        help="Where the picture goes: .png, .svg or .pdf, the folder for all of them; or the "
        "export. [default of an export: stdout]",
        show_default=False,
    ),
]
KeepGoingOption = Annotated[
    bool,
    typer.Option("--keep-going", help="Go on after a message that failed; then exit with 1."),
]
AllowOpenTransactionOption = Annotated[
    bool,
    typer.Option(
        "--allow-open-transaction",
        help="Let SQL transactions stay open over awaits and the ends of messages, to see what is "
        "lost.",
    ),
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
        metavar=_words(Depth),
        help="With SQLite's own counters, or without: OS pages only.",
    ),
]
OwnersOption = Annotated[
    bool,
    typer.Option(
        "--owners/--no-owners", help="Whether to say whose the OS pages are.", show_default=False
    ),
]
BytesChangedOption = Annotated[
    bool,
    typer.Option(
        "--bytes-changed",
        help="Note how many bytes of stable memory each message changes, for write amplification.",
    ),
]
RowsOption = Annotated[bool, typer.Option("--rows", help="Print what the statements return, too.")]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar=_words(Format),
        help="A table to read, or data: then stdout holds nothing else.",
    ),
]
ReportFormat = Literal["table", "json", "csv", "parquet"]

ReportFormatOption = Annotated[
    ReportFormat,
    typer.Option(
        "--format",
        metavar=_words(ReportFormat),
        help="A table to read, or data: then stdout holds nothing else. parquet: of an --export.",
    ),
]
ViewOption = Annotated[
    By,
    typer.Option(
        "--by",
        metavar=_words(By),
        help="What one row stands for; JSON holds everything, but locality has a document of its "
        "own.",
    ),
]
ReportViewOption = Annotated[
    By | None,
    typer.Option(
        "--by",
        metavar=_words(By),
        help="What one row stands for; JSON holds everything, but locality has a document of its "
        "own. With --compare-prices: statement, shape or message. [default: statement]",
        show_default=False,
    ),
]
MapOption = Annotated[
    bool,
    typer.Option(
        "--map",
        help="Draw where in stable memory the OS pages lie; as --by os-page, whose CSV has one row "
        "for each.",
    ),
]
MapByOption = Annotated[
    MapBy | None,
    typer.Option(
        "--map-by",
        metavar=_words(MapBy),
        help="What the map shows of each OS page: whose it is, how often it was touched, which "
        "message wrote it last, how long ago it was touched. [default: owner]",
        show_default=False,
    ),
]
MapCurveOption = Annotated[
    MapCurve | None,
    typer.Option(
        "--map-curve",
        metavar=_words(MapCurve),
        help="How the map lays out addresses. [default: linear]",
        show_default=False,
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


def chosen_prices(
    text: str | None,
    assume: Sequence[str] | None,
    limits: "Limits | None" = None,
    *,
    way: str = "add --prices",
) -> "PriceRegime":
    """Return the prices that ``--prices`` and ``--assume`` ask for.

    Args:
        text: A price list or a date; None: those of the limits' day.
        assume: As ``--assume`` has them.
        limits: Those that hold beside them.
        way: How another list is asked for, before its name.

    Raises:
        SettingsError: There is no such list or assumption, or it cannot have that value.
        UsageError: An assumption concerns another list.
    """
    from sqlstable.ic.assumptions import ASSUMPTIONS, assumed, parsed_assumptions
    from sqlstable.ic.prices import resolve_prices

    regime = resolve_prices(text, limits)
    _note_newest(text, regime)
    values = parsed_assumptions(assume or [])
    for name, value in values.items():
        lists = ASSUMPTIONS[name].lists
        if regime.name not in lists:
            raise UsageError(
                f"--assume {name}={value} concerns prices {' and '.join(lists)}, and these are "
                f"{regime.name}; leave it out, or {way} {lists[0]}"
            )
    return assumed(regime, values)


def _note_newest(text: str | None, regime: "PriceRegime") -> None:
    """Say which list a day gets on which nobody knows the prices yet."""
    from sqlstable.ic.limits import LATEST_LIMITS_DATE

    try:
        day = None if text is None else date.fromisoformat(text)
    except ValueError:
        return  # The name of a list.
    if day is not None and day > LATEST_LIMITS_DATE:
        note(
            f"no prices are known after {LATEST_LIMITS_DATE}, so these are those of that day: "
            f"{regime.name}, since {regime.since}"
        )


def note_native_reach(assume: Sequence[str] | None, regime: "PriceRegime") -> None:
    """Say what assumptions change where nobody counts but stable memory's part.

    Args:
        assume: As ``--assume`` has them.
        regime: The price list that they are about.
    """
    from sqlstable.ic.assumptions import reaches_stable

    names = [text.partition("=")[0] for text in assume or []]
    if not names:
        return
    within = [name for name in names if reaches_stable(name, regime.name)]
    beyond = [name for name in names if name not in within]
    words = "the native engine counts stable memory's part of instructions alone"
    if within:
        hold = "holds" if len(within) == 1 else "hold"
        words += f", where {' and '.join(within)} {hold} as assumed"
    words += f"; nothing in it depends on {' or '.join(beyond)}" if beyond else ""
    note(f"{words}; --engine wasm counts all")


def chosen_map(
    view: By, *, is_map: bool, by: MapBy | None, curve: MapCurve | None = None
) -> tuple[By, MapLook]:
    """Return the view and the look of its map that the options ask for.

    Raises:
        UsageError: They do not go together.
    """
    if is_map and view not in ("statement", MAP_VIEW):
        raise UsageError(f"--map is a view of its own, beside --by {view}; leave one of them out")
    for option, value in (("--map-by", by), ("--map-curve", curve)):
        if value is not None and not (is_map or view == MAP_VIEW):
            raise UsageError(f"{option} {value} concerns the map; add --map")
    default = MapLook()
    look = MapLook(by or default.by, curve or default.curve)
    return (MAP_VIEW if is_map else view), look


def check_durability(durability: str | None) -> None:
    """Refuse an unknown level before any file is touched.

    Raises:
        SettingsError: There is no such level.
    """
    if durability not in (None, *DURABILITIES):
        raise SettingsError(
            f"durability is {durability!r}; it must be one of {', '.join(DURABILITIES)}"
        )
