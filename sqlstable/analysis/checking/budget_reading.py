"""Reading budgets: from a TOML file, or from keywords of Python.

Nothing that stands in a file is passed over: an unknown word, a wrong type or a negative number is
an error that says where, and which word may be meant.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Final, get_args

from sqlstable.analysis.checking.budget_measures import BUDGET_MEASURES
from sqlstable.analysis.checking.budget_model import (
    NAMELESS,
    OF_STATEMENTS,
    Budget,
    Budgets,
    LimitBudget,
    NumberBudget,
    ScanBudget,
    Scope,
    Target,
    cut,
)
from sqlstable.errors import BudgetError

SETTINGS_OF_BUDGETS: Final = {
    "prices": "price list by its name, or a date; by default that of the run",
    "limits": "date of the limits that percentages are of; by default that of the run",
    "nodes": "of the subnet, by which cycles grow; by default 13",
}
"""Keys at the top of a budget file."""

OTHER_KEYS: Final = {
    "limit": 'part of the tightest limit, as `"10%"`; or of those that are named, as '
    '`{instructions = "10%", os_pages_accessed = "1%"}`',
    "no_scan": "`true`: no plan goes through a whole table or index, or builds an index for one "
    "time; or a list of the tables that none may go through",
    "allow_trap": "`true`: a message that trapped is held to its budget by what it used until "
    "then; else it has failed its budget",
}
"""Keys of a target beside `BUDGET_MEASURES`."""

KEYS: Final = (*BUDGET_MEASURES, *OTHER_KEYS)

NUMBER_MAX: Final = 2**63 - 1

_PERCENT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def read_budgets(text: str, name: str) -> Budgets:
    r"""Read a budget file.

    Args:
        text: What is in it.
        name: What errors call it.

    Raises:
        BudgetError: It is no TOML, or says something that cannot be understood.

    Examples:
        >>> found = read_budgets('[label."find artist"]\nos_pages_accessed = 4', "budget.toml")
        >>> found.budgets[0].target, found.budgets[0].bound
        (Target(scope='label', name='find artist'), 4)
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BudgetError(f"{name} is no TOML: {error}") from None
    _check_known(data, (*SETTINGS_OF_BUDGETS, *get_args(Scope)), name)
    budgets = [
        budget
        for scope in _scopes(data)
        for target, table in _targets(scope, data[scope], name)
        for budget in budgets_of(target, table, name)
    ]
    if not budgets:
        raise BudgetError(
            f'{name} holds no budget; one is [label."NAME"] with os_pages_accessed = 4 below it'
        )
    return Budgets(
        tuple(budgets),
        name,
        prices=_setting(data, "prices", name),
        limits=_setting(data, "limits", name),
        nodes=_nodes(data.get("nodes", 13), name),
    )


def budgets_of(target: Target, table: Mapping[str, object], name: str) -> Iterator[Budget]:
    """Yield the budgets of one target.

    Args:
        target: What they are held against.
        table: Their keys, with what each allows.
        name: What errors call the file, or whatever else they stand in.

    Raises:
        BudgetError: A key is unknown, or what it allows is of a wrong type or out of range.

    Examples:
        >>> table = {"rows": 5, "limit": {"instructions": "5%"}}
        >>> [it.key for it in budgets_of(Target("each_message"), table, "budget.toml")]
        ['rows', 'limit.instructions']
    """
    place = f"{name}, {target.place}" if name else target.place
    _check_known(table, KEYS, place)
    allows_trap = _flag(table.get("allow_trap", False), f"{place}: allow_trap")
    found = [
        budget
        for key, value in table.items()
        for budget in _budget(target, key, value, place, allows_trap=allows_trap)
    ]
    if not found and not table.get("no_scan", True):
        return
    if not found:
        raise BudgetError(f"{place} holds no budget{keys_are([*BUDGET_MEASURES])}")
    yield from found


_ROOM: Final = 20
"""Characters that an error has for what is known."""


def near(word: str, known: Iterable[str]) -> str:
    """Return a question for what may be meant by an unknown word; empty where nothing is near.

    Examples:
        >>> near("instruction", ["rows", "instructions"])
        '; did you mean instructions?'
    """
    found = [*map(cut, get_close_matches(word, list(known), 3, 0.6))]
    shown = found if _fits(found) else found[:1]
    return f"; did you mean {' or '.join(shown)}?" if shown else ""


def there_are(words: Iterable[str]) -> str:
    """Say which words are known: the first few, and how many there are beside them.

    Examples:
        >>> there_are(["rows", "cycles"])
        '; there are rows, cycles'
        >>> there_are(["os_pages_accessed", "os_pages_dirty", "instructions", "rows"])
        '; there are os_pages_accessed and 3 more'
    """
    known = list(words)
    fitting = (count for count in range(len(known), 1, -1) if _fits(known[:count]))
    shown = next(fitting, 1)
    more = f" and {len(known) - shown} more" if len(known) > shown else ""
    return f"; there are {', '.join(known[:shown])}{more}"


def keys_are(words: Sequence[str]) -> str:
    """Say where the keys of a budget are listed, which are too many for a line.

    Examples:
        >>> keys_are(["os_pages_accessed", "os_pages_dirty"])
        '; docs/reference/budgets.md lists all 2'
    """
    return f"; docs/reference/budgets.md lists all {len(words)}"


def _fits(words: Sequence[str]) -> bool:
    return len(", ".join(words)) <= _ROOM


def _scopes(data: Iterable[str]) -> Iterator[Scope]:
    """Yield the tables that hold budgets, in the order of the file."""
    known: Mapping[str, Scope] = {scope: scope for scope in get_args(Scope)}
    yield from (known[key] for key in data if key in known)


def _targets(
    scope: Scope, data: object, name: str
) -> Iterator[tuple[Target, Mapping[str, object]]]:
    if not isinstance(data, dict):
        raise BudgetError(f"{name}: {scope} is {_shown(data)}; it is a table, [{_form(scope)}]")
    if scope in NAMELESS:
        yield Target(scope), data
        return
    for of, table in data.items():
        if not isinstance(table, dict):
            raise BudgetError(
                f"{name}, [{scope}]: {of} is {_shown(table)}; it stands in a table of its own, "
                f"[{_form(scope)}]"
            )
        yield Target(scope, of), table


def _form(scope: str) -> str:
    return scope if scope in NAMELESS else f'{scope}."…"'


def _budget(
    target: Target, key: str, value: object, place: str, *, allows_trap: bool
) -> Iterator[Budget]:
    where = f"{place}: {key}"
    match key:
        case "limit":
            if target.scope == "total":
                raise BudgetError(f"{where} is of single messages; put it into [each_message]")
            shares = value.items() if isinstance(value, dict) else [(None, value)]
            if not shares:
                raise BudgetError(f"{where} names no limit")
            for limit, share in shares:
                at = where if limit is None else f"{where}.{limit}"
                yield LimitBudget(target, limit, _percent(share, at), allows_trap)
        case "no_scan":
            tables = _tables(value, where)
            if tables is not None:
                yield ScanBudget(target, tables, allows_trap)
        case "allow_trap":
            return
        case _:
            measure = BUDGET_MEASURES[key]
            if target.scope in OF_STATEMENTS and measure.of_statement is None:
                raise BudgetError(
                    f"{where} is of whole messages, and not of a statement; put it into "
                    '[label."…"] or [each_message]'
                )
            yield NumberBudget(target, key, _number(value, where), allows_trap)


def _number(value: object, where: str) -> int:
    """Return a number of things; one like 3e6 will do."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BudgetError(f"{where} is {_shown(value)}; it is a whole number, as in 3_000_000")
    if not 0 <= value <= NUMBER_MAX:
        raise BudgetError(f"{where} is {value}; it is a number from 0 on, at most {NUMBER_MAX}")
    return value


def _percent(value: object, where: str) -> Decimal:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BudgetError(f'{where} is {_shown(value)}; it is a text with a per cent sign, "10%"')
    percent = Decimal(match[1])
    if percent > 100:
        raise BudgetError(
            f"{where} is {match[1]}%; a message that needs more than 100% of a limit traps"
        )
    return percent


def _tables(value: object, where: str) -> tuple[str, ...] | None:
    """Return the tables that are not to be scanned, none for all; None where none is meant."""
    if isinstance(value, bool):
        return () if value else None
    listed = list(value) if isinstance(value, list | tuple) else None
    if not listed or not all(isinstance(it, str) and it for it in listed):
        raise BudgetError(
            f'{where} is {_shown(value)}; it is true, or a list of tables, as in ["artist"]'
        )
    return tuple(dict.fromkeys(it.lower() for it in listed))


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise BudgetError(f"{where} is {_shown(value)}; it is true or false")
    return value


def _setting(data: Mapping[str, object], key: str, name: str) -> str | None:
    value = data.get(key)
    if value is None:
        return None
    # A date need not stand in quotes in TOML.
    found = value if isinstance(value, str) else getattr(value, "isoformat", str)()
    if not isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", found):
        raise BudgetError(f'{name}: {key} is {_shown(value)}; it is a text, as in "2026-08-18"')
    return found


def _nodes(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise BudgetError(f"{name}: nodes is {_shown(value)}; a subnet has 1 to 1000 of them")
    return value


def _check_known(data: Iterable[str], known: Iterable[str], place: str) -> None:
    words = list(known)
    for key in data:
        if key not in words:
            # Words in another spelling are near, too.
            plain = re.sub(r"[\s-]+", "_", key.lower())
            hint = near(plain, words) or keys_are(words)
            raise BudgetError(f"{place}: there is no {key!r}{hint}")


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= 80 else f"{value[:79]}…")
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
    return str(value)[:80]
