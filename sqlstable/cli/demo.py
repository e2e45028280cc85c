"""``sqlstable demo``: a workload that looks real, what it touches, and an upgrade it survives."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from sqlstable.canister.canister import Canister
from sqlstable.cli.failures import RunError
from sqlstable.cli.options import EngineOption
from sqlstable.cli.output import Screen, has_half_blocks, is_terminal, screen, write
from sqlstable.cli.progress import engine_notes
from sqlstable.cli.scene import scene_lines
from sqlstable.cli.story import GLOSSARY, INTRODUCTION, Story
from sqlstable.report.frame import glossary_lines, provenance_lines, settings_lines
from sqlstable.report.grid import fold, paragraph, render, rule
from sqlstable.trace.model import TraceSettings

WIDTH_MAX: Final = 100
"""Longer lines of prose are hard to read."""

_NEXT: Final = (
    ("sqlstable run your.sql --database your.db", "your statements and data"),
    ("sqlstable run your.sql --html your.html", "see it in a browser"),
    ("sqlstable run your.sql --trace your.trace", "keep what was recorded"),
    ("sqlstable report your.trace --by owner", "see whose it was"),
    ("sqlstable report your.trace --map", "see where it lies"),
)


def show_demo(
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
    _show(_opening_lines(target.width), target)
    with (
        tempfile.TemporaryDirectory() as folder,
        engine_notes(),
        Canister(owners=True, engine=engine, trace=":memory:") as canister,
    ):
        story = Story(canister, Path(folder))
        for number, scene in enumerate(story.scenes(), 1):
            if step and number > 1:
                _wait()
            _show(scene_lines(scene, number, target.width, has_half_blocks=is_half), target)
        settings = TraceSettings(canister.status().settings)
    _show(_closing_lines(settings, target.width), target)
    if not story.checks_hold:
        raise RunError("a check of the demo does not hold; see the scene marked with ✗")


def _opening_lines(width: int) -> list[Text]:
    return [
        Text("sqlstable: which OS pages does SQL touch?", style="bold"),
        Text(),
        *paragraph(INTRODUCTION, width),
        Text(),
        *glossary_lines(GLOSSARY, TraceSettings(), width),
        Text(),
    ]


def _closing_lines(settings: TraceSettings, width: int) -> list[Text]:
    lines = [
        rule(width),
        *settings_lines(settings, width, all_settings=False),
        *provenance_lines([settings], (), width),
        Text(),
        Text("Now your own:", style="bold"),
        Text(),
    ]
    room = max(len(command) for command, _ in _NEXT)
    for command, what in _NEXT:
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
