"""``sqlstable bill``: what a month of the calls in a trace costs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date as Day  # noqa: N812  the option is called date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sqlstable.cli.canister_terms import (
    ComputeAllocationOption,
    DateOption,
    FreezingThresholdOption,
    HeapBytesOption,
    MemoryAllocationOption,
    ModuleBytesOption,
    MoneyOption,
    NodesOption,
    SnapshotsBytesOption,
    StorageOption,
    XdrEurOption,
    XdrUsdOption,
    chosen_allocations,
    chosen_day,
    chosen_fees,
    chosen_rate,
    read_cycles,
    read_size,
)
from sqlstable.cli.failures import UsageError
from sqlstable.cli.opened_trace import Repricing, opened_trace
from sqlstable.cli.options import AssumeOption, FormatOption, RepriceOption
from sqlstable.cli.output import screen, write, write_data
from sqlstable.errors import TraceError
from sqlstable.ic.money import XdrRate
from sqlstable.ic.words import MODULE_ENGINE

if TYPE_CHECKING:
    from sqlstable.analysis.pricing.month_bill import Bill
    from sqlstable.trace.format.reader import Trace


CallsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--calls",
        metavar="NAME=COUNT/UNIT",
        help="How often something is called, as in add=10000/day; s, minute, hour, day or month. "
        "NAME is a label, a shape, a method, message:N or statement:N. 'top=1000/day as update' is "
        "a query that is called as an update, and paid for. [default: all, as often as in the "
        "trace]",
        show_default=False,
    ),
]
BilledGrowthOption = Annotated[
    bool,
    typer.Option(
        "--growth", help="Let stable memory go on growing by as much a call as in the trace."
    ),
]
RequestBytesOption = Annotated[
    int,
    typer.Option(
        "--request-bytes",
        metavar="BYTES",
        help="That arrive with a call, where the trace does not say.",
    ),
]
SubnetUsageOption = Annotated[
    str | None,
    typer.Option(
        "--subnet-usage",
        metavar="SIZE",
        help="Memory that the subnet has in use, as in 1000GiB: says what growing reserves.",
        show_default=False,
    ),
]
BilledBalanceOption = Annotated[
    str | None,
    typer.Option(
        "--balance",
        metavar="CYCLES",
        help="Of the canister, as in 5T: says how long it lasts under this bill.",
        show_default=False,
    ),
]
Wasm64Option = Annotated[
    bool,
    typer.Option("--wasm64", help="The module has 64-bit addresses: instructions cost twice."),
]


def bill_month(  # noqa: PLR0913  each is an option
    *,
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="Written by run --trace.")],
    calls: CallsOption = None,
    prices: RepriceOption = None,
    assume: AssumeOption = None,
    nodes: NodesOption = 13,
    date: DateOption = None,
    money: MoneyOption = "usd",
    xdr_usd: XdrUsdOption = None,
    xdr_eur: XdrEurOption = None,
    module_bytes: ModuleBytesOption = None,
    heap_bytes: HeapBytesOption = None,
    snapshots_bytes: SnapshotsBytesOption = None,
    growth: BilledGrowthOption = False,
    request_bytes: RequestBytesOption = 100,
    memory_allocation: MemoryAllocationOption = None,
    compute_allocation: ComputeAllocationOption = 0,
    freezing_threshold: FreezingThresholdOption = 30,
    subnet_usage: SubnetUsageOption = None,
    balance: BilledBalanceOption = None,
    storage: StorageOption = "documented",
    wasm64: Wasm64Option = False,
    output_format: FormatOption = "table",
) -> None:
    """Say what a month of the calls in a trace costs, in cycles and money."""
    from sqlstable.analysis.pricing.frequency import read_wish
    from sqlstable.analysis.pricing.month_bill import BillTerms, bill
    from sqlstable.ic.idle_burn import MemorySizes
    from sqlstable.trace.format.stream import StreamedTrace

    if request_bytes < 0:
        raise UsageError(f"--request-bytes is {request_bytes}; it is 0 or more")
    rate = chosen_rate(money, xdr_usd, xdr_eur)
    day = chosen_day(date)
    module = read_size("--module-bytes", module_bytes)
    terms = BillTerms(
        day=day,
        fees=chosen_fees(day, nodes=nodes, storage=storage, is_64=wasm64),
        sizes=MemorySizes(
            heap=read_size("--heap-bytes", heap_bytes) or 0,
            module=module or 0,
            snapshots=read_size("--snapshots-bytes", snapshots_bytes) or 0,
        ),
        allocations=chosen_allocations(memory_allocation, compute_allocation, freezing_threshold),
        subnet_usage_bytes=read_size("--subnet-usage", subnet_usage),
        growth=growth,
        request_bytes=request_bytes,
        balance=read_cycles("--balance", balance),
    )
    wishes = [read_wish(it) for it in calls or ()]
    repricing = Repricing(prices, assume or ()) if prices or assume else None
    with _opened(trace, repricing, None if date is None else day) as (found, counted_under):
        terms = replace(terms, counted_under=counted_under)
        if module is None:
            terms = replace(terms, sizes=replace(terms.sizes, module=_module_bytes(found)))
        made = bill(StreamedTrace(found), wishes, terms)
        _write(made, found, trace.name, rate, storage, output_format)


@contextmanager
def _opened(
    path: Path, repricing: Repricing | None, day: Day | None
) -> "Iterator[tuple[Trace, str | None]]":
    """Open a trace under the prices that were asked for, else under those of a day.

    Yields:
        The trace, and the price list that it was counted under where that is another one.

    Raises:
        TraceError: It cannot be repriced, and that was asked for, or messages of it were estimated.
            Else, for the sake of a day alone, it stays as it was counted, and the bill says so.
    """
    from sqlstable.analysis.pricing.repriced import estimated_count, repriced
    from sqlstable.analysis.pricing.trace_prices import recorded_prices
    from sqlstable.cli.progress import work_shown
    from sqlstable.ic.prices import regime_on

    with opened_trace(path) as recorded, ExitStack() as stack:
        before = recorded_prices(recorded.settings)
        regime = before if day is None or before is None else regime_on(day)
        if repricing is not None:
            named = repricing.prices or (None if day is None else regime_on(day).name)
            regime = Repricing(named, repricing.assume).regime(recorded)
        elif regime is not None and before is not None and regime.name == before.name:
            regime = before
        found = recorded
        if regime != before and regime is not None:
            try:
                with work_shown("pricing the trace"):
                    found = stack.enter_context(repriced(recorded, regime))
            except TraceError:
                if repricing is not None or estimated_count(recorded):
                    raise
        is_other = found is not recorded and before is not None
        yield found, before.label if is_other and before is not None else None


def _module_bytes(trace: "Trace") -> int:
    """Return the size of the module in a trace; of our own build where the engine is ours."""
    known = trace.settings.values.get("module_bytes")
    if isinstance(known, int):
        return known
    if trace.settings.values.get("engine") == MODULE_ENGINE:
        return 0
    from sqlstable.engine.measured.module.builds import BUILDS, load

    build = trace.settings.values.get("build")
    return len(load(build if isinstance(build, str) and build in BUILDS else "standard"))


def _write(
    bill: "Bill", trace: "Trace", name: str, rate: XdrRate, storage: str, output_format: str
) -> None:
    settings = trace.settings.values
    match output_format:
        case "table":
            from sqlstable.report.bill_table import render_bill

            target = screen()
            text = render_bill(
                bill,
                rate=rate,
                storage=storage,
                settings=settings,
                name=name,
                width=target.width,
                color_system=target.color_system,
            )
            write(text)
        case "json":
            from sqlstable.report.bill_data import render_bill_json

            write_data(render_bill_json(bill, rate=rate, storage=storage, settings=settings))
        case "csv":
            from sqlstable.report.bill_data import render_bill_csv

            write_data(render_bill_csv(bill, rate=rate))
