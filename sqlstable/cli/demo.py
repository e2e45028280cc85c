"""``sqlstable demo``: stories of what SQL touches in stable memory, and of what it survives."""

import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final, get_args

import typer
from rich.text import Text

from sqlstable.cli.failures import RunError
from sqlstable.cli.options import EngineOption
from sqlstable.cli.output import Screen, has_half_blocks, is_terminal, screen, write
from sqlstable.cli.progress import engine_notes
from sqlstable.cli.scene import scene_lines
from sqlstable.cli.stories import StoryName, find_story
from sqlstable.cli.story import Stage, Story
from sqlstable.report.frame import glossary_lines, provenance_lines, settings_lines
from sqlstable.report.grid import fold, paragraph, render, rule
from sqlstable.trace.model import TraceSettings

WIDTH_MAX: Final = 100
"""Longer lines of prose are hard to read."""


def show_demo(
    name: Annotated[
        StoryName,
        typer.Argument(metavar="STORY", help=f"The story: {', '.join(get_args(StoryName))}."),
    ] = "shop",
    *,
    step: Annotated[
        bool, typer.Option("--step", help="Wait for Enter between the scenes.")
    ] = False,
    engine: EngineOption = "native",
) -> None:
    """See in a few seconds which OS pages SQL touches, and an upgrade that loses nothing."""
    found = screen()
    target = Screen(min(found.width, WIDTH_MAX), found.color_system)
    is_half = has_half_blocks(target)
    story = find_story(name)
    _show(_opening_lines(story, target.width), target)
    with tempfile.TemporaryDirectory() as folder, engine_notes():
        stage = Stage(engine, Path(folder))
        with closing(story.scenes(stage)) as scenes:
            for number, scene in enumerate(scenes, 1):
                if step and number > 1:
                    _wait()
                _show(scene_lines(scene, number, target.width, has_half_blocks=is_half), target)
    _show(_closing_lines(story, TraceSettings(stage.settings), target.width), target)
    if not stage.checks_hold:
        raise RunError("a check of the demo does not hold; see the scene marked with ✗")


def _opening_lines(story: Story, width: int) -> list[Text]:
    return [
        Text(story.title, style="bold"),
        Text(),
        *paragraph(story.introduction, width),
        Text(),
        *glossary_lines(story.glossary, TraceSettings(), width),
        Text(),
    ]


def _closing_lines(story: Story, settings: TraceSettings, width: int) -> list[Text]:
    lines = [
        rule(width),
        *settings_lines(settings, width, all_settings=False),
        *provenance_lines([settings], (), width),
        Text(),
        Text(story.next_title, style="bold"),
        Text(),
    ]
    room = max(len(command) for command, _ in story.next_commands)
    for command, what in story.next_commands:
        lines.append(Text.assemble("   ", (f"{command:<{room}}", "cyan"), "   ", (what, "dim")))
    return lines


def _show(lines: list[Text], target: Screen) -> None:
    folded = [part for line in lines for part in fold(line, target.width)]
    write(render(folded, width=target.width, color_system=target.color_system))
    sys.stdout.flush()


def _wait() -> None:
    """Wait for Enter; where nobody can press it, or the input has ended, go on."""
    if not is_terminal(sys.stdin):
        return
    sys.stderr.write("   Enter for the next scene ")
    sys.stderr.flush()
    if not sys.stdin.readline():
        sys.stderr.write("\n")
