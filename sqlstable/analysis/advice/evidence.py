"""What the rules look at: a trace added up, so that advice on a long one costs little."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from sqlstable.analysis.advice.advice import counted, short_sql
from sqlstable.analysis.advice.schema_probe import SchemaProbe
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.trace.format.shape_uses import OwnerTotal, ShapeUse
from sqlstable.trace.model import Statement, TraceSettings, TreeShape

SHARE_MIN: Final = 0.02
"""Part of the workload below which nothing is advised: what it could save at most is less than
runs of one workload on two builds differ by."""

_TEMPORARY: Final = re.compile(
    r"CREATE TEMP(?:ORARY)? (?:TABLE|VIEW) (?:IF NOT EXISTS )?(?:TEMP\.)?([^ (]+)", re.IGNORECASE
)

SMALL_OS_PAGES: Final = 16
"""OS pages up to which a table is small: one Wasm page, the least that is charged for since 2026-07
(``sqlstable.ic.prices``), so that a scan of it costs little more than a look-up."""


class AdviceEvidence:
    """A trace, and what is derived from it once for all rules.

    Attributes:
        trace: What was recorded.
        shapes: Equal work together, the most OS pages first.
    """

    def __init__(self, trace: TraceSource) -> None:
        self.trace = trace
        self.shapes: tuple[ShapeUse, ...] = trace.shape_uses

    @property
    def settings(self) -> TraceSettings:
        """The circumstances of the run."""
        return self.trace.settings

    @cached_property
    def has_instructions(self) -> bool:
        """Whether those of all statements were counted."""
        return bool(self.shapes) and all(use.instructions is not None for use in self.shapes)

    @cached_property
    def instructions(self) -> int:
        """Instructions of all statements."""
        return sum(use.instructions or 0 for use in self.shapes)

    @cached_property
    def os_pages_accessed(self) -> int:
        """OS pages that all statements accessed, as the sum of their sets."""
        return sum(use.os_pages_accessed for use in self.shapes)

    @cached_property
    def os_pages_dirty(self) -> int:
        """Likewise those that they dirtied."""
        return sum(use.os_pages_dirty for use in self.shapes)

    @cached_property
    def owners(self) -> tuple[OwnerTotal, ...]:
        """What was touched of each owner, the most accessed first."""
        return self.trace.owner_totals

    def owners_named(self, name: str) -> Iterator[OwnerTotal]:
        """Yield what was touched of one table or index, by role."""
        return (it for it in self.owners if it.name == name and it.kind in ("table", "index"))

    @cached_property
    def dirty_by_index(self) -> Mapping[str, int]:
        """OS pages dirtied of each index, as the sum over statements, the most first."""
        found: Counter[str] = Counter()
        for it in self.owners:
            if it.kind == "index":
                found[it.name] += it.os_pages_dirty
        return dict(found.most_common())

    @cached_property
    def probe(self) -> SchemaProbe:
        """The schema as it was at the end, without rows."""
        return SchemaProbe(self.trace.schema)

    @cached_property
    def temporary(self) -> frozenset[str]:
        """Names of TEMP tables and views, in lower case: they hide those of the schema."""
        made = (_TEMPORARY.match(use.shape) for use in self.shapes if use.kind == "ddl")
        return frozenset(match[1].strip('"`[]').lower() for match in made if match)

    @property
    def trees(self) -> Sequence[TreeShape]:
        """The shapes of all B-trees at the end."""
        return self.trace.trees

    @cached_property
    def tree_os_pages(self) -> Mapping[str, int]:
        """How many OS pages each tree has, by its name in lower case."""
        found: dict[str, int] = defaultdict(int)
        for tree in self.trees:
            pages = tree.interior_pages + tree.leaf_pages
            found[tree.name.lower()] = max(1, pages * self.page_bytes // OS_PAGE_BYTES)
        return found

    @property
    def page_bytes(self) -> int:
        """Size of a SQLite page; that of an OS page where nobody knows."""
        size = self.settings.values.get("page_size")
        return size if isinstance(size, int) and size > 0 else OS_PAGE_BYTES

    def share(self, use: ShapeUse) -> float:
        """Return which part of the workload this is, from 0 to 1."""
        if self.has_instructions:
            return _part(use.instructions, self.instructions)
        return max(
            _part(use.os_pages_accessed, self.os_pages_accessed),
            _part(use.vm_steps, self._vm_steps),
        )

    def mattering(self, *kinds: str) -> Iterator[ShapeUse]:
        """Yield the work of these kinds that is a part of the workload that matters."""
        for use in self.shapes:
            if use.kind in kinds and self.share(use) >= SHARE_MIN:
                yield use

    def heaviest(self, use: ShapeUse) -> Statement:
        """Return the statement among equal ones that accessed most OS pages."""
        return self.trace.statements[use.heaviest]

    def touching(self, name: str, *kinds: str) -> tuple[int, ...]:
        """Return the heaviest of the statements that touched a tree, where they matter."""
        return tuple(
            use.heaviest
            for use in self.mattering(*(kinds or ("read", "write")))
            if any(it.name == name for it in self.heaviest(use).owners)
        )

    def close(self) -> None:
        """Let go of the probe, if anybody asked it."""
        if "probe" in self.__dict__:
            self.probe.close()

    @cached_property
    def _vm_steps(self) -> int:
        return sum(use.vm_steps or 0 for use in self.shapes)


def cited(statement: Statement, *numbers: str) -> str:
    """Spell a statement with numbers of it."""
    counts = (counted(statement.stable.os_pages_accessed, "OS page") + " accessed", *numbers)
    return f"statement {statement.index}, {short_sql(statement.sql)}: {', '.join(counts)}"


def _part(part: int | None, whole: int) -> float:
    return part / whole if part and whole else 0.0
