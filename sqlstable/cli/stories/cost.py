"""The story of the cost: what small messages cost today, and why.

Every number is counted while the story is told, by the module that a canister would run.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from sqlstable.analysis.pricing.message_cycles import cycles_as_update
from sqlstable.canister.canister import Canister
from sqlstable.cli.scene import Check, Scene
from sqlstable.cli.story import Stage, Story
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.pricing import spent
from sqlstable.report.numbers import count, percent
from sqlstable.trace.model import Instructions, Message
from sqlstable.workload.answers import small_messages as small
from sqlstable.workload.answers.scan_reach import SCANS, scan_reach
from sqlstable.workload.answers.small_messages import SmallMessage
from sqlstable.workload.answers.stable_map import Question, ask_map, ask_sqlite

INTRODUCTION: Final = (
    "SQLite runs here as the Wasm module that a canister would install, and its instructions are "
    "counted as a replica counts them. Since July 2026 touched memory is most of the price: 80,000 "
    "instructions for each region of 64 KiB, of stable memory or of the heap, that a message "
    "accesses first, and 80,000 more when it first writes there. What does that make of small "
    "messages?"
)

GLOSSARY: Final = (
    ("work", "computation: instructions of SQLite's own work"),
    ("stable", "of stable memory: calls, bytes, and regions first touched"),
    ("heap", "of the heap: regions of SQLite's page cache, stack and variables first touched"),
    ("cache", "fresh: behind an upgrade; cold: no page cache; warm: as an update left it"),
    ("k, M", "thousands and millions of instructions"),
)

_FEES: Final = CycleFees()
_COLUMNS: Final = ("message", "work", "stable", "heap", "total", "heap %")
_MAP_SIZES: Final = ((1_000, 100), (10_000, 100), (10_000, 1_000))
"""Rows and bytes of a value."""

_NOTHING: Final = "SELECT 1, in an update"
_LOOKUPS: Final = tuple(f"point lookup, {cache}" for cache in ("fresh", "cold", "warm"))
_RANGES: Final = tuple(f"100 rows by an index, {cache}" for cache in ("cold", "warm"))
_JOINS: Final = ("small join, cold", "join by the index, index dropped")
_ASKED: Final[Mapping[Question, str]] = {"get": "one value", "load": "loading, a row"}

_PRICED: Final = {
    "SELECT 1": _NOTHING,
    "lookup": _LOOKUPS[2],
    "100 rows": _RANGES[1],
    "update": "small update, warm",
    "LIKE": "LIKE over all rows, cold",
}
"""Messages that are priced by each list, by what its column is called."""

_BATCH: Final = "100 point lookups in one message, cold"


class _Cost:
    """The story on its way."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @cached_property
    def _standard(self) -> Mapping[str, SmallMessage]:
        return {it.name: it for it in small.small_messages("standard")}

    @cached_property
    def _lean(self) -> Mapping[str, SmallMessage]:
        return {it.name: it for it in small.small_messages("lean")}

    def scenes(self) -> Iterator[Scene]:
        """Play one scene after the other."""
        with Canister(engine="wasm") as canister:
            self._stage.settings = canister.status().settings
        yield self._nothing()
        yield self._lookup()
        yield self._warm()
        yield self._batch()
        yield self._join()
        yield self._leaner()
        yield self._lists()
        yield self._reach()
        yield self._map()

    def _nothing(self) -> Scene:
        one = self._standard[_NOTHING]
        heap, touched = _counted(one).heap, one.message.heap
        assert touched is not None
        base, arrival = _FEES.execution(instructions=0), _FEES.ingress(message_bytes=0)
        return Scene(
            "A message that asks for nothing",
            f"SQLite's own work is {_k(_counted(one).computation)} of it. The rest is the first "
            f"touch of {touched.wasm_pages_accessed} regions of the heap, "
            f"{touched.wasm_pages_written} of which were written too: stack, variables, and the "
            f"small allocations of a statement. In cycles, an update costs {count(base)} more "
            f"before it runs, and {count(arrival)} for its arrival; a query is free.",
            sql="SELECT 1;",
            columns=_COLUMNS,
            rows=[_row(one)],
            checks=self._stage.checked(
                (
                    Check(
                        f"80,000 for each of {touched.wasm_pages_accessed} accessed and of "
                        f"{touched.wasm_pages_written} written is {count(heap)}: all of the heap's",
                        heap == 80_000 * (touched.wasm_pages_accessed + touched.wasm_pages_written),
                    ),
                )
            ),
        )

    def _lookup(self) -> Scene:
        fresh, cold, _ = (_counted(self._standard[name]) for name in _LOOKUPS)
        return Scene(
            "One row by its key",
            "Opening the database and reading its schema costs a fresh heap "
            f"{_m(fresh.computation - cold.computation)} of computation. The lookup itself is "
            f"{_k(cold.computation)}; that a warm cache spares it stable memory hardly shows.",
            sql=f"{small.LOOKUP};",
            columns=_COLUMNS,
            rows=[_row(self._standard[name]) for name in _LOOKUPS],
        )

    def _warm(self) -> Scene:
        cold, warm = (self._standard[name] for name in _RANGES)
        regions = warm.message.heap
        assert regions is not None
        return Scene(
            "A warm page cache is dearer than a cold one",
            "Warm, not one byte comes from stable memory. But the cached SQLite pages lie "
            f"scattered over {regions.wasm_pages_accessed} regions of the heap, and SQLite notes "
            f"in the header beside each that it is in use: {regions.wasm_pages_written} regions "
            "are written.",
            sql=f"{small.RANGE};",
            columns=_COLUMNS,
            rows=[_row(cold), _row(warm)],
            checks=self._stage.checked(
                (
                    Check(
                        f"warm costs {_m(_counted(warm).total)}, cold {_m(_counted(cold).total)}",
                        _counted(warm).total > _counted(cold).total,
                    ),
                )
            ),
        )

    def _batch(self) -> Scene:
        one, hundred = self._standard[_LOOKUPS[1]], self._standard[_BATCH]
        each = _counted(hundred).total / 100
        return Scene(
            "The first statement pays",
            "A region is charged once in a message, to the statement that is there first. A "
            f"hundred lookups in one message cost {_k(each)} each, alone "
            f"{_k(_counted(one).total)}: batch.",
            columns=_COLUMNS,
            rows=[_row(one), ("100 in one message, cold", *_row(hundred)[1:])],
        )

    def _join(self) -> Scene:
        with_index, without = (self._standard[name] for name in _JOINS)
        ratio = without.message.stable.os_pages_accessed / (
            with_index.message.stable.os_pages_accessed
        )
        return Scene(
            "What an index changes",
            f"Without the index the join reads {ratio:.0f} times as many OS pages, and costs "
            f"{_counted(without).total / _counted(with_index).total:.0f} times as much: "
            "computation, above all, for each row that it looks at in vain. A query is free. "
            "Called as an update, for a certified answer or by another canister, it costs "
            f"{_m(_as_update(without))} cycles, and {_m(_as_update(with_index))} with the index, "
            f"which saves {_m(_as_update(without) - _as_update(with_index))} a call.",
            sql=f"{small.JOIN.replace(' WHERE', chr(10) + 'WHERE')};",
            columns=("the join", "OS pages", "rows", *_COLUMNS[1:]),
            rows=[
                (name, count(it.message.stable.os_pages_accessed), count(it.rows), *_row(it)[1:])
                for name, it in (("with index", with_index), ("without", without))
            ],
        )

    def _leaner(self) -> Scene:
        names = (_NOTHING, _LOOKUPS[2], _RANGES[1], "small update, warm")
        return Scene(
            "A build that is set up for these prices",
            "--build lean keeps all that SQLite touches in a few regions of the heap: the same "
            "work, and a smaller bill.",
            columns=("message", "standard", "lean", "of it heap", "lean / standard"),
            rows=[
                (
                    name,
                    _m(_counted(standard).total),
                    _m(_counted(lean).total),
                    _m(_counted(lean).heap),
                    f"{_counted(lean).total / _counted(standard).total:.2f}",
                )
                for name, standard, lean in (
                    (name, self._standard[name], self._lean[name]) for name in names
                )
            ],
        )

    def _lists(self) -> Scene:
        messages = {short: self._standard[name] for short, name in _PRICED.items()}
        costs = {name: _under_each_list(one.message) for name, one in messages.items()}
        return Scene(
            "The same messages at the prices of other days",
            "Nothing ran again: a trace keeps what any price list charges for. Advice from before "
            "July 2026 was about computation and dirty OS pages, and no longer holds.",
            columns=("price list", "since", *messages),
            rows=[
                (
                    regime.name,
                    str(regime.since or "before"),
                    *(_m(of_each[number]) for of_each in costs.values()),
                )
                for number, regime in enumerate(PRICE_REGIMES.values())
            ],
            checks=self._stage.checked(
                (
                    Check(
                        "priced by today's list, each message costs what was counted",
                        all(
                            costs[name][-1] == _counted(one).total for name, one in messages.items()
                        ),
                    ),
                )
            ),
        )

    def _reach(self) -> Scene:
        found = [scan_reach(name) for name in SCANS]
        return Scene(
            "How far a full scan goes",
            "Measured at 10,000 and 20,000 rows of about sixty bytes, and drawn out: a query has "
            "5,000,000,000 instructions, and such a scan is nearly all computation.",
            columns=(
                "asked of each row",
                "instructions a row",
                "rows in a query at most, predicted",
            ),
            rows=[
                (it.scan, count(round(it.instructions_per_row)), count(it.rows_max)) for it in found
            ],
        )

    def _map(self) -> Scene:
        rows: list[tuple[str, ...]] = []
        for size, value_bytes in _MAP_SIZES:
            asked = (
                ask_map(size, value_bytes),
                ask_sqlite("standard", size, value_bytes),
                ask_sqlite("lean", size, value_bytes),
            )
            found = [{it.question: it for it in each} for each in asked]
            rows += [
                (
                    f"{count(size)} of {count(value_bytes)} B",
                    what,
                    *(_k(each[key].instructions) for each in found),
                )
                for key, what in _ASKED.items()
            ]
        return Scene(
            "SQLite beside a StableBTreeMap",
            "The map of ic-stable-structures, the real crate in a module, holds the same keys and "
            "values. SQLite's usual build pays for its heap, so that the map is the cheaper way to "
            "one value; the lean build is cheaper than both. Rows that one message loads share "
            "SQLite pages, each written once: a fraction of the map's price. "
            "python -m benchmarks.answers map has more sizes and questions.",
            columns=("rows and values", "asked", "StableBTreeMap", "standard", "lean"),
            rows=rows,
        )


def _counted(one: SmallMessage) -> Instructions:
    assert one.message.instructions is not None
    return one.message.instructions


def _as_update(one: SmallMessage) -> int:
    found = cycles_as_update(one.message, _FEES)
    assert found is not None
    assert found.total is not None
    return found.total


def _row(one: SmallMessage) -> tuple[str, ...]:
    found = _counted(one)
    return (
        one.name,
        _k(found.computation),
        _k(found.stable),
        _k(found.heap),
        _m(found.total),
        percent(found.heap, found.total),
    )


def _under_each_list(message: Message) -> Sequence[int]:
    assert message.charged is not None
    return [spent(message.charged, regime).total or 0 for regime in PRICE_REGIMES.values()]


def _k(instructions: float) -> str:
    return f"{count(round(instructions / 1000))} k"


def _m(instructions: float) -> str:
    return f"{instructions / 1e6:,.2f} M"


def _scenes(stage: Stage) -> Generator[Scene]:
    yield from _Cost(stage).scenes()


STORY: Final = Story(
    title="sqlstable: what does SQLite cost in a canister?",
    introduction=INTRODUCTION,
    glossary=GLOSSARY,
    scenes=_scenes,
    next_title="Your own SQL",
    next_commands=(
        ("sqlstable run queries.sql --database app.db --engine wasm", "the same of your own"),
        ("sqlstable prices", "the price lists, with their sources"),
        ("sqlstable report TRACE --compare-prices", "one run under all of them"),
    ),
    engine="wasm",
    engines=("wasm",),
)
