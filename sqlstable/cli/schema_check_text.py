"""What ``sqlstable schema check`` prints: the verdict first, then each change, then the SQL."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.text import Text

from sqlstable.cli.output import Screen
from sqlstable.ic.units import NO_LIMIT
from sqlstable.report.frame import settings_lines, title
from sqlstable.report.grid import paragraph, render
from sqlstable.report.limit_words import limit_words
from sqlstable.report.numbers import count, counted, size
from sqlstable.report.text import clean, fit, wrap
from sqlstable.schema.schema_verdicts import (
    Migration,
    OldCode,
    SchemaChange,
    SchemaCheck,
    Verdict,
)
from sqlstable.schema.sql_tokens import tokens_of
from sqlstable.trace.model import TraceSettings

if TYPE_CHECKING:
    from sqlstable.workload.schema_cost import MigrationCost

_FORMAT: Final = "sqlstable schema check"
_FORMAT_VERSION: Final = 1

_STYLES: Final[dict[Verdict, str]] = {
    "same": "green",
    "both ways": "green",
    "forward only": "yellow",
    "incompatible": "red",
}

_VERDICT_WORDS: Final[dict[Verdict, str]] = {
    "same": "nothing is to be done",
    "both ways": "every row can go there, and comes back as it was: a rollback is possible",
    "forward only": "there is a migration, and something may not come back",
    "incompatible": "no migration is safe before somebody decides",
}

_OLD_CODE_WORDS: Final[dict[OldCode, str]] = {
    "works": "works on the new schema as it did",
    "differs": "runs on the new schema, and may answer or do something else",
    "refused": "reads the new schema, and some of its writes are refused",
    "fails": "fails on the new schema in some statements: go back first",
}

_SHORT: Final = 34
"""Columns of the narrowest column of statements."""


def as_text(
    names: tuple[str, str],
    check: SchemaCheck,
    cost: "MigrationCost | None",
    target: Screen,
    *,
    data: str | None,
    all_settings: bool,
) -> str:
    """Return the whole report for people.

    Args:
        names: What was compared.
        data: Whose rows decided, where any did.
        check: What was found.
        cost: What the migration took, where there is data.
        target: The terminal.
        all_settings: Whether all settings are named.
    """
    width = target.width
    asked = sum(it.depends_on_data for it in check.changes)
    lines = [
        *title(f"{check.verdict}: {_VERDICT_WORDS[check.verdict]}", width),
        *paragraph(_compared(names, data if asked else None), width, style="dim"),
        *(_old_code_lines(check, width) if check.changes else ()),
    ]
    if check.changes:
        lines.append(Text())
    for change in check.changes:
        lines += _change_lines(change, width)
    if data is None and asked:
        text = f"rows decide {counted(asked, 'change')}: --database APP.db asks them"
        lines += [Text(), *paragraph(text, width)]
    if cost is not None:
        lines += [Text(), *_cost_lines(cost, width, all_settings=all_settings)]
    pieces = [render(lines, width=width, color_system=target.color_system)]
    if check.migration is not None and check.migration.steps:
        pieces += _sql("the way there", check.migration, target)
    if check.rollback is not None and check.rollback.steps:
        is_whole = check.verdict == "both ways"
        name = "the way back" if is_whole else "the way back, without what is lost"
        pieces += _sql(name, check.rollback, target)
    return "".join(pieces)


def as_json(names: tuple[str, str], check: SchemaCheck, cost: "MigrationCost | None") -> str:
    """Return the same as JSON; what does not apply is null."""
    document: dict[str, Any] = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "old": names[0],
        "new": names[1],
        "verdict": check.verdict,
        "old_code": check.old_code,
        "changes": [_change_fields(it) for it in check.changes],
        "migration": _migration_fields(check.migration),
        "rollback": _migration_fields(check.rollback),
        "cost": None if cost is None else _cost_fields(cost),
        "notes": list(check.notes),
    }
    return json.dumps(document, indent=2) + "\n"


# -- as text --------------------------------------------------------------------------------------


def _compared(names: tuple[str, str], data: str | None) -> str:
    text = f"{clean(names[0])} → {clean(names[1])}"
    return text if data is None else f"{text}; what rows decide, those of {clean(data)} decide"


def _old_code_lines(check: SchemaCheck, width: int) -> list[Text]:
    return paragraph(f"old code {_OLD_CODE_WORDS[check.old_code]}", width)


def _change_lines(change: SchemaChange, width: int) -> Iterator[Text]:
    name = f"{change.kind} {change.object_kind} {clean(change.name)}"
    first = paragraph(f"{change.verdict:<12}  {name}", width)
    first[0].stylize(_STYLES[change.verdict], 0, len(change.verdict))
    yield from first
    yield from paragraph(f"  {clean(change.reason)}", width, indent=2)
    if change.way_back:
        yield from paragraph(f"  the way back: {clean(change.way_back)}", width, indent=2)
    if change.old_code != "works":
        yield from paragraph(f"  old code: {change.old_code}", width, indent=2)


def _sql(name: str, migration: Migration, target: Screen) -> Iterator[str]:
    """Yield a migration as SQL that can be copied: whole, and broken between tokens alone."""
    heading = [Text(), *paragraph(name, target.width, style="bold")]
    yield render(heading, width=target.width, color_system=target.color_system)
    yield from (f"{it}\n" for it in _script_lines(migration, target.width))


def _script_lines(migration: Migration, width: int) -> Iterator[str]:
    if migration.is_rebuilding:
        yield "PRAGMA foreign_keys = off;"
    yield "BEGIN;"
    for step in migration.steps:
        yield from (f"-- {line}" for line in wrap(clean(step.purpose), width - 3))
        yield from wrapped_sql(f"{step.sql};", width)
    yield "COMMIT;"


def wrapped_sql(sql: str, width: int) -> Iterator[str]:
    """Yield a statement as lines, broken where it has a space between tokens.

    Text that has lines of its own keeps them: a comment ends with its line.

    Examples:
        >>> list(wrapped_sql("SELECT 'a b c' FROM t", 16))
        ["SELECT 'a b c'", '    FROM t']
    """
    if "\n" in sql:
        yield from map(_visible, sql.split("\n"))
        return
    tokens = tokens_of(sql)
    line, at = "", 0
    for token, after in zip(tokens, (*tokens[1:], None), strict=True):
        stop = token.end if after is None else after.start
        piece, at = sql[at:stop], stop
        if line and cell_len(line + piece.rstrip()) > width and line.endswith(" "):
            yield _visible(line.rstrip())
            line = "    "
        line += piece
    yield _visible(line)


def _visible(line: str) -> str:
    """Return a line with nothing in it that a terminal would act on."""
    return "".join(it if it.isprintable() or it == " " else clean(f"a{it}a")[1:-1] for it in line)


def _cost_lines(cost: "MigrationCost", width: int, *, all_settings: bool) -> Iterator[Text]:
    yield from title(f"what it takes on a copy of {clean(cost.source)}, in one upgrade", width)
    yield from settings_lines(TraceSettings(dict(cost.settings)), width, all_settings=all_settings)
    if cost.failure is not None:
        yield from paragraph(f"it fails: {clean(cost.failure)}", width, style="red")
        return
    yield from _table(cost, width)
    verdict = "fits one upgrade" if cost.fits else "does not fit one upgrade"
    yield from paragraph(
        f"{verdict}; {counted(cost.rows_copied, 'row')} copied; stable memory "
        f"{size(cost.stable_bytes_before)} before, {size(cost.stable_bytes_after)} after",
        width,
        style="" if cost.fits else "red",
    )
    for use in cost.limits:
        if use.limit < NO_LIMIT:
            yield from paragraph(f"  {limit_words(use)}", width, indent=2)
    if cost.instructions is None:
        yield from paragraph("  instructions are counted with --engine wasm", width, indent=2)
    if not cost.fits:
        text = "  Canister.migrate cuts it into messages that each fit"
        yield from paragraph(text, width, indent=2)


def _table(cost: "MigrationCost", width: int) -> Iterator[Text]:
    has_instructions = cost.instructions is not None
    headings = ["accessed", "dirty", *(["instructions"] if has_instructions else [])]
    rows = [
        (it.sql, [it.os_pages_accessed, it.os_pages_dirty, it.instructions]) for it in cost.steps
    ]
    total = [cost.os_pages_accessed, cost.os_pages_dirty, cost.instructions]
    rows.append(("the whole upgrade", total))
    widths = [
        max(len(heading), *(len(count(values[at])) for _, values in rows))
        for at, heading in enumerate(headings)
    ]
    room = max(width - sum(widths) - 2 * len(widths), _SHORT)
    yield Text(_row("OS pages", headings, widths, room), style="dim")
    for sql, values in rows:
        shown = [count(it) for it in values[: len(headings)]]
        yield Text(_row(fit(clean(sql), room), shown, widths, room))


def _row(first: str, cells: Sequence[str], widths: Sequence[int], room: int) -> str:
    padding = " " * (room - cell_len(first))
    numbers = "".join(f"  {it:>{width}}" for it, width in zip(cells, widths, strict=True))
    return f"{first}{padding}{numbers}"


# -- as data --------------------------------------------------------------------------------------


def _change_fields(change: SchemaChange) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "object_kind": change.object_kind,
        "name": change.name,
        "table": change.table,
        "verdict": change.verdict,
        "reason": change.reason,
        "old_code": change.old_code,
        "way_back": change.way_back or None,
        "depends_on_data": change.depends_on_data,
    }


def _migration_fields(migration: Migration | None) -> dict[str, Any] | None:
    if migration is None:
        return None
    return {
        "is_rebuilding": migration.is_rebuilding,
        "steps": [asdict(it) for it in migration.steps],
        "script": migration.script,
    }


def _cost_fields(cost: "MigrationCost") -> dict[str, Any]:
    return {
        "source": cost.source,
        "settings": {name: _plain(value) for name, value in cost.settings.items()},
        "steps": [asdict(it) for it in cost.steps],
        "os_pages_accessed": cost.os_pages_accessed,
        "os_pages_dirty": cost.os_pages_dirty,
        "instructions": cost.instructions,
        "rows_copied": cost.rows_copied,
        "limits": [asdict(it) for it in cost.limits],
        "fits": cost.fits,
        "stable_bytes_before": cost.stable_bytes_before,
        "stable_bytes_after": cost.stable_bytes_after,
        "failure": cost.failure,
    }


def _plain(value: object) -> object:
    is_plain = value is None or isinstance(value, str | int | float | bool)
    return value if is_plain else str(value)
