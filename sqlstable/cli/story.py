"""What a story of the demo consists of, and the stage on which it is played."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlstable.cli.scene import Check, Scene
from sqlstable.ic.words import ENGINES, EngineName


@dataclass(slots=True)
class Stage:
    """What the scenes of a story may use, and what they leave for its ending.

    Scenes run for real, one after the other, each when it is asked for.
    """

    engine: EngineName
    folder: Path
    "Empty at the beginning, and gone behind the end."
    settings: dict[str, object] = field(default_factory=dict)
    "Of the canister, as reports state them; the story's to fill in before its last scene."
    modelled: str = ""
    "What else is modelled, beside what the settings say, and in which scene."
    checks_hold: bool = True
    "Whether all that was `checked` so far is true."

    def checked(self, checks: Sequence[Check]) -> tuple[Check, ...]:
        """Take note of checks, and give them back for their scene."""
        self.checks_hold = self.checks_hold and all(check.holds for check in checks)
        return tuple(checks)


@dataclass(frozen=True, slots=True)
class Story:
    """A story that the demo tells."""

    title: str
    introduction: str
    "A few sentences: what is asked."
    glossary: tuple[tuple[str, str], ...]
    "The words that its scenes use, and what they mean."
    scenes: Callable[[Stage], Generator[Scene]]
    "Plays it."
    next_title: str
    next_commands: tuple[tuple[str, str], ...]
    "What to type next, and what for."
    engine: EngineName = "native"
    "What it runs on unless another one is asked for."
    engines: tuple[EngineName, ...] = ENGINES
    "Those on which it says what it wants to say."
