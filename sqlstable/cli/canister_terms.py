"""What ``bill`` and ``status`` are told of a canister: its subnet, module, and allocations."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import typer

from sqlstable.cli.failures import UsageError, note
from sqlstable.errors import ModuleError
from sqlstable.ic.cycle_fees import REFERENCE_NODE_COUNT, CycleFees
from sqlstable.ic.idle_burn import Allocations
from sqlstable.ic.limits import EARLIEST_LIMITS_DATE, LATEST_LIMITS_DATE, limits_at
from sqlstable.ic.money import Currency, XdrRate, xdr_rate
from sqlstable.ic.units import GIB, INT64_MAX, KIB, MIB, TIB

StorageName = Literal["documented", "quoted"]
"""Whose prices of memory, by the names in `sqlstable.ic.fee_tables.STORAGE`."""

NODES_MAX: Final = 1_000
"""More are a mistake: the largest subnet has some 40."""

_SIZE: Final = re.compile(r"(\d[\d_]*(?:\.\d+)?) *(B|KiB|MiB|GiB|TiB)?", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}

_BALANCE: Final = re.compile(r"(\d[\d_]*(?:\.\d+)?) *([kMBT])?")
_BALANCE_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_CYCLES_MAX: Final = (1 << 128) - 1

NodesOption = Annotated[
    int,
    typer.Option("--nodes", metavar="COUNT", help="Of the subnet: 13, or 34 of a fiduciary one."),
]
DateOption = Annotated[
    str | None,
    typer.Option(
        "--date",
        metavar="DATE",
        help=f"Of the prices in cycles. [default: {LATEST_LIMITS_DATE}]",
        show_default=False,
    ),
]
StorageOption = Annotated[
    StorageName,
    typer.Option(
        "--storage",
        metavar="|".join(get_args(StorageName)),
        help="Which prices of memory: those of the documentation, or of newer source, as it is "
        "quoted; which of them hold is not verified.",
    ),
]
MemoryAllocationOption = Annotated[
    str | None,
    typer.Option(
        "--memory-allocation",
        metavar="SIZE",
        help="Memory that is reserved, and paid for whether used or not, as in 4GiB. "
        "[default: best effort]",
        show_default=False,
    ),
]
ComputeAllocationOption = Annotated[
    int, typer.Option("--compute-allocation", metavar="PERCENT", help="Of a core, 0 to 100.")
]
FreezingThresholdOption = Annotated[
    float,
    typer.Option(
        "--freezing-threshold",
        metavar="DAYS",
        help="For how long a balance must last, else the canister is frozen.",
    ),
]
ModuleBytesOption = Annotated[
    str | None,
    typer.Option(
        "--module-bytes",
        metavar="SIZE",
        help="Of the canister's module. [default: that in the trace, or of our own engine's]",
        show_default=False,
    ),
]
HeapBytesOption = Annotated[
    str | None,
    typer.Option(
        "--heap-bytes",
        metavar="SIZE",
        help="Of the heap. [default: as at the end of the trace, where it was watched]",
        show_default=False,
    ),
]
SnapshotsBytesOption = Annotated[
    str | None,
    typer.Option(
        "--snapshots-bytes", metavar="SIZE", help="Of all snapshots together.", show_default=False
    ),
]
MoneyOption = Annotated[
    Currency,
    typer.Option(
        "--money", metavar="|".join(get_args(Currency)), help="What cycles are shown in, too."
    ),
]
XdrUsdOption = Annotated[
    float | None,
    typer.Option(
        "--xdr-usd",
        metavar="RATE",
        help=f"Dollars for 1 XDR. [default: {float(xdr_rate('usd').per_xdr)}, of "
        f"{xdr_rate('usd').since}]",
        show_default=False,
    ),
]
XdrEurOption = Annotated[
    float | None,
    typer.Option(
        "--xdr-eur",
        metavar="RATE",
        help=f"Euros for 1 XDR. [default: {float(xdr_rate('eur').per_xdr)}, of "
        f"{xdr_rate('eur').since}]",
        show_default=False,
    ),
]


def read_size(option: str, text: str | None) -> int | None:
    """Return a number of bytes, such as ``4GiB``; None where nothing was said.

    Raises:
        UsageError: It is something else.

    Examples:
        >>> read_size("--heap-bytes", "1.5 MiB"), read_size("--heap-bytes", "65_536")
        (1572864, 65536)
    """
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    size = 0.0
    if found is not None:
        size = float(found[1].replace("_", "")) * _SIZE_UNITS[(found[2] or "").lower()]
    if found is None or size > INT64_MAX:
        raise UsageError(f"{option} is {text!r}; write a size, such as 65536, 1.5MiB or 4GiB")
    return int(size)


def read_cycles(option: str, text: str | None) -> int | None:
    """Return a number of cycles, such as ``3.5T``; None where nothing was said.

    Raises:
        UsageError: It is something else.

    Examples:
        >>> read_cycles("--balance", "3.5T"), read_cycles("--balance", "1_000")
        (3500000000000, 1000)
    """
    if text is None:
        return None
    found = _BALANCE.fullmatch(text.strip())
    if found is not None:
        whole, _, rest = found[1].replace("_", "").partition(".")
        digits = 10 ** len(rest)
        cycles: int = int(whole + rest) * _BALANCE_UNITS[found[2] or ""] // digits
        if cycles <= _CYCLES_MAX:
            return cycles
    raise UsageError(
        f"{option} is {text!r}; write cycles, such as 3.5T, 800B or 1_000_000, up to 2^128 - 1"
    )


def chosen_day(text: str | None) -> date:
    """Return the day of the prices.

    Raises:
        SettingsError: It is no date, or before the first that is known.
    """
    day = LATEST_LIMITS_DATE if text is None else limits_at(text).date
    if day > LATEST_LIMITS_DATE:
        note(f"no prices are known after {LATEST_LIMITS_DATE}, so these are those of that day")
    assert day >= EARLIEST_LIMITS_DATE
    return day


def chosen_fees(
    day: date, *, nodes: int = REFERENCE_NODE_COUNT, storage: StorageName, is_64: bool = False
) -> CycleFees:
    """Return the prices on a subnet.

    Raises:
        UsageError: It has too few nodes, or too many.
    """
    if not 1 <= nodes <= NODES_MAX:
        raise UsageError(f"--nodes is {nodes}; a subnet has 1 to {NODES_MAX}, most have 13")
    return CycleFees.on(day, node_count=nodes, storage=storage, is_64=is_64)


def chosen_allocations(memory: str | None, compute: int, freezing_days: float) -> Allocations:
    """Return what a controller has set.

    Raises:
        UsageError: A value is out of range.
        SettingsError: Likewise.
    """
    if not 0 <= freezing_days <= 100 * 365:
        raise UsageError(f"--freezing-threshold is {freezing_days:g} days; it is 0 or more")
    allocations = Allocations(
        memory_bytes=read_size("--memory-allocation", memory) or 0, compute_percent=compute
    )
    return replace(allocations, freezing_threshold_s=int(freezing_days * 86_400))


def chosen_rate(money: Currency, usd: float | None, eur: float | None) -> XdrRate:
    """Return what cycles cost in money.

    Raises:
        UsageError: The rate of another currency was given.
        SettingsError: The rate is none.
    """
    given = {"usd": usd, "eur": eur, "xdr": None}
    for currency, rate in given.items():
        if rate is not None and currency != money:
            raise UsageError(f"--xdr-{currency} goes with --money {currency}; leave one of them")
    return xdr_rate(money, given[money])


def read_module(path: Path) -> bytes:
    """Return a module's bytes as it is installed, compressed or not.

    Raises:
        UsageError: There is no such file, or it is no module.
    """
    from sqlstable.cli.places import check_regular
    from sqlstable.wasm.module_file import ModuleFile
    from sqlstable.wasm.rewrite.module_reader import MODULE_BYTES_MAX

    check_regular(path)
    try:
        with path.open("rb") as file:
            # Whatever has more is refused by its size, and need not be held.
            data = file.read(MODULE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    refused = f"{path} is no Wasm module that can be installed"
    if len(data) > MODULE_BYTES_MAX:
        raise UsageError(f"{refused}: it has more than {MODULE_BYTES_MAX // MIB} MiB")
    try:
        ModuleFile.of(data)
    except ModuleError as error:
        raise UsageError(f"{refused}: {error}") from error
    return data
