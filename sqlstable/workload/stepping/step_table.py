"""Every step that a workload may have: how it is written, what it does, and an example.

The parser goes by this table, and the reference is made from it.
"""

from dataclasses import dataclass
from typing import Final, Literal

from sqlstable.errors import SettingsError
from sqlstable.ic.principals import principal_of

Takes = Literal["module", "method", "canister", "name", "duration", "rest"]
"""What stands behind the word of a step."""


@dataclass(frozen=True, slots=True)
class StepOption:
    """An option of a step."""

    name: str
    value: str
    "What it takes; empty where it takes nothing."
    summary: str

    def fault(self, value: str) -> str:
        """Return what is wrong with a value; empty: nothing that can be told yet."""
        if "|" in self.value and value not in self.value.split("|"):
            return f"it must be {self.value.replace('|', ' or ')}"
        if self.value == _NUMBER and not value.replace("_", "").isdecimal():
            return "it must be a number"
        if self.value == _PRINCIPAL:
            try:
                principal_of(value)
            except SettingsError as error:
                return str(error)
        return ""


@dataclass(frozen=True, slots=True)
class StepKind:
    """One kind of step."""

    word: str
    takes: Takes
    form: str
    "How it is written, behind its word."
    summary: str
    example: str
    options: tuple[StepOption, ...] = ()
    is_message: bool = True
    "Whether something can be expected of it."


_PRINCIPAL: Final = "PRINCIPAL"
_NUMBER: Final = "NUMBER"

_DID: Final = StepOption(
    "did", "FILE", "the interface; by default what the module says of itself (candid:service)"
)
_SKIP: Final = StepOption("skip-pre-upgrade", "", "the old code is not asked to save anything")
_PERSISTENCE: Final = StepOption(
    "wasm-memory-persistence", "keep|replace", "whether the heap stays, as Motoko's compiler has it"
)
_PLACE: Final = (
    StepOption("id", _PRINCIPAL, "of a canister that is new"),
    StepOption("cycles", _NUMBER, "its balance then"),
)

STEPS: Final = {
    it.word: it
    for it in (
        StepKind(
            "install",
            "module",
            "[NAME=]MODULE [ARGUMENT]",
            "Installs a module in a new canister. Its name is the file's unless one is given.",
            "install counter.wasm.gz '(record { start = 1 })'",
            (_DID, *_PLACE),
        ),
        StepKind(
            "upgrade",
            "module",
            "[[NAME=]MODULE] [ARGUMENT]",
            "Upgrades to a module, or to the same one; stable memory stays.",
            "upgrade counter-2.wasm.gz",
            (_DID, _SKIP, _PERSISTENCE),
        ),
        StepKind(
            "reinstall",
            "module",
            "[[NAME=]MODULE] [ARGUMENT]",
            "Installs a module, or the same one, on an empty stable memory.",
            "reinstall counter.wasm.gz",
            (_DID,),
        ),
        StepKind(
            "update",
            "method",
            "[NAME.]METHOD [ARGUMENT]",
            "Calls a method as an update; of a query method nothing is kept.",
            "update add_user '(\"ana\")'",
        ),
        StepKind(
            "query",
            "method",
            "[NAME.]METHOD [ARGUMENT]",
            "Calls a query or composite query.",
            "query top '(10)'",
        ),
        StepKind(
            "call",
            "method",
            "[NAME.]METHOD [ARGUMENT]",
            "Calls a method as what it is, as dfx and icp do.",
            "call ledger.transfer '(1, \"ana\")'",
        ),
        StepKind(
            "send",
            "method",
            "[NAME.]METHOD [ARGUMENT]",
            "Sends an update that waits: the next step that runs anything runs all that wait, in "
            "order. What is expected below it is looked at by await.",
            "send pay '(5)'",
        ),
        StepKind(
            "timer",
            "canister",
            "[NAME]",
            "Lets time pass until the canister's timer is due, and runs it.",
            "timer",
        ),
        StepKind(
            "advance",
            "duration",
            "DURATION",
            "Lets time pass (ms, s, m, h, d), and runs all timers that become due.",
            "advance 90s",
        ),
        StepKind(
            "heartbeat",
            "canister",
            "[NAME]",
            "Runs the heartbeat of a canister, or of all that have one.",
            "heartbeat",
        ),
        StepKind(
            "await",
            "rest",
            "",
            "Lets everything run that still waits: calls that were sent, callbacks, answers.",
            "await",
        ),
        StepKind("stop", "canister", "[NAME]", "Stops a canister.", "stop"),
        StepKind("start", "canister", "[NAME]", "Lets a stopped canister run again.", "start"),
        StepKind(
            "uninstall",
            "canister",
            "[NAME]",
            "Lets code, heap and stable memory of a canister go.",
            "uninstall",
        ),
        StepKind(
            "create",
            "name",
            "NAME",
            "Makes an empty canister, so that others can be told its principal before.",
            "create ledger --id ryjl3-tyaaa-aaaaa-aaaba-cai",
            _PLACE,
            is_message=False,
        ),
    )
}
"""The steps, in the order of a canister's life."""


@dataclass(frozen=True, slots=True)
class WordKind:
    """A word that is no step: it says something about one."""

    word: str
    form: str
    summary: str
    example: str


WORDS: Final = {
    it.word: it
    for it in (
        WordKind(
            "repeat",
            "COUNT STEP",
            "Does the step behind it as often; {i} in it counts from 0.",
            "repeat 100 update add '({i})'",
        ),
        WordKind(
            "as",
            "CALLER [STEP]",
            "Who calls: anonymous, a principal, or a name that stands for one; without a step from "
            "here on.",
            "as ana update add_user '(\"ana\")'",
        ),
        WordKind("label", "TEXT", "What reports call the next message.", "label first visit"),
        WordKind(
            "expect",
            "reply [CANDID] | reject [CODE] [TEXT] | trap [TEXT] | pending | MEASURE <= NUMBER",
            "What the step above it must come to; without one, a call that is rejected fails.",
            'expect trap "out of bounds"',
        ),
    )
}
