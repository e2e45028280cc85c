"""Trying on copies what gives free SQLite pages back, and what is left to pay for.

Each way runs in a canister of its own, on a copy of stable memory in this process's memory. What
is looked at is opened for reading only, and locked while it is copied, so nothing of it changes.

**Limitations**

* Only the main database is looked at, not those that are attached.
* A way is measured without trapping at limits, so that it is known by how much it misses them.
* Of steps of incremental vacuum at most `STEPS_RUN_MAX` are carried out for each size.
* The deletion that is shown beside the ways is of half of the largest table that has row ids.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlstable.analysis.reclaimable import AUTO_VACUUM, NewImage, ReclaimReport, Way, WayKind
from sqlstable.analysis.verdict import applies, share
from sqlstable.canister.canister import Canister
from sqlstable.canister.choices import Keywords
from sqlstable.database.foreign import SourceOptions, open_source
from sqlstable.database.transfer import new_image_bytes
from sqlstable.errors import ImageError, SettingsError, SqlError, Trap
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import (
    INSTRUCTIONS,
    OS_PAGES_ACCESSED,
    OS_PAGES_DIRTY,
    STABLE_MEMORY_BYTES,
    EngineName,
)
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import layout_named, recognised
from sqlstable.memory.copying import copied
from sqlstable.memory.manager import DEFAULT_BUCKET_WASM_PAGES
from sqlstable.memory.stable import StableMemory
from sqlstable.sqlite.header import HEADER_BYTES, parse_header
from sqlstable.trace.model import LimitUse, Message

STEPS: Final = (100, 1000, 10_000)
"""How many SQLite pages a step of incremental vacuum cuts off, where nobody says."""

STEPS_RUN_MAX: Final = 100
"""Most messages that are carried out for a size of step; the others are much the same."""

SNAPSHOT_NAME: Final = "stable_memory.bin"
"""The file of a snapshot's folder that has stable memory."""

_LARGEST_TABLE: Final = """
SELECT t.name FROM pragma_table_list AS t JOIN dbstat AS d ON d.name = t.name
WHERE t.schema = 'main' AND t.type = 'table' AND NOT t.wr AND t.name NOT GLOB 'sqlite_*'
  AND d.schema = 'main' AND d.aggregate = TRUE
ORDER BY d.pgsize DESC, t.name LIMIT 1
"""

_BUCKET_PAGES: Final = DEFAULT_BUCKET_WASM_PAGES
_SMALL_BUCKET_PAGES: Final = 16
"""1 MiB: eight of these waste no more than one of the default."""

_NEW_IMAGES: Final = (
    ("managed", _BUCKET_PAGES),
    ("managed", _SMALL_BUCKET_PAGES),
    ("raw", _BUCKET_PAGES),
)
"""Layout, and Wasm pages of a bucket, of new images beside one of the image's own kind."""

_NO_SETTINGS: Final = frozenset({"enforced", "owners", "depth"})
"""What is chosen for measuring, and changes no number."""

OnWay = Callable[[str], None]
"""Is told what is tried next."""


def reclaim(  # noqa: PLR0913  each is an option
    source: Path | str | bytes,
    *,
    engine: EngineName = "native",
    layout: str | None = None,
    preset: str | None = None,
    cache_size: int | None = None,
    bucket_pages: int | None = None,
    limits: Limits | str | None = "latest",
    steps: Sequence[int] = STEPS,
    on_way: OnWay | None = None,
) -> ReclaimReport:
    """Say what a database has free, what each way of giving it back costs, and what it leaves.

    Args:
        source: An image of stable memory, a snapshot's folder, or a SQLite database, which goes
            into a canister first; or an image as bytes. It is only read.
        engine: ``native``, or ``wasm``, which counts instructions.
        layout: That a database gets; an image has its own.
        preset: PRAGMAs of a known product.
        cache_size: SQLite pages that SQLite keeps in the heap.
        bucket_pages: Wasm pages of a bucket that a database gets; an image has its own.
        limits: Limits to measure against: a date, ``"latest"``, a `Limits`, or None for none.
        steps: SQLite pages that a step of incremental vacuum cuts off, 1 or more each.
        on_way: Is told what is tried next.

    Raises:
        ImageError: It is missing, in use, damaged, or holds no database.
        SettingsError: A setting is unknown, or a step is no number of SQLite pages.
    """
    if not steps or min(steps) < 1:
        raise SettingsError(f"steps are {list(steps)}; each is a number of SQLite pages, from 1 on")
    keywords: Keywords = {"preset": preset, "cache_size": cache_size}
    imported: Keywords = {**keywords, "layout": layout, "bucket_pages": bucket_pages}
    with _opened(source, resolve_limits(limits), imported) as (name, memory):
        found = recognised(Peek.at(memory))
        if found is None:
            raise ImageError(
                f"{name} is of no layout that opens here, so nothing in it can be given back; "
                "sqlstable inspect says what it is"
            )
        if layout not in (None, found.name):
            raise SettingsError(f"{name} has layout {found.name}, not {layout}; leave layout out")
        start = _Start(name, memory, {**keywords, "layout": found.name})
        return _report(start, engine, sorted(set(steps)), on_way or _quiet)


@dataclass(frozen=True, slots=True)
class _Start:
    """What every way begins with."""

    name: str
    memory: StableMemory
    keywords: Keywords

    @contextmanager
    def canister(self, engine: EngineName) -> Iterator[Canister]:
        """Open a canister on a copy."""
        with copied(self.memory) as memory:
            chosen: Keywords = {
                **self.keywords,
                "memory": memory,
                "enforce": False,
                "engine": engine,
            }
            with Canister(**chosen) as canister:
                yield canister


def _quiet(_name: str) -> None:
    """Tell nobody."""


# -- what is looked at ----------------------------------------------------------------------------


@contextmanager
def _opened(
    source: Path | str | bytes, limits: Limits | None, keywords: Keywords
) -> Iterator[tuple[str, StableMemory]]:
    """Open what is looked at, unchanged; a database goes into a temporary image first."""
    if isinstance(source, bytes):
        with StableMemory.from_image(source, limits=limits) as memory:
            yield "the image", memory
        return
    path = Path(source)
    image = _image_of(path)
    with ExitStack() as stack:
        if image == path and _is_database(path):
            image = _imported(path, stack.enter_context(_scratch(path)), limits, keywords)
        memory = StableMemory.open(image, limits=limits, is_read_only=True, is_created=False)
        yield str(source), stack.enter_context(memory)


def _image_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    image = path / SNAPSHOT_NAME
    if not image.exists():
        raise ImageError(
            f"{path} is a folder without {SNAPSHOT_NAME}, so it is no snapshot of a canister; give "
            "the path of a file"
        )
    return image


def _is_database(path: Path) -> bool:
    """Tell a SQLite database from an image in layout raw, which is longer than its database."""
    try:
        with path.open("rb") as file:
            header = parse_header(file.read(HEADER_BYTES))
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise ImageError(f"there is no file {path}") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    if header is None:
        return False
    return size_bytes % WASM_PAGE_BYTES != 0 or header.size_bytes in (0, size_bytes)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    try:
        with TemporaryDirectory(prefix="sqlstable-") as folder:
            yield Path(folder)
    except OSError as error:
        raise ImageError(
            f"a copy of {path} cannot be made: {os.strerror(error.errno or 0)}; TMPDIR names "
            "another folder for it"
        ) from error


def _imported(path: Path, folder: Path, limits: Limits | None, keywords: Keywords) -> Path:
    """Make an image of a database, laid out as it is asked for."""
    image = folder / "image"
    chosen: Keywords = {**keywords, "limits": limits}
    with open_source(path, SourceOptions()) as source, Canister(image, **chosen) as canister:
        canister.import_database(source)
    return image


# -- the report -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """A way before it has been tried."""

    kind: WayKind
    name: str
    sql: tuple[str, ...]
    messages: int = 1


def _report(
    start: _Start, engine: EngineName, steps: Sequence[int], on_way: OnWay
) -> ReclaimReport:
    on_way("what is free")
    with start.canister("native") as canister:
        _check(start.name, canister)
        growth = canister.status().growth
        file_bytes, free = _sizes(canister)
        ((page_size,),) = canister.query("PRAGMA page_size").rows
        ((auto_vacuum,),) = canister.query("PRAGMA auto_vacuum").rows
        plans = list(_plans(free, steps, _largest_table(canister), is_cut=auto_vacuum > 0))
        bucket_pages = canister.vfs.bucket_pages
    ways, settings = [], {}
    for plan in plans:
        on_way(plan.name)
        with start.canister(engine) as canister:
            ways.append(_tried(canister, plan))
            settings = canister.status().settings
    layout, vacuumed = str(settings["layout"]), ways[0]
    return ReclaimReport(
        source=start.name,
        settings={
            **{name: settings[name] for name in settings.keys() - _NO_SETTINGS},
            "page_size": page_size,
            "bucket_pages": bucket_pages,
        },
        page_size=page_size,
        file_bytes=file_bytes,
        free_sqlite_pages=free,
        auto_vacuum=AUTO_VACUUM[auto_vacuum],
        stable_bytes=growth.stable_bytes,
        bucket_bytes=None if bucket_pages is None else bucket_pages * WASM_PAGE_BYTES,
        parts=tuple(part for part in growth.parts if part.size_bytes),
        ways=tuple(ways),
        images=()
        if vacuumed.failure is not None
        else tuple(_images(vacuumed.file_bytes, page_size, layout, bucket_pages)),
    )


def _check(name: str, canister: Canister) -> None:
    """Refuse what cannot be vacuumed."""
    if canister.vfs.store.size_bytes == 0:
        raise ImageError(f"{name} holds no database, so nothing in it can be given back")
    found = [text for (text,) in canister.query("PRAGMA quick_check(3)").rows]
    if found != ["ok"]:
        raise ImageError(f"the database in {name} is damaged: {'; '.join(found)}")


def _sizes(canister: Canister) -> tuple[int, int]:
    """Return bytes of the database file, and how many SQLite pages are free in it."""
    ((free,),) = canister.query("PRAGMA freelist_count").rows
    return canister.vfs.store.size_bytes, free


def _largest_table(canister: Canister) -> str | None:
    try:
        rows = canister.query(_LARGEST_TABLE).rows
    except SqlError:
        # A view or a virtual table that cannot be made here is in the way of the list.
        return None
    return rows[0][0] if rows else None


def _plans(free: int, steps: Sequence[int], table: str | None, *, is_cut: bool) -> Iterator[_Plan]:
    yield _Plan("vacuum", "VACUUM", ("VACUUM",))
    if not is_cut:
        turned_on = ("PRAGMA auto_vacuum = incremental", "VACUUM")
        yield _Plan("switch", "auto_vacuum on, VACUUM", turned_on)
    for step in steps if is_cut and free else ():
        messages = -(-free // step)
        name = f"incremental_vacuum({step})"
        yield _Plan("steps", name, (f"PRAGMA {name}",), messages)
        if messages == 1:
            break
    if table is not None:
        quoted = '"' + table.replace('"', '""') + '"'
        half = f"SELECT (min(_rowid_) + max(_rowid_)) / 2 FROM {quoted}"  # noqa: S608  quoted
        sql = f"DELETE FROM {quoted} WHERE _rowid_ <= ({half})"  # noqa: S608  likewise
        yield _Plan("delete", f"DELETE half of {table}", (sql,))


def _tried(canister: Canister, plan: _Plan) -> Way:
    """Carry a way out, message by message."""
    sent: list[Message] = []
    failure = None
    try:
        for _ in range(min(plan.messages, STEPS_RUN_MAX)):
            with canister.message("update") as message:
                for sql in plan.sql:
                    message.execute(sql)
            sent.append(message.reply.message)
    except (SqlError, Trap, ImageError, MemoryError) as error:
        failure = str(error) or type(error).__name__
    file_bytes, free = _sizes(canister)
    limits = canister.memory.limits
    counted = [it.instructions.total for it in sent if it.instructions is not None]
    return Way(
        kind=plan.kind,
        name=plan.name,
        sql=plan.sql,
        messages=plan.messages,
        messages_run=len(sent),
        file_bytes=file_bytes,
        free_sqlite_pages=free,
        stable_bytes=canister.memory.wasm_pages * WASM_PAGE_BYTES,
        os_pages_accessed=max((it.stable.os_pages_accessed for it in sent), default=0),
        os_pages_dirty=max((it.stable.os_pages_dirty for it in sent), default=0),
        instructions=max(counted, default=None),
        tightest=_tightest(use for it in sent for use in it.limits),
        upgrade_tightest=_tightest(use for it in sent for use in _as_upgrade(it, limits)),
        failure=failure,
    )


def _tightest(uses: Iterable[LimitUse]) -> LimitUse | None:
    """Return the use that comes nearest to its limit, of those that a way has a hand in."""
    found = [use for use in uses if use.name != STABLE_MEMORY_BYTES and applies(use)]
    return max(found, key=share, default=None)


def _as_upgrade(message: Message, limits: Limits | None) -> Iterator[LimitUse]:
    """Yield how much of the limits of an upgrade a message would have used."""
    if limits is None:
        return
    of = limits.of("upgrade")
    limit_of = {
        OS_PAGES_ACCESSED: of.os_pages_accessed_max,
        OS_PAGES_DIRTY: of.os_pages_dirty_max,
        INSTRUCTIONS: of.instructions_max,
    }
    for use in message.limits:
        if use.name in limit_of:
            yield LimitUse(use.name, use.used, limit_of[use.name])


def _images(
    file_bytes: int, page_size: int, layout: str, bucket_pages: int | None
) -> Iterator[NewImage]:
    """Yield how large new images of a database would be, the first of the kind it is in."""
    for name, pages in dict.fromkeys(((layout, bucket_pages or _BUCKET_PAGES), *_NEW_IMAGES)):
        stable_bytes = new_image_bytes(
            file_bytes, page_size=page_size, layout=name, bucket_pages=pages, growth="bucket"
        )
        has_buckets = layout_named(name).traits.has_buckets
        yield NewImage(name, pages if has_buckets else None, stable_bytes)
