"""How results of analysis show themselves in a notebook that has the extension loaded.

They are plain numbers and import nothing to look at; so the notebook is told by their names.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from IPython.core.interactiveshell import InteractiveShell

from sqlstable.report.notebook_pictures import locality_png, page_map_png
from sqlstable.trace.markup import ROWS_SHOWN, html_table

if TYPE_CHECKING:
    from sqlstable.analysis.advice.advice import Advice
    from sqlstable.analysis.locality.locality import Locality
    from sqlstable.analysis.scaling.growing import ScaleResults
    from sqlstable.analysis.scaling.pareto import SweepResults
    from sqlstable.analysis.whatif.estimate import Estimate
    from sqlstable.analysis.whatif.page_cache import PageCacheWhatIf

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
        "advice.advice.Advice": advice_html,
        "locality.locality.Locality": locality_html,
        "scaling.growing.ScaleResults": scale_html,
        "scaling.pareto.SweepResults": sweep_html,
        "whatif.page_cache.PageCacheWhatIf": page_cache_html,
    },
    "image/png": {"page_map.PageMap": page_map_png},
}
"""What is shown of what, by the kind of output and the name in `sqlstable.analysis`."""


def register(shell: InteractiveShell) -> None:
    """Tell a notebook how results show themselves."""
    formatters = shell.display_formatter
    assert formatters is not None
    for kind, shows in SHOWS.items():
        for name, show in shows.items():
            module, _, result = name.rpartition(".")
            formatters.formatters[kind].for_type_by_name(
                f"sqlstable.analysis.{module}", result, show
            )
