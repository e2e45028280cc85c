"""A message as a notebook shows it: what each statement touched, whose it was, and the verdict."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlstable.analysis.pricing.paid_words import paid_words
from sqlstable.analysis.spelled_numbers import count, percent, size
from sqlstable.analysis.verdict import covered, not_counted, tightest_limit, verdict
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.trace.markup import ROWS_SHOWN, html_table, html_text
from sqlstable.trace.model import Instructions, LimitUse, Message, OwnerUse, Statement

_HEADINGS = ("statement", "OS pages accessed", "dirty", "hits", "rows", "whose OS pages")


def message_html(
    message: Message, statements: Sequence[Statement], fees: CycleFees | None = None
) -> str:
    """Return a message with its statements as HTML.

    Args:
        message: What happened.
        statements: All of its statements, in order.
        fees: By which its cycles are said; None leaves them out.
    """
    has_cost = message.instructions is not None
    headings = ("instructions", *_HEADINGS[1:]) if has_cost else _HEADINGS[1:]
    rows = [_statement_row(it, has_cost=has_cost) for it in statements[:ROWS_SHOWN]]
    if len(statements) > ROWS_SHOWN:
        more = f"… {len(statements) - ROWS_SHOWN:,} more statements"
        rows.append((more, *(None,) * len(headings)))
    if len(rows) != 1 or message.outside:
        rows.append(_sum_row(message, has_cost=has_cost))
    table = html_table(message_words(message), ("statement", *headings), rows)
    lines = [
        line for line in (message.trap, spent_words(message, fees), verdict_words(message)) if line
    ]
    return table + "".join(f"<div>{html_text(line)}</div>" for line in lines)


def message_words(message: Message) -> str:
    """Say on one line which message it is, and how it ended.

    Examples:
        >>> from sqlstable.trace.model import StableUse
        >>> message = Message(
        ...     index=3, kind="query", label="look", outcome="discarded", trap=None,
        ...     discarded_writes=False, cache="cold", statements=(), stable=StableUse(),
        ...     outside=(), limits=(), image_bytes=0,
        ... )
        >>> message_words(message)
        'message 3 · query · "look" · cold cache · discarded'
    """
    words = [f"message {message.index}", message.kind]
    if message.label is not None:
        words.append(f'"{message.label}"')
    if message.continues is not None:
        words.append(f"continues message {message.continues}")
    if message.cache is not None:
        words.append(f"{message.cache} cache")
    outcome = "discarded with its writes" if message.discarded_writes else message.outcome
    words.append("trapped, rolled back" if message.outcome == "trapped" else outcome)
    return " · ".join(words)


def verdict_words(message: Message) -> str:
    """Say whether a message fits, which limit it came nearest to, and what nobody counted."""
    tightest, found = tightest_limit(message), verdict(message)
    if tightest is None or found is None:
        return "no limit applies to it"
    words = (
        f"{found} ({', '.join(covered(message))}); nearest to a limit: {_used_words(tightest)}, "
        f"{percent(tightest.used, tightest.limit)}"
    )
    missing = ", ".join(not_counted(message))
    return f"{words}; not counted: {missing}" if missing else words


def owner_words(owners: Iterable[OwnerUse]) -> str:
    """Say whose OS pages were accessed, and how many, the roles of each owner put together.

    Examples:
        >>> owner_words([
        ...     OwnerUse("t", "t", "table", "leaf", 12, 0),
        ...     OwnerUse("t", "t", "table", "interior", 1, 0),
        ... ])
        't 13'
    """
    accessed: dict[str, int] = defaultdict(int)
    for owner in owners:
        accessed[owner.name or owner.kind] += owner.os_pages_accessed
    ranked = sorted(accessed.items(), key=lambda it: (-it[1], it[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ranked)


def _used_words(use: LimitUse) -> str:
    name = use.name.replace("_", " ").replace(" os ", " OS ")
    if not use.name.endswith("_bytes"):
        return f"{count(use.used)} of {count(use.limit)} {name}"
    name = name.removesuffix(" bytes")
    return f"{size(use.used)} of {size(use.limit)} {name}"


def _statement_row(statement: Statement, *, has_cost: bool) -> tuple[Any, ...]:
    stable, times = statement.stable, f"{statement.runs:,} times: " if statement.runs > 1 else ""
    return (
        times + statement.sql,
        *_cost(statement.instructions, has_cost=has_cost),
        stable.os_pages_accessed,
        stable.os_pages_dirty,
        statement.sqlite.hits,
        statement.row_count,
        owner_words(statement.owners) or ("not determined" if stable.os_pages_accessed else None),
    )


def _sum_row(message: Message, *, has_cost: bool) -> tuple[Any, ...]:
    return (
        "the whole message, each OS page once",
        *_cost(message.instructions, has_cost=has_cost),
        message.stable.os_pages_accessed,
        message.stable.os_pages_dirty,
        *(None, None, None),
    )


def spent_words(message: Message, fees: CycleFees | None) -> str:
    """Say what a message cost, by what it was spent on; nothing where nobody counted."""
    spent = message.instructions
    if spent is None:
        return ""
    cycles = "" if fees is None else paid_words(message, fees)
    return (
        f"{spent.total:,} instructions: computation {spent.computation:,}, "
        f"stable memory {spent.stable:,}, heap {spent.heap:,}{f' · {cycles}' if cycles else ''}"
    )


def _cost(spent: Instructions | None, *, has_cost: bool) -> tuple[int | None, ...]:
    return (None if spent is None else spent.total,) if has_cost else ()
