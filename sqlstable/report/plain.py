"""Other characters where an output has none of ours: an ASCII terminal, a narrow code page.

Each is replaced by as many columns as it takes, so that tables stay tables.
"""

import codecs
from typing import Final

from rich.cells import cell_len

ERRORS: Final = "sqlstable.plain"
"""Name of the error handler, for ``reconfigure`` and ``str.encode``."""

UNKNOWN: Final = "?"

_PLAIN: Final = {
    **dict.fromkeys("█▉▊▋▌▍▎▏", "#"),
    **dict.fromkeys("─·\N{EN DASH}\N{EM DASH}", "-"),
    # What became of a page, beside a full cell: it is there again, was taken back, is gone.
    **dict(zip("▓▒░", "=%.", strict=True)),
    # Columns of a sparkline, by their heights; the highest one is a full bar.
    **dict(zip("▁▂▃▄▅▆▇", "_.:-=+*", strict=True)),
    **dict.fromkeys("…±", "~"),
    "→": ">",
    "▼": "v",
    "▲": "^",
    "◆": "*",
    "×": "x",  # noqa: RUF001  the sign for "times"
    "✓": "+",
    "✗": "x",
    "µ": "u",
    "\N{NO-BREAK SPACE}": " ",
}
assert all(len(other) == cell_len(character) == 1 for character, other in _PLAIN.items())


def plain(text: str) -> str:
    """Return a text in ASCII, as wide as it was.

    Examples:
        >>> plain("█▋ 12 → 3 · 東京…")
        '## 12 > 3 - ????~'
    """
    return text.encode("ascii", ERRORS).decode("ascii")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(map(_other, characters)), error.end


def _other(character: str) -> str:
    return _PLAIN.get(character, UNKNOWN * cell_len(character))


codecs.register_error(ERRORS, _replaced)
