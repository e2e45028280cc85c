"""What a committed message survives, by name."""

from typing import Final, Literal

Durability = Literal["process", "power"]
"""``process``: the end of the process, however it ends; ``power``: a loss of power, too."""

DURABILITIES: Final[tuple[Durability, ...]] = ("process", "power")
"""All levels; a log keeps the place of its own here, counted from 1."""
