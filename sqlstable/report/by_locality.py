"""The view of locality: figures of the trace, then owners, trees, and what other sizes would do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from sqlstable.analysis.locality.breakdown import LocalityGroup
from sqlstable.analysis.locality.hot_set import SHARES, HotSet
from sqlstable.analysis.locality.locality import Locality, locality
from sqlstable.analysis.locality.reuse import ReuseHistogram
from sqlstable.analysis.locality.sequence import Sequentiality
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.call_words import is_of_module
from sqlstable.report.grid import Cell, cell, paragraph
from sqlstable.report.locality_json import render_locality_json
from sqlstable.report.locality_words import locality_lines
from sqlstable.report.numbers import UNKNOWN, bar, count
from sqlstable.report.page_cache_table import PREDICTED_ACCESSES_MAX, page_cache_lines
from sqlstable.report.page_size_lines import page_size_lines
from sqlstable.report.table import Column, Table, number, words
from sqlstable.report.text import clean, fit
from sqlstable.report.tree_table import tree_lines
from sqlstable.report.view import GROUPS_MAX, Fields, Look, View, more_lines, named
from sqlstable.trace.model import Owner

BAR_CELLS: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class LocalityRow:
    """The figures of the trace, or of a part of it, as a row of CSV."""

    scope: str
    "trace, owner, shape, or phase."
    name: str
    owner: Owner | None
    touches: int
    distinct: int
    reuse: ReuseHistogram
    sequentiality: Sequentiality
    hot_set: HotSet


def locality_rows(found: Locality) -> Iterator[LocalityRow]:
    """Yield a row for the whole trace, and for each owner, shape and phase."""
    yield LocalityRow(
        *("trace", "", None, found.touches, found.distinct),
        *(found.reuse, found.sequentiality, found.hot_set),
    )
    parts = (("owner", found.by_owner), ("shape", found.by_shape), ("phase", found.by_phase))
    for scope, groups in parts:
        yield from (_row(scope, group) for group in groups)


def _row(scope: str, group: LocalityGroup) -> LocalityRow:
    return LocalityRow(
        *(scope, group.name, group.owner, group.touches, group.distinct),
        *(group.reuse, group.sequentiality, group.hot_set),
    )


def _lines(trace: TraceSource, look: Look) -> list[Text]:
    found = locality(trace)
    lines = locality_lines(trace, found, look)
    if not found.by_owner:
        return lines
    shown = found.by_owner[:GROUPS_MAX]
    table = Table.holding(_columns(shown), shown, look.width)
    body = [line for group in shown for line in table.row(group)]
    more = more_lines(len(found.by_owner) - len(shown), "more owner", look.width)
    parts = [
        lines,
        table.framed([*body, *more]),
        tree_lines(found.trees, look.width),
        *_predictions(trace, found, look.width),
    ]
    return [line for part in parts if part for line in (*part, Text())][:-1]


def _predictions(trace: TraceSource, found: Locality, width: int) -> list[list[Text]]:
    """Predict other settings where that is quick; where it takes seconds, say where they are."""
    if is_of_module(trace.settings):
        # They are about settings of a SQLite that is known.
        return []
    if found.accesses <= PREDICTED_ACCESSES_MAX:
        return [page_cache_lines(trace, width), page_size_lines(trace, width)]
    text = (
        f"what another cache_size would come to takes a while for {count(found.accesses)} "
        "accesses: --by locality --format json has it; larger SQLite pages are measured by "
        "sqlstable sweep --page-size"
    )
    return [paragraph(text, width, style="italic")]


def _columns(groups: Sequence[LocalityGroup]) -> list[Column[LocalityGroup]]:
    most = max((group.touches for group in groups), default=0)
    return [
        Column("owner", _name_cell, rest_min=14),
        words("role", lambda it: [_role(it)], width_max=12, drop=3),
        number("touches", lambda it: it.touches),
        Column(
            "",
            lambda it, width: cell(bar(it.touches, most, width), "cyan"),
            width=BAR_CELLS,
            drop=1,
        ),
        number("writes", lambda it: it.writes, drop=4),
        number("distinct\nOS pages", lambda it: it.distinct, style="bold"),
        number("for 90%\nof touches", lambda it: it.hot_set.pages[0.9], drop=5),
        number("median\nreuse", lambda it: it.reuse.median, drop=6),
        number("sequen-\ntial", lambda it: _share(it.sequentiality), drop=2),
    ]


def _name_cell(group: LocalityGroup, width: int) -> Cell:
    return cell(fit(clean(group.name) or UNKNOWN, width), "bold")


def _role(group: LocalityGroup) -> str:
    return clean(group.owner.role if group.owner else "") or UNKNOWN


def _share(order: Sequentiality) -> str:
    """Spell the share of steps to the next OS page; there is none where no step leaves one."""
    moves = order.steps - order.same
    return f"{order.share:.0%}" if moves else UNKNOWN


def _owner_field(name: str) -> Fields[LocalityRow]:
    return Fields((name,), lambda it: (getattr(it.owner, name) if it.owner else None,))


VIEW: Final = View(
    by="locality",
    title="How local the accesses to stable memory are, in OS pages of 4 KiB",
    glossary=(
        ("touch", "an OS page that a read or write overlaps, each as often as it is"),
        ("reuse", f"distance: distinct other OS pages touched in between; {UNKNOWN} without any"),
        ("run", "of steps to the next OS page, in one statement"),
        ("regions", "what a message pays for when it first touches 64 KiB; full: touched OS pages"),
    ),
    lines=_lines,
    items=lambda trace: locality_rows(locality(trace)),
    fields=(
        named("scope", "name"),
        *map(_owner_field, ("table", "kind", "role")),
        named("touches", "distinct"),
        Fields(
            ("first_touches", "reuse_median"),
            lambda it: (it.reuse.first_touches, it.reuse.median),
        ),
        Fields(
            ("steps", "same", "sequential", "forward", "backward"),
            lambda it: (
                *(it.sequentiality.steps, it.sequentiality.same, it.sequentiality.sequential),
                *(it.sequentiality.forward, it.sequentiality.backward),
            ),
        ),
        Fields(
            tuple(f"hot_{round(100 * share)}" for share in SHARES),
            lambda it: [it.hot_set.pages[share] for share in SHARES],
        ),
    ),
    json=render_locality_json,
)
