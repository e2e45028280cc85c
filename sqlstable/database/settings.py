"""How a database is set up: page size, cache, journal, and the presets of known products."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sqlstable.errors import SettingsError
from sqlstable.ic.units import KIB, WASM_PAGE_BYTES
from sqlstable.layout.layout import Layout
from sqlstable.layout.layouts import LAYOUT_NAMES, LAYOUTS, layout_named
from sqlstable.sqlite.header import SQLITE_PAGE_BYTES_MAX, SQLITE_PAGE_BYTES_MIN

if TYPE_CHECKING:
    import apsw

assert SQLITE_PAGE_BYTES_MAX == WASM_PAGE_BYTES, "no SQLite page ever crosses a Wasm page"

JOURNAL_MODES: Final = ("memory", "off", "delete", "truncate", "persist")
"""The first two keep no file: a message is atomic by itself, the journal serves ROLLBACK only."""

HEAP_JOURNAL_MODES: Final = JOURNAL_MODES[:2]
"""Not every layout has a place for a second file."""

NO_WAL: Final = (
    "journal_mode wal is not available: no canister has the shared memory that a write-ahead log "
    "needs; choose memory or off, or in layout managed delete, truncate or persist"
)

GROWTH_POLICIES: Final = ("bucket", "wasm-page")

CACHE_SIZE_DEFAULT: Final = 500
"""SQLite pages."""

CACHE_SIZE_MAX: Final = (1 << 31) - 1
"""Source: SQLite's PRAGMA cache_size takes a 32-bit integer."""

WASM32_CACHE_OVERHEAD_BYTES: Final = 88
"""Bytes that SQLite's page cache adds to each SQLite page on wasm32.

Derived from the layout of ``struct MemPage`` in SQLite 3.54.1 with 4-byte pointers, rounded up to
8; the same derivation gives the 136 bytes that 64-bit builds are known to use.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under which a database is opened; all of them appear in every report."""

    page_size: int = 4096
    "Bytes of a SQLite page, a power of two from 512 to 65 536; an existing database keeps its own."
    cache_size: int = CACHE_SIZE_DEFAULT
    "SQLite pages that SQLite keeps in the heap; positive."
    journal_mode: str = "memory"
    "memory, off, delete, truncate or persist; the last three in layout managed only."
    layout: str = LAYOUT_NAMES[0]
    "Where its bytes lie in stable memory, a name in `LAYOUT_NAMES`."
    bucket_pages: int = 128
    "Wasm pages of a bucket of a memory manager, where the layout has one."
    growth: str = "bucket"
    """How a file gets more stable memory: ``bucket`` allocates whole buckets of the memory manager,
    ``wasm-page`` what is needed, and rewrites the manager's header each time. Layout managed only;
    raw grows by Wasm pages."""
    preset: str | None = None
    "Name of the preset that the settings came from."
    foreign_keys: bool = False
    "Whether SQLite enforces foreign keys."
    now: str = "2026-01-01 00:00:00"
    "What date('now') and CURRENT_TIMESTAMP say: time is pinned, so that two runs are equal."
    seed: int = 0
    "Seed of SQL's random() and randomblob()."

    locking_mode: str = "exclusive"
    synchronous: str = "off"
    temp_store: str = "memory"


DEFAULTS: Final = Settings()

PRESETS: Final = {
    "ic-rusqlite": {
        "page_size": 4096,
        "cache_size": 500_000,
        "journal_mode": "persist",
        "growth": "wasm-page",
    },
    "ic-sqlite-vfs": {
        "page_size": 16_384,
        "cache_size": -32_768,
        "journal_mode": "memory",
        "foreign_keys": True,
    },
}
"""PRAGMAs of the products of these names; their commit paths are not imitated.

Source: wasm-forge/ic-rusqlite ``src/lib.rs``, 0.5.0, whose database is a file mounted by stable-fs
that grows by Wasm pages; humandebri/ic-sqlite-vfs ``README``, 2.1.0.
"""


def resolve_settings(*, preset: str | None = None, **chosen: object) -> Settings:
    """Return the settings of a preset, or the defaults, with what was chosen on top.

    Args:
        preset: A name in `PRESETS`, or None.
        **chosen: Fields of `Settings`; None means not chosen.

    Raises:
        SettingsError: A name is unknown, or a value out of its range.

    Examples:
        >>> resolve_settings(page_size=8192).page_size
        8192
        >>> resolve_settings(preset="ic-sqlite-vfs").cache_size
        2037
    """
    values: dict[str, object] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise SettingsError(
                f"no preset is named {preset!r}; there are {', '.join(sorted(PRESETS))}"
            )
        values.update(PRESETS[preset])
        values["preset"] = preset
    values.update({name: value for name, value in chosen.items() if value is not None})
    for name, value in _defaults_of_layout(values).items():
        values.setdefault(name, value)
    _check(values)
    page_size = values.get("page_size", DEFAULTS.page_size)
    cache_size = values.get("cache_size", CACHE_SIZE_DEFAULT)
    assert isinstance(page_size, int)
    assert isinstance(cache_size, int)
    if cache_size < 0:
        values["cache_size"] = cache_sqlite_pages(-cache_size, page_size)
    return replace(DEFAULTS, **values)  # type: ignore[arg-type]  # the names were checked above


def _defaults_of_layout(values: Mapping[str, object]) -> Mapping[str, object]:
    """Return what the layout has where nobody chooses; an unknown one is refused later."""
    found = [layout for layout in LAYOUTS if layout.name == values.get("layout")]
    return found[0].traits.defaults if found else {}


def imported_page_size(settings: Settings, asked: int | None) -> int | None:
    """Return the size that SQLite pages of an imported database get; None for their own."""
    is_given = "page_size" in layout_named(settings.layout).traits.defaults
    return settings.page_size if asked is None and is_given else asked


def layout_of(values: Mapping[str, object]) -> Layout:
    """Return the layout that settings name, which are checked."""
    return layout_named(str(values.get("layout", DEFAULTS.layout)))


def cache_sqlite_pages(cache_kib: int, page_size: int) -> int:
    """Return how many SQLite pages a cache of ``cache_kib`` KiB holds on wasm32.

    A negative ``cache_size`` asks for KiB, and SQLite divides by SQLite page plus overhead. The
    overhead differs between 32 and 64 bits, so the division is made once, as a canister makes it.

    Args:
        cache_kib: 1 or more.
        page_size: Bytes of a SQLite page.

    Examples:
        >>> cache_sqlite_pages(2000, 4096)
        489

    Source:
        ``numberOfCachePages`` in SQLite's ``pcache.c``, 3.54.1.
    """
    return max(1, cache_kib * KIB // (page_size + WASM32_CACHE_OVERHEAD_BYTES))


def _check(values: dict[str, object]) -> None:
    unknown = sorted(set(values) - set(Settings.__slots__))
    if unknown:
        raise SettingsError(
            f"no setting is named {unknown[0]!r}; there are {', '.join(Settings.__slots__)}"
        )
    for name in ("page_size", "cache_size", "bucket_pages", "seed"):
        value = values.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool):
            raise SettingsError(
                f"{name} is {json.dumps(value, default=str)}; it must be a whole number"
            )
    _check_page_size(values)
    _check_range(values, "cache_size", -CACHE_SIZE_MAX, CACHE_SIZE_MAX)
    _check_range(values, "bucket_pages", 1, 65_535)
    if values.get("cache_size") == 0:
        raise SettingsError(
            "cache_size is 0; SQLite would then choose by itself: give 1 or more SQLite pages"
        )
    _check_choice(values, "layout", LAYOUT_NAMES)
    _check_choice(values, "growth", GROWTH_POLICIES)
    _check_journal(values)
    _check_layout(values)


def _check_layout(values: Mapping[str, object]) -> None:
    layout = layout_of(values)
    if not layout.traits.has_buckets and values.get("growth") == "wasm-page":
        raise SettingsError(
            f"growth wasm-page concerns layout managed: layout {layout.name} always grows by Wasm "
            "pages"
        )


def _check_page_size(values: dict[str, object]) -> None:
    size = values.get("page_size", DEFAULTS.page_size)
    assert isinstance(size, int)
    power_of_two = size > 0 and size & (size - 1) == 0
    if not power_of_two or not SQLITE_PAGE_BYTES_MIN <= size <= SQLITE_PAGE_BYTES_MAX:
        raise SettingsError(
            f"page_size is {size}; it must be a power of two from {SQLITE_PAGE_BYTES_MIN} to "
            f"{SQLITE_PAGE_BYTES_MAX}"
        )


def _check_range(values: dict[str, object], name: str, low: int, high: int) -> None:
    value = values.get(name, low)
    assert isinstance(value, int)
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value}; it must be from {low} to {high}")


def _check_choice(values: dict[str, object], name: str, choices: tuple[str, ...]) -> None:
    value = values.get(name, choices[0])
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def _check_journal(values: dict[str, object]) -> None:
    if values.get("journal_mode") == "wal":
        raise SettingsError(NO_WAL)
    _check_choice(values, "journal_mode", JOURNAL_MODES)
    mode = values.get("journal_mode", DEFAULTS.journal_mode)
    layout = layout_of(values)
    if not layout.traits.has_further_files and mode not in HEAP_JOURNAL_MODES:
        origin = f" (of preset {values['preset']})" if values.get("preset") else ""
        raise SettingsError(
            f"journal_mode {mode}{origin} keeps a file beside the database, and layout "
            f"{layout.name} has room for the database only; choose journal_mode memory or off, "
            "which keep the journal in the heap, or layout managed"
        )


def refuse_wal(pragma: "apsw.VFSFcntlPragma") -> None:
    """Refuse to switch to a write-ahead log, in SQLite's own way.

    Raises:
        apsw.SQLError: The PRAGMA would.
    """
    import apsw  # noqa: PLC0415  settings alone need no SQLite

    # Under an exclusive lock SQLite would write the mode into the database. It takes "w" for
    # "wal", too.
    value = (pragma.value or "").lower()
    if pragma.name.lower() == "journal_mode" and value and "wal".startswith(value):
        pragma.result = NO_WAL
        raise apsw.SQLError(NO_WAL)
