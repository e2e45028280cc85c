"""A month's bill as JSON and CSV: cycles whole, money as numbers, assumptions as sentences."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Final

from sqlstable.analysis.pricing.month_bill import PARTS, Bill, BillLine
from sqlstable.ic.money import XdrRate
from sqlstable.report.as_csv import csv_lines
from sqlstable.report.as_json import Json
from sqlstable.report.bill_words import assumptions, doubts
from sqlstable.trace.format.estimating import CONFIDENCE, margin_of

BILL_FORMAT: Final = "sqlstable-bill"
BILL_VERSION: Final = 1


def bill_document(
    bill: Bill, *, rate: XdrRate, storage: str, settings: Mapping[str, object]
) -> dict[str, Json]:
    """Return a bill as plain data; parts of calls are rounded, and sums are those of the rounded.

    Args:
        bill: It.
        rate: What cycles cost in money.
        storage: Whose price of memory it has.
        settings: Those of the trace.
    """
    terms, standing, days = bill.terms, bill.standing, bill.days_until_frozen
    return {
        "format": BILL_FORMAT,
        "version": BILL_VERSION,
        "assumptions": [*assumptions(bill, rate, storage, settings), *doubts(bill, settings)],
        "date": terms.day.isoformat(),
        "nodes": terms.fees.node_count,
        "storage": storage,
        "price_regime": _text(settings.get("price_regime")),
        "currency": rate.currency,
        "per_xdr": float(rate.per_xdr),
        "rate_date": rate.since or None,
        "rate_source": rate.source,
        "as_in_trace": bill.as_in_trace,
        "calls": [_line(line, rate) for line in bill.lines],
        "not_called": list(bill.not_called),
        "sampling": _sampling(bill),
        "standing": {
            "sizes": asdict(standing.sizes),
            "billed_bytes": standing.billed_bytes,
            "idle_cycles_burned_per_day": standing.burn.total,
            "freezing_limit_cycles": standing.freezing_limit,
            "grown_bytes_modelled": round(standing.grown_bytes),
            "reserved_cycles": standing.reserved,
            "prepaid_cycles": bill.prepaid,
        },
        "cycles": _added_up(
            {
                **{name: sum(round(it.part(name)) for it in bill.lines) for name in PARTS},
                "storage": standing.storage,
                "storage_growth_modelled": round(standing.growth_storage),
                "presence": standing.presence,
                "compute": standing.compute,
            }
        ),
        "money": _money(bill.total, rate),
        "balance_cycles": terms.balance,
        "days_until_frozen": None if days is None else float(days),
    }


def render_bill_json(
    bill: Bill, *, rate: XdrRate, storage: str, settings: Mapping[str, object]
) -> Iterator[str]:
    """Yield pieces of JSON text, in ASCII."""
    document = bill_document(bill, rate=rate, storage=storage, settings=settings)
    yield json.dumps(document, indent=2) + "\n"


def render_bill_csv(bill: Bill, *, rate: XdrRate) -> Iterator[str]:
    """Yield lines of CSV: one for each call, then what is paid without any."""
    header = (
        *("name", "kind", "count", "unit", "calls_per_month", "messages_seen", "cycles_each"),
        *(f"cycles_{name}" for name in PARTS),
        *("cycles", f"money_{rate.currency}", "as_update", "messages_estimated"),
    )
    rows: list[tuple[str | int | float | None, ...]] = [
        (
            *(line.name, line.kind, float(line.frequency.count), line.frequency.unit),
            *(float(line.calls_per_month), line.group.message_count, float(line.each)),
            *(_cycles(line)[name] for name in PARTS),
            *(_cycles(line)["total"], _money(line.total, rate), line.as_update),
            line.group.estimated,
        )
        for line in bill.lines
    ]
    standing = bill.standing
    for name, cycles in (
        ("storage", Fraction(standing.storage)),
        ("storage growth", standing.growth_storage),
        ("presence", Fraction(standing.presence)),
        ("compute", Fraction(standing.compute)),
    ):
        money = _money(cycles, rate)
        rows.append((name, "standing", *([None] * 9), round(cycles), money, None, None))
    return csv_lines([header, *rows])


def _sampling(bill: Bill) -> dict[str, Json] | None:
    """Return how well the instructions of the trace are known, where some are estimated."""
    if not bill.is_estimated:
        return None
    return {
        "messages": sum(it.messages for it in bill.blocks),
        "measured": sum(it.measured for it in bill.blocks),
        "estimated": sum(it.estimated for it in bill.blocks),
        "instructions": sum(it.instructions for it in bill.blocks if it.measured),
        "margin": round(margin_of(bill.blocks)),
        "paid_kinds": sorted(bill.paid_kinds),
        "paid_instructions": sum(it.instructions for it in bill.paid_blocks if it.measured),
        "paid_margin": round(margin_of(bill.paid_blocks)),
        "confidence": CONFIDENCE,
    }


def _cycles(line: BillLine) -> dict[str, int]:
    return _added_up({name: round(line.part(name)) for name in PARTS})


def _added_up(parts: Mapping[str, int]) -> dict[str, int]:
    """Return parts with their sum, which another rounding would miss."""
    return {**parts, "total": sum(parts.values())}


def _line(line: BillLine, rate: XdrRate) -> dict[str, Json]:
    group = line.group
    return {
        "name": line.name,
        "kind": line.kind,
        "count": float(line.frequency.count),
        "unit": line.frequency.unit,
        "calls_per_month": float(line.calls_per_month),
        "messages_seen": group.message_count,
        "messages_estimated": group.estimated,
        "cycles_each": float(line.each),
        "cycles_least": group.least,
        "cycles_most": group.most,
        "prepaid_cycles": group.prepaid,
        "grown_bytes_seen": group.grown_bytes,
        "cycles": _cycles(line),
        "money": _money(line.total, rate),
        "as_update": line.as_update,
    }


def _money(cycles: Fraction, rate: XdrRate) -> float:
    return float(rate.money(cycles))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
