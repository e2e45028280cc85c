"""From lines of words to the steps of a workload."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Final, NoReturn

from sqlstable.errors import ScriptError
from sqlstable.module.module_source import canister_name
from sqlstable.workload.stepping.expecting import ExpectationError, read_expectation
from sqlstable.workload.stepping.shell_words import StepLine, read_lines
from sqlstable.workload.stepping.step_model import Expectation, ModuleStep
from sqlstable.workload.stepping.step_table import STEPS, WORDS, StepKind
from sqlstable.workload.stepping.terminal_commands import (
    AUTO,
    PROGRAMS,
    CommandError,
    step_words,
)

REPEAT_MAX: Final = 10_000_000
"""Most often that one step can be repeated."""

_NAMED: Final = re.compile(r"(?P<name>[A-Za-z_][\w-]*)=(?P<rest>.*)", re.DOTALL)
_ARGUMENT: Final = re.compile(r"[({\[]|@(?!.*\.(?:wasm|gz)$)|0x|4449444c", re.IGNORECASE)
"""What an argument begins with; behind ``@`` stands a file, or a module of the package."""
_DURATION: Final = re.compile(r"(?P<number>\d[\d_]*(?:\.\d+)?)(?P<unit>ms|s|m|h|d)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, None: 1.0}
_DURATION_FORM: Final = "a number with ms, s, m, h or d behind it, such as 90s"


def parse_workload(
    text: str, *, name: str = "workload", canisters: Sequence[str] = ()
) -> tuple[ModuleStep, ...]:
    """Read the steps of a workload; nothing runs yet.

    Args:
        text: The whole workload.
        name: What errors call it.
        canisters: Names of canisters that are there before its first step.

    Raises:
        ScriptError: It cannot be understood.

    Examples:
        >>> steps = parse_workload('''
        ... install counter.wasm.gz '(record { start = 1 })'
        ... as ana update add '(5)'
        ... expect reply '(6)'
        ... $ dfx canister call counter top '(10)' --query
        ... (vec { 6 })
        ... repeat 100 update add '({i})'
        ... ''')
        >>> for step in steps:
        ...     print(step.line, step.word, step.target, step.argument, step.caller, step.repeat)
        2 install counter.wasm.gz (record { start = 1 }) None 1
        3 update add (5) ana 1
        5 query top (10) None 1
        7 update add ({i}) None 100
        >>> [[it.text for it in step.expectations] for step in steps]
        [[], ['(6)'], ['(vec { 6 })'], []]
    """
    parser = _StepParser(name, canisters)
    for line in read_lines(text, name=name):
        parser.take(line)
    return parser.finish()


def split_name(text: str) -> tuple[str | None, str]:
    """Return name and module of ``NAME=MODULE``; without a name None.

    Examples:
        >>> split_name("ledger=build/l.wasm"), split_name("build/l.wasm")
        (('ledger', 'build/l.wasm'), (None, 'build/l.wasm'))
    """
    found = _NAMED.fullmatch(text)
    return (found["name"], found["rest"]) if found else (None, text)


@dataclass(slots=True)
class _Said:
    """What a line says of its step before the step itself."""

    line: int
    caller: str | None
    label: str | None = None
    repeat: int = 1
    words: set[str] = field(default_factory=set)
    "The words in front of the step so far."
    is_pasted: bool = False
    "Whether it is a command of dfx or icp."
    options: dict[str, str] = field(default_factory=dict)


class _StepParser:
    """Steps as far as they have been read.

    Invariant: ``_canisters`` has the names that a later line may use, ``_first`` the one that is
    meant where none is named.
    """

    def __init__(self, name: str, canisters: Sequence[str]) -> None:
        self._name = name
        self._steps: list[ModuleStep] = []
        self._canisters = dict.fromkeys(canisters)
        self._installed = set(canisters)
        self._first: str | None = None
        self._caller: str | None = None
        self._label: tuple[int, str] | None = None
        self._last_is_step = False

    def take(self, line: StepLine) -> None:
        """Take one line."""
        if line.bare:
            self._expect(line.number, Expectation(line.number, "reply", line.words[0]))
            return
        self._take_words(line.words, _Said(line.number, self._caller))

    def finish(self) -> tuple[ModuleStep, ...]:
        """Return all steps.

        Raises:
            ScriptError: A label has no message.
        """
        if self._label is not None:
            line, label = self._label
            self._fail(line, f"no message comes behind label {label!r} to be called so")
        return tuple(self._steps)

    def _take_words(self, words: Sequence[str], said: _Said) -> None:
        """Go through the words in front of a step, then add the step."""
        if words[0] in PROGRAMS:
            said.is_pasted = True
            try:
                words = step_words(words)
            except CommandError as error:
                self._fail(said.line, str(error))
        word, *rest = words
        match word:
            case "as":
                if not rest:
                    self._fail(said.line, "as lacks the caller; write as NAME, as anonymous …")
                if len(rest) == 1:
                    self._caller = said.caller = rest[0]
                    return
                self._say_once(said, word)
                said.caller = rest[0]
                self._take_words(rest[1:], said)
            case "repeat":
                self._say_once(said, word)
                said.repeat, rest = self._count(said.line, rest), rest[1:]
                said.options["repeat"] = ""
                self._take_words(rest, said)
            case "label":
                self._take_label(said.line, " ".join(rest))
            case "expect":
                try:
                    self._expect(said.line, read_expectation(rest, said.line))
                except ExpectationError as error:
                    self._fail(said.line, str(error))
            case _ if word in STEPS or word == AUTO:
                self._add(word, rest, said)
            case _:
                self._fail_unknown(said.line, word)

    def _say_once(self, said: _Said, word: str) -> None:
        if word in said.words:
            self._fail(said.line, f"the line says {word} twice; a step has one")
        said.words.add(word)

    def _take_label(self, line: int, label: str) -> None:
        if self._label is not None:
            self._fail(line, f"the next message has the label {self._label[1]!r}")
        if not label:
            self._fail(line, "label lacks its text; write label first visit")
        self._label = line, label

    def _add(self, word: str, words: Sequence[str], said: _Said) -> None:
        """Add one step."""
        kind = STEPS["install" if word == AUTO else word]
        words, options = self._options(kind, words, said.line)
        step = ModuleStep(
            kind.word,
            said.line,
            caller=said.caller,
            repeat=said.repeat,
            options={**said.options, **options},
        )
        match kind.takes:
            case "module":
                step = self._module_step(step, words, is_auto=word == AUTO)
            case "method":
                step = self._call_step(step, words, is_pasted=said.is_pasted)
            case "duration":
                step = replace(step, seconds=self._seconds(said.line, words))
            case "name":
                step = self._create_step(step, words)
            case "canister":
                self._refuse_more(step, words, 1)
                step = replace(step, canister=self._named(step.line, words))
            case "rest":
                self._refuse_more(step, words, 0)
        if kind.is_message and self._label is not None:
            step, self._label = replace(step, label=self._label[1]), None
        self._steps.append(step)

    def _module_step(self, step: ModuleStep, words: Sequence[str], *, is_auto: bool) -> ModuleStep:
        name, module = None, ""
        if words and not _ARGUMENT.match(words[0]):
            if words[0] in self._installed and "." not in words[0]:
                name = words[0]
            else:
                name, module = split_name(words[0])
            words = words[1:]
        self._refuse_more(step, words, 1)
        argument = words[0] if words else None
        if step.word == "install":
            if not module:
                self._fail(step.line, "install lacks the module; write install app.wasm.gz")
            name = name or self._new_name(module)
            word = "upgrade" if is_auto and name in self._installed else "install"
            if word == "install" and name in self._installed:
                self._fail(
                    step.line,
                    f"canister {name} has a module already; write upgrade or reinstall, or give "
                    "the new canister a name of its own: install NAME=MODULE",
                )
            self._canisters[name] = None
            self._installed.add(name)
            self._first = self._first or name
            return replace(step, word=word, canister=name, target=module, argument=argument)
        name = self._named(step.line, [name] if name else [])
        return replace(step, canister=name, target=module, argument=argument)

    def _new_name(self, module: str) -> str:
        """Return the name for a module that is given none: one that was created waits for it."""
        created = [it for it in self._canisters if it not in self._installed]
        name = canister_name(module)
        return created[0] if len(created) == 1 and name not in self._canisters else name

    def _create_step(self, step: ModuleStep, words: Sequence[str]) -> ModuleStep:
        self._refuse_more(step, words, 1)
        if not words:
            self._fail(step.line, "create lacks a name; write create ledger")
        if words[0] in self._canisters:
            self._fail(step.line, f"there is a canister {words[0]} already")
        self._canisters[words[0]] = None
        return replace(step, canister=words[0])

    def _call_step(self, step: ModuleStep, words: Sequence[str], *, is_pasted: bool) -> ModuleStep:
        if not words:
            self._fail(step.line, f"{step.word} lacks the method; write {STEPS[step.word].example}")
        self._refuse_more(step, words[1:], 1)
        name, dot, method = words[0].partition(".")
        if not dot:
            name, method = "", words[0]
        elif name not in self._canisters and is_pasted and len(self._canisters) == 1:
            # In the project that it is from, the canister has another name than its file.
            name = ""
        if not method:
            self._fail(step.line, f"{words[0]} names no method; write NAME.METHOD")
        return replace(
            step,
            canister=self._named(step.line, [name] if name else []),
            target=method,
            argument=words[1] if len(words) > 1 else None,
        )

    def _named(self, line: int, names: Sequence[str]) -> str | None:
        """Return the canister that is meant."""
        if not names:
            named = self._first or next(iter(self._canisters), None)
            word = self._steps[-1].word if self._steps else ""
            if named is None and word != "heartbeat":
                self._fail(line, "no canister is installed yet; begin with install MODULE")
            return named
        if names[0] not in self._canisters:
            known = ", ".join(self._canisters) or "none"
            self._fail(
                line,
                f"there is no canister {names[0]}; known are: {known}; install {names[0]}=MODULE "
                f"or --canister {names[0]}=MODULE puts one beside it",
            )
        return names[0]

    # -- pieces ---------------------------------------------------------------------------------

    def _options(
        self, kind: StepKind, words: Sequence[str], line: int
    ) -> tuple[list[str], dict[str, str]]:
        known = {f"--{it.name}": it for it in kind.options}
        plain, options = list[str](), dict[str, str]()
        rest = iter(words)
        for word in rest:
            name, has_value, value = word.partition("=")
            if not word.startswith("--"):
                plain.append(word)
                continue
            option = known.get(name)
            if option is None:
                offered = ", ".join(known) or "none"
                self._fail(line, f"{kind.word} has no option {name}; it has: {offered}")
            if option.value and not has_value:
                taken = next(rest, None)
                if taken is None:
                    self._fail(line, f"{name} lacks its value: {option.value}")
                value = taken
            fault = option.fault(value)
            if fault:
                self._fail(line, f"{name} is {value!r}; {fault}")
            options[option.name] = value
        return plain, options

    def _count(self, line: int, words: Sequence[str]) -> int:
        text = words[0].replace("_", "").replace(",", "") if words else ""
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= REPEAT_MAX):
            self._fail(
                line,
                f"repeat needs a number from 1 to {REPEAT_MAX:,}; write repeat 100 update add",
            )
        is_bare = words[1:2] == ["as"] and len(words) < 4
        if len(words) < 2 or words[1] in ("label", "expect") or is_bare:
            self._fail(line, f"repeat {words[0]} needs a step behind it on its line")
        return int(text)

    def _seconds(self, line: int, words: Sequence[str]) -> float:
        found = _DURATION.fullmatch("".join(words))
        if found is None:
            self._fail(line, f"advance takes {_DURATION_FORM}")
        return float(found["number"].replace("_", "")) * _SECONDS[found["unit"]]

    def _expect(self, line: int, expectation: Expectation) -> None:
        if not self._steps or not STEPS[self._steps[-1].word].is_message or self._label:
            self._fail(line, "an expectation stands below the step that it is about")
        last = self._steps[-1]
        self._steps[-1] = replace(last, expectations=(*last.expectations, expectation))

    def _refuse_more(self, step: ModuleStep, words: Sequence[str], most: int) -> None:
        if len(words) > most:
            kind = STEPS[step.word]
            self._fail(
                step.line,
                f"{words[most]!r} is one word too many; the form is {kind.word} {kind.form}, with "
                "the argument in single quotes",
            )

    def _fail_unknown(self, line: int, word: str) -> NoReturn:
        known = [*STEPS, *WORDS]
        near = get_close_matches(word.lower(), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"the steps are {', '.join(known)}"
        self._fail(
            line,
            f"{word[:40]!r} is no step; {hint}; what a terminal printed is left out with #, but "
            "for replies in parentheses",
        )

    def _fail(self, line: int, text: str) -> NoReturn:
        raise ScriptError(f"{self._name}, line {line}: {text}")
