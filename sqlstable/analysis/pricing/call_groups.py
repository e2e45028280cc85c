"""Messages of a trace by what was called, with what they cost: what a bill is made from.

A message is known by its label; without one by its method, by the shapes of its statements, or,
where nobody called it, by its kind (``upgrade``, ``timer``). What a call goes on with behind an
await, its callbacks and cleanups, belongs to it and makes it dearer, and is no call of its own.
Loading a database is no call either, and costs nothing.
Whoever asks may name calls by a method, a shape or a kind all the same, whatever their labels are.

**Invariants**

- The sums of all groups are those of all messages.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import is_import
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.message_fees import MessageCycles
from sqlstable.ic.words import UPDATE_KINDS
from sqlstable.trace.model import Message

CUT: Final = "…"
"""Stands for the rest of a name."""

_CALLED: Final = ("update", "query", "composite_query", "replicated_query", "inspect")
"""Kinds of message that are called by a name."""


@dataclass(slots=True)
class CallGroup:
    """The messages of one name, added up.

    Sums of cycles leave out what is not known; ``unknown`` counts the messages that had such.
    """

    name: str
    kinds: set[str] = field(default_factory=set)
    call_count: int = 0
    "Messages that were called; what went on behind them is not counted."
    message_count: int = 0
    base: int = 0
    execution: int = 0
    ingress: int = 0
    calls: int = 0
    unknown: int = 0
    "Messages whose instructions nobody counted, and which are not free."
    estimated: int = 0
    "Messages that are paid for, and whose instructions were not counted but estimated."
    error_band: float = 0.0
    "The largest relative error of one of those."
    assumed_requests: int = 0
    "Messages whose bytes of ingress were assumed."
    grown_bytes: int = 0
    "By which stable memory grew in them."
    growing_count: int = 0
    "Messages in which it did."
    prepaid: int = 0
    "The most that one of them needed to be there."
    least: int | None = None
    "Cycles of the cheapest message."
    most: int = 0
    first: int = 0
    "Index of the first message."
    asked: frozenset[int] | None = None
    "Indexes of the calls where somebody asked for just these; None: all of the name."
    covers: tuple[str, ...] = ()
    "Names all of whose calls are among those asked for."

    def add(self, message: Message, cost: MessageCycles, *, is_assumed: bool) -> None:
        """Take a message in."""
        if not self.message_count:
            self.first = message.index
        self.message_count += 1
        self.kinds.add(message.kind)
        self.call_count += message.continues is None
        self.base += cost.base
        self.execution += cost.execution or 0
        self.ingress += cost.ingress or 0
        self.calls += cost.calls
        self.unknown += cost.execution is None
        spent = message.instructions
        if cost.execution and spent is not None and not spent.measured:
            self.estimated += 1
            self.error_band = max(self.error_band, spent.error_band or 0.0)
        self.assumed_requests += is_assumed and bool(cost.ingress)
        self.prepaid = max(self.prepaid, cost.prepaid or 0)
        total = cost.base + (cost.execution or 0) + (cost.ingress or 0) + cost.calls
        self.least = total if self.least is None else min(self.least, total)
        self.most = max(self.most, total)

    @property
    def total(self) -> int:
        """Cycles of all its messages, as far as they are known."""
        return self.base + self.execution + self.ingress + self.calls

    @property
    def kind(self) -> str:
        """What its messages are, in words."""
        kinds = sorted(self.kinds - {"callback", "cleanup"} or self.kinds)
        return " and ".join(it.replace("_", " ") for it in kinds)

    def each(self, cycles: int) -> Fraction:
        """Return what a call has of a sum."""
        return Fraction(cycles, max(self.call_count, 1))


class CallGroups:
    """All messages of a trace by what was called.

    Args:
        trace: What was recorded; gone through once, in order.
        fees: What is charged.
        request_bytes: Bytes of a request where the trace does not say.
        as_updates: Whether queries cost what they do where they are called as updates.
    """

    def __init__(
        self,
        trace: TraceSource,
        fees: CycleFees,
        *,
        request_bytes: int,
        as_updates: bool = False,
    ) -> None:
        self._trace = trace
        self._fees = fees
        self._request_bytes = request_bytes
        self._as_updates = as_updates
        self.by_name: dict[str, CallGroup] = {}
        "In the order of their first messages."
        self._roots: dict[int, str] = {}
        "Names of the calls that later messages may go on from."
        self.import_count = 0
        "Messages that loaded a database."
        self._image_bytes: int | None = None
        self.heap_seen: tuple[int, int] | None = None
        "Size of the heap when the last message ended of which it is known, and that one's index."
        for message in trace.messages:
            self._take(message)

    def of_message(self, index: int) -> CallGroup | None:
        """Return one message, with what went on behind it, as a group; None where there is none."""
        if not 0 <= index < len(self._trace.messages) or is_import(self._trace.messages[index]):
            return None
        return self._together(f"message:{index}", frozenset([index]))

    def of_statement(self, index: int) -> CallGroup | None:
        """Return the message of a statement as a group; None where there is no such statement."""
        if not 0 <= index < len(self._trace.statements):
            return None
        group = self.of_message(self._trace.statements[index].message)
        if group is not None:
            group.name = f"statement:{index}"
        return group

    def also_called(self, name: str) -> CallGroup | None:
        """Return the calls of a method, shape or kind, whatever their labels; None: there are none.

        A shape names each message that has a statement of it.
        """
        indexes = frozenset(
            it.index
            for it in self._trace.messages
            if it.continues is None and not is_import(it) and name in self._other_names(it)
        )
        if not indexes:
            return None
        group = self._together(name, indexes)
        # By one name all of them may be known, and by none of them anything else.
        whole = self.by_name[group.covers[0]] if len(group.covers) == 1 else None
        return whole if whole is not None and whole.call_count == group.call_count else group

    def like(self, name: str) -> list[str]:
        """Return the names that one with ``…`` can be: what calls are known by, or else others."""
        head, _, tail = (it.strip() for it in name.partition(CUT))

        def is_like(other: str) -> bool:
            is_long = len(other) >= len(head) + len(tail)
            return is_long and other.startswith(head) and other.endswith(tail)

        found = [name for name, it in self.by_name.items() if it.call_count and is_like(name)]
        if found:
            return found
        others = (
            name
            for it in self._trace.messages
            if not is_import(it)
            for name in self._other_names(it)
        )
        return [*dict.fromkeys(filter(is_like, others))]

    def share(self, one: CallGroup, other: CallGroup) -> bool:
        """Tell whether two groups, whatever they were asked for by, have a call in common."""
        if one.asked is None and other.asked is None:
            return one.name == other.name
        if one.asked is not None and other.asked is not None:
            return not one.asked.isdisjoint(other.asked)
        some, whole = (one.asked, other) if one.asked is not None else (other.asked, one)
        assert some is not None, "one of them was asked for"
        return any(self.name_of(self._trace.messages[index]) == whole.name for index in some)

    def name_of(self, message: Message) -> str:
        """Return by what a message is known."""
        if message.continues is not None:
            known = self._roots.get(message.continues)
            if known is None:
                known = self.name_of(self._trace.messages[message.continues])
            self._roots[message.index] = known
            return known
        if message.label:
            return message.label
        if message.kind not in _CALLED:
            return message.kind
        if message.call is not None and message.call.method:
            return message.call.method
        return "; ".join(self._shapes(message)) or message.kind

    def _shapes(self, message: Message) -> list[str]:
        statements = (self._trace.statements[index] for index in message.statements)
        return [*map(one_line, dict.fromkeys(it.shape or it.sql for it in statements))]

    def _other_names(self, message: Message) -> Iterator[str]:
        """Yield what may be said of a message beside what it is known by."""
        if message.kind not in _CALLED:
            yield message.kind
        if message.call is not None and message.call.method:
            yield message.call.method
        shapes = self._shapes(message)
        yield from shapes
        if len(shapes) > 1:
            yield "; ".join(shapes)

    def _together(self, name: str, indexes: frozenset[int]) -> CallGroup:
        """Return some calls, with what went on behind them, as a group."""
        group, roots, before = CallGroup(name, asked=indexes), set(indexes), None
        names: Counter[str] = Counter()
        for message in self._trace.messages:
            if message.index in roots or message.continues in roots:
                roots.add(message.index)
                self._add(group, message, before)
                names[self.name_of(message)] += message.continues is None
            before = message.image_bytes
        group.covers = tuple(it for it in names if names[it] == self.by_name[it].call_count)
        return group

    def _take(self, message: Message) -> None:
        if is_import(message):
            self.import_count += 1
            self._image_bytes = message.image_bytes
            return
        name = self.name_of(message)
        group = self.by_name.get(name)
        if group is None:
            group = self.by_name[name] = CallGroup(name)
        self._add(group, message, self._image_bytes)
        self._image_bytes = message.image_bytes
        if message.heap is not None:
            self.heap_seen = message.heap.size_bytes, message.index

    def _add(self, group: CallGroup, message: Message, image_bytes: int | None) -> None:
        fees, request_bytes = self._fees, self._request_bytes
        cost = message_cycles(message, fees, request_bytes=request_bytes)
        if self._as_updates:
            cost = cycles_as_update(message, fees, request_bytes=request_bytes) or cost
        group.add(message, cost, is_assumed=message.payloads is None)
        if message.kind in UPDATE_KINDS and image_bytes is not None:
            grown = max(message.image_bytes - image_bytes, 0)
            group.grown_bytes += grown
            group.growing_count += grown > 0


def one_line(text: str) -> str:
    r"""Return a text with its white space as single blanks, as it is typed on a command line.

    Examples:
        >>> one_line("SELECT 1\n  FROM t")
        'SELECT 1 FROM t'
    """
    return " ".join(text.split())


def names_of(groups: Iterable[CallGroup]) -> list[str]:
    """Return what can be asked for."""
    return [group.name for group in groups]


def short_name(name: str, names: Collection[str], characters: int) -> str:
    """Return a name, or as much of it as no other begins with, and ``…``, as `CallGroups` takes it.

    Args:
        name: One of the names.
        names: All of them.
        characters: That are enough unless another name begins with the same.

    Examples:
        >>> short_name("SELECT a FROM t", ["SELECT a FROM t", "SELECT b FROM t"], 6)
        'SELECT a…'
    """
    others = [it for it in names if it != name]
    while characters < len(name) and any(
        it.startswith(name[:characters].rstrip()) for it in others
    ):
        characters += 1
    return name if characters >= len(name) - 1 else f"{name[:characters].rstrip()}{CUT}"
