"""The builds of the module, what goes into them, and the built files.

========  =========================================================================================
standard  SQLite as canisters run it; nothing in it that ordinary statements would pay for
profile   also counts the rows that each loop of a plan visits (``SQLITE_ENABLE_STMT_SCANSTATUS``),
          which costs instructions
lean      set up for prices that charge each 64 KiB region of the heap: a page cache that writes no
          region on a hit, ``source/pcache.c``, and the rest of the heap close together,
          ``source/lean.c``
heap      keeps the database in the heap instead, and in stable memory only while the canister is
          upgraded, see ``source/heap.c``; to compare with, so not among `BUILDS`
========  =========================================================================================

How ``lean`` fails: what does not fit its pool of about 120 KiB spills over into the ordinary heap,
which is dearer and fails only where the heap ends, as in the others. Its stack has 68 KiB, not
1 MiB: expressions nest 200 deep, not 1000 (an SQL error beyond), and views of views more than 100
deep may trap ("out of bounds memory access": the stack lies at the bottom of the heap, so nothing
is overwritten).
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from sqlstable.errors import ModuleError, SettingsError
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.units import KIB, MIB
from sqlstable.wasm.program import NEAR_BYTES, Program, shared_program

SQLITE_SOURCE_ID: Final = (
    "2026-10-16 14:45:20 555e07ef33f69a0957d24d8e555b702464a131d6f1607f4c3c1e4551e8e6ca76"
)
"""Of the amalgamation that is compiled; APSW's wheel of the same version has the same."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where the amalgamation comes from."""

    package: str
    "npm package and version."
    sha256: str
    "Of the tarball."
    sha256_by_member: dict[str, str]
    "Files in it, each with its SHA-256."


ARCHIVE: Final = Archive(
    package="better-sqlite3@13.2.0",
    sha256="40487589df3496f2ee0079d22b73c63fccebe7db0e8ee9a2c42421861e321e0b",
    sha256_by_member={
        "package/deps/sqlite3/sqlite3.c": (
            "75a4760a7b9727a4c4c877aec92eacf39e52a8f2921ce00bd33be6d3a8e8e254"
        ),
        "package/deps/sqlite3/sqlite3.h": (
            "d6c84557261893439b341d2e6c35187ae3ea24fbfd843ad94616f72d89242b8c"
        ),
    },
)
"""SQLite 3.54.1. The amalgamation is in the public domain; nothing else of the package is used."""

ZIGLANG_VERSION: Final = "0.17.0"
"""Release of the PyPI package ``ziglang`` whose compiler gives the bytes in `CHECKSUMS`."""

COMMON_OPTIONS: Final = (
    # As APSW's wheel has them: these move rows or pages, or what SQL there is.
    "HAVE_ISNAN=1",
    "SQLITE_ENABLE_DBSTAT_VTAB",
    "SQLITE_ENABLE_FTS3",
    "SQLITE_ENABLE_FTS3_PARENTHESIS",
    "SQLITE_ENABLE_FTS4",
    "SQLITE_ENABLE_FTS5",
    "SQLITE_ENABLE_GEOPOLY",
    "SQLITE_ENABLE_MATH_FUNCTIONS",
    "SQLITE_ENABLE_PERCENTILE",
    # Replaces a row of a table WITHOUT ROWID by deleting it first, where it would be overwritten.
    "SQLITE_ENABLE_PREUPDATE_HOOK",
    "SQLITE_ENABLE_RTREE",
    "SQLITE_ENABLE_STAT4",
    "SQLITE_LIKE_DOESNT_MATCH_BLOBS",
    "SQLITE_OMIT_AUTOINIT",
    "SQLITE_OMIT_DEPRECATED",
    "SQLITE_OMIT_SHARED_CACHE",
    "SQLITE_STRICT_SUBTYPE=1",
    # The tables bytecode() and tables_used(), which the wheel has not; they cost nothing.
    "SQLITE_ENABLE_BYTECODE_VTAB",
    # What a canister is: one thread, no files, no clock zone, no shared libraries.
    "HAVE_LOCALTIME_R=1",
    "NDEBUG",
    "SQLITE_MAX_MMAP_SIZE=0",
    "SQLITE_OMIT_LOAD_EXTENSION",
    "SQLITE_OMIT_WAL",
    "SQLITE_OS_OTHER=1",
    "SQLITE_TEMP_STORE=3",
    "SQLITE_THREADSAFE=0",
)
"""Preprocessor definitions of all builds."""


@dataclass(frozen=True, slots=True)
class Build:
    """One way of building the module."""

    name: str
    options: tuple[str, ...]
    "Preprocessor definitions beside `COMMON_OPTIONS`."
    stack_bytes: int
    "Room for the C stack; what passes it traps."
    cache_size: int | None = None
    "SQLite pages that the page cache should be set to; None: as the settings have it."
    sources: tuple[str, ...] = ()
    "Beside `SOURCE_NAMES`."
    global_base: int | None = None
    "Address of constants and variables; None: they follow the stack."


BUILDS: Final = {
    build.name: build
    for build in (
        Build("standard", options=(), stack_bytes=MIB),
        Build("profile", options=("SQLITE_ENABLE_STMT_SCANSTATUS",), stack_bytes=MIB),
        Build(
            "lean",
            options=(
                "SQLSTABLE_LEAN",
                # Appending to the reply costs 500 instructions each time, and heap far more.
                "SQLSTABLE_REPLY_BYTES=2048",
                # Its stack is small.
                "SQLITE_MAX_EXPR_DEPTH=200",
            ),
            # One region and a little: its top shares a region with what lies behind it.
            stack_bytes=68 * KIB,
            # The constants that small messages read, and all variables, then lie in one region.
            global_base=212 * KIB,
            # Eight regions; source/lean.h has room for the headers of so many.
            cache_size=128,
            sources=("dense.c", "pcache.c"),
        ),
    )
}
"""Those that a canister's SQLite can be, by name."""

SOURCE_NAMES: Final = (
    *("execute.c", "placement.c", "random.c", "reply.c", "vfs.c", "canister.c", "files.c"),
    "lean.c",
)
"""Our own sources, in the order in which they are linked."""

HEAP_BUILD: Final = Build(
    "heap", options=("SQLSTABLE_HEAP",), stack_bytes=MIB, sources=("heap.c", "dense.c")
)
"""The build whose database is in the heap; no stable memory of a `sqlstable.Canister` fits it."""

ALL_BUILDS: Final = {**BUILDS, HEAP_BUILD.name: HEAP_BUILD}
"""All that is built, by name."""

CHECKSUMS_NAME: Final = "checksums.json"


def file_name(name: str) -> str:
    """Return the file name of a build."""
    return f"{name}.wasm"


def checksums() -> dict[str, str]:
    """Return the SHA-256 of each build's file, as the last build has written them."""
    text = _binaries().joinpath(CHECKSUMS_NAME).read_text(encoding="utf-8")
    sums = json.loads(text)["sha256"]
    assert isinstance(sums, dict)
    return sums


def load(name: str) -> bytes:
    r"""Return a built module.

    Args:
        name: A name in `ALL_BUILDS`.

    Raises:
        SettingsError: There is no such build.
        ModuleError: Its file is missing or was changed.

    Examples:
        >>> load("standard")[:4]
        b'\x00asm'
    """
    if name not in ALL_BUILDS:
        raise SettingsError(
            f"no build of the module is named {name!r}; there are {', '.join(ALL_BUILDS)}"
        )
    try:
        data = _binaries().joinpath(file_name(name)).read_bytes()
    except OSError as error:
        raise ModuleError(
            f"the module {file_name(name)} cannot be read: {error}; install sqlstable anew"
        ) from error
    found, expected = hashlib.sha256(data).hexdigest(), checksums()[name]
    if found != expected:
        raise ModuleError(
            f"the module {file_name(name)} has SHA-256 {found}, and {expected} was built; "
            "install sqlstable anew, or build it by "
            "python -m sqlstable.engine.measured.module.build"
        )
    return data


def load_program(
    build: str, regime: PriceRegime, *, watches_heap: bool, reach_bytes: int = NEAR_BYTES
) -> Program:
    """Return the program of one of our own builds, compiled.

    Args:
        build: A name in `ALL_BUILDS`.
        regime: What is counted.
        watches_heap: Whether what is touched in the heap is reported and charged.
        reach_bytes: Addresses that each memory reserves.

    Raises:
        SettingsError: wasmtime is missing, or there is no such build.
        ModuleError: The build's file was changed.
    """
    return shared_program(
        build,
        load,
        (regime.name, regime.assumptions),
        watches_heap=watches_heap,
        reach_bytes=reach_bytes,
    )


def _binaries() -> Traversable:
    return files(__package__).joinpath("binaries")
