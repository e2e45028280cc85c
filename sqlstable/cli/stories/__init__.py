"""The stories that `sqlstable demo` tells, by name; a module of one is imported when it is told.

A new story is a module here with an object ``STORY``, and its name in `StoryName` and `MODULES`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from sqlstable.cli.story import Story

StoryName = Literal["shop", "survival", "await", "cost"]
"""What can be asked for, the first look first."""

MODULES: Final[dict[StoryName, str]] = {
    "shop": "first_look",
    "survival": "survival",
    "await": "awaiting",
    "cost": "cost",
}
"""Where each story is."""


def find_story(name: StoryName) -> "Story":
    """Import a story.

    Examples:
        >>> find_story("shop").title
        'sqlstable: which OS pages does SQL touch?'
    """
    story: Story = import_module(f"{__name__}.{MODULES[name]}").STORY
    return story
