"""Messages of a trace by what was called, with what they cost: what a bill is made from.

A message is known by its label; without one by its method, by the shapes of its statements, or,
where nobody called it, by its kind (``upgrade``, ``timer``). What a call goes on with behind an
await, its callbacks and cleanups, belongs to it and makes it dearer, and is no call of its own.

**Invariants**

- The sums of all groups are those of all messages.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.message_fees import MessageCycles
from sqlstable.ic.words import UPDATE_KINDS
from sqlstable.trace.model import Message

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
        self._image_bytes: int | None = None
        self.heap_seen: tuple[int, int] | None = None
        "Size of the heap when the last message ended of which it is known, and that one's index."
        for message in trace.messages:
            self._take(message)

    def of_message(self, index: int) -> CallGroup | None:
        """Return one message, with what went on behind it, as a group; None where there is none."""
        if not 0 <= index < len(self._trace.messages):
            return None
        group, roots, before = CallGroup(f"message:{index}"), set[int](), None
        for message in self._trace.messages:
            if message.index == index or message.continues in roots:
                roots.add(message.index)
                self._add(group, message, before)
            before = message.image_bytes
        return group

    def of_statement(self, index: int) -> CallGroup | None:
        """Return the message of a statement as a group; None where there is no such statement."""
        if not 0 <= index < len(self._trace.statements):
            return None
        group = self.of_message(self._trace.statements[index].message)
        if group is not None:
            group.name = f"statement:{index}"
        return group

    def share(self, one: CallGroup, other: CallGroup) -> bool:
        """Tell whether two groups, asked for by their names or by index, have a call in common."""
        if one.name not in self.by_name and other.name not in self.by_name:
            return one.first == other.first
        return self._known_name(one) == self._known_name(other)

    def _known_name(self, group: CallGroup) -> str:
        """Return by what the calls of a group are known, a single one's too."""
        if group.name in self.by_name:
            return group.name
        return self.name_of(self._trace.messages[group.first])

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
        statements = (self._trace.statements[index] for index in message.statements)
        shapes = dict.fromkeys(it.shape or it.sql for it in statements)
        return "; ".join(map(one_line, shapes)) or message.kind

    def _take(self, message: Message) -> None:
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
