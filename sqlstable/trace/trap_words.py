"""Which limit trapped a message, told from the words of its trap: old traces say no more."""

from typing import Final

from sqlstable.ic.words import (
    INSTRUCTIONS,
    OS_PAGES_ACCESSED,
    OS_PAGES_DIRTY,
    REPLY_BYTES,
    STABLE_MEMORY_BYTES,
)

_WORDS_OF_LIMITS: Final = (
    ("number of accessed pages", OS_PAGES_ACCESSED),
    ("number of modified pages", OS_PAGES_DIRTY),
    ("instructions", INSTRUCTIONS),
    ("exceeded the slice limit", INSTRUCTIONS),
    ("grow failed", STABLE_MEMORY_BYTES),
    ("application payload size", REPLY_BYTES),
)
"""Words in the text of a trap, and the limit that they speak of.

Source: dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31; the last one is
that of ic-stable-structures.
"""

_OF_LIMITS: Final = ("xceeded the", "grow failed", "application payload size")
"""Words without which a text speaks of no limit."""


def limit_named_by(outcome: str, trap: str | None) -> str | None:
    """Return the limit that trapped a message, of which an old trace has the text alone."""
    if outcome != "trapped" or trap is None:
        return None
    if not any(words in trap for words in _OF_LIMITS):
        return None
    return next((limit for words, limit in _WORDS_OF_LIMITS if words in trap), None)
