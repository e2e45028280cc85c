"""The view with one row for each piece of advice, and the line of it below every table."""

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from sqlstable.analysis.advice.advice import Advice
from sqlstable.analysis.advice.advise import advise
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.call_words import has_calls_alone
from sqlstable.report.frame import named_lines
from sqlstable.report.grid import paragraph, rule
from sqlstable.report.numbers import counted
from sqlstable.report.text import clean
from sqlstable.report.view import GROUPS_MAX, Fields, Look, View, more_lines, named

CITES_MAX: Final = 5
"""Numbers that a table shows of one piece of advice."""

NOTHING: Final = (
    "nothing to advise: no statement, index or setting stands out; what is looked for, and from "
    "which numbers on, is in docs/explanation/advice.md"
)


NOTHING_SEEN: Final = (
    "nothing to advise: all rules are about SQL, and none was seen of this module; "
    "docs/explanation/modules.md says how a module shows its statements"
)


def advice_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out all advice, the strongest first, with the numbers that it comes from."""
    found = advise(trace)
    if not found:
        return paragraph(nothing_words(trace), look.width)
    lines = [rule(look.width)]
    for advice in found[:GROUPS_MAX]:
        lines += _advice(advice, look.width)
    lines += more_lines(max(len(found) - GROUPS_MAX, 0), "more piece", look.width)
    return [*lines, rule(look.width)]


def nothing_words(trace: TraceSource) -> str:
    """Say of a trace without advice why there is none."""
    return NOTHING_SEEN if has_calls_alone(trace) else NOTHING


def strongest_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say below a table what to do first, and how much more there is."""
    found = advise(trace)
    if not found:
        return []
    more = len(found) - 1
    rest = f"; {counted(more, 'more piece')} of advice: --by advice" if more else "; --by advice"
    gain = f" ({clean(found[0].gain)})" if found[0].gain else ""
    return named_lines("advice", f"{clean(found[0].sentence)}{gain}{rest}", width)


def _advice(advice: Advice, width: int) -> Iterator[Text]:
    yield from paragraph(clean(advice.sentence), width, style="bold")
    for cite in advice.cites[:CITES_MAX]:
        yield from paragraph(clean(cite), width, indent=2)
    if len(advice.cites) > CITES_MAX:
        more = counted(len(advice.cites) - CITES_MAX, "more statement")
        yield from paragraph(f"{more}: --format csv", width, style="italic", indent=2)
    if advice.gain is not None:
        yield from paragraph(clean(advice.gain), width, style="green", indent=2)
    yield from paragraph(f"rule {advice.code}", width, style="dim", indent=2)


VIEW: Final = View(
    by="advice",
    title="What to do, the strongest first, with the numbers that it comes from",
    glossary=(
        ("expected", "worked out from the trace; run it again, and --compare, to measure"),
        ("rules", "what each looks for, and from which numbers on: docs/explanation/advice.md"),
    ),
    lines=advice_lines,
    items=advise,
    fields=(
        named("code", "sentence", "gain", "share"),
        Fields(("cites",), lambda it: ("\n".join(it.cites),)),
        Fields(("statements",), lambda it: (" ".join(map(str, it.statements)),)),
    ),
    is_one_pass=True,
)
