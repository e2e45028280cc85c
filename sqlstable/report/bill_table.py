"""A month's bill as text: calls, what is paid for, what stands still, and every assumption."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from shlex import quote
from typing import Final

from rich.text import Text

from sqlstable.analysis.pricing.call_groups import short_name
from sqlstable.analysis.pricing.month_bill import PARTS, Bill, BillLine
from sqlstable.ic.money import XdrRate
from sqlstable.report.bill_words import assumptions, doubts
from sqlstable.report.frame import named_lines, title
from sqlstable.report.grid import WIDTH_MIN, Cell, ColorSystem, cell, render
from sqlstable.report.money_words import cycles_words, days_words, money_words
from sqlstable.report.numbers import counted, percent, size
from sqlstable.report.sample_words import ESTIMATED
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import clean, fit

_PART_WORDS: Final = {
    "base": "messages, whatever they do",
    "execution": "instructions",
    "ingress": "arrival from outside",
    "calls": "calls to other canisters",
}
_ESTIMATED_PARTS: Final = ("execution", "ingress")
_NAME_WIDTH_MIN: Final = 16
_NOT_CALLED_SHOWN_MAX: Final = 6
_NAME_SHOWN: Final = 40
_QUOTE: Final = "'"

GLOSSARY: Final = {
    "each": "cycles of one call: execution, arrival, and what goes on behind an await",
    "seen": "messages of it in the trace, whose average it is",
}


@dataclass(frozen=True, slots=True)
class _Part:
    """A line of the lower table."""

    name: str
    cycles: int | Fraction
    style: str = ""
    is_estimated: bool = False


def render_bill(
    bill: Bill,
    *,
    rate: XdrRate,
    storage: str,
    settings: Mapping[str, object],
    name: str,
    width: int,
    color_system: ColorSystem | None,
) -> str:
    """Return a bill as text.

    Args:
        bill: It.
        rate: What cycles cost in money.
        storage: Whose price of memory it has.
        settings: Those of the trace.
        name: What the trace is called.
        width: Columns of the terminal.
        color_system: One of rich's, or None for plain text.
    """
    width = max(width, WIDTH_MIN)
    lines = [
        *title(f"What a month of {clean(name)} costs", width),
        Text(),
        *_calls(bill, rate, width),
        Text(),
        *_parts(bill, rate, width),
        Text(),
        *(line for word, text in _notes(bill, rate) for line in named_lines(word, text, width)),
    ]
    for index, text in enumerate(assumptions(bill, rate, storage, settings)):
        lines += named_lines("assumed" if not index else "", text, width)
    for text in doubts(bill, settings):
        lines += named_lines("beware", text, width)
    return render(lines, width=width, color_system=color_system)


def _calls(bill: Bill, rate: XdrRate, width: int) -> list[Text]:
    currency = rate.currency.upper()
    columns: list[Column[BillLine]] = [
        Column("call", _named, rest_min=_NAME_WIDTH_MIN),
        number("how often", lambda it: str(it.frequency)),
        number("a month", lambda it: float(it.calls_per_month), drop=2),
        number("seen", lambda it: it.group.message_count, drop=1),
        number("each", lambda it: _signed(cycles_words(it.each), it.is_estimated)),
        number("cycles", lambda it: _signed(cycles_words(it.total), it.is_estimated)),
        number(currency, lambda it: _signed(money_words(it.total, rate), it.is_estimated)),
    ]
    table = Table.holding(columns, bill.lines, width)
    return table.framed([line for it in bill.lines for line in table.row(it)])


def _signed(words: str, is_estimated: bool) -> str:  # noqa: FBT001  one of two numbers' kinds
    return f"{ESTIMATED} {words}" if is_estimated else words


def _named(line: BillLine, width: int) -> Cell:
    kind = f"  {line.kind}{' as update' * line.as_update}"
    return [Text(fit(clean(line.name), width)), Text(fit(kind, width), style="dim")]


def _parts(bill: Bill, rate: XdrRate, width: int) -> list[Text]:
    standing, total = bill.standing, bill.total
    guessed = bill.is_estimated
    rows = [
        _Part(_PART_WORDS[name], bill.part(name), is_estimated=guessed and name in _ESTIMATED_PARTS)
        for name in PARTS
    ]
    rows.append(_Part(f"storage of {size(standing.billed_bytes)}", standing.storage))
    if standing.growth_storage:
        grown = size(int(standing.grown_bytes))
        rows.append(_Part(f"storage of {grown} more (modelled)", standing.growth_storage))
    if standing.presence:
        rows.append(_Part("the canister itself", standing.presence))
    if standing.compute:
        rows.append(_Part("compute allocation", standing.compute))
    shown = [row for row in rows if row.cycles or row.name == _PART_WORDS["execution"]]
    sums = _Part("together", total, "bold", is_estimated=guessed)
    columns: list[Column[_Part]] = [
        Column("paid for", lambda it, room: cell(fit(it.name, room), it.style), rest_min=20),
        number("share", lambda it: percent(round(it.cycles), round(total)), drop=1),
        number(
            "cycles",
            lambda it: _signed(cycles_words(it.cycles), it.is_estimated),
            style=lambda it: it.style,
        ),
        number(
            rate.currency.upper(),
            lambda it: _signed(money_words(it.cycles, rate), it.is_estimated),
            style=lambda it: it.style,
        ),
    ]
    table = Table.holding(columns, [*shown, sums], width)
    return table.framed((line for row in shown for line in table.row(row)), sums=[sums])


def _notes(bill: Bill, rate: XdrRate) -> Iterator[tuple[str, str]]:
    standing = bill.standing
    currency, limit = rate.currency.upper(), standing.freezing_limit
    idle = (
        f"{cycles_words(standing.burn.total)} cycles burned a day without a call; frozen below a "
        f"balance of {cycles_words(limit)} ({money_words(limit, rate)} {currency})"
    )
    prepaid = (
        f"{cycles_words(bill.prepaid)} cycles above that must be there for a message to run: its "
        "limit's worth, of which the rest comes back"
    )
    yield from GLOSSARY.items()
    yield "idle", idle
    if bill.prepaid:
        yield "prepaid", prepaid
    if bill.terms.balance is not None:
        yield "balance", _balance_words(bill, bill.terms.balance)
    if standing.reserved is not None:
        yield "reserved", _reserved_words(bill, standing.reserved)
    if bill.as_in_trace:
        yield "say more", _more_words(bill)
    elif bill.not_called:
        yield "left out", _left_out_words(bill)


def _balance_words(bill: Bill, balance: int) -> str:
    return (
        f"{cycles_words(balance)} cycles last "
        f"{_signed(days_words(bill.days_until_frozen), bill.is_estimated)} under this bill with "
        "storage, until frozen"
    )


def _reserved_words(bill: Bill, reserved: int) -> str:
    limit = bill.terms.allocations.reserved_cycles_limit
    over = f", more than the limit of {cycles_words(limit)}: growing would trap"
    return (
        f"{cycles_words(reserved)} cycles are set aside, not spent, as memory grows on this "
        f"subnet; storage is paid from them{over * (reserved > limit)}"
    )


def _more_words(bill: Bill) -> str:
    often = max(bill.lines, key=lambda it: it.group.call_count)
    asked = f"{_short(often.name, bill)}=10000/day"
    quoted = quote(asked) if _QUOTE in asked else f"'{asked}'"
    return (
        f"--calls {quoted} says how often, once for each label, shape, method, message:N or "
        "statement:N"
    )


def _short(name: str, bill: Bill) -> str:
    """Return as much of a name as ``--calls`` needs."""
    names = [*bill.not_called, *(it.name for it in bill.lines)]
    return clean(short_name(name, names, _NAME_SHOWN))


def _left_out_words(bill: Bill) -> str:
    shown = [_short(it, bill) for it in bill.not_called[:_NOT_CALLED_SHOWN_MAX]]
    more = len(bill.not_called) - len(shown)
    others = counted(len(bill.not_called), "other call")
    return f"{others} of the trace: {' | '.join(shown)}{f' | and {more} more' * (more > 0)}"
