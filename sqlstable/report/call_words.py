"""How reports speak of the messages of a canister's own module."""

from typing import Final

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.words import CALL_KIND, MODULE_ENGINE
from sqlstable.report.numbers import counted, size
from sqlstable.report.text import clean, fit
from sqlstable.trace.model import Message, TraceSettings

ANSWER_CHARACTERS_MAX: Final = 60
"""What tables show of a reply; the JSON report has all of it."""

WHOSE_OF_MODULE: Final = (
    "whose",
    (
        "what the OS pages accessed belong to: a table or index of a database, a virtual memory, "
        "a range; bar: share of the row"
    ),
)


def is_of_module(settings: TraceSettings) -> bool:
    """Whether a trace is one of a canister's own module."""
    return settings.values.get("engine") == MODULE_ENGINE


def has_calls_alone(trace: TraceSource) -> bool:
    """Whether no SQL was seen: each message has one statement, its call."""
    return is_of_module(trace.settings) and all(use.kind == CALL_KIND for use in trace.shape_uses)


def answer_words(message: Message) -> str:
    """Say what a message answered; empty where SQL was all that was asked.

    A trap is told elsewhere, and whoever nobody calls has nothing to answer.
    """
    call = message.call
    if call is None or message.outcome == "trapped":
        return ""
    if call.answer == "none":
        if call.answer_text is not None:
            return clean(call.answer_text)
        return "no answer" if message.kind in _ANSWERING else ""
    if call.answer == "reply" and call.answer_text is not None:
        return f"replied {fit(clean(call.answer_text), ANSWER_CHARACTERS_MAX)}"
    verb = "replied" if call.answer == "reply" else "rejected"
    return f"{verb}, {size(call.answer_bytes)}"


_ANSWERING: Final = ("update", "query", "replicated_query", "composite_query", "callback")
"""Kinds of message that answer a call, or may."""


def call_facts(message: Message) -> list[str]:
    """Say of a message what does not stand in its call: what it was, and what came of it."""
    words = [clean(message.kind).replace("_", " ")]
    if message.continues is not None:
        words.append(f"continues {message.continues}")
    answer = answer_words(message)
    if message.outcome == "trapped":
        words.append("trapped")
    elif answer:
        words.append(answer)
    if message.discarded_writes:
        words.append("writes discarded")
    if message.call is not None and message.call.calls_made:
        words.append(counted(message.call.calls_made, "call"))
    return words
