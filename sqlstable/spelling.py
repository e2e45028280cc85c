"""What a text calls an option: by its name in Python, or on the command line.

One text is read in both places, far from where it is made and often inside of another one. So who
asks says where it stands, once, and every text made meanwhile speaks its words.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_IS_ON_COMMAND_LINE: Final = ContextVar("is_on_command_line", default=False)


def spelled(python: str, option: str) -> str:
    """Return what something is called here.

    Args:
        python: In Python.
        option: On the command line, and in the magics of a notebook.

    Examples:
        >>> spelled("cache_size=10", "--cache-size 10")
        'cache_size=10'
        >>> with on_command_line():
        ...     spelled("cache_size=10", "--cache-size 10")
        '--cache-size 10'
    """
    return option if _IS_ON_COMMAND_LINE.get() else python


@contextmanager
def on_command_line() -> Iterator[None]:
    """Have texts that are made inside speak of options."""
    token = _IS_ON_COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _IS_ON_COMMAND_LINE.reset(token)
