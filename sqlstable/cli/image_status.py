"""``sqlstable status``: what dfx would say of a canister that has an image."""

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from sqlstable.cli.canister_terms import (
    ComputeAllocationOption,
    DateOption,
    FreezingThresholdOption,
    HeapBytesOption,
    MemoryAllocationOption,
    NodesOption,
    StorageOption,
    chosen_allocations,
    chosen_day,
    chosen_fees,
    read_cycles,
    read_module,
    read_size,
)
from sqlstable.cli.image_canister import opened_image
from sqlstable.cli.options import BuildOption, EngineOption, FormatOption
from sqlstable.cli.output import write, write_data
from sqlstable.ic.canister_figures import CanisterFigures

FORMAT = "sqlstable-status"
VERSION = 1


def show_status(  # noqa: PLR0913  each is an option
    *,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="An image file, which is only read.")
    ],
    balance: Annotated[
        str | None,
        typer.Option(
            "--balance",
            metavar="CYCLES",
            help="Of the canister, as in 3.5T: says how long it lasts.",
            show_default=False,
        ),
    ] = None,
    module: Annotated[
        Path | None,
        typer.Option(
            "--module",
            metavar="FILE",
            help="The module that is deployed. [default: that of our own engine]",
            show_default=False,
        ),
    ] = None,
    heap_bytes: HeapBytesOption = None,
    nodes: NodesOption = 13,
    date: DateOption = None,
    memory_allocation: MemoryAllocationOption = None,
    compute_allocation: ComputeAllocationOption = 0,
    freezing_threshold: FreezingThresholdOption = 30,
    storage: StorageOption = "documented",
    engine: EngineOption = "wasm",
    build: BuildOption = None,
    output_format: FormatOption = "table",
) -> None:
    """Say what dfx canister status would: memory, idle burn, and how long a balance lasts."""
    from sqlstable.canister.life_figures import StatusTerms

    terms = StatusTerms(
        balance=read_cycles("--balance", balance),
        fees=chosen_fees(chosen_day(date), nodes=nodes, storage=storage),
        allocations=chosen_allocations(memory_allocation, compute_allocation, freezing_threshold),
        module=None if module is None else read_module(module),
        heap_bytes=read_size("--heap-bytes", heap_bytes),
    )
    with opened_image(image, engine=engine, build=build, is_read_only=True) as canister:
        figures = canister.status(terms).figures
    match output_format:
        case "table":
            write(f"{figures}\n")
        case "json":
            write_data([json.dumps(_document(figures), indent=2) + "\n"])
        case "csv":
            write_data(_csv(figures))


def _document(figures: CanisterFigures) -> dict[str, object]:
    """Return the figures under the names that ``canister_status`` has."""
    sizes, allocations = figures.sizes, figures.allocations
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": figures.name,
        "status": figures.status.lower(),
        "memory_size": sizes.total,
        "memory_metrics": asdict(sizes),
        "settings": asdict(allocations),
        "module_hash": figures.module_hash,
        "cycles": figures.balance,
        "reserved_cycles": figures.reserved_cycles,
        "idle_cycles_burned_per_day": figures.idle_cycles_per_day,
        "freezing_limit_cycles": figures.freezing_limit,
        "days_until_frozen": _number(figures.days_until_frozen),
        "days_until_empty": _number(figures.days_until_empty),
        "nodes": figures.fees.node_count,
        "unknown": list(figures.unknown),
    }


def _csv(figures: CanisterFigures) -> Iterator[str]:
    from sqlstable.report.as_csv import csv_lines

    document = _document(figures)
    sizes = {f"{field.name}_bytes": getattr(figures.sizes, field.name)
             for field in fields(figures.sizes)}  # fmt: skip
    row = {
        name: value
        for name, value in {**document, **sizes}.items()
        if value is None or isinstance(value, str | int | float)
    }
    return csv_lines([list(row), list(row.values())])


def _number(days: Fraction | None) -> float | None:
    return None if days is None else float(days)
