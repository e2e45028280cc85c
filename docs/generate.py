"""Write the parts of the reference that are made from the package, so that they cannot differ.

    python docs/generate.py

A page keeps what stands above its marker; all below is made here. A test fails when a page in the
repository is not what `page` gives.
"""

import re
from argparse import Action
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date
from enum import Enum
from importlib import import_module
from inspect import Parameter, getdoc, signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from sqlstable.analysis.checking.budget_measures import BUDGET_MEASURES
from sqlstable.analysis.checking.budget_model import NAMELESS, OF_STATEMENTS, SCOPES
from sqlstable.analysis.checking.budget_reading import OTHER_KEYS, SETTINGS_OF_BUDGETS
from sqlstable.cli import COMMANDS
from sqlstable.ic.assumptions import ASSUMPTIONS
from sqlstable.ic.contexts import Context
from sqlstable.ic.dated_value import DatedValue, Limit
from sqlstable.ic.fee_tables import FEES
from sqlstable.ic.idle_burn import FREEZING_THRESHOLD_S, RESERVATION_PERIOD_S, RESERVED_CYCLES_LIMIT
from sqlstable.ic.limit_tables import LIMITS
from sqlstable.ic.limits import EARLIEST_LIMITS_DATE, LATEST_LIMITS_DATE
from sqlstable.ic.money import XDR_RATES
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime, SystemCosts
from sqlstable.ic.system_calls import MODE_NAMES, SYSTEM_CALLS, SystemCall
from sqlstable.ic.units import NO_LIMIT
from sqlstable.ic.words import ENGINES
from sqlstable.notebook_options import MAGICS
from sqlstable.report.json_schema import report_schema
from sqlstable.trace.format.schema import schema
from sqlstable.wasm.rewrite.validation import UNSUPPORTED_OPERATORS
from sqlstable.workload.hazard import ENDINGS, ROWS, Remains, hazards
from sqlstable.workload.ready_made import ready_workloads
from sqlstable.workload.stepping.step_model import MEASURES
from sqlstable.workload.stepping.step_table import STEPS, WORDS
from sqlstable.workload.sweeping.results import SCHEMA as RESULTS_SCHEMA

REFERENCE = Path(__file__).parent / "reference"
MARKER = "<!-- All below is made by docs/generate.py: change the package, then run it. -->\n"
FARTHEST = "as far back as sources reach"
BINARY_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def page(name: str) -> str:
    """Return a page of the reference as it should be."""
    above, found, _ = (REFERENCE / name).read_text(encoding="utf-8").partition(MARKER)
    assert found, f"{name} has no line {MARKER}"
    below = "\n\n".join(MADE[name]())
    return f"{above}{MARKER}\n{below}\n"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lay out a table in Markdown."""
    first, *others = ([" ".join(field.split()) for field in row] for row in (header, *rows))
    lines = (first, ["---"] * len(first), *others)
    return "\n".join(
        f"| {' | '.join(field.replace('|', BAR) for field in line)} |" for line in lines
    )


BAR = "\\|"
"""What does not end a cell of a table."""


def _marked(text: str) -> str:
    """Return text of a docstring with its code as Markdown marks it."""
    return text.replace("``", "`")


def commands() -> Iterator[str]:
    """Make a section for each command, from the function behind it."""
    for name, listed in COMMANDS.items():
        module, _, attribute = listed.place.partition(".")
        function = getattr(import_module(f"sqlstable.cli.{module}"), attribute)
        taken = _taken_by(function)
        arguments = [it for it in taken if isinstance(it.info, ArgumentInfo)]
        options = [it for it in taken if isinstance(it.info, OptionInfo)]
        usage = " ".join(["sqlstable", name, *(it.used() for it in arguments), "[OPTIONS]"])
        yield f"## `sqlstable {name}`"
        yield getdoc(function) or ""
        yield f"```text\n{usage}\n```"
        if arguments:
            rows = ((f"`{it.metavar()}`", it.help()) for it in arguments)
            yield _table(("argument", "meaning"), rows)
        yield _table(("option", "meaning"), ((it.spelled(), it.help()) for it in options))


@dataclass(frozen=True, slots=True)
class _Taken:
    """One argument or option, as the function behind a command declares it."""

    name: str
    kind: Any
    info: ArgumentInfo | OptionInfo
    default: object

    def choices(self) -> list[str]:
        """Return the words that it takes, if it takes only some."""
        for kind in (self.kind, *get_args(self.kind)):
            if get_origin(kind) is Literal:
                return list(get_args(kind))
            if isinstance(kind, type) and issubclass(kind, Enum):
                return [member.value for member in kind]
        return []

    def metavar(self) -> str:
        """Return what stands for its value."""
        return self.info.metavar or self.name.upper()

    def used(self) -> str:
        """Return how the argument stands in a command."""
        is_needed = self.default is Parameter.empty
        return self.metavar() if is_needed else f"[{self.metavar()}]"

    def spelled(self) -> str:
        """Return how the option is written."""
        # In an Annotated type the first name stands where the default would be elsewhere.
        names = (self.info.default, *(self.info.param_decls or ()))
        declared = " / ".join(name for name in names if isinstance(name, str))
        name = f"--{self.name.replace('_', '-')}"
        if bool in (self.kind, *get_args(self.kind)):
            return f"`{(declared or f'{name} / --no-{name[2:]}').replace('/--', ' / --')}`"
        # A bar between the choices would end the cell, or stand there with its backslash.
        *others, last = (f"`{word}`" for word in self.choices() or self.metavar().split("|"))
        values = f"{', '.join(others)} or {last}" if others else last
        return f"`{declared or name}` {values}"

    def help(self) -> str:
        """Return its help with its default."""
        default = self.default.value if isinstance(self.default, Enum) else self.default
        says_itself = "[default:" in str(self.info.help)
        is_plain = isinstance(default, str | int) and not isinstance(default, bool)
        note = f" [default: {default}]" if is_plain and not says_itself else ""
        return f"{self.info.help}{note}"


def _taken_by(function: Callable[..., None]) -> list[_Taken]:
    hints = get_type_hints(function, include_extras=True)
    return [
        _Taken(name, *get_args(hints[name])[:2], parameter.default)
        for name, parameter in signature(function).parameters.items()
    ]


def magics() -> Iterator[str]:
    """Make a section for each magic, from the options that it reads."""
    for options in MAGICS:
        yield f"## `{options.prog}`"
        yield str(options.description)
        rows = [_magic_option(it) for it in options._actions]  # noqa: SLF001  nothing else lists them
        yield _table(("option", "meaning"), rows)


def _magic_option(action: Action) -> tuple[str, str]:
    values = action.choices or str(action.metavar or "").split("|")
    # What takes no value has none to name.
    takes = "" if action.nargs == 0 else " or ".join(f"`{it}`" for it in values)
    return f"`{action.option_strings[0]}` {takes}".rstrip(), str(action.help)


def limits() -> Iterator[str]:
    """Make a table of all limits as they are, and one of each limit's history."""
    yield (
        f"These are {len(LIMITS)} numbers, compared with the documentation on "
        f"{LATEST_LIMITS_DATE}; the history that was read begins on {EARLIEST_LIMITS_DATE}."
    )
    yield "## As they are now"
    rows = (
        (f"[`{it.name}`](#{it.name})", _amount(it, it.history[-1].value), _marked(it.description))
        for it in LIMITS.values()
    )
    yield _table(("limit", "value", "what is limited"), rows)
    yield "## Histories and sources"
    for limit in LIMITS.values():
        yield f"### `{limit.name}`"
        yield _marked(limit.description)
        yield _table(
            ("since", "value", "source", "note"), (_dated(limit, row) for row in limit.history)
        )


def _dated(limit: Limit, row: DatedValue) -> tuple[str, str, str, str]:
    note = f"{'Unverified. ' if row.unverified else ''}{_marked(row.note)}"
    return (_since(row.since), _amount(limit, row.value), f"`{row.source}`", note)


def _amount(limit: Limit, value: int) -> str:
    """Return a value with its unit, round numbers of bytes in larger ones."""
    if value == NO_LIMIT:
        return "no limit"
    if limit.unit == "bytes":
        for unit, size in BINARY_UNITS:
            if value and value % size == 0:
                return f"{value // size:,} {unit}"
    return f"{value:,} {limit.unit}"


def prices() -> Iterator[str]:
    """Make a table of the price lists, one of what calls and pages cost, and one of operators."""
    lists = tuple(PRICE_REGIMES.values())
    rows = ((f"`{it.name}`", _since(it.since), f"`{it.table.name}`", it.source) for it in lists)
    yield _table(("price list", "since", "weights", "source"), rows)
    yield "## What calls and pages cost"
    header = ("instructions for", *(f"`{it.name}`" for it in lists))
    costs = [(_cost_words(field.name), *_costs(lists, field.name)) for field in fields(SystemCosts)]
    heap = ("dirty heap OS page", *(f"{it.dirty_heap_os_page:,}" for it in lists))
    yield _table(header, [*costs, heap])
    yield "## What is assumed"
    yield (
        "The sources leave some things open. Each has a name and a default; "
        "`--assume NAME=VALUE` changes it, in Python `assume={name: value}`. `sqlstable prices "
        "--sensitivity TRACE` says how far the total of a trace moves with each."
    )
    rows = (
        (
            f"`{it.name}`",
            it.meaning,
            "; ".join(f"`{value}`: {text}" for value, text in it.values.items()),
            ", ".join(f"`{name}`" for name in it.lists),
            it.source,
        )
        for it in ASSUMPTIONS.values()
    )
    yield _table(("assumption", "question", "values, the default first", "of", "source"), rows)
    yield "## What operators cost"
    refused = ", ".join(f"`{name}`" for name in sorted(UNSUPPORTED_OPERATORS))
    yield (
        "The Internet Computer has prices for operators, too, that it takes in no module: one with "
        f"{refused} is refused when it is installed."
    )
    tables = {it.table.name: it.table for it in lists}
    for table in tables.values():
        yield f"### `{table.name}`"
        yield (
            f"{table.source}. An operator that is not named costs {table.default}, entering a "
            f"function {table.function_entry}, each byte or entry of a bulk operator "
            f"{table.per_unit}."
        )
        named = sorted({weight for weight in table.weights.values() if weight != table.default})
        rows = (
            (
                f"{weight:,}",
                ", ".join(
                    f"`{name}`" for name, it in sorted(table.weights.items()) if it == weight
                ),
            )
            for weight in named
        )
        yield _table(("weight", "operators"), rows)


def cycle_fees() -> Iterator[str]:
    """Make a table of what is paid in cycles, one of each price's history, and one of rates."""
    yield "## As they are now"
    rows = (
        (f"[`{it.name}`](#{it.name})", f"{it.history[-1].value:,}", _marked(it.description))
        for it in FEES.values()
    )
    yield _table(("price", "cycles, 13 nodes", "for"), rows)
    yield (
        f"A canister is frozen where its balance lasts less than {FREEZING_THRESHOLD_S:,} seconds, "
        f"may have {RESERVED_CYCLES_LIMIT:,} cycles reserved, and reserves for up to "
        f"{RESERVATION_PERIOD_S:,} seconds, unless a controller says otherwise."
    )
    yield "## Cycles in money"
    yield _table(
        ("currency", "for 1 XDR, which is 1 T cycles", "of", "source"),
        (
            (f"`{it.currency}`", f"{float(it.per_xdr):g}", it.since, it.source)
            for it in XDR_RATES.values()
        ),
    )
    yield "## Histories and sources"
    for fee in FEES.values():
        yield f"### `{fee.name}`"
        yield _marked(fee.description)
        yield _table(
            ("since", "value", "source", "note"), (_dated(fee, row) for row in fee.history)
        )


def system_calls() -> Iterator[str]:
    """Make a table of the contexts, and one of all system calls."""
    rows = ((f"`{one.value}`", MODE_NAMES[one], f"`Context.{one.name}`") for one in Context)
    yield _table(("letters", "in the words of a trap", "in Python"), rows)
    yield _table(
        ("call", "takes", "gives", "where", "instructions"), map(_call, SYSTEM_CALLS.values())
    )


def _call(call: SystemCall) -> tuple[str, ...]:
    everywhere = {*Context} - {Context.START}
    names = {frozenset(Context): "everywhere", frozenset(everywhere): "all but `s`"}
    letters = " ".join(one.value for one in Context if one in call.contexts)
    costs, parts = SystemCosts(), []
    if call.fixed:
        parts.append(str(getattr(costs, call.fixed)))
    if call.per_byte:
        parts.append(f"{getattr(costs, call.per_byte)} a byte")
    if call.is_logged:
        parts.append("logging")
    return (
        f"`{call.name}`" + (" (32-bit only)" if call.is_32_only else ""),
        ", ".join(f"{name} `{kind}`" for name, kind in call.parameters),
        f"`{call.result}`" if call.result else "",
        names.get(call.contexts, f"`{letters}`"),
        " + ".join(parts) or "0",
    )


def _since(day: date | None) -> str:
    return FARTHEST if day is None else day.isoformat()


def _cost_words(name: str) -> str:
    return name.replace("_os_page", " OS page").replace("_", " ")


def _costs(lists: Iterable[PriceRegime], name: str) -> Iterator[str]:
    return (f"{getattr(it.costs, name):,}" for it in lists)


def trace_format() -> Iterator[str]:
    """Make a section for each table and view of a trace file, with the comments of its schema."""
    for title, kind in (("Tables", "TABLE"), ("Views", "VIEW")):
        yield f"## {title}"
        yield from _created(kind, schema())


def results_format() -> Iterator[str]:
    """Make a section for each table of a file of results, likewise."""
    yield from _created("TABLE", RESULTS_SCHEMA)


def _created(kind: str, sql: str) -> Iterator[str]:
    for found in re.finditer(
        rf"^CREATE {kind} (\w+).*?;(?: --[^\n]*)?$", sql, re.DOTALL | re.MULTILINE
    ):
        yield f"### `{found.group(1)}`"
        yield f"```sql\n{found.group()}\n```"


def json_report() -> Iterator[str]:
    """Make a section for each object of the JSON report, from its schema."""
    whole = report_schema()
    yield _marked(whole["description"])
    for name, part in {"The report": whole, **whole["$defs"]}.items():
        yield f"## {name}"
        if "description" in part and part is not whole:
            yield _marked(part["description"])
        yield _fields(part) if "properties" in part else f"Type: {_type(part)}."


def _fields(part: Mapping[str, Any]) -> str:
    rows = (
        (f"`{name}`", _type(field), _marked(field.get("description", "")))
        for name, field in part["properties"].items()
    )
    return _table(("field", "type", "meaning"), rows)


def _type(field: Mapping[str, Any]) -> str:  # noqa: PLR0911  one for each form
    """Return the type of a field in words, with a link where it has a section of its own."""
    match field:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return ", ".join("null" if value is None else f"`{value}`" for value in values)
        case {"anyOf": kinds} | {"oneOf": kinds}:
            return " or ".join(map(_type, kinds))
        case {"type": "array", "items": kind}:
            return f"list of {_type(kind)}"
        case {"type": "object", "properties": fields}:
            return "object with " + ", ".join(f"`{name}`" for name in fields)
        case {"type": [*kinds]}:
            return " or ".join(kinds)
    return str(field.get("type", "any"))


def ready() -> Iterator[str]:
    """Make a section for each ready workload: its parameters, and the whole script."""
    for one in ready_workloads():
        yield f"## `@{one.name}`"
        yield f"{one.summary[:1].upper()}{one.summary[1:]}."
        rows = ((f"`{it.name}`", str(it.default)) for it in one.parameters.values())
        yield _table(("parameter", "default"), rows)
        yield f"```sql\n{one.text.rstrip()}\n```"


def open_transactions() -> Iterator[str]:
    """Measure what remains of a transaction that was open across an await, and lay it out."""
    header = ("engine", "journal", "page cache", "a query saw", *ENDINGS)
    rows = []
    for engine in ENGINES:
        for found in hazards(engine):
            remains = (_remains(found.remains[ending]) for ending in ENDINGS)
            seen = f"{found.seen} of {ROWS}"
            rows.append((engine, f"`{found.journal_mode}`", found.size, seen, *remains))
    yield _table(header, rows)


def _remains(found: Remains) -> str:
    if found.is_open:
        return "still open"
    check = "ok" if found.check == "ok" else "**damaged**"
    return f"{found.changed} of {ROWS}, {found.paid} of 1, {check}"


def module_workloads() -> Iterator[str]:
    """Make a table of all steps, one of their options, and one of what can be expected."""
    yield "## Steps"
    rows = ((f"`{it.word} {it.form}`", it.summary, f"`{it.example}`") for it in STEPS.values())
    yield _table(("step", "what it does", "example"), rows)
    yield "## Options of steps"
    options = ((it.word, option) for it in STEPS.values() for option in it.options)
    yield _table(
        ("of", "option", "meaning"),
        (
            (f"`{word}`", f"`--{f'{it.name} {it.value}'.rstrip()}`", it.summary)
            for word, it in options
        ),
    )
    yield "## Words before and below steps"
    rows = ((f"`{it.word} {it.form}`", it.summary, f"`{it.example}`") for it in WORDS.values())
    yield _table(("word", "what it says", "example"), rows)
    yield "## What a budget can be about"
    yield (
        "`expect MEASURE <= NUMBER`, also with `<`, `=`, `>=` and `>`; the number may have `_`, "
        "and `K`, `M` or `B` behind it. All messages that a call took are added up."
    )
    yield _table(("measure", "what it counts"), ((f"`{it}`", MEASURES[it]) for it in MEASURES))


def budgets() -> Iterator[str]:
    """Make a table of the tables of a budget file, and one of what each may hold."""
    yield "## Tables"
    forms = {it: f"[{it}]" if it in NAMELESS else f'[{it}."…"]' for it in SCOPES}
    yield _table(("table", "what it is about"), ((f"`{forms[it]}`", SCOPES[it]) for it in SCOPES))
    yield "## Numbers"
    yield "Each is the most that is allowed: a whole number, also as `3_000_000` or `3e6`."
    yield _table(
        ("key", "what it counts", "of a statement, too", "engine"),
        (
            (
                f"`{name}`",
                it.summary,
                "yes" if it.of_statement else "",
                "wasm, or a module" if it.needs_wasm else "any",
            )
            for name, it in BUDGET_MEASURES.items()
        ),
    )
    yield f"Tables of {' and '.join(f'`{it}`' for it in OF_STATEMENTS)} are about statements."
    yield "## Other keys"
    yield _table(("key", "meaning"), ((f"`{it}`", OTHER_KEYS[it]) for it in OTHER_KEYS))
    yield "## At the top of the file"
    yield _table(
        ("key", "meaning"), ((f"`{it}`", SETTINGS_OF_BUDGETS[it]) for it in SETTINGS_OF_BUDGETS)
    )


MADE = {
    "budgets.md": budgets,
    "commands.md": commands,
    "notebook.md": magics,
    "limits.md": limits,
    "prices.md": prices,
    "cycle-fees.md": cycle_fees,
    "system-calls.md": system_calls,
    "trace-format.md": trace_format,
    "sweep-results.md": results_format,
    "ready-workloads.md": ready,
    "module-workloads.md": module_workloads,
    "json.md": json_report,
    "open-transactions.md": open_transactions,
}
"""The pages with a generated part, each with what makes it."""


def main() -> None:
    """Write what is stale."""
    for name in MADE:
        made = page(name)
        if (REFERENCE / name).read_text(encoding="utf-8") != made:
            (REFERENCE / name).write_text(made, encoding="utf-8", newline="\n")
            print(f"wrote docs/reference/{name}")


if __name__ == "__main__":
    main()
