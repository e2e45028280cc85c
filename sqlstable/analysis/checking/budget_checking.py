"""Holding budgets against a trace: one verdict for each budget, with the worst that was found.

A budget of several messages holds for each of them. Counts are exact, so there is no tolerance.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqlstable.analysis.checking.budget_measures import Costed
from sqlstable.analysis.checking.budget_model import OF_STATEMENTS, Budgets, Target, cut
from sqlstable.analysis.checking.budget_reading import near, there_are
from sqlstable.analysis.checking.held_budget import BudgetVerdict, HeldBudget
from sqlstable.analysis.checking.table_scans import tables_of
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.errors import BudgetError
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import Message, Statement
from sqlstable.trace.shape import shape_of


def check_budgets(
    budgets: Budgets, trace: TraceSource, messages: Iterable[Message] | None = None
) -> list[BudgetVerdict]:
    """Hold budgets against a trace.

    Args:
        budgets: At least one.
        trace: Under the prices and limits that are meant.
        messages: Those that are held to them; by default all.

    Returns:
        A verdict for each, in their order.

    Raises:
        BudgetError: One is about a label, statement, limit or table that is not there, or about a
            number that nobody counted.
    """
    tables = tables_of(trace)
    fees = replace(trace_fees(trace.settings), node_count=budgets.nodes)
    runs = [HeldBudget(budget, budgets.name, tables) for budget in budgets.budgets]
    by_target: dict[Target, list[HeldBudget]] = defaultdict(list)
    for run in runs:
        by_target[run.budget.target].append(run)
    chosen = _Chosen(by_target, trace)
    for message in trace.messages if messages is None else messages:
        statements = [trace.statements[index] for index in message.statements]
        whole = Costed(message, statements, fees)
        for run in chosen.of_message(message):
            run.hold(whole)
        for statement in statements:
            single = None
            for run in chosen.of_statement(statement):
                single = single or Costed(message, (statement,), fees, is_whole=False)
                run.hold(single)
    missing = next((run for run in runs if not run.held_count), None)
    if missing is not None:
        raise BudgetError(_missing(missing.budget.target, trace, budgets.name))
    return [run.verdict() for run in runs]


class _Chosen:
    """Which budgets are about a message or statement."""

    def __init__(self, by_target: dict[Target, list["HeldBudget"]], trace: TraceSource) -> None:
        self._by_target = by_target
        self._has_statements = any(it.scope in OF_STATEMENTS for it in by_target)
        verbatim = {it for it in by_target if it.scope == "statement"}
        if verbatim:
            seen = {_plain(it.sql) for it in trace.statements}
            self._verbatim = {_plain(it.name): it for it in verbatim if _plain(it.name) in seen}
            verbatim -= set(self._verbatim.values())
        else:
            self._verbatim = {}
        self._shapes: dict[str, list[Target]] = defaultdict(list)
        for target in by_target:
            if target.scope == "shape" or target in verbatim:
                self._shapes[shape_of(target.name)].append(target)

    def of_message(self, message: Message) -> Iterator["HeldBudget"]:
        for target in (
            Target("label", message.label or ""),
            Target("method", "" if message.call is None else message.call.method),
            Target("each_message"),
            Target("total"),
        ):
            yield from self._by_target.get(target, ())

    def of_statement(self, statement: Statement) -> Iterator["HeldBudget"]:
        if not self._has_statements:
            return
        target = self._verbatim.get(_plain(statement.sql))
        for one in (*([] if target is None else [target]), *self._shapes.get(statement.shape, ())):
            yield from self._by_target[one]


def _plain(sql: str) -> str:
    """Return SQL as it is compared word for word: white space and the last semicolon aside."""
    return " ".join(sql.split()).removesuffix(";").rstrip()


def _missing(target: Target, trace: TraceSource, name: str) -> str:
    """Say that nothing in a trace is what a budget is about, and what there is."""
    match target.scope:
        case "label":
            what, known = "label", [it.label for it in trace.messages if it.label]
        case "method":
            calls = (it.call for it in trace.messages)
            what, known = "method", [it.method for it in calls if it is not None]
        case "shape" | "statement":
            what, known = "statement", [_plain(it.sql) for it in trace.statements]
        case _:
            return f"{name}: there is no message, so no budget can be kept"
    listed = list(dict.fromkeys(known))
    hint = near(target.name, listed)
    if not hint:
        hint = there_are(map(repr, map(cut, listed))) if listed else f"; there is no {what} at all"
    of = " of this shape" if target.scope == "shape" else ""
    return f"{name}, {target.place}: no such {what}{of}{hint}"
