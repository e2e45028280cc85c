"""Steps of a workload as plain data: what is asked of a canister, and what is expected of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

ExpectedKind = Literal["reply", "reject", "trap", "pending", "measure"]
"""What can be expected: a call's answer is a reply, a reject (a trap is one) or not there yet."""

MEASURES: Final = {
    "instructions": "instructions, with what heap and stable memory cost",
    "accessed": "OS pages of stable memory read or written",
    "dirty": "OS pages of stable memory written",
    "regions": "Wasm pages of stable memory accessed",
    "heap-regions": "Wasm pages of the heap accessed",
    "messages": "messages that the call took: itself, calls of others, callbacks",
    "reply-bytes": "size of the reply",
}
"""What a budget can be about; of all messages that a call took, added up."""

RELATIONS: Final = ("<=", "<", "=", ">=", ">")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a step is expected to come to."""

    line: int
    kind: ExpectedKind
    text: str | None = None
    "Of a reply the Candid; of a reject or trap words that it contains; None for any."
    code: int | None = None
    "Of a reject, 1 to 6."
    measure: str = ""
    "One of `MEASURES`."
    relation: str = ""
    bound: int = 0


@dataclass(frozen=True, slots=True)
class ModuleStep:
    """One step of a workload."""

    word: str
    "What is done: a word of `sqlstable.workload.stepping.step_table.STEPS`."
    line: int
    "Where it begins, counted from 1."
    canister: str | None = None
    "Its name; None for the one that was installed first."
    target: str = ""
    "The method, or the path of the module."
    argument: str | None = None
    "As it is written; None where nothing is."
    caller: str | None = None
    "A name or a principal; None for the anonymous one."
    label: str | None = None
    repeat: int = 1
    seconds: float = 0.0
    "That time advances."
    options: Mapping[str, str] = field(default_factory=dict)
    "Those that are given, without their dashes; one without a value holds an empty text."
    expectations: tuple[Expectation, ...] = ()

    @property
    def is_repeated(self) -> bool:
        """Whether the text may say ``{i}``."""
        return "repeat" in self.options or self.repeat != 1
