"""What people ask first about cost, measured: the tables behind the site's answers.

``python -m benchmarks.answers`` prints them as Markdown; ``--quick`` takes smaller maps. Parts can
be named: ``small``, ``lists``, ``words``, ``scan``, ``map``. Nothing is timed: all figures are
counted, and two runs print the same.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Final

from benchmarks.measure import markdown
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.pricing import spent
from sqlstable.trace.model import Instructions, Message
from sqlstable.workload.answers.scan_reach import SCANS, scan_fits, scan_reach
from sqlstable.workload.answers.small_messages import small_messages
from sqlstable.workload.answers.stable_map import QUESTIONS, Answered, ask_map, ask_sqlite
from sqlstable.workload.answers.word_access import WAYS, WORDS, word_accesses

BUILDS: Final = ("standard", "lean")
ROWS: Final = (1_000, 10_000, 100_000, 1_000_000)
ROWS_QUICK: Final = (1_000, 10_000)
VALUE_BYTES: Final = (16, 100, 1_000)
IMAGE_BYTES_MAX: Final = 200_000_000
"""Larger ones are left out."""

MEGA: Final = 1e6
KILO: Final = 1e3


def counted(message: Message) -> Instructions:
    """Return the instructions of a message that were counted."""
    assert message.instructions is not None
    return message.instructions


def small(*, is_quick: bool) -> Iterator[str]:
    """Small messages, by what their instructions are spent on."""
    del is_quick
    found = {build: list(small_messages(build)) for build in BUILDS}
    rows = []
    for standard, lean in zip(*found.values(), strict=True):
        row = [standard.name, f"{standard.message.stable.os_pages_accessed:,}"]
        for one in (standard, lean):
            spent_on = counted(one.message)
            parts = (spent_on.computation, spent_on.stable, spent_on.heap)
            row += [
                " / ".join(f"{it / KILO:,.0f}" for it in parts),
                f"{spent_on.total / MEGA:,.2f}",
            ]
        rows.append(row)
    yield "## Small messages\n\nThousands of instructions: computation / stable memory / heap.\n"
    yield markdown(("message", "OS pages", "standard, k", "M", "lean, k", "M"), rows)


def lists(*, is_quick: bool) -> Iterator[str]:
    """The same messages under each price list."""
    del is_quick
    for build in BUILDS:
        rows = []
        for one in small_messages(build):
            charged = one.message.charged
            assert charged is not None
            totals = [spent(charged, regime).total for regime in PRICE_REGIMES.values()]
            rows.append([one.name, *(f"{(it or 0) / MEGA:,.3f}" for it in totals)])
        yield f"## The same under each price list, build {build}\n\nMillions of instructions.\n"
        yield markdown(
            ("message", *PRICE_REGIMES),
            rows,
        )


def words(*, is_quick: bool) -> Iterator[str]:
    """Words of stable memory, one by one and by the OS page."""
    del is_quick
    rows = []
    for way, message in word_accesses():
        spent_on = counted(message)
        without = spent_on.total - spent_on.heap - 16 * 80_000 * (spent_on.stable > 0)
        rows.append(
            [
                WAYS[way],
                f"{message.stable.calls.read:,}",
                f"{spent_on.total / WORDS:.1f}",
                f"{without / WORDS:.1f}",
            ]
        )
    yield f"## {WORDS:,} words of stable memory\n"
    yield markdown(("way", "calls", "instructions a word", "without regions"), rows)


def scan(*, is_quick: bool) -> Iterator[str]:
    """At which size a scan leaves a query."""
    rows = []
    for name in SCANS:
        found = scan_reach(name)
        tried = "not tried"
        if not is_quick and found.rows_max < 1_000_000:
            fits = scan_fits(name, found.rows_max * 99 // 100)
            stops = not scan_fits(name, found.rows_max * 101 // 100)
            tried = "fits at 99 %, stops at 101 %" if fits and stops else "prediction is WRONG"
        rows.append([name, f"{found.instructions_per_row:,.0f}", f"{found.rows_max:,}", tried])
    yield "## At which size a full scan leaves a query\n"
    yield markdown(("asked of each row", "instructions", "rows", "tried"), rows)


def stable_map(*, is_quick: bool) -> Iterator[str]:
    """SQLite beside the map of ic-stable-structures."""
    for value_bytes in VALUE_BYTES:
        for rows in ROWS_QUICK if is_quick else ROWS:
            if rows * value_bytes <= IMAGE_BYTES_MAX:
                yield from _one_map(rows, value_bytes)


def _one_map(rows: int, value_bytes: int) -> Iterator[str]:
    asked = {
        "StableBTreeMap": ask_map(rows, value_bytes),
        **{f"SQLite, {build}": ask_sqlite(build, rows, value_bytes) for build in BUILDS},
    }
    found: dict[str, dict[str, Answered]] = {
        name: {it.question: it for it in answers} for name, answers in asked.items()
    }
    table = [
        [
            what,
            *(
                f"{found[name][question].instructions / KILO:,.0f} k, "
                f"{found[name][question].message.stable.os_pages_accessed:,}"
                for name in found
            ),
        ]
        for question, what in QUESTIONS.items()
    ]
    yield (
        f"## {rows:,} rows of {value_bytes:,} bytes, SQLite beside a StableBTreeMap\n\n"
        "Instructions, and OS pages accessed.\n"
    )
    yield markdown(("asked", *found), table)


PARTS: Final[dict[str, Callable[..., Iterator[str]]]] = {
    "small": small,
    "lists": lists,
    "words": words,
    "scan": scan,
    "map": stable_map,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all, if none is named")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    for name in chosen.parts or PARTS:
        for text in PARTS[name](is_quick=chosen.quick):
            print(text)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
