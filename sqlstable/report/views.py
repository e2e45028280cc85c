"""The views of a trace, by name.

A view is a module ``by_NAME.py`` of this room with one object ``VIEW``, and its name in `By`. The
command line takes its choices from here, so that nothing else names them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal, get_args

from sqlstable.errors import SettingsError

if TYPE_CHECKING:
    from sqlstable.analysis.trace_source import TraceSource
    from sqlstable.report.view import View

By = Literal[
    "statement", "shape", "owner", "message", "advice", "locality", "os-page", "checkpoint"
]
"""What one row of a view stands for."""

VIEWS: Final[tuple[By, ...]] = get_args(By)
"""The names of all views."""


def view_named(by: str) -> "View":
    """Return a view; its module is imported with the first question, as nobody needs all of them.

    Raises:
        SettingsError: There is no such view.
    """
    if by not in VIEWS:
        raise SettingsError(f"cannot group by {by!r}; use one of {', '.join(VIEWS)}")
    found: View = import_module(f"sqlstable.report.by_{by.replace('-', '_')}").VIEW
    assert found.by == by, "a view is called as its module is"
    return found


def view_of(by: str, trace: "TraceSource") -> "View":
    """Return a view in the words that a trace asks for.

    Raises:
        SettingsError: There is no such view.
    """
    from sqlstable.report.call_words import has_calls_alone  # noqa: PLC0415  as above

    found = view_named(by)
    return found.of_calls if found.of_calls and has_calls_alone(trace) else found
