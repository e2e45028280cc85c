"""How long a line stands before the next one comes, where a story is told slowly."""

from typing import Final

LINE_S: Final = 0.15
"""Even a short line is looked at."""

CHARACTERS_PER_S: Final = 40
"""A quick reader's: an audience knows what numbers and pictures look like after the first ones."""

BLOCK_S: Final = 1.0
"""An empty line parts what is looked at from what comes next."""


def pause_s(line: str) -> float:
    """Return how many seconds a line stands before the next one comes.

    Examples:
        >>> pause_s(""), pause_s("   ✓ integrity_check: ok")
        (1.0, 0.675)
    """
    words = line.strip(" ─")
    if not words:
        return BLOCK_S
    # A picture is seen at once.
    read = sum(1 for character in words if character not in "█▓▒░·")
    return round(LINE_S + read / CHARACTERS_PER_S, 3)
