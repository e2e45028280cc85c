"""Workloads of modules that come with the package, each with its module beside it."""

from typing import Final

from sqlstable.errors import ScriptError
from sqlstable.workload.ready_made import FOLDER, MARK

SUFFIX: Final = ".calls"
"""Of a workload's file; any other does as well."""


def ready_names() -> tuple[str, ...]:
    """Return their names, in alphabetical order.

    Examples:
        >>> ready_names()
        ('counter',)
    """
    return tuple(sorted(it.stem for it in FOLDER.glob(f"*{SUFFIX}")))


def ready_steps(name: str) -> str:
    """Return the text of one by its name, with the mark or without.

    Raises:
        ScriptError: There is none of that name.
    """
    bare = name.removeprefix(MARK)
    if bare not in ready_names():
        known = ", ".join(MARK + it for it in ready_names())
        raise ScriptError(
            f"there is no ready workload {MARK}{bare[:80]}; there is {known}. A file of that name "
            f"is given as ./{MARK}{bare[:80]}"
        )
    return (FOLDER / f"{bare}{SUFFIX}").read_text(encoding="utf-8")


def list_ready_steps() -> str:
    """Return a line for each, and how to run one."""
    lines = ["Ready workloads of modules: sqlstable canister @NAME", ""]
    for name in ready_names():
        summary = ready_steps(name).partition("\n")[0].removeprefix("# ")
        lines.append(f"  {MARK}{name:<10} {summary}")
    lines += ["", "sqlstable canister @NAME --show prints one, to be kept in a file and changed"]
    return "\n".join(lines) + "\n"
