"""What a check has found as Markdown, for a pull request.

Whatever comes from elsewhere, as SQL and labels, stands as code: nothing in it is markup, links to
somebody or ends a cell.
"""

import re
from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.checking.baseline_changes import BaselineChanges, EntryChange
from sqlstable.analysis.checking.budget_model import ScanBudget
from sqlstable.analysis.checking.held_budget import BudgetVerdict
from sqlstable.report.check_words import (
    CHANGES_SHOWN,
    CheckReport,
    bound_words,
    change_words,
    estimate_words,
    failure_lines,
    measure_words,
    measured_words,
    settings_words,
    share_words,
    unchanged_words,
    verdict_words,
    words_of,
)
from sqlstable.report.numbers import counted

MARKER: Final = "<!-- sqlstable check -->"
"""The first line, by which a job finds the comment that it wrote before."""

TEXT_CHARACTERS_MAX: Final = 300
"""What is shown of a longer text."""

_SIGNS: Final = {"regressed": "❌", "improved": "✅", "new": "🆕", "gone": "🗑️"}


def render_check_markdown(report: CheckReport) -> str:
    """Return what a check has found as Markdown.

    Tables and details as GitHub shows them; the same text for the same run.
    """
    return "\n".join(_lines(report)) + "\n"


def code(text: str, *, is_cell: bool = False) -> str:
    r"""Return text as code, on one line.

    Args:
        text: Anything.
        is_cell: Whether it stands in a table, where a bar needs a backslash even in code.

    Examples:
        >>> code("SELECT a || `b`"), code("a|b", is_cell=True)
        ('``SELECT a || `b` ``', '`a\\|b`')
    """
    line = " ".join(text.split())
    if len(line) > TEXT_CHARACTERS_MAX:
        line = f"{line[: TEXT_CHARACTERS_MAX - 1]}…"
    if is_cell:
        line = line.replace("|", "\\|")
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    # A blank keeps a backtick, or nothing at all, apart from the fence.
    before = " " if line.startswith("`") or not line else ""
    after = " " if line.endswith("`") else ""
    return f"{fence}{before}{line}{after}{fence}"


def _lines(report: CheckReport) -> Iterator[str]:
    yield MARKER
    sign = "✅" if report.is_passed else "❌"
    yield f"### {sign} sqlstable: {report.summary() or 'a baseline was made'}"
    if report.verdicts:
        yield ""
        yield "| | budget of | what | measured | budget | used |"
        yield "| --- | --- | --- | ---: | ---: | ---: |"
        yield from map(_row, report.verdicts)
        for found in report.failures:
            yield ""
            yield from _details(found)
    if report.changes is not None:
        yield ""
        yield from _baseline(report.changes)
    if estimate_words(report):
        yield ""
        yield f"{estimate_words(report)}."
    yield ""
    yield f"<sub>{_plain(settings_words(report))}</sub>"


def _row(found: BudgetVerdict) -> str:
    sign = "❌" if not found.is_kept else "✅"
    if not (found.is_kept and found.is_sure):
        sign += f" {verdict_words(found)}"
    bound, budget = bound_words(found), found.budget
    cells = (
        sign,
        code(str(found.budget.target), is_cell=True),
        _plain(measure_words(found)),
        measured_words(found),
        code(bound, is_cell=True) if isinstance(budget, ScanBudget) and budget.tables else bound,
        share_words(found),
    )
    return f"| {' | '.join(cells)} |"


def _details(found: BudgetVerdict) -> Iterator[str]:
    for index, line in enumerate(failure_lines(found)):
        yield f"{'  ' * bool(index)}- {code(line)}"


def _baseline(found: BaselineChanges) -> Iterator[str]:
    shown = found.changes[:CHANGES_SHOWN]
    if shown:
        yield "| | since the baseline | what | before | now | change |"
        yield "| --- | --- | --- | ---: | ---: | --- |"
        yield from map(_change, shown)
        yield ""
    left_out = len(found.changes) - len(shown)
    if left_out:
        yield f"{counted(left_out, 'change')} more; the JSON has all."
    yield f"{unchanged_words(found)}."


def _change(found: EntryChange) -> str:
    change = found.change
    cells = (
        _SIGNS[found.kind],
        code(str(found.name), is_cell=True),
        words_of(found.measure),
        "" if change is None or change.previous is None else f"{change.previous:,}",
        "" if change is None else f"{change.current:,}",
        _plain(change_words(found))
        if not found.tables
        else code(change_words(found), is_cell=True),
    )
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Return words of ours, with names in them, as text that Markdown leaves alone."""
    return re.sub(r"([\\`*_\[\]<>|#@~])", r"\\\1", text)
