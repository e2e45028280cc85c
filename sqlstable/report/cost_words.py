"""How reports speak of what messages cost: instructions by part, and cycles."""

from rich.text import Text

from sqlstable.analysis.fitting.circumstances import trace_regime
from sqlstable.analysis.groups import ShapeGroup
from sqlstable.analysis.pricing.paid_words import as_update_words, paid_words
from sqlstable.analysis.pricing.trace_cycles import (
    TraceCycles,
    stable_part,
    trace_cycles,
    trace_cycles_as_update,
)
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import count, counted
from sqlstable.report.sample_words import ESTIMATED
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import Instructions, Message


def spent_words(spent: Instructions, *, reply: int | None = None) -> str:
    """Say what instructions were spent on, and how much of the computation is encoding rows.

    Examples:
        >>> spent_words(Instructions(1_006, 1_000, 4, 2))
        'computation 1,000, stable memory 4, heap 2'
    """
    within = "" if reply is None else f" (reply {count(reply)})"
    return (
        f"computation {count(spent.computation)}{within}, stable memory {count(spent.stable)}, "
        f"heap {count(spent.heap)}"
    )


def message_cost_words(message: Message, fees: CycleFees, paid: Message | None = None) -> str:
    """Say of one message what its instructions were spent on, and its cycles; else nothing.

    Of a query it is what it would cost as an update.

    Args:
        message: Of a trace.
        fees: Prices in cycles.
        paid: The message whose cycles are said, where that is another one.
    """
    spent = message.instructions
    words = [] if spent is None or not spent.total else [spent_words(spent)]
    sign = "" if spent is None or spent.measured else f"{ESTIMATED} "
    cycles = paid_words(paid or message, fees)
    return sign + " · ".join([*words, cycles] if cycles else words)


def message_cost_lines(message: Message, fees: CycleFees, width: int) -> list[Text]:
    """Say the same below its line."""
    words = message_cost_words(message, fees)
    return paragraph(words, width, style="dim", indent=2) if words else []


def group_cycle_words(group: ShapeGroup, *, has_column: bool) -> str:
    """Say what statements cost together, and what those in queries would cost in updates.

    Args:
        group: The statements.
        has_column: Whether what is paid stands in a column already.
    """
    paid, as_update = group.cycles, group.cycles_as_update
    words = [counted(paid, "cycle")] if paid and not has_column else []
    if as_update is not None and not paid and group.statement_count == 1:
        words = [as_update_words(as_update)]
    elif as_update is not None:
        where = "in queries free" if paid else "free"
        words.append(f"{where}; as updates {counted(as_update, 'cycle')}")
    spent = group.instructions
    sign = "" if spent is None or spent.measured else f"{ESTIMATED} "
    return f"{sign}{', '.join(words)}" if words else ""


def cost_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say of all messages what they cost in cycles; where nobody counted, stable memory's part."""
    found = trace.summary
    if not found.message_count:
        return []
    if found.instructions is None:
        return _stable_part_lines(trace, width)
    fees = trace_fees(trace.settings)
    sign = "" if found.instructions.measured else f"{ESTIMATED} "
    words = cycle_words(trace_cycles(found.kinds, fees), trace_cycles_as_update(found.kinds, fees))
    return paragraph(f"{sign}{words}" if words else "", width)


def subnet_words(found: TraceCycles) -> str:
    """Say where cycles cost so much: how many nodes a subnet has, and what else makes them dearer.

    Examples:
        >>> subnet_words(TraceCycles(0, 0, 0, 0, nodes=34, heap_address_bits=64))
        'on a subnet of 34 nodes, at the double price of 64-bit memory'
    """
    wide = ", at the double price of 64-bit memory" if found.heap_address_bits == 64 else ""
    return f"on a subnet of {found.nodes} nodes{wide}"


def free_words(as_update: TraceCycles | None) -> str:
    """Say that queries are free, and what they cost together where each is called as an update.

    Args:
        as_update: That; None where there is no query.

    Examples:
        >>> free_words(TraceCycles(5_000_000, 2_000_000, 1_200_000, 0))
        'queries are free (called as updates: 8,200,000 more)'
    """
    total = None if as_update is None else as_update.total
    return "queries are free" + (
        "" if total is None else f" (called as updates: {count(total)} more)"
    )


def left_out_words(found: TraceCycles) -> str:
    """Say which messages cost nothing as they are none of a canister's, behind other words.

    Examples:
        >>> left_out_words(TraceCycles(0, 0, 0, 0, import_count=1))
        "; loading a database is left out, no canister's work"
    """
    return "; loading a database is left out, no canister's work" * bool(found.import_count)


def cycle_words(found: TraceCycles, as_update: TraceCycles | None = None) -> str:
    """Say what cycles were paid for.

    Args:
        found: Of all messages.
        as_update: What queries cost where each is called as an update.

    Examples:
        >>> cycle_words(TraceCycles(10_000_000, 2_000_000, 1_200_000, 0, 0, 2))
        '13,200,000 cycles on a subnet of 13 nodes: messages 10,000,000, instructions 2,000,000, arriving 1,200,000; queries are free'
        >>> cycle_words(TraceCycles(0, 0, 0, 0))
        '0 cycles: queries are free'
        >>> cycle_words(TraceCycles(0, 0, 0, 0, import_count=1))
        "0 cycles: queries are free; loading a database is left out, no canister's work"
    """  # noqa: E501  what is printed
    left_out = left_out_words(found)
    if not found.paid_count:
        beside = f", {subnet_words(found)}" if as_update is not None and as_update.total else ""
        return f"0 cycles: {free_words(as_update)}{beside}{left_out}"
    if found.known is None or found.execution is None:
        return ""
    parts = [f"messages {count(found.base)}", f"instructions {count(found.execution)}"]
    parts += [f"arriving {count(found.ingress)}"] * bool(found.ingress)
    parts += [f"calls {count(found.calls)}"] * bool(found.calls)
    beside = ", without what arrives by its bytes, which nobody counted"
    return (
        f"{counted(found.known, 'cycle')} {subnet_words(found)}"
        f"{beside * bool(found.unknown_arrivals)}: {', '.join(parts)}; "
        f"{free_words(as_update)}{left_out}"
    )


def _stable_part_lines(trace: TraceSource, width: int) -> list[Text]:
    regime = trace_regime(trace.settings)
    total = stable_part(trace.summary.kinds, regime)
    if total is None:
        return []
    words = (
        f"stable memory's part {counted(total, 'instruction')}, exact for this run's accesses, by "
        f"the prices {regime.label}; computation, heap and cycles not counted: --engine wasm, or "
        "--engine both for a sample"
    )
    return paragraph(words, width)
