"""Measure what an upgrade takes, however large the database is that lies in stable memory.

    python -m benchmarks.upgrades            a minute and more
    python -m benchmarks.upgrades --quick    a few seconds, small: to see that it works

Images are sparse files: a hundred rows, and behind them SQLite pages that nothing refers to, up to
the size that the database states. An upgrade reads none of either. It runs without hooks, and with
a ``pre_upgrade`` that writes a row and a ``post_upgrade`` that reads it back.
"""

import gc
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from benchmarks.durable_openings import Layout, make_sparse_image
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import markdown
from sqlstable import Canister, HookMessage, Hooks
from sqlstable.analysis.scaling.laws import growth_exponent
from sqlstable.ic.units import GIB, MIB
from sqlstable.ic.words import ENGINES, EngineName

SIZES_BYTES: Final = (MIB, 16 * MIB, 256 * MIB, GIB, 16 * GIB, 100 * GIB)
QUICK_SIZES_BYTES: Final = (MIB, 4 * MIB, 16 * MIB, 64 * MIB)

UPGRADES: Final = 7
"""Of each size; the quickest counts for the clock, and all have the same counts."""

EXPONENT_MAX: Final = 0.02


def save(message: HookMessage) -> None:
    """Write a row, as code does that keeps something of its heap."""
    message.execute("INSERT INTO filler (message, body) VALUES (?, NULL)", (42,))


def restore(message: HookMessage) -> None:
    """Read it back, and leave the database as it was."""
    newest = "id = (SELECT max(id) FROM filler)"
    message.execute(f"DELETE FROM filler WHERE {newest} AND message = ?", (42,))


HOOKS: Final[dict[str, Hooks]] = {
    "none": Hooks(),
    "pre_upgrade, post_upgrade": Hooks(pre_upgrade=save, post_upgrade=restore),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What upgrades of one canister took."""

    engine: EngineName
    layout: Layout
    hooks: str
    size_bytes: int
    "Of the database."
    os_pages_accessed: int
    "The sum of all parts, each of which counts anew."
    os_pages_dirty: int
    instructions: int | None
    milliseconds: float
    "The least, by the clock."


def measure(engine: EngineName, layout: Layout, path: Path, size_bytes: int) -> Iterator[Measured]:
    """Upgrade one canister on an image, without hooks and with them."""
    with Canister(path, engine=engine, layout=layout, depth="pages") as canister:
        for name, hooks in HOOKS.items():
            # The code that is there is the one before; the next upgrade is the first to have both
            # hooks, and the one behind it the first whose old heap they have left.
            canister.upgrade(hooks=hooks)
            canister.upgrade()
            taken, counts = [], set()
            for _ in range(UPGRADES):
                gc.collect()
                begun = time.perf_counter()
                reply = canister.upgrade()
                taken.append((time.perf_counter() - begun) * 1e3)
                spent = reply.message.instructions
                counts.add(
                    (
                        sum(part.os_pages_accessed for part in reply.parts),
                        sum(part.os_pages_dirty for part in reply.parts),
                        None if spent is None else spent.total,
                    )
                )
            assert len(counts) == 1, counts
            ((accessed, dirty, total),) = counts
            yield Measured(engine, layout, name, size_bytes, accessed, dirty, total, min(taken))


def measure_all(sizes_bytes: Sequence[int]) -> list[Measured]:
    """Measure all engines, layouts and sizes; one image at a time."""
    found = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder, "app.stable")
        for size_bytes in sizes_bytes:
            for layout in get_args(Layout):
                make_sparse_image(path, size_bytes, layout)
                for engine in ENGINES:
                    found += measure(engine, layout, path, size_bytes)
                path.unlink()
    return found


def table(found: Sequence[Measured]) -> str:
    """Return a row for each engine, layout, kind of hooks and size."""
    return markdown(
        ("engine", "layout", "hooks", "database", "OS pages", "dirty", "instructions", "ms"),
        [
            (
                it.engine,
                it.layout,
                it.hooks,
                _size(it.size_bytes),
                f"{it.os_pages_accessed}",
                f"{it.os_pages_dirty}",
                "" if it.instructions is None else f"{it.instructions:,}".replace(",", " "),
                f"{it.milliseconds:.2f}",
            )
            for it in sorted(found, key=_series)
        ],
    )


def outcomes(found: Sequence[Measured]) -> list[Outcome]:
    """Return the exponents, the furthest from zero of all series, against their goal."""
    series: dict[tuple[str, str, str], list[Measured]] = {}
    for it in found:
        series.setdefault(_series(it)[:3], []).append(it)

    def furthest(value_of: Callable[[Measured], float | None]) -> float:
        exponents = [0.0]
        for items in series.values():
            values = [value for it in items if (value := value_of(it)) is not None]
            if values:
                sizes = [float(it.size_bytes) for it in items]
                exponents.append(growth_exponent(sizes, values).value)
        return max(exponents, key=abs)

    plain = {it.instructions for it in series["wasm", "raw", "none"]}
    return [
        Outcome("layout raw, no hooks: values of instructions over all sizes", 1, len(plain), 0),
        Outcome("exponent of instructions", EXPONENT_MAX, furthest(lambda it: it.instructions), 4),
        Outcome(
            "exponent of OS pages accessed",
            EXPONENT_MAX,
            furthest(lambda it: it.os_pages_accessed),
            4,
        ),
        Outcome("exponent of ms by the clock", 1, furthest(lambda it: it.milliseconds), 3),
    ]


def _series(it: Measured) -> tuple[str, str, str, int]:
    return it.engine, it.layout, it.hooks, it.size_bytes


def _size(size_bytes: int) -> str:
    return f"{size_bytes // GIB} GiB" if size_bytes >= GIB else f"{size_bytes // MIB} MiB"


def main(*arguments: str) -> None:
    """Measure, and print a table and the goals."""
    sizes = QUICK_SIZES_BYTES if "--quick" in arguments else SIZES_BYTES
    found = measure_all(sizes)
    print(f"# Upgrades by size of the database\n\nPython {platform.python_version()}\n")
    print(table(found))
    print(f"\n{goal_table(outcomes(found))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
