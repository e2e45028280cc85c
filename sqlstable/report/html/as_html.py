"""A trace, or two of them side by side, as one HTML file that needs nothing else.

**Invariants**

* The same trace gives the same bytes.
* Nothing is loaded, and nothing but the page's own script runs: a content security policy forbids
  all, and allows the one script and the one style by the hashes of their text.
* Foreign text reaches the page escaped by the template, or packed in base64 and shown by the script
  as text. What is invisible in it is made visible first.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, FunctionLoader, StrictUndefined

from sqlstable.analysis.advice.advise import advise
from sqlstable.analysis.compare import compare
from sqlstable.analysis.locality.locality import locality
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.whatif.page_cache import page_cache_what_if
from sqlstable.errors import TraceError
from sqlstable.report.by_advice import nothing_words
from sqlstable.report.frame import provenance
from sqlstable.report.html.comparison_sheet import comparison_sheet, comparison_words
from sqlstable.report.html.locality_sheet import locality_sheet
from sqlstable.report.html.page_cache_sheet import page_cache_sheet
from sqlstable.report.html.pictures.payload import payload
from sqlstable.report.html.pictures.picture import Picture
from sqlstable.report.html.pictures.pictures_of import comparison_maps, pictures_of
from sqlstable.report.html.pictures.scripts import page_script, style
from sqlstable.report.html.sheet import Sheet
from sqlstable.report.html.summary_words import setting_rows, stated_settings, summary_words
from sqlstable.report.html.trace_sheets import trace_sheets
from sqlstable.report.page_cache_table import PREDICTED_ACCESSES_MAX
from sqlstable.report.text import clean

_FOLDER: Final = files("sqlstable.report.html")


def render_html(trace: TraceSource, *, name: str = "") -> str:
    """Return a trace as a page.

    Args:
        trace: What was recorded.
        name: What the page is called, such as the name of the trace's file.

    Returns:
        The text of one HTML file, the same for the same trace and name.
    """
    drawn = _drawn(lambda: _drawn_of(trace))
    return _rendered(
        "trace.html.j2",
        name=name,
        sheets=(*trace_sheets(trace), *drawn.sheets),
        pictures=drawn.pictures,
        refusal=drawn.refusal,
        summary=summary_words(trace),
        advice=advise(trace),
        nothing=nothing_words(trace),
        stated=stated_settings(trace.settings),
        settings=setting_rows(trace.settings),
        provenance=provenance(
            [trace.settings],
            trace.summary.states,
            has_estimates=any(block.estimated for block in trace.summary.blocks),
        ),
    )


def render_comparison_html(
    before: TraceSource, after: TraceSource, *, names: tuple[str, str] = ("", "")
) -> str:
    """Return two traces side by side as a page: statements with their changes, and both maps.

    Args:
        before: The earlier one.
        after: The later one.
        names: What they are called, such as the names of their files.

    Returns:
        As `render_html` does.
    """
    comparison = compare(before, after)
    drawn = _drawn(lambda: _Drawn(pictures=comparison_maps(before, after)))
    return _rendered(
        "comparison.html.j2",
        name=" → ".join(name for name in names if name),
        sheets=(comparison_sheet(comparison),),
        pictures=drawn.pictures,
        refusal=drawn.refusal,
        summary=comparison_words(comparison, names),
        stated=(),
        settings=setting_rows(after.settings),
        provenance=provenance([before.settings, after.settings], ()),
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What is worked out from the accesses of a trace, or why it is not."""

    sheets: tuple[Sheet, ...] = ()
    pictures: tuple[Picture, ...] = ()
    refusal: str = ""


def _drawn_of(trace: TraceSource) -> _Drawn:
    """Return locality and pictures of a trace; an empty one would show nothing."""
    if not trace.summary.message_count:
        return _Drawn()
    found = locality(trace)
    sheets = (locality_sheet(found), *_predictions(trace, found.accesses))
    return _Drawn(sheets, pictures_of(trace, found=found))


def _predictions(trace: TraceSource, accesses: int) -> tuple[Sheet, ...]:
    """Predict larger page caches, where that is quick and the trace allows it."""
    if accesses > PREDICTED_ACCESSES_MAX:
        return ()
    try:
        return (page_cache_sheet(page_cache_what_if(trace)),)
    except TraceError:
        # Most say that the trace cannot tell, which is no fault of it.
        return ()


def _drawn(draw: Callable[[], _Drawn]) -> _Drawn:
    """Return what is drawn; where that is refused, all else that a trace says is worth a page.

    Accesses that no memory could have seen are refused when they are laid out, not before.
    """
    try:
        return draw()
    except TraceError as error:
        return _Drawn(refusal=clean(str(error)))


def _rendered(
    template: str,
    *,
    name: str,
    sheets: Sequence[Sheet],
    pictures: Sequence[Picture],
    **words: object,
) -> str:
    script = page_script("\n".join(_text(f"js/{it}.js") for it in ("sheet", "page")))
    css = f"{_text('page.css')}\n{style()}"
    assert "</script" not in script
    assert "</style" not in css
    return (
        _environment()
        .get_template(template)
        .render(
            name=clean(name),
            sheets=sheets,
            pictures=pictures,
            sheets_data=payload(sheets),
            pictures_data=payload(pictures),
            script=script,
            script_hash=_hash(script),
            css=css,
            css_hash=_hash(css),
            **words,
        )
    )


def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["clean"] = clean
    return made


def _hash(text: str) -> str:
    """Return a text's hash as a content security policy names it.

    Source: https://www.w3.org/TR/CSP3/#grammardef-hash-source
    """
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _text(place: str) -> str:
    return (_FOLDER / place).read_text(encoding="utf-8")
