"""``sqlstable demo``: stories of what SQL touches in stable memory, and of what it survives."""

import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Annotated, Final, get_args

import typer
from rich.style import Style
from rich.text import Text

from sqlstable.cli.failures import RunError, UsageError
from sqlstable.cli.inks import BLUE, GREY
from sqlstable.cli.options import StoryEngineOption
from sqlstable.cli.output import Screen, has_half_blocks, is_terminal, screen, write
from sqlstable.cli.pace import pause_s
from sqlstable.cli.progress import engine_notes
from sqlstable.cli.scene import Check, check_line, scene_lines
from sqlstable.cli.stories import StoryName, find_story
from sqlstable.cli.story import Stage, Story
from sqlstable.errors import ImageError, MessageError, SqlError, Trap
from sqlstable.report.frame import glossary_lines, named_lines, provenance, settings_lines
from sqlstable.report.grid import fold, paragraph, render, rule
from sqlstable.trace.model import TraceSettings

WIDTH_MAX: Final = 100
"""Longer lines of prose are hard to read."""

_FAILURES: Final = (ImageError, MessageError, SqlError, Trap)
"""What a story that holds never meets."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Lines of a story that are shown together."""

    lines: list[Text]
    is_later_scene: bool = False
    "Whether an audience is asked before it."


def show_demo(
    name: Annotated[
        StoryName,
        typer.Argument(metavar="STORY", help=f"The story: {', '.join(get_args(StoryName))}."),
    ] = "shop",
    *,
    step: Annotated[
        bool, typer.Option("--step", help="Wait for Enter between the scenes.")
    ] = False,
    slow: Annotated[
        bool, typer.Option("--slow", help="Show line after line, as quickly as an audience reads.")
    ] = False,
    engine: StoryEngineOption = None,
) -> None:
    """See in a few seconds which OS pages SQL touches, and an upgrade that loses nothing."""
    found, story = screen(), find_story(name)
    if engine is not None and engine not in story.engines:
        raise UsageError(
            f"the story {name} counts instructions, which the {engine} engine does not; leave "
            "--engine out"
        )
    target = Screen(min(found.width, WIDTH_MAX), found.color_system)
    with _folder() as folder, engine_notes():
        stage = Stage(engine or story.engine, folder)
        with closing(passages(story, stage, target)) as told:
            for passage in told:
                if step and passage.is_later_scene:
                    _wait()
                _show(passage.lines, target, slow=slow)
    if not stage.checks_hold:
        raise RunError("a check of the demo does not hold; see the scene marked with ✗")


def passages(story: Story, stage: Stage, target: Screen) -> Generator[Passage]:
    """Play a story; its passages come one after the other, each when it is asked for.

    Args:
        story: What is told.
        stage: Where it is played.
        target: What the lines have to fit.
    """
    is_half = has_half_blocks(target)
    yield Passage(_opening_lines(story, target.width))
    try:
        with closing(story.scenes(stage)) as scenes:
            for number, scene in enumerate(scenes, 1):
                lines = scene_lines(scene, number, target.width, has_half_blocks=is_half)
                yield Passage(lines, is_later_scene=number > 1)
    except _FAILURES as error:
        stage.checks_hold = False
        yield Passage([Text("   ").append_text(check_line(Check(str(error), holds=False))), Text()])
    yield Passage(_closing_lines(story, stage, target.width))


def passage_lines(lines: list[Text], target: Screen) -> Iterator[tuple[str, str]]:
    """Yield each line as it is written, and as it is read."""
    for line in lines:
        for piece in fold(_inked(line), target.width):
            written = render([piece], width=target.width, color_system=target.color_system)
            yield written, piece.plain


def _inked(line: Text) -> Text:
    """Return a line with grey where it is dim, which a projector does not show."""
    inked = line.copy()
    inked.style = _ink(line.style)
    inked.spans = [span._replace(style=_ink(span.style)) for span in line.spans]
    return inked


def _ink(style: str | Style) -> Style:
    parsed = Style.parse(style) if isinstance(style, str) else style
    return parsed + Style(color=GREY, dim=False) if parsed.dim else parsed


def _opening_lines(story: Story, width: int) -> list[Text]:
    return [
        Text(story.title, style="bold"),
        Text(),
        *paragraph(story.introduction, width),
        Text(),
        *glossary_lines(story.glossary, TraceSettings(), width),
        Text(),
    ]


def _closing_lines(story: Story, stage: Stage, width: int) -> list[Text]:
    settings = TraceSettings(stage.settings)
    found = provenance([settings], ())
    if stage.modelled:
        found.insert(1, ("modelled", stage.modelled))
    lines = [
        rule(width),
        *settings_lines(settings, width, all_settings=False),
        *(line for name, text in found for line in named_lines(name, text, width)),
        Text(),
        Text(story.next_title, style="bold"),
        Text(),
    ]
    room = max(len(command) for command, _ in story.next_commands)
    for command, what in story.next_commands:
        lines.append(Text.assemble("   ", (f"{command:<{room}}", BLUE), "   ", (what, GREY)))
    return lines


def _show(lines: list[Text], target: Screen, *, slow: bool) -> None:
    for written, read in passage_lines(lines, target):
        write(written)
        if slow:
            sys.stdout.flush()
            sleep(pause_s(read))
    sys.stdout.flush()


@contextmanager
def _folder() -> Iterator[Path]:
    """Have a folder that is gone at the end, even where Ctrl-C comes while it is removed."""
    path = Path(tempfile.mkdtemp(prefix="sqlstable-demo-"))
    try:
        yield path
    finally:
        try:
            shutil.rmtree(path)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise


def _wait() -> None:
    """Wait for Enter; where nobody can press it, or the input has ended, go on."""
    if not is_terminal(sys.stdin):
        return
    sys.stderr.write("   Enter for the next scene ")
    sys.stderr.flush()
    if not sys.stdin.readline():
        sys.stderr.write("\n")
