"""A trace as Parquet, a row group after the other: memory stays what one of them needs."""

from collections.abc import Iterable
from typing import Any, BinaryIO

from sqlstable.trace.format.frames import FrameColumns, arrow_array, installed


def write_parquet(parts: Iterable[FrameColumns], target: BinaryIO) -> None:
    """Write columns that come in parts, each of the same names, as one file.

    Args:
        parts: One at least.
        target: Where the bytes go, in order; it need not be seekable.

    Raises:
        TraceError: pyarrow is not installed.
    """
    pyarrow, parquet = installed("pyarrow"), installed("pyarrow.parquet")
    writer: Any = None
    try:
        for columns in parts:
            table = pyarrow.table(
                # Names differ from part to part, and Parquet keeps equal texts once anyway.
                {
                    name: array.dictionary_decode() if column.names is not None else array
                    for name, column in columns.items()
                    for array in [arrow_array(pyarrow, column)]
                }
            )
            if writer is None:
                writer = parquet.ParquetWriter(target, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
