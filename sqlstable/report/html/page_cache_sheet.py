"""The sheet of other sizes of SQLite's page cache: what each would come to, with its error."""

from collections.abc import Callable

from sqlstable.analysis.whatif.estimate import Estimate
from sqlstable.analysis.whatif.page_cache import CacheEstimate, PageCacheWhatIf
from sqlstable.report.html.sheet import Sheet, SheetColumn, SheetWords, sheet
from sqlstable.report.numbers import count
from sqlstable.report.page_cache_table import FIGURES, change, note

Numbered = tuple[int, CacheEstimate]


def page_cache_sheet(found: PageCacheWhatIf) -> Sheet:
    """Return a row for the recorded size, and for each larger one."""
    rows = (found.recorded, *found.rows)
    columns: list[SheetColumn[Numbered]] = [
        SheetColumn("index", "#", lambda it: it[0]),
        SheetColumn("size", "cache_size", lambda it: it[1].cache_size),
    ]
    for place, (heading, _, of) in enumerate(FIGURES):
        recorded = of(found.recorded)
        if recorded is not None:
            title = " ".join(heading.split())
            columns += _figure(f"figure_{place}", title, of, recorded.value)
    words = SheetWords(
        "page-cache", "What another cache_size would come to", "cache size", f"{note(found)}."
    )
    return sheet(words, columns, enumerate(rows), count=len(rows))


def _figure(
    name: str, title: str, of: Callable[[CacheEstimate], Estimate | None], recorded: int
) -> list[SheetColumn[Numbered]]:
    """Return a figure as the change from what was recorded, with its error, and as a number."""

    def value(numbered: Numbered) -> int | None:
        found = of(numbered[1])
        return None if found is None else found.value

    def changed(numbered: Numbered) -> str | None:
        found = of(numbered[1])
        if found is None:
            return None
        return change(found, recorded) if numbered[0] else f"{count(recorded)} as recorded"

    return [
        SheetColumn(f"{name}_change", title, changed, "text", sort_by=name),
        SheetColumn(name, f"{title}, about", value, place="detail"),
    ]
