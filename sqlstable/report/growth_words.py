"""How reports say what stable memory consists of, and what made it grow."""

from typing import Final

from rich.text import Text

from sqlstable.analysis.growth import GrowthPart, GrowthStep, growth_at_end
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import MIB
from sqlstable.report.frame import named_lines
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import counted, size
from sqlstable.report.text import clean

PARTS_SHOWN: Final = 12
"""Parts of one line; what is left out is added up."""

FREE_BYTES_MIN: Final = MIB
"""Free SQLite pages of fewer bytes are nothing to do anything about."""

FREE_SHARE: Final = 0.25
"""Of the database likewise."""

_TIED: Final = "\N{NO-BREAK SPACE}"
"""Keeps a name and its size on one line while lines are broken."""


def growth_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say what stable memory consists of at the end; nothing where the trace does not say."""
    growth = growth_at_end(trace)
    if growth is None:
        return []
    is_last = growth.message == len(trace.messages) - 1
    when = "at the end" if is_last else f"after message {growth.message}"
    words = f"stable memory {size(growth.stable_bytes)} {when}: {_listed(growth.parts)}"
    main = growth.main
    if main is not None and main.free_bytes >= max(FREE_BYTES_MIN, main.used_bytes * FREE_SHARE):
        words += "; sqlstable reclaim says what gives the free ones back, and whether that pays"
    return _released(named_lines("growth", words, width))


def step_lines(step: GrowthStep | None, width: int) -> list[Text]:
    """Say by how much a message changed the size of stable memory; nothing where it did not."""
    if step is None:
        return []
    verb = "grew" if step.grown_bytes > 0 else "shrank"
    words = f"stable memory {verb} by {size(abs(step.grown_bytes))}"
    if step.areas:
        words += f": {_listed(step.areas)}"
    return _released(paragraph(words, width, style="dim", indent=2))


def _listed(parts: tuple[GrowthPart, ...]) -> str:
    shown_count = len(parts) if len(parts) <= PARTS_SHOWN else PARTS_SHOWN - 1
    shown, rest = parts[:shown_count], parts[shown_count:]
    words = [f"{clean(part.name)} {_size(part)}".replace(" ", _TIED) for part in shown]
    if rest:
        size_bytes = sum(part.size_bytes for part in rest)
        words.append(f"{counted(len(rest), 'more part')} {size(size_bytes)}")
    return ", ".join(words)


def _released(lines: list[Text]) -> list[Text]:
    for line in lines:
        line.plain = line.plain.replace(_TIED, " ")
    return lines


def _size(part: GrowthPart) -> str:
    sign = "-" if part.size_bytes < 0 else ""
    return sign + size(abs(part.size_bytes))
