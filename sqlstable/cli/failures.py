"""Where errors become messages and exit statuses: the one place.

===========  ==================================================================================
exit status  when
===========  ==================================================================================
0            all went well; also when the reader of a pipe has closed it
1            the run failed, or its output could not be written
2            the command line, or a file it names, is not usable; then nothing was changed
130          interrupted from the keyboard
===========  ==================================================================================
"""

import os
import sys
import traceback
from _thread import interrupt_main
from collections.abc import Callable
from contextlib import suppress
from threading import Timer
from typing import Any, Final

import typer
from typer.core import TyperGroup

from sqlstable.cli.output import is_ascii_locale
from sqlstable.errors import (
    BudgetError,
    ImageError,
    MigrationError,
    ResultsError,
    SchemaError,
    ScriptError,
    SettingsError,
    SqlstableError,
    TraceError,
)
from sqlstable.report import plain
from sqlstable.report.text import clean
from sqlstable.spelling import on_command_line

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

TRACEBACK_VARIABLE: Final = "SQLSTABLE_TRACEBACK"
"""Environment variable that asks for the traceback of an error that should not have happened."""

_USAGE_ERRORS: Final = (
    *(
        BudgetError,
        ImageError,
        MigrationError,
        ResultsError,
        SchemaError,
        ScriptError,
        SettingsError,
    ),
    TraceError,
    UnicodeDecodeError,
)
"""What is wrong about the command line, or about a file that it names."""


_INTERRUPT_AGAIN_S: Final = 0.05

_NO_MEMORY: Final = (
    "there is not enough memory for this; ask for less in one statement, or raise the limit on "
    "this process (ulimit -d, ulimit -v)"
)

_UNWRITABLE: Final = "the output cannot be written"


class UsageError(SqlstableError):
    """Arguments that do not go together, or name something that cannot be used."""


class RunError(SqlstableError):
    """The run failed after it had begun."""


class InterruptedRunError(RunError):
    """Ctrl-C ended the run, and what it did before is reported."""


class SafeGroup(TyperGroup):
    """Commands whose errors are turned into messages."""

    def make_context(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  as `invoke`
        """Read the command line, which is where help and version are written."""
        try:
            return super().make_context(*args, **options)
        except BrokenPipeError:
            _finish_output()
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  typer's own types moved between releases
        """Run a command; what it raises on purpose ends the program with a status."""
        try:
            with on_command_line():
                result = super().invoke(ctx)
            sys.stdout.flush()
        except typer.BadParameter as error:
            # Words of the library that checks values, which say nothing here.
            error.message = error.message.replace("Value error, ", "")
            raise
        except BrokenPipeError:
            # Whoever closed the pipe has seen enough.
            _finish_output()
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            complain("interrupted")
            _finish_output()
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (SqlstableError, OSError, UnicodeDecodeError) as error:
            complain(_text(error))
            _finish_output()
            raise typer.Exit(exit_status(error)) from None
        return result


def run_program(program: Callable[[], object]) -> None:
    """Run the whole program; not even a bug of ours shows a traceback unless it is asked for."""
    _make_outputs_tolerant()
    sys.unraisablehook = _raise_again
    try:
        program()
    except OSError as error:
        # Help and version are written before there is a command.
        complain(f"{_UNWRITABLE}: {error.strerror}")
        _finish_output()
        sys.exit(EXIT_FAILED)
    except MemoryError:
        complain(_NO_MEMORY)
        sys.exit(EXIT_FAILED)
    except Exception as error:  # noqa: BLE001  the last resort, and it says so
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        complain(
            f"this should not have happened: {type(error).__name__}: {error}; "
            f"please report it, with what {TRACEBACK_VARIABLE}=1 prints"
        )
        sys.exit(EXIT_FAILED)


def exit_status(error: BaseException) -> int:
    """Return the status with which an error ends the program.

    Examples:
        >>> exit_status(SettingsError("page_size is 1")), exit_status(RunError("it trapped"))
        (2, 1)
    """
    if isinstance(error, InterruptedRunError):
        return EXIT_INTERRUPTED
    return EXIT_USAGE if isinstance(error, (*_USAGE_ERRORS, UsageError)) else EXIT_FAILED


def complain(text: str) -> None:
    """Print an error on stderr."""
    _tell(f"Error: {clean(text)}")


def note(text: str) -> None:
    """Print something worth knowing on stderr, which leaves stdout to the data."""
    _tell(f"Note: {clean(text)}")


def _tell(text: str) -> None:
    with suppress(OSError):
        # What was printed before is read before, also where both streams go to one place.
        sys.stdout.flush()
    with suppress(OSError):
        typer.echo(text, err=True)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        # A file that cannot be used has a name; only the output has none.
        return f"{error.filename or _UNWRITABLE}: {error.strerror}"
    return str(error)


def _finish_output() -> None:
    """Send what cannot be written nowhere, so that Python's last flush does not fail on it."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Interrupt the program once more where Python had to forget that it was.

    Ctrl-C may come while an object is being freed; what is raised there reaches nobody, and would
    not from here either: so it comes again a moment later.
    """
    if lost.exc_type is KeyboardInterrupt:
        again = Timer(_INTERRUPT_AGAIN_S, interrupt_main)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _make_outputs_tolerant() -> None:
    """Let a terminal that lacks a character show another one, and a closed stream be no stream."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  kept open
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="ascii" if is_ascii_locale() else None, errors=plain.ERRORS)
