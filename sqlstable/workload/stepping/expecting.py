"""What a workload expects of a step: reading it, and holding against it what came."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sqlstable.candid.interface import encode_text, show
from sqlstable.errors import CandidError
from sqlstable.module.canister_language import one_line
from sqlstable.module.module_reply import ModuleReply
from sqlstable.workload.stepping.step_model import MEASURES, RELATIONS, Expectation

_REJECT_CODES: Final = range(1, 7)
_NUMBER: Final = re.compile(r"(?P<digits>\d[\d_,]*)(?P<unit>[kKmMbBgG]?)")
_UNITS: Final = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000, "g": 1_000_000_000}
_SHOWN_CHARACTERS_MAX: Final = 240
"""What an error shows of a reply."""
_FORM: Final = (
    "expect takes reply [CANDID], reject [CODE] [TEXT], trap [TEXT], pending, or one of "
    f"{', '.join(MEASURES)} with <= and a number"
)


class ExpectationError(ValueError):
    """An expectation cannot be understood."""


def read_expectation(words: Sequence[str], line: int) -> Expectation:
    """Read what stands behind ``expect``.

    Raises:
        ExpectationError: It cannot be understood.

    Examples:
        >>> read_expectation(["reject", "4", "no room"], 3).code
        4
        >>> found = read_expectation(["instructions", "<", "5_000_000"], 3)
        >>> found.measure, found.relation, found.bound
        ('instructions', '<', 5000000)
    """
    kind, rest = (words[0], words[1:]) if words else ("", ())
    if kind[:1] == "(":
        kind, rest = "reply", words
    code = None
    if kind == "reject" and rest and rest[0].isdigit():
        code, rest = int(rest[0]), rest[1:]
        if code not in _REJECT_CODES:
            raise ExpectationError(f"there is no reject code {code}; they are 1 to 6")
    text = rest[0] if len(rest) == 1 else None
    if kind in ("reply", "reject", "trap") and len(rest) > 1:
        raise ExpectationError(f"{rest[1]!r} is one word too many; put the text in quotes")
    match kind:
        case "reply":
            return Expectation(line, "reply", text)
        case "reject":
            return Expectation(line, "reject", text, code)
        case "trap":
            return Expectation(line, "trap", text)
        case "pending" if not rest:
            return Expectation(line, "pending")
        case _ if kind in MEASURES:
            return _read_budget(kind, rest, line)
    raise ExpectationError(_FORM)


def _read_budget(measure: str, words: Sequence[str], line: int) -> Expectation:
    relation, number = (*words, "", "")[:2]
    found = _NUMBER.fullmatch(number)
    if relation not in RELATIONS or found is None or len(words) > 2:
        raise ExpectationError(
            f"expect {measure} takes one of {' '.join(RELATIONS)} and a number, such as "
            f"expect {measure} <= 5_000_000"
        )
    digits = int(re.sub("[_,]", "", found["digits"]))
    bound = digits * _UNITS[found["unit"].lower()]
    return Expectation(line, "measure", measure=measure, relation=relation, bound=bound)


def budget_failure(expected: Expectation, measured: Mapping[str, int]) -> str | None:
    """Say by how much a budget is not kept; None where it is.

    Examples:
        >>> budget_failure(read_expectation(["dirty", "<=", "3"], 1), {"dirty": 5})
        'dirty is 5, expected <= 3'
        >>> budget_failure(read_expectation(["dirty", "<=", "5"], 1), {"dirty": 5})
    """
    found, bound = measured[expected.measure], expected.bound
    is_kept = {
        "<": found < bound,
        "<=": found <= bound,
        "=": found == bound,
        ">=": found >= bound,
        ">": found > bound,
    }[expected.relation]
    if is_kept:
        return None
    return f"{expected.measure} is {found:,}, expected {expected.relation} {bound:,}"


def difference(expected: Expectation, reply: ModuleReply) -> str | None:
    """Say in what a step came to something else than expected; None where it did not.

    Raises:
        CandidError: The reply that is expected is none of its types.
    """
    match expected.kind:
        case "measure":
            return budget_failure(expected, reply.measured())
        case "pending":
            return None if reply.is_pending else f"expected no answer yet, but {_said(reply)}"
        case "reply":
            return _unlike_reply(expected.text, reply)
        case "trap":
            trap = next((it.trap for it in reversed(reply.executed) if it.trap is not None), None)
            if trap is None:
                return f"expected a trap, but {_said(reply)}"
            return _unlike_words(expected.text, str(trap), "trap")
        case "reject":
            return _unlike_reject(expected, reply)


def _unlike_reject(expected: Expectation, reply: ModuleReply) -> str | None:
    rejection = reply.rejection
    if rejection is None:
        return f"expected a reject, but {_said(reply)}"
    if expected.code is not None and rejection.code != expected.code:
        return f"expected reject code {expected.code}, but {_said(reply)}"
    return _unlike_words(expected.text, rejection.seen_by_canister, "reject")


def _unlike_reply(text: str | None, reply: ModuleReply) -> str | None:
    if reply.answer != "reply":
        return f"expected a reply, but {_said(reply)}"
    if text is None or _plain(text) == _plain(reply.text):
        return None
    data = reply.language.expected_reply(reply.method, text)
    if data is not None:
        expected = reply.language.reply_text(reply.method, data)
    else:
        try:
            expected = show(encode_text(text))
        except CandidError:
            expected = text
    if expected == reply.text:
        return None
    return f"it replied {_short(reply.text)}, expected {_short(expected)}"


def _said(reply: ModuleReply) -> str:
    return f"it replied {_short(reply.text)}" if reply.answer == "reply" else reply.fate


def _short(text: str) -> str:
    """Return a reply on one line, without the middle of a long one."""
    line = one_line(text)
    if len(line) <= _SHOWN_CHARACTERS_MAX:
        return line
    half = _SHOWN_CHARACTERS_MAX // 2
    return f"{line[:half]} … {line[-half:]}"


def _unlike_words(expected: str | None, found: str, what: str) -> str | None:
    if expected is None or expected in found:
        return None
    return f"expected a {what} that says {expected!r}, but it says {found!r}"


def _plain(text: str) -> str:
    """Return Candid text without what says nothing."""
    return "".join(text.split()).replace(",)", ")").replace(";}", "}")
