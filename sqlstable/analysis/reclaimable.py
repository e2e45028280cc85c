"""What is free in a database, what each way of giving it back costs, and what that leaves to pay.

Free SQLite pages are room that the database's next rows take before the file grows. VACUUM and
incremental vacuum cut them off the file; stable memory keeps its size either way, because it never
shrinks, and is charged by its size, whatever is in it. Only another stable memory is smaller: a new
image, loaded as a snapshot or after a reinstallation.

Source: the size counts, not what is touched: docs.internetcomputer.org, *Cycles costs*, read
2026-11; a hole costs what data costs, forum.dfinity.org/t/20762.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlstable.analysis.growth import GrowthPart
from sqlstable.analysis.verdict import share
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import INSTRUCTIONS, OS_PAGES_ACCESSED, OS_PAGES_DIRTY
from sqlstable.trace.markup import html_table, html_text
from sqlstable.trace.model import LimitUse

AutoVacuum = Literal["none", "full", "incremental"]
"""What becomes of SQLite pages that get free: ``none`` keeps them in the file, ``full`` cuts them
off with every commit, ``incremental`` when it is told to."""

AUTO_VACUUM: Final[tuple[AutoVacuum, ...]] = ("none", "full", "incremental")
"""By the numbers of ``PRAGMA auto_vacuum``."""

_LIMITED: Final = {
    OS_PAGES_ACCESSED: "OS pages accessed",
    OS_PAGES_DIRTY: "OS pages dirty",
    INSTRUCTIONS: "instructions",
}

WayKind = Literal["vacuum", "switch", "steps", "delete"]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to give space back, carried out on a copy; of several messages the largest counts."""

    kind: WayKind
    """``vacuum``; ``switch``, a VACUUM that turns incremental vacuum on; ``steps`` of incremental
    vacuum; ``delete``, which is there to compare."""
    name: str
    "What it is called in tables."
    sql: tuple[str, ...]
    "The statements of each of its messages."
    messages: int
    "Update messages that it takes; a floor where `messages_run` are fewer."
    messages_run: int
    "How many of them were carried out."
    file_bytes: int
    "Of the database file afterwards."
    free_sqlite_pages: int
    "In it afterwards."
    stable_bytes: int
    "Size of stable memory afterwards."
    os_pages_accessed: int
    "Most in one message."
    os_pages_dirty: int
    "Most in one message."
    instructions: int | None
    "Most in one message; None where the engine counts none."
    tightest: LimitUse | None
    "The limit of an update of which a message used the largest share; None without limits."
    upgrade_tightest: LimitUse | None
    "Likewise if that message were part of an upgrade, whose limits are wider."
    failure: str | None
    "Why it could not be carried out; the counts are those up to there."

    @property
    def fits(self) -> bool | None:
        """Whether each message stays within the limits of an update, as far as these are counted.

        None where nothing tells: without limits, or where it failed of something else.
        """
        if self.failure is not None or self.tightest is None:
            return None
        return self.tightest.used <= self.tightest.limit

    @property
    def fits_upgrade(self) -> bool | None:
        """Whether each message stays within the limits of an upgrade, likewise."""
        if self.failure is not None or self.upgrade_tightest is None:
            return None
        return self.upgrade_tightest.used <= self.upgrade_tightest.limit


@dataclass(frozen=True, slots=True)
class NewImage:
    """A stable memory made anew for the vacuumed database."""

    layout: str
    bucket_pages: int | None
    "Wasm pages of a bucket; None in layouts without."
    stable_bytes: int


@dataclass(frozen=True, slots=True)
class ReclaimReport:
    """What a database has free, and what each way of giving it back costs.

    Examples:
        >>> import sqlstable
        >>> with sqlstable.Canister() as canister:
        ...     _ = canister.update("CREATE TABLE t (body TEXT)")
        ...     _ = canister.update("INSERT INTO t SELECT hex(zeroblob(9000))")
        ...     _ = canister.update("DELETE FROM t")
        ...     report = sqlstable.reclaim(canister.image())
        >>> report.free_sqlite_pages, report.auto_vacuum
        (4, 'none')
        >>> [(way.name, way.free_sqlite_pages) for way in report.ways[:1]]
        [('VACUUM', 0)]
    """

    source: str
    "What was looked at."
    settings: Mapping[str, object]
    "Of the canisters that the ways were carried out in."
    page_size: int
    "Bytes of a SQLite page."
    file_bytes: int
    free_sqlite_pages: int
    auto_vacuum: AutoVacuum
    stable_bytes: int
    "Size of stable memory."
    bucket_bytes: int | None
    "Of a bucket; None in layouts without."
    parts: tuple[GrowthPart, ...]
    "What stable memory consists of; they add up to its size."
    ways: tuple[Way, ...]
    images: tuple[NewImage, ...]
    "The first in the layout that it has, others beside it; none where VACUUM failed."

    @property
    def free_bytes(self) -> int:
        """Bytes of free SQLite pages."""
        return self.free_sqlite_pages * self.page_size

    @property
    def wasm_pages(self) -> int:
        """Size of stable memory in Wasm pages."""
        return self.stable_bytes // WASM_PAGE_BYTES

    @property
    def has_instructions(self) -> bool:
        """Whether instructions were counted."""
        return any(way.instructions is not None for way in self.ways)

    @property
    def vacuum(self) -> Way:
        """VACUUM, which is always among the ways."""
        return next(way for way in self.ways if way.kind == "vacuum")

    def _repr_html_(self) -> str:
        """Show in a notebook what each way comes to, and what to do."""
        heading = (
            *("way", "messages", "file, bytes", "free SQLite pages", "stable memory, bytes"),
            *("OS pages accessed", "dirty", "instructions", "fits"),
        )
        first = ("as it is", None, self.file_bytes, self.free_sqlite_pages, self.stable_bytes)
        rows: list[tuple[object, ...]] = [(*first, None, None, None, None)]
        for way in self.ways:
            sizes = (way.messages, way.file_bytes, way.free_sqlite_pages, way.stable_bytes)
            fits = None if way.fits is None else "yes" if way.fits else "no"
            counts = (way.os_pages_accessed, way.os_pages_dirty, way.instructions)
            rows.append((way.name, *sizes, *counts, way.failure or fits))
        table = html_table(f"what is free in {self.source}", heading, rows)
        advice = "".join(f"<li>{html_text(text)}</li>" for text in self.advice)
        return f"{table}<ul>{advice}</ul>"

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, the most important first, a sentence each."""
        return tuple(_advice(self))


def _advice(report: ReclaimReport) -> Iterator[str]:
    vacuum = report.vacuum
    freed = report.file_bytes - vacuum.file_bytes
    if vacuum.failure is None and freed <= 0:
        yield "Nothing can be given back: no SQLite page is free, and VACUUM packs none fuller."
    else:
        yield _on_vacuum(vacuum, freed)
        yield from _on_steps(report)
    if report.free_sqlite_pages:
        yield (
            f"What is free, {_amount(report.free_sqlite_pages, 'SQLite page')}, need not go: the "
            "next rows go there before the file grows."
        )
    yield _on_stable_memory(report)


def _on_vacuum(way: Way, freed: int) -> str:
    if way.failure is not None:
        return f"VACUUM failed: {way.failure}."
    gain = f"VACUUM cuts {_size(freed)} off the file"
    used = "" if way.tightest is None or way.fits else f" ({_use(way.tightest)})"
    if way.fits is None:
        return f"{gain}, in one update message; no limit applies to it."
    if way.fits:
        return f"{gain}, and fits in one update message."
    if way.fits_upgrade:
        return (
            f"{gain}, but does not fit in one update message{used}; within an upgrade, whose "
            "limits are wider, it does."
        )
    return f"{gain}, but fits neither in one update message{used} nor in an upgrade."


def _on_steps(report: ReclaimReport) -> Iterator[str]:
    if report.auto_vacuum == "none":
        switch = next((way for way in report.ways if way.kind == "switch"), None)
        once = "" if switch is None or switch.fits is not False else ", which does not fit either"
        yield (
            "auto_vacuum is off, so incremental_vacuum does nothing here; turning it on needs one "
            f"VACUUM: PRAGMA auto_vacuum = incremental; VACUUM{once}."
        )
        return
    if report.auto_vacuum == "full":
        yield "auto_vacuum is full: what gets free is cut off the file with every commit already."
        return
    fitting = [way for way in report.ways if way.kind == "steps" and way.fits is not False]
    if fitting and report.free_sqlite_pages:
        best = min(fitting, key=lambda way: way.messages)
        leaves = "leaves" if best.messages == 1 else "leave"
        also = (
            " Only VACUUM also packs rows closer together."
            if best.file_bytes > report.vacuum.file_bytes
            else ""
        )
        yield (
            f"Without VACUUM: {_amount(best.messages, 'message')} of {best.name}, none with more "
            f"than {best.os_pages_accessed:,} OS pages accessed, {leaves} a file of "
            f"{_size(best.file_bytes)}.{also}"
        )


def _on_stable_memory(report: ReclaimReport) -> str:
    held = f"Stable memory keeps its {_size(report.stable_bytes)} whatever is freed in it"
    if not report.images:
        return f"{held}, and is charged whole."
    first = report.images[0]
    saved = report.stable_bytes - first.stable_bytes
    if saved > 0:
        return (
            f"{held}; a new image of the vacuumed database takes {_size(first.stable_bytes)}, "
            f"{_size(saved)} less to pay for: extract, VACUUM, import, and load it as a snapshot."
        )
    other = min(
        (it for it in report.images if it.layout == first.layout), key=lambda it: it.stable_bytes
    )
    smaller = (
        ""
        if other.stable_bytes == first.stable_bytes
        else f", with buckets of {other.bucket_pages} Wasm pages {_size(other.stable_bytes)}"
    )
    return f"{held}; a new image of the vacuumed database would take as much{smaller}."


def _use(use: LimitUse) -> str:
    return f"{100 * share(use):,.0f}% of the limit on {_LIMITED.get(use.name, use.name)}"


def _amount(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _size(size_bytes: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:,.1f} {name}"
    return f"{size_bytes} B"
