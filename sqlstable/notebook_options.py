"""The options on the lines of magics, from which their reference is made, too."""

import shlex
from argparse import ArgumentParser, Namespace
from typing import Final, NoReturn

from sqlstable.engine.measured.module.builds import BUILDS
from sqlstable.errors import SqlstableError
from sqlstable.ic.words import CACHE_STATES, RUN_ENGINES
from sqlstable.report.views import VIEWS

MAKING: Final = (
    *("engine", "image", "layout", "preset", "page_size", "cache_size", "journal_mode"),
    *("limits", "build", "measure"),
)
"""Options that make a canister, and do not change one that is there."""


class CellError(SqlstableError):
    """A cell that cannot be run, or whose message failed; a notebook shows its one line."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback."""
        return [f"Error: {self}"]


class MagicOptions(ArgumentParser):
    """The options on a magic's line; what is wrong with them is one line, too."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description=description, add_help=False, allow_abbrev=False)

    def read(self, line: str) -> Namespace:
        """Return the options of a line.

        Raises:
            CellError: There is no such option, or its value is none that it takes.
        """
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise CellError(f"{self.prog}: {error}; close the quotes on its line") from None
        return self.parse_args(words)

    def error(self, message: str) -> NoReturn:
        """Refuse the line."""
        raise CellError(f"{self.prog}: {message}; {self.prog.lstrip('%')}? on a line has the help")


def _parser(name: str, description: str) -> MagicOptions:
    parser = MagicOptions(name, description)
    parser.add_argument(
        "--canister", metavar="NAME", help="A canister of this notebook; else the extension's own."
    )
    return parser


def _add_making(parser: MagicOptions) -> None:
    """Add the options that make a canister."""
    add = parser.add_argument
    add(
        "--engine",
        choices=RUN_ENGINES,
        help="What executes the SQL; wasm counts instructions, both counts those of a sample.",
    )
    add(
        "--measure",
        metavar="auto|all|N|N%",
        help="Of both engines: which messages are measured. [default: auto]",
    )
    add("--image", metavar="FILE", help="Keep stable memory in a file.")
    add("--layout", metavar="NAME", help="Where the database lies in stable memory.")
    add("--preset", metavar="NAME", help="PRAGMAs of a product.")
    add("--page-size", type=int, metavar="BYTES", help="Of a SQLite page.")
    add("--cache-size", type=int, metavar="COUNT", help="SQLite pages kept in the heap.")
    add("--journal-mode", metavar="MODE", help="SQLite's journal.")
    add(
        "--limits",
        metavar="DATE|none",
        help="The Internet Computer's limits, and prices, of a date.",
    )
    add("--build", choices=tuple(BUILDS), help="Of the wasm engine.")


def _stable_parser() -> MagicOptions:
    parser = _parser(
        "%%stable",
        "Run the cell as one message: a query if all statements only read, else an update. A cell "
        "with lines of --@ is a workload script, whose messages may await. :name binds the "
        "notebook's variable of that name.",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--query", dest="kind", action="store_const", const="query", help="A query.")
    kind.add_argument(
        "--update", dest="kind", action="store_const", const="update", help="An update."
    )
    parser.add_argument("--cache", choices=CACHE_STATES, help="What a query finds in the heap.")
    parser.add_argument("--label", metavar="TEXT", help="Name of the message in reports.")
    parser.add_argument(
        "--allow-open-transaction",
        action="store_true",
        help="Let an SQL transaction stay open over awaits and the ends of messages.",
    )
    parser.add_argument("--into", metavar="NAME", help="A variable to put the answer into.")
    _add_making(parser)
    return parser


def _canister_parser() -> MagicOptions:
    parser = MagicOptions(
        "%stable_canister",
        "Return the extension's canister. With options a new one, whose options they "
        "are; the one before it is closed.",
    )
    parser.add_argument("--new", action="store_true", help="A new one with what is the default.")
    _add_making(parser)
    return parser


def _trace_parser() -> MagicOptions:
    parser = _parser("%stable_trace", "Return the running trace, and show it.")
    parser.add_argument("--by", choices=VIEWS, help="Print a view of it, as sqlstable report does.")
    parser.add_argument("--plan", action="store_true", help="With the plan under each statement.")
    return parser


def _labelled(name: str, description: str) -> MagicOptions:
    parser = _parser(name, description)
    parser.add_argument("--label", metavar="TEXT", help="Name of the message in reports.")
    return parser


STABLE: Final = _stable_parser()
CANISTER: Final = _canister_parser()
TRACE: Final = _trace_parser()
UPGRADE: Final = _labelled("%stable_upgrade", "Upgrade: the heap goes, stable memory stays.")
TRAP: Final = _labelled(
    "%stable_trap",
    "Trap in an update that does nothing; as %%stable_trap behind the SQL of the cell.",
)

MAP: Final = _parser(
    "%stable_map",
    "Show the map of stable memory: one cell for each OS page that was touched or lies near one.",
)

MAGICS: Final = (STABLE, UPGRADE, TRAP, TRACE, MAP, CANISTER)
"""The options of every magic, as the reference lists them."""
