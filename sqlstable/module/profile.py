"""A profile: which functions used the instructions of messages, and touched their memory first.

A `ProfileWatcher` watches a replica whose modules were compiled with profiles; what it has seen is
a `Profile`: functions by the paths on which they were called, message by message. Its numbers are
exact: those of all functions together are the messages' instructions, with what the heap costs,
and the regions that they touched.

A profile can be written as collapsed stacks, one path in a line, for flame graphs, and for
speedscope.app.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from sqlstable.errors import SettingsError
from sqlstable.ic.prices import PriceRegime, regime_of
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.module.function_labels import function_labels
from sqlstable.wasm.profiled import CallTree
from sqlstable.wasm.program import Program, make_program

if TYPE_CHECKING:
    from sqlstable.replica.executed import Executed
    from sqlstable.replica.housed import HousedCanister

ProfileUnit = Literal["instructions", "regions"]
"""What is counted: instructions, or regions of heap and stable memory that were touched first."""

PROFILE_UNITS: Final[tuple[ProfileUnit, ...]] = get_args(ProfileUnit)

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


@dataclass(frozen=True, slots=True)
class ProfileNode:
    """A function on one path, and what it did there itself."""

    name: str
    parent: int
    "Index of its caller's node; -1 for a message."
    calls: int = 0
    instructions: int = 0
    "With what its first touches of the heap cost."
    heap_regions: int = 0
    "Regions of the heap, 64 KiB each, that nobody in the message had touched before."
    heap_regions_written: int = 0
    "Those that nobody had written before."
    stable_regions: int = 0
    stable_regions_written: int = 0

    @property
    def regions(self) -> int:
        """Regions of heap and stable memory that it touched first."""
        return self.heap_regions + self.stable_regions


@dataclass(frozen=True, slots=True)
class ProfiledFunction:
    """A function, wherever it was called."""

    name: str
    calls: int
    instructions_self: int
    instructions_total: int
    "With those of what it called; of a function that calls itself, once."
    regions_self: int
    regions_total: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What messages did, function by function.

    Examples:
        >>> profile = Profile((
        ...     ProfileNode("app: update add", -1),
        ...     ProfileNode("add", 0, calls=1, instructions=40),
        ...     ProfileNode("ic0.msg_reply", 1, calls=1, instructions=500),
        ... ))
        >>> print(profile.collapsed(), end="")
        app: update add;add 40
        app: update add;add;ic0.msg_reply 500
        >>> profile.total("instructions"), profile.functions()[0].name
        (540, 'ic0.msg_reply')
    """

    nodes: tuple[ProfileNode, ...]
    "Callers before what they call; a message is a node without a parent."

    def total(self, unit: ProfileUnit) -> int:
        """Return the sum of all functions, which is that of the messages."""
        return sum(getattr(node, unit) for node in self.nodes)

    def stacks(self, unit: ProfileUnit) -> Iterator[tuple[tuple[int, ...], int]]:
        """Yield the path to each node that has something itself, as indexes, and how much."""
        for index, node in enumerate(self.nodes):
            weight = getattr(node, unit)
            if weight:
                yield self._path(index), weight

    def functions(self, unit: ProfileUnit = "instructions") -> list[ProfiledFunction]:
        """Return the functions, those first that have most themselves."""
        sums: dict[str, dict[str, int]] = {}
        totals = self._totals()
        for index, node in enumerate(self.nodes):
            if node.parent < 0:
                continue
            of_name = sums.setdefault(node.name, dict.fromkeys(_SUMS, 0))
            of_name["calls"] += node.calls
            for one in PROFILE_UNITS:
                of_name[f"{one}_self"] += getattr(node, one)
                if not self._is_inside_itself(index):
                    of_name[f"{one}_total"] += totals[one][index]
        found = [ProfiledFunction(name, **numbers) for name, numbers in sums.items()]
        return sorted(found, key=lambda one: (-getattr(one, f"{unit}_self"), one.name))

    # -- written ----------------------------------------------------------------------------------

    def collapsed(self, unit: ProfileUnit = "instructions") -> str:
        """Return it as collapsed stacks: names from the outside in, then how much.

        Source:
            brendangregg/FlameGraph, README: "folded" stacks, as inferno and speedscope read them.
        """
        return "".join(
            ";".join(self.nodes[at].name.replace(";", ",") for at in path) + f" {weight}\n"
            for path, weight in self.stacks(unit)
        )

    def speedscope(self, name: str = "sqlstable") -> str:
        """Return it in speedscope's format: two profiles, instructions and regions.

        Source:
            speedscope.app, file-format-schema.json: sampled profiles.
        """
        frames: dict[str, int] = {}
        profiles = [self._sampled(unit, frames) for unit in PROFILE_UNITS]
        file = {
            "$schema": SCHEMA,
            "exporter": "sqlstable",
            "name": name,
            "activeProfileIndex": 0,
            "shared": {"frames": [{"name": frame} for frame in frames]},
            "profiles": profiles,
        }
        return json.dumps(file, ensure_ascii=False, separators=(",", ":")) + "\n"

    def table(self, count: int = 20, unit: ProfileUnit = "instructions") -> str:
        """Return the first functions as lines of text, with what part of all is theirs.

        Examples:
            >>> print(Profile((
            ...     ProfileNode("app: update add", -1),
            ...     ProfileNode("add", 0, calls=2, instructions=300, heap_regions=1),
            ...     ProfileNode("ic0.msg_reply", 1, calls=2, instructions=1000),
            ... )).table(), end="")
            instructions itself    %  with callees  regions itself  calls  function
                          1,000  77%         1,000               0      2  ic0.msg_reply
                            300  23%         1,300               1      2  add
                          1,300 100%                             1         all
        """
        whole = self.total(unit)
        rows = [
            (
                f"{one.instructions_self:,}",
                _percent(getattr(one, f"{unit}_self"), whole),
                f"{one.instructions_total:,}",
                f"{one.regions_self:,}",
                f"{one.calls:,}",
                one.name,
            )
            for one in self.functions(unit)[:count]
        ]
        sums = (f"{self.total('instructions'):,}", "100%", "", f"{self.total('regions'):,}", "")
        rows = [_HEADING, *rows, (*sums, "all")]
        widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADING))]
        return "".join(_line(row, widths) for row in rows)

    def write(self, path: Path, unit: ProfileUnit = "instructions") -> None:
        """Write it to a file: for speedscope if its name ends in ``.json``, else collapsed.

        Raises:
            SettingsError: The file cannot be written.
        """
        is_speedscope = path.suffix == ".json"
        text = self.speedscope(path.name) if is_speedscope else self.collapsed(unit)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"the profile {path} cannot be written: {error}") from error

    # -- inside -----------------------------------------------------------------------------------

    def _path(self, index: int) -> tuple[int, ...]:
        found = []
        while index >= 0:
            found.append(index)
            index = self.nodes[index].parent
        return tuple(reversed(found))

    def _is_inside_itself(self, index: int) -> bool:
        name, above = self.nodes[index].name, self.nodes[index].parent
        while above >= 0:
            if self.nodes[above].name == name and self.nodes[above].parent >= 0:
                return True
            above = self.nodes[above].parent
        return False

    def _totals(self) -> dict[ProfileUnit, list[int]]:
        """Return for each node what it and all below it have."""
        totals = {unit: [getattr(node, unit) for node in self.nodes] for unit in PROFILE_UNITS}
        for index in range(len(self.nodes) - 1, -1, -1):
            above = self.nodes[index].parent
            assert above < index
            if above >= 0:
                for sums in totals.values():
                    sums[above] += sums[index]
        return totals

    def _sampled(self, unit: ProfileUnit, frames: dict[str, int]) -> dict[str, Any]:
        samples, weights = [], []
        for path, weight in self.stacks(unit):
            samples.append([frames.setdefault(self.nodes[at].name, len(frames)) for at in path])
            weights.append(weight)
        return {
            "type": "sampled",
            "name": unit,
            "unit": "none",
            "startValue": 0,
            "endValue": sum(weights),
            "samples": samples,
            "weights": weights,
        }


_SUMS: Final = tuple(one.name for one in fields(ProfiledFunction) if one.name != "name")

_HEADING: Final = (
    *("instructions itself", "%", "with callees", "regions itself", "calls"),
    "function",
)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else ""


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    numbers = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
    first, percent, *others = numbers
    return "  ".join((f"{first} {percent.rjust(4)}", *others, row[-1])) + "\n"


# -- gathered -------------------------------------------------------------------------------------


def programs_with_profile(
    regime: PriceRegime | None = None,
    *,
    watches_heap: bool | None = None,
    os_page_bytes: int = OS_PAGE_BYTES,
) -> Callable[[bytes, str, int], Program]:
    """Return what makes the programs of a replica whose modules keep profiles.

    Args:
        regime: What is counted, as the replica's; by default today's.
        watches_heap: Whether what is touched in the heap is charged; by default as it says.
        os_page_bytes: Size of the OS pages that are charged, see `make_program`.
    """
    counted = regime_of(None) if regime is None else regime
    is_watched = counted.charges_heap if watches_heap is None else watches_heap

    def program_of(wasm: bytes, name: str, reach_bytes: int) -> Program:
        return make_program(
            wasm,
            name=name,
            regime=counted,
            watches_heap=is_watched,
            has_profile=True,
            os_page_bytes=os_page_bytes,
            reach_bytes=reach_bytes,
        )

    return program_of


@dataclass(slots=True)
class ProfileWatcher:
    """Watches a replica, and gathers what its messages did, function by function.

    The replica must have been made with `programs_with_profile`; of other modules nothing is seen.

    Examples:
        >>> from sqlstable.replica.replica import Replica
        >>> replica = Replica(program_of=programs_with_profile())
        >>> watcher = ProfileWatcher()
        >>> replica.watchers.append(watcher)
        >>> watcher.profile().total("instructions")
        0
    """

    _nodes: list[dict[str, Any]] = field(default_factory=list)
    _indexes: dict[tuple[int, str], int] = field(default_factory=dict)
    _labels: dict[bytes, Mapping[int, str]] = field(default_factory=dict)

    def before_end(
        self, canister: "HousedCanister", executed: "Executed", *, is_kept: bool
    ) -> None:
        """Take what a message called, whether it is kept or not."""
        words = f"{executed.canister}: {executed.kind} {executed.method}".rstrip()
        program = canister.instance.program
        for called in canister.instance.trees.take():
            self.note(
                words,
                called.tree,
                self._labels_of(called.module),
                regime=program.regime if program.watches_heap else None,
            )

    def after_end(self, canister: "HousedCanister", executed: "Executed") -> None:
        """Nothing: the message was taken before it ended."""

    def note(
        self,
        words: str,
        tree: CallTree,
        labels: Mapping[int, str],
        *,
        regime: PriceRegime | None,
    ) -> None:
        """Add what one message, or a part of one, called.

        Args:
            words: What stands for the message: those with the same words are added up.
            tree: What it called, see `sqlstable.wasm.instance.Instance.trees`.
            labels: Names of functions.
            regime: Says what touching the heap costs; None: nothing.
        """
        message = self._index(-1, words)
        places: list[int] = []
        for call in tree:
            parent = message if call.parent < 0 else places[call.parent]
            name = labels.get(call.function, f"function {call.function}")
            index = self._index(parent, name)
            places.append(index)
            heap = 0
            if regime is not None:
                heap = regime.heap_cost(
                    wasm_pages_accessed=call.heap_regions_accessed,
                    wasm_pages_written=call.heap_regions_written,
                    os_pages_written=call.heap_os_pages_written,
                )
            added = {
                "calls": call.calls,
                "instructions": call.instructions + heap,
                "heap_regions": call.heap_regions_accessed,
                "heap_regions_written": call.heap_regions_written,
                "stable_regions": call.stable_regions_accessed,
                "stable_regions_written": call.stable_regions_written,
            }
            node = self._nodes[index]
            for key, number in added.items():
                node[key] = node.get(key, 0) + number

    def profile(self) -> Profile:
        """Return what was gathered so far."""
        return Profile(tuple(ProfileNode(**node) for node in self._nodes))

    def _index(self, parent: int, name: str) -> int:
        index = self._indexes.setdefault((parent, name), len(self._nodes))
        if index == len(self._nodes):
            self._nodes.append({"name": name, "parent": parent})
        return index

    def _labels_of(self, module: bytes) -> Mapping[int, str]:
        labels = self._labels.get(module)
        if labels is None:
            labels = self._labels[module] = function_labels(module)
        return labels
