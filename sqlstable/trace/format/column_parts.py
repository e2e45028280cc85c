"""The columns of frames a part at a time, for what goes through a trace of any length once."""

from collections.abc import Iterator

from sqlstable.trace.access_stream import joined_blocks
from sqlstable.trace.format.access_frame import AccessColumns
from sqlstable.trace.format.access_reader import AccessReader
from sqlstable.trace.format.frames import FrameColumns
from sqlstable.trace.format.record_frames import Records, framed, record_parts
from sqlstable.trace.format.storage import TracePart


def column_parts(
    snapshot: TracePart, reader: AccessReader, page_size: int | None, what: str
) -> Iterator[FrameColumns]:
    """Yield the columns of accesses, statements or messages; one part at least, be it empty."""
    if what == "accesses":
        maker = AccessColumns(reader, page_size)
        yield maker.columns(joined_blocks([]))
        for block in reader.blocks(owners=True):
            yield maker.columns(block)
    else:
        records: Records = "messages" if what == "messages" else "statements"
        assert what == records
        yield from map(framed, record_parts(snapshot, records))
