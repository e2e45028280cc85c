"""A trace as a table for the terminal, a row per statement, shape, owner, message or advice."""

from typing import Final

from rich.text import Text

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.by_advice import strongest_lines
from sqlstable.report.fit_words import relimited_lines
from sqlstable.report.frame import (
    cache_words,
    fault_lines,
    glossary_lines,
    instruction_words,
    named_lines,
    provenance_lines,
    settings_lines,
    title,
    unfinished_lines,
)
from sqlstable.report.grid import WIDTH_MIN, ColorSystem, paragraph, render
from sqlstable.report.growth_words import growth_lines
from sqlstable.report.map_look import MapLook
from sqlstable.report.view import Look
from sqlstable.report.views import By, view_of

EMPTY: Final = "The trace is empty: no message was recorded, so no OS page was touched."

OTHER_VIEWS: Final = (
    "where in stable memory it lives: --map; how local it is: --by locality; pictures of a kept "
    "trace: report TRACE --picture"
)
"""What a newcomer would not find."""


def render_table(
    trace: TraceSource,
    *,
    by: By = "statement",
    width: int = 100,
    color_system: ColorSystem | None = None,
    plan: bool = False,
    settings: bool = False,
    map_look: MapLook | None = None,
) -> str:
    """Return a trace as a table of text.

    Args:
        trace: What was recorded.
        by: What one row stands for.
        width: Columns of the terminal; no line is wider. Less than ``WIDTH_MIN`` counts as that.
        color_system: One of rich's, for a terminal; None for plain text.
        plan: Whether plans stand under statements and shapes.
        settings: Whether all settings are named, and not only those that are not the default.
        map_look: How a map of stable memory is drawn, where it is the view.

    Raises:
        SettingsError: there is no such view.
    """
    view = view_of(by, trace)
    look = Look(max(width, WIDTH_MIN), plan=plan, settings=settings, map=map_look or MapLook())
    lines = [
        *title(view.title, look.width),
        *settings_lines(trace.settings, look.width, all_settings=settings),
        *unfinished_lines(trace.settings, look.width),
        *fault_lines(trace, look.width),
        *relimited_lines(trace, look.width),
        Text(),
    ]
    if trace.summary.message_count:
        words = [*view.glossary, *instruction_words(trace), *cache_words(trace)]
        lines += [*view.lines(trace, look), Text()]
        lines += [*glossary_lines(words, trace.settings, look.width), Text()]
    else:
        lines += [*paragraph(EMPTY, look.width), Text()]
    if by != "advice":
        lines += strongest_lines(trace, look.width)
    if by == "statement" and trace.summary.message_count:
        lines += named_lines("see also", OTHER_VIEWS, look.width)
    lines += growth_lines(trace, look.width)
    has_estimates = any(block.estimated for block in trace.summary.blocks)
    lines += provenance_lines(
        [trace.settings], trace.summary.states, look.width, has_estimates=has_estimates
    )
    return render(lines, width=look.width, color_system=color_system)
