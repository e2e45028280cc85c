"""Every exception of sqlstable, kept apart from all else to avoid import loops.

``SqlstableError`` is the root. What a caller can cause raises one of these; a broken
``assert`` elsewhere is a bug of ours. Each text says what happened, with its numbers, and
the way out.
"""


class SqlstableError(Exception):
    """Root of everything that sqlstable raises on purpose."""


class Trap(SqlstableError):  # noqa: N818  a trap is the Internet Computer's own word
    """The message trapped: it is rolled back, and nothing it did remains.

    The text is the Internet Computer's own wherever it has one.

    Attributes:
        backtrace: The canister's functions that were running, the innermost first, by the names
            that its module has for them; none where nothing of a canister ran.
    """

    backtrace: tuple[str, ...] = ()


class ContractTrap(Trap):
    """A canister used a system call in a way that the interface does not allow."""


class OutOfBoundsTrap(Trap):
    """A read or write reached past the end of stable memory or of the heap."""


class LimitTrap(Trap):
    """A message crossed one of the limits that the Internet Computer sets it.

    Attributes:
        limit: Name of the limit, as the message's list of limits has it.
    """

    def __init__(self, text: str, limit: str = "") -> None:
        super().__init__(text)
        self.limit = limit


class ReplyTrap(ContractTrap, LimitTrap):
    """A canister replied more bytes than it may."""


class ImageError(SqlstableError):
    """A stable memory image, or the database inside, is foreign, truncated or damaged."""


class SnapshotError(ImageError):
    """A snapshot is not there, or damaged, or does not fit; or there is no room for it."""


class MemoryManagerError(ImageError):
    """The memory manager's header is of another version, or contradicts itself."""


class ModuleError(SqlstableError):
    """A WebAssembly module is malformed, truncated, or uses what is not supported here.

    The text says what, and at which byte.
    """


class CandidError(SqlstableError):
    """A Candid text, file or message is malformed, or does not have the type that it should.

    Attributes:
        line: Line of the text that is wrong, counted from 1; None where it is no single place.
        column: Character in that line, counted from 1; None likewise.
        source: Which text it is, where several were read: the name of an imported file.
    """

    def __init__(
        self, text: str, *, line: int | None = None, column: int | None = None, source: str = ""
    ) -> None:
        super().__init__(text)
        self.line = line
        self.column = column
        self.source = source


class BuildError(SqlstableError):
    """The Wasm modules cannot be built here: something that building needs is missing."""


class BudgetError(SqlstableError):
    """A budget or a baseline cannot be understood, or is about something that is not there."""


class SettingsError(SqlstableError):
    """A setting is unknown, out of range, or does not go with another one."""


class MessageError(SqlstableError):
    """A message was used in a way the Internet Computer's execution rules exclude."""


class SqlError(SqlstableError):
    """SQLite refused a statement.

    The text is SQLite's, followed by the statement it belongs to.

    Attributes:
        row: Of many rows of parameters the one at which it was, counted from 1; else None.
    """

    row: int | None = None


class MigrationError(SqlstableError):
    """A migration is refused, or a step in a table's life; nothing has changed.

    The text says which, and the way out.
    """


class ScriptError(SqlstableError):
    """A workload script cannot be understood; the text names file and line."""


class SchemaError(SqlstableError):
    """A schema cannot be read, or what is asked about it does not go with it."""


class TraceError(SqlstableError):
    """A trace file is missing, foreign, damaged, or of a newer format."""


class ResultsError(SqlstableError):
    """A file of results is foreign, damaged, of a newer format, or of another script."""


class ExecutorError(SqlstableError):
    """What carries out the runs of a sweep has ended, or cannot be reached."""
