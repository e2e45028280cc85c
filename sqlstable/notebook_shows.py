"""How results of analysis show themselves in a notebook that has the extension loaded.

They are plain numbers and import nothing to look at; so the notebook is told by their names.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from IPython.core.interactiveshell import InteractiveShell

from sqlstable.analysis.pricing.price_comparison import times
from sqlstable.canister.status import figures_html
from sqlstable.report.notebook_pictures import locality_png, page_map_png
from sqlstable.trace.markup import ROWS_SHOWN, html_table

if TYPE_CHECKING:
    from sqlstable.analysis.advice.advice import Advice
    from sqlstable.analysis.locality.locality import Locality
    from sqlstable.analysis.pricing.price_comparison import PriceComparison
    from sqlstable.analysis.scaling.growing import ScaleResults
    from sqlstable.analysis.scaling.pareto import SweepResults
    from sqlstable.analysis.upgrading.upgrade_runs import UpgradeComparison
    from sqlstable.analysis.whatif.estimate import Estimate
    from sqlstable.analysis.whatif.page_cache import PageCacheWhatIf
    from sqlstable.ic.pricing import Spent

_TIMES_TODAY: Final = "\N{MULTIPLICATION SIGN} today"

Show = Callable[[Any], str | bytes | None]
"""Returns what is shown of a result; None leaves it to the next kind."""


def locality_html(found: "Locality") -> str:
    """Return the figures of locality, and its curves as a picture."""
    page = {"os": "OS page", "sqlite": "SQLite page"}[found.unit]
    hot = ", ".join(f"{share:.0%} in {count:,}" for share, count in found.hot_set.pages.items())
    rows = (
        ("accesses", found.accesses),
        (f"{page}s touched", found.touches),
        ("distinct ones", found.distinct),
        ("of touches", hot),
        ("go to the next one", f"{found.sequentiality.share:.1%}"),
        ("regions charged, fullness", f"{found.regions.accessed.fullness:.1%}"),
    )
    return html_table(f"locality by {page}", (), rows) + _image(locality_png(found))


def advice_html(advice: "Advice") -> str:
    """Return one piece of advice with what it cites."""
    rows = [("what to do", advice.sentence), *(("because", it) for it in advice.cites)]
    return html_table(f"advice: {advice.code}", (), [*rows, ("saves", advice.gain)])


def page_cache_html(found: "PageCacheWhatIf") -> str:
    """Return what other sizes of the page cache would do, between which numbers each lies."""
    rows = [
        (
            "as recorded" if it is found.recorded else "predicted",
            it.cache_size,
            *map(_estimate, (it.reads, it.writes, it.os_pages_accessed, it.instructions)),
        )
        for it in (found.recorded, *found.rows)
    ]
    headings = ("", "cache_size", "reads", "writes", "OS pages accessed", "instructions")
    return html_table("what if the page cache were larger", headings, rows)


def scale_html(found: "ScaleResults") -> str:
    """Return how each measure of the whole run grows."""
    rows = [
        (
            it.measure,
            *((it.fit.best.name, f"{it.fit.exponent.value:.2f}") if it.fit else (it.reason, None)),
            it.values[-1],
        )
        for it in found.run.series
    ]
    caption = f"growth with {found.parameter}, {len(found.sizes)} sizes"
    return html_table(caption, ("measure", "law", "exponent", "at the largest size"), rows)


def sweep_html(found: "SweepResults") -> str:
    """Return the rows of a sweep, those that nothing beats first."""
    ranked = sorted(found.rows, key=lambda it: not it.is_on_front)[:ROWS_SHOWN]
    work = "instructions" if found.has_instructions else "OS pages accessed"
    headings = ("row", *found.varied, work, "OS pages dirty", "stable bytes", "")
    rows = [
        (
            it.number,
            *(str(it.choices.get(name)) for name in found.varied),
            *(
                (None, None, None)
                if it.result.failure is not None
                else it.objectives(has_instructions=found.has_instructions)
            ),
            it.result.failure or ("nothing beats it" if it.is_on_front else ""),
        )
        for it in ranked
    ]
    return html_table(f"{len(found.rows):,} combinations", headings, rows)


def prices_html(found: "PriceComparison") -> str:
    """Return what each price list makes of the whole trace, and below it of each row."""
    today = found.total.spent[found.today]
    lists = [
        (
            it.name,
            *(part.computation, part.stable, part.heap, part.total),
            None if (ratio := times(part, today)) is None else f"{ratio:,.2f}",
        )
        for it, part in zip(found.lists, found.total.spent, strict=True)
    ]
    headings = ("price list", "computation", "stable memory", "heap", "total", _TIMES_TODAY)
    table = html_table("instructions, by price list", headings, lists)
    if not found.rows:
        return table
    rows = [
        (" ".join(row.name.split()), row.count, *(_known(found, part) for part in row.spent))
        for row in found.rows[:ROWS_SHOWN]
    ]
    columns = (found.by, "count", *(it.name for it in found.lists))
    return table + html_table(f"by {found.by}, {len(found.rows):,} rows", columns, rows)


def upgrades_html(found: "UpgradeComparison") -> str:
    """Return what an upgrade takes in each way, by size."""
    headings = (found.size_name or "size", "database, bytes", *(way.name for way in found.ways))
    rows = [
        (
            size.size if size.size is None else int(size.size),
            size.database_bytes,
            *(run.failure or run.upgrade for run in map(size.run_of, (w.name for w in found.ways))),
        )
        for size in found.sizes
    ]
    return html_table("instructions of an upgrade", headings, rows)


def _known(found: "PriceComparison", part: "Spent") -> int | None:
    """Return all instructions; on the native engine, which knows no others, stable memory's."""
    is_sampled = found.settings.values.get("engine") == "both"
    return part.stable if part.total is None and not is_sampled else part.total


def _image(picture: bytes | None) -> str:
    """Return a picture inside of HTML, of which a notebook shows nothing else."""
    if picture is None:
        return ""
    data = b64encode(picture).decode("ascii")
    return f'<img alt="its curves" style="max-width:100%" src="data:image/png;base64,{data}">'


def _estimate(found: "Estimate | None") -> str:
    if found is None:
        return "-"
    if found.low == found.high:
        return f"{found.value:,}"
    return f"{found.value:,} ({found.low:,} to {found.high:,})"


SHOWS: Final[Mapping[str, Mapping[str, Show]]] = {
    "text/html": {
        "analysis.advice.advice.Advice": advice_html,
        "analysis.locality.locality.Locality": locality_html,
        "analysis.pricing.price_comparison.PriceComparison": prices_html,
        "analysis.scaling.growing.ScaleResults": scale_html,
        "analysis.scaling.pareto.SweepResults": sweep_html,
        "analysis.upgrading.upgrade_runs.UpgradeComparison": upgrades_html,
        "analysis.whatif.page_cache.PageCacheWhatIf": page_cache_html,
        "ic.canister_figures.CanisterFigures": figures_html,
    },
    "image/png": {"analysis.page_map.PageMap": page_map_png},
}
"""What is shown of what, by the kind of output and the name in `sqlstable`."""


def register(shell: InteractiveShell) -> None:
    """Tell a notebook how results show themselves."""
    formatters = shell.display_formatter
    assert formatters is not None
    for kind, shows in SHOWS.items():
        for name, show in shows.items():
            module, _, result = name.rpartition(".")
            formatters.formatters[kind].for_type_by_name(f"sqlstable.{module}", result, show)
