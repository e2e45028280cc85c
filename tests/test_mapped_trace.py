"""A trace under other instructions and limits: everything that reads a trace sees them."""

from dataclasses import replace

import pytest

import sqlstable
from sqlstable.analysis.mapped_trace import mapped_trace
from sqlstable.ic.limits import NO_LIMIT
from sqlstable.trace.format.file import TraceWriter
from sqlstable.trace.format.stream import StreamedTrace
from sqlstable.trace.model import Instructions, LimitUse, Part
from tests.trace_by_hand import MESSAGES, SETTINGS, STATEMENTS, assert_by_hand, write_by_hand
from tests.trace_by_hand import path_fixture as path_fixture  # noqa: PLC0414  a fixture

SPENT = Instructions(1_000, 700, 200, 100)


def dearer(record):
    return replace(record, instructions=SPENT)


def limited(message):
    return replace(
        dearer(message),
        limits=(LimitUse("instructions", 1_000, 500), LimitUse("other", 1, NO_LIMIT)),
        parts=(Part("init", 1, 1, 7),),
    )


def test_a_trace_that_is_mapped_to_itself_is_as_it_was(path):
    before = path.read_bytes()
    with sqlstable.open_trace(path) as trace:
        same = mapped_trace(trace, message=lambda it: it, statement=lambda it: it)
        with same:
            assert_by_hand(same)
            assert same.summary == trace.summary
            assert same.shape_uses == trace.shape_uses
            assert same.to_pandas().equals(trace.to_pandas())
    assert path.read_bytes() == before


@pytest.mark.parametrize("show", [lambda it: it, StreamedTrace], ids=["held", "streamed"])
def test_records_and_sums_and_frames_see_what_is_mapped(path, show):
    with sqlstable.open_trace(path) as trace:
        with mapped_trace(
            show(trace), message=limited, statement=dearer, settings={"limits": None, "new": [1]}
        ) as mapped:
            assert [it.instructions for it in mapped.messages] == [SPENT] * len(MESSAGES)
            assert [it.limits for it in mapped.messages] == [limited(MESSAGES[0]).limits] * 4
            assert [it.parts for it in mapped.messages] == [(Part("init", 1, 1, 7),)] * 4
            assert [it.instructions for it in mapped.statements] == [SPENT] * len(STATEMENTS)
            assert mapped.statements[0].stable == STATEMENTS[0].stable
            found = mapped.summary
            assert found.instructions == Instructions(4_000, 2_800, 800, 400)
            assert found.statement_instructions == found.instructions
            assert (found.exceeding, found.nearest) == ((0, 1, 2, 3), 0)
            assert set(mapped.statements_frame()["instructions_total"]) == {1_000}
            assert set(mapped.messages_frame()["instructions_total"]) == {1_000}
            assert sum(it.instructions for it in mapped.shape_uses) == 4_000
            assert mapped.settings.values == {
                **SETTINGS, "closed": True, "limits": None, "new": [1]
            }  # fmt: skip
        # What was recorded is as it was.
        assert_by_hand(trace)


def test_a_run_goes_on_beside_its_mapped_trace(tmp_path):
    for path in (None, tmp_path / "run.trace"):
        with TraceWriter(path, SETTINGS) as writer:
            write_by_hand(writer, 2)
            with writer.trace() as trace, mapped_trace(trace, message=dearer) as mapped:
                write_by_hand_rest(writer)
                assert [it.instructions for it in mapped.messages] == [SPENT] * 2
                assert mapped.summary.message_count == trace.summary.message_count == 2
            with writer.trace() as trace:
                assert trace.messages == MESSAGES


def write_by_hand_rest(writer):
    for message in MESSAGES[2:]:
        writer.write(
            message,
            [STATEMENTS[index] for index in message.statements],
            statement_accesses={},
            outside_accesses=[[] for _ in message.outside],
        )


def test_a_closed_trace_is_not_mapped(path):
    trace = sqlstable.open_trace(path)
    trace.close()
    with pytest.raises(sqlstable.TraceError, match="is closed; open it again"):
        mapped_trace(trace, message=lambda it: it)
