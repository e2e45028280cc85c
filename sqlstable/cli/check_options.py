"""The options of ``sqlstable check`` that no other command has, each with its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sqlstable.cli.script_params import SCRIPT_NAMES
from sqlstable.ic.words import EngineName

CheckFormat = Literal["table", "json", "markdown"]

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="TRACE|SCRIPT",
        help=f"A trace of run or canister, or a script, which is run first; {SCRIPT_NAMES}",
    ),
]
BudgetOption = Annotated[
    Path | None,
    typer.Option("--budget", metavar="FILE.toml", help="Budgets that are to be kept."),
]
BaselineOption = Annotated[
    Path | None,
    typer.Option(
        "--baseline", metavar="FILE.json", help="Numbers of an earlier run, to compare with."
    ),
]
UpdateBaselineOption = Annotated[
    bool,
    typer.Option("--update-baseline", help="Keep the numbers of this run as the baseline."),
]
ThresholdOption = Annotated[
    float,
    typer.Option(
        "--threshold",
        metavar="PERCENT",
        help="Changes since the baseline that are smaller are noise; canbench has 2. Counts are "
        "exact: [default: 0]",
        show_default=False,
    ),
]
CheckFormatOption = Annotated[
    CheckFormat,
    typer.Option(
        "--format",
        metavar="table|json|markdown",
        help="A table to read, or data: then stdout holds nothing else.",
    ),
]
MarkdownOption = Annotated[
    Path | None,
    typer.Option(
        "--markdown",
        metavar="FILE",
        help="Write it for a pull request, too; replaces what an earlier check wrote there.",
    ),
]
CheckEngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine",
        metavar="native|wasm",
        help="As of run. [default: wasm where instructions have a budget or are kept, else native; "
        "that of the baseline]",
        show_default=False,
    ),
]
CopiedImageOption = Annotated[
    Path | None,
    typer.Option(
        "--image", metavar="IMAGE", help="Run on a copy of an image, which stays as it is."
    ),
]
CheckLimitsOption = Annotated[
    str | None,
    typer.Option(
        "--limits",
        metavar="DATE",
        help="Limits of a date; a script is counted by its prices, too, where --prices names none, "
        "a trace by those of the run. [default: those of the budget file; else of a script latest, "
        "of a trace those of the run]",
        show_default=False,
    ),
]
CheckPricesOption = Annotated[
    str | None,
    typer.Option(
        "--prices",
        metavar="NAME|DATE",
        help="Instructions as another price list counts them, or that of a day: a script runs "
        "under it, a trace is not run again. [default: that of the budget file; else of a script "
        "that of the limits, of a trace as recorded]",
        show_default=False,
    ),
]
