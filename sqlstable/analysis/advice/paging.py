"""Rules ``offset`` and ``select-star``: rows, and columns, that are read and not needed.

Source: https://www.sqlite.org/rowvalue.html (section 2.1, scrolling window queries) and
https://www.sqlite.org/fileformat2.html (section 1.5, a row's later columns lie in its overflow).
"""

import re
from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, quoted
from sqlstable.analysis.advice.evidence import SMALL_OS_PAGES, AdviceEvidence, cited
from sqlstable.analysis.advice.sql_columns import take_apart
from sqlstable.trace.model import Statement

STEPS_PER_ROW: Final = 100
"""Steps of SQLite's machine for each row returned, from which on most rows are skipped: a row that
is returned takes ten to thirty, one that is skipped two to five."""

LESS_BY: Final = 2
"""OS pages accessed for each row returned, from which on most were accessed for rows skipped."""

OVERFLOW_SHARE: Final = 0.3
"""Part of a statement's OS pages that are overflow: of less, leaving out columns saves little."""

OVERFLOW_OS_PAGES_MIN: Final = 4
"""Fewer overflow OS pages are one or two rows."""

_OFFSET: Final = re.compile(r"\bLIMIT \?(?: OFFSET \?|, \?)")
_STAR: Final = re.compile(r"(?:\bSELECT|\bDISTINCT|\bALL|,) \*|\.\*")


def offsets(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise against OFFSET where skipping costs more than what is returned."""
    for use in evidence.mattering("read"):
        if not _OFFSET.search(use.shape):
            continue
        statement = evidence.heaviest(use)
        rows = statement.row_count
        steps = statement.sqlite.vm_steps or 0
        pages = statement.stable.os_pages_accessed
        skips_pages = pages > SMALL_OS_PAGES and pages > LESS_BY * rows
        if any("TEMP B-TREE" in line for line in statement.plan):
            continue
        if skips_pages or steps > STEPS_PER_ROW * max(rows, 1):
            yield Advice(
                code="offset",
                sentence=f"Go on behind the last row, instead of OFFSET: {_keyset(statement)}",
                cites=(
                    cited(
                        statement,
                        f"{counted(rows, 'row')} returned",
                        f"{counted(steps, 'step')} of SQLite's machine",
                    ),
                ),
                gain="expected: each part costs what the first costs",
                statements=(use.heaviest,),
                share=evidence.share(use),
            )


def stars(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise to name columns where ``*`` reads the overflow of wide rows."""
    for use in evidence.mattering("read"):
        if not _STAR.search(use.shape):
            continue
        statement = evidence.heaviest(use)
        wide = [it for it in statement.owners if it.role == "overflow" and it.os_pages_accessed]
        pages = sum(it.os_pages_accessed for it in wide)
        if pages < OVERFLOW_OS_PAGES_MIN:
            continue
        if pages < OVERFLOW_SHARE * statement.stable.os_pages_accessed:
            continue
        names = ", ".join(it.name for it in wide)
        yield Advice(
            code="select-star",
            sentence=(
                f"Name the columns that are needed instead of *, or move the wide ones of {names} "
                "into a table of their own"
            ),
            cites=(cited(statement, f"{pages:,} of them overflow of {names}"),),
            gain=f"expected: up to {counted(pages, 'OS page')} less, if no wide column is needed",
            statements=(use.heaviest,),
            share=evidence.share(use),
        )


def _keyset(statement: Statement) -> str:
    """Return how to go on behind a row, by the column that orders the rows."""
    parts = take_apart(statement.sql, lambda _: ())
    column = "the key" if parts is None or parts.order_column is None else parts.order_column
    name = column if column == "the key" else quoted(column)
    return f"WHERE {name} > ? ORDER BY {name} LIMIT …" if name != "the key" else "by its key"
