"""Rules ``no-transaction`` and ``near-limit``: how work is cut into messages."""

from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.advice.advice import Advice, counted, percent
from sqlstable.analysis.advice.evidence import AdviceEvidence, cited
from sqlstable.analysis.verdict import share as share_of_limit
from sqlstable.analysis.verdict import tightest_limit
from sqlstable.trace.format.shape_uses import ShapeUse
from sqlstable.trace.model import Message, Statement

ROW_FOR_ROW_MIN: Final = 50
"""Messages of one row each, in a row: so many alike are a program's, which can send them together;
fewer may be as many people's."""

IN_A_ROW: Final = 0.9
"""Part of the statements between the first and the last that are alike."""

NEAR: Final = 0.5
"""Share of a limit from which on twice the data leaves it."""


def single_rows(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise one message for many rows, where each came in a message of its own."""
    for use in evidence.mattering("write"):
        if not _is_row_for_row(evidence, use):
            continue
        heap = use.heap_instructions or 0
        numbers = [
            f"{use.statement_count:,} messages",
            counted(use.os_pages_dirty, "dirty OS page"),
        ]
        gain = (
            f"expected: each OS page dirty once in the message, instead of {use.os_pages_dirty:,} "
            "in all"
        )
        if heap:
            numbers.append(f"{heap:,} of {use.instructions:,} instructions for the heap")
            gain += f"; most of {heap:,} instructions, which each message pays anew"
        yield Advice(
            code="no-transaction",
            sentence=(
                f"Send many rows in one message, between BEGIN and COMMIT, instead of "
                f"{use.statement_count:,} messages of one row, if one caller sends them"
            ),
            cites=(cited(evidence.heaviest(use), *numbers),),
            gain=gain,
            statements=(use.heaviest,),
            share=evidence.share(use),
        )


def near_limits(evidence: AdviceEvidence) -> Iterator[Advice]:
    """Advise to split the message that is nearest to a limit."""
    summary = evidence.trace.summary
    index = summary.exceeding[0] if summary.exceeding else summary.nearest
    message = None if index is None else evidence.trace.messages[index]
    limit = None if message is None else tightest_limit(message)
    if message is None or limit is None or not message.statements:
        return
    if share_of_limit(limit) < NEAR and not summary.exceeding:
        return
    statement = _heaviest_of(evidence, message)
    more = len(summary.exceeding) - 1
    beside = f"; {counted(more, 'other message')} passed a limit, too" if more > 0 else ""
    yield Advice(
        code="near-limit",
        sentence=(
            f"Split message {message.index} into several, of which each does a part of the rows"
            f"{beside}"
        ),
        cites=(
            (
                f"message {message.index}: {limit.used:,} of {limit.limit:,} {limit.name}, "
                f"{percent(limit.used, limit.limit)}"
            ),
            cited(statement),
        ),
        gain="expected: half the share of the limit for half the rows",
        statements=(statement.index,),
        share=min(1.0, share_of_limit(limit)),
    )


def _is_row_for_row(evidence: AdviceEvidence, use: ShapeUse) -> bool:
    """Tell whether statements of one row each follow each other, each in a message of its own."""
    count = use.statement_count
    if count < ROW_FOR_ROW_MIN or use.run_count != count:
        return False
    if count < IN_A_ROW * (use.last - use.first + 1):
        return False
    first, last = (evidence.trace.statements[index].message for index in (use.first, use.last))
    return last - first + 1 >= IN_A_ROW * count


def _heaviest_of(evidence: AdviceEvidence, message: Message) -> Statement:
    listed = [evidence.trace.statements[index] for index in message.statements]
    return max(listed, key=_weight)


def _weight(statement: Statement) -> tuple[int, int]:
    spent = statement.instructions
    return (0 if spent is None else spent.total, statement.stable.os_pages_accessed)
