"""Ready workloads: scripts that come with the package, each with a size.

They stand in ``ready/``, a file each, and are plain scripts: ``sqlstable run @ledger`` runs one,
and ``sqlstable run @ledger --show`` prints it, to be changed. The first line of a file is a comment
that says what it is; its first parameter is its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from sqlstable.errors import ScriptError
from sqlstable.workload.placeholders import Placeholder, Value, find_placeholders

MARK: Final = "@"
"""Before the name of a ready workload; a file of such a name is reached as ``./@name``."""

FOLDER: Final = Path(__file__).parent / "ready"
"""Where the scripts lie."""

SIZES: Final[tuple[Value, ...]] = (100, 300, 1000, 3000, 10_000, 30_000)
"""At which sizes a ready workload is run where none are given: six leave four degrees of
freedom, and each is run in about a second."""


@dataclass(frozen=True, slots=True)
class ReadyWorkload:
    """One script of the package."""

    name: str
    "Without the mark."
    text: str

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        return self.text.partition("\n")[0].removeprefix("-- ")

    @property
    def parameters(self) -> Mapping[str, Placeholder]:
        """Its parameters by name, the size first."""
        return find_placeholders(self.text, name=MARK + self.name)

    @property
    def size(self) -> Placeholder:
        """The parameter that says how much there is."""
        return next(iter(self.parameters.values()))


@lru_cache(maxsize=1)
def ready_workloads() -> tuple[ReadyWorkload, ...]:
    """Return all of them, in alphabetical order.

    Examples:
        >>> [it.name for it in ready_workloads()]
        ['churn', 'game-tick', 'ledger']
        >>> ready_workloads()[2].size.name
        'entities'
    """
    files = sorted(FOLDER.glob("*.sql"))
    return tuple(ReadyWorkload(it.stem, it.read_text(encoding="utf-8")) for it in files)


def ready_workload(name: str) -> ReadyWorkload:
    """Return one by its name, with the mark or without.

    Raises:
        ScriptError: There is none of that name.

    Examples:
        >>> ready_workload("@ledger").summary
        'a transfer between two of N accounts, with a row in the journal'
    """
    bare = name.removeprefix(MARK)
    for one in ready_workloads():
        if one.name == bare:
            return one
    known = ", ".join(MARK + one.name for one in ready_workloads())
    raise ScriptError(
        f"there is no ready workload {MARK}{bare[:80]}; there are {known}. A file of that name is "
        f"given as ./{MARK}{bare[:80]}"
    )


def list_ready_workloads() -> str:
    """Return a line for each, with its parameters, and how to run one."""
    lines = ["Ready workloads: sqlstable run @NAME, scale @NAME, sweep @NAME", ""]
    for one in ready_workloads():
        given = ", ".join(f"{it.name}={it.default}" for it in one.parameters.values())
        lines += [f"  {MARK}{one.name:<10} {one.summary}", f"  {'':<11} --param {given}"]
    lines += ["", "sqlstable run @NAME --show prints one, to be kept in a file and changed"]
    return "\n".join(lines) + "\n"
