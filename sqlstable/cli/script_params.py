"""Parameters on the command line, and scripts that are shown in place of being run."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from sqlstable.cli.failures import UsageError
from sqlstable.workload.placeholders import Value, read_value
from sqlstable.workload.ready_made import MARK, list_ready_workloads

SCRIPT_NAMES: Final = "- reads stdin, @NAME is a ready one, @ lists them."

ScriptArgument = Annotated[
    str, typer.Argument(metavar="SCRIPT.sql", help=f"SQL with --@ directives; {SCRIPT_NAMES}")
]

ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=VALUE,…",
        help="Values of a parameter of the script, a literal that a comment names: /*@NAME*/ 1000.",
    ),
]
OneParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=VALUE",
        help="Another value for a parameter of the script, a literal that a comment names: "
        "/*@NAME*/ 1000.",
    ),
]
ShowOption = Annotated[
    bool,
    typer.Option("--show", help="Print the script as it would be run, and end: > FILE keeps it."),
]


def split_params(texts: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """Return what ``--param`` gives, by names.

    Raises:
        UsageError: One is not written as it should be, or given twice.

    Examples:
        >>> split_params(["rows=1e3,2e3", "who=ann"])
        {'rows': (1000, 2000), 'who': ('ann',)}
    """
    found: dict[str, tuple[Value, ...]] = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        words = [word.strip() for word in listed.split(",")]
        if not equals or not name or not all(words):
            raise UsageError(
                f"--param {text[:80]} is not NAME=VALUE,…; write it as in --param rows=1e3,1e4,1e5"
            )
        if name in found:
            raise UsageError(f"--param {name} stands there twice; give all its values at once")
        found[name] = tuple(map(read_value, words))
        if len(set(found[name])) != len(found[name]):
            raise UsageError(f"--param {text[:80]} has a value twice; leave one out")
    return found


def single_params(texts: Sequence[str]) -> dict[str, Value]:
    """Return likewise what a command takes that runs a script once.

    Raises:
        UsageError: One has several values, too.
    """
    found = split_params(texts)
    for name, values in found.items():
        if len(values) > 1:
            raise UsageError(
                f"--param {name} has {len(values)} values, and a run takes one; sqlstable scale "
                "and sweep run a script with each"
            )
    return {name: values[0] for name, values in found.items()}


def lists_ready(script: str) -> bool:
    """Print the ready workloads where they are asked for; returns whether they were."""
    from sqlstable.cli.output import write

    if script == MARK:
        write(list_ready_workloads())
    return script == MARK
