"""The sheet of locality: the figures of the trace, and of each owner, shape and phase in it."""

from typing import Final

from sqlstable.analysis.locality.locality import Locality
from sqlstable.analysis.locality.sequence import Sequentiality
from sqlstable.report.by_locality import VIEW, LocalityRow, locality_rows
from sqlstable.report.html.sheet import (
    PARTS_OF_A_WHOLE,
    Sheet,
    SheetColumn,
    SheetWords,
    sheet,
)
from sqlstable.report.numbers import UNKNOWN

Numbered = tuple[int, LocalityRow]

HOT: Final = 0.9
"""Share of the touches that the hot set of a row has."""


def locality_sheet(found: Locality) -> Sheet:
    """Return a row for the whole trace, and for each owner, shape and phase.

    Args:
        found: Of OS pages.
    """
    rows = list(locality_rows(found))
    columns: list[SheetColumn[Numbered]] = [
        SheetColumn("index", "#", lambda it: it[0]),
        SheetColumn("name", "what", _name, "text"),
        SheetColumn("scope", "part", lambda it: it[1].scope, "choice", "wide"),
        SheetColumn("role", "role", _role, "choice", "wide"),
        SheetColumn("touches", "touches", lambda it: it[1].touches),
        SheetColumn("distinct", "distinct OS pages", lambda it: it[1].distinct, place="wide"),
        SheetColumn("hot", f"for {HOT:.0%} of touches", _hot, place="wide"),
        SheetColumn("first", "first touches", lambda it: it[1].reuse.first_touches, place="detail"),
        SheetColumn("reuse", "median reuse distance", lambda it: it[1].reuse.median, place="wide"),
        SheetColumn("sequential", "sequential", _sequential, "share", "wide"),
        SheetColumn("same", "steps on the spot", lambda it: _steps(it).same, place="detail"),
        SheetColumn("forward", "jumps forward", lambda it: _steps(it).forward, place="detail"),
        SheetColumn("backward", "jumps backward", lambda it: _steps(it).backward, place="detail"),
    ]
    words = SheetWords(
        "locality",
        "Locality",
        "part",
        "How often OS pages were touched, how many there are of them, and how the touches follow "
        "each other: of the trace, and of each owner, shape of statement, and phase.",
        (),
        tuple(VIEW.glossary),
    )
    return sheet(words, columns, enumerate(rows), count=len(rows))


def _name(numbered: Numbered) -> str:
    row = numbered[1]
    if row.scope == "trace":
        return "the whole trace"
    # SQL may give a table an empty name.
    return row.name or UNKNOWN


def _role(numbered: Numbered) -> str | None:
    owner = numbered[1].owner
    return None if owner is None else owner.role or None


def _hot(numbered: Numbered) -> int:
    return numbered[1].hot_set.pages[HOT]


def _steps(numbered: Numbered) -> Sequentiality:
    return numbered[1].sequentiality


def _sequential(numbered: Numbered) -> int | None:
    steps = _steps(numbered)
    return round(steps.share * PARTS_OF_A_WHOLE) if steps.steps else None
