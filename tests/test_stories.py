"""The stories of the demo: each is there, is told by its name, and has what a story needs."""

from typing import get_args

import pytest

from sqlstable.cli.stories import MODULES, StoryName, find_story


def test_each_name_has_a_module():
    assert set(MODULES) == set(get_args(StoryName))
    assert get_args(StoryName)[0] == "shop"


@pytest.mark.parametrize("name", MODULES)
def test_a_story_says_what_it_asks_and_what_comes_next(name):
    story = find_story(name)
    assert story.title.startswith("sqlstable: ")
    assert story.introduction
    assert story.glossary
    assert all(it.startswith(("sqlstable ", "python examples/")) for it, _ in story.next_commands)
