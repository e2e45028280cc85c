"""The one seam to libraries of data frames: columns become a frame of pandas, polars or Arrow.

Numbers are handed over as they are; names become categories. What is missing is missing, in
whichever way the library has for it, and never by way of floats, which would round.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from sqlstable.errors import TraceError

FrameLibrary = Literal["pandas", "polars", "pyarrow"]
"""Whose frames there are."""

_LIBRARIES: Final[tuple[FrameLibrary, ...]] = get_args(FrameLibrary)


@dataclass(frozen=True, slots=True, eq=False)
class FrameColumn:
    """One column of a frame."""

    values: npt.NDArray[Any]
    "Numbers; or positions in ``names``."
    names: tuple[str, ...] | None = None
    "What the values stand for, each once, where the column has texts."
    known: npt.NDArray[np.bool_] | None = None
    "Where there is a value; None: everywhere."

    def __len__(self) -> int:
        return len(self.values)


FrameColumns = Mapping[str, FrameColumn]
"""Columns of one length by their names."""


def column_of(values: Sequence[Any], kind: type = int) -> FrameColumn:
    """Return plain values as a column; None is missing.

    Args:
        values: All of one type, but for None.
        kind: That type: str, int or float.

    Examples:
        >>> column = column_of(["read", None, "read", "write"], str)
        >>> column.names, column.values.tolist(), column.known.tolist()
        (('read', 'write'), [0, 0, 0, 1], [True, False, True, True])
    """
    known = np.array([value is not None for value in values], dtype=np.bool_)
    missing = None if known.all() else known
    if kind is str:
        texts = tuple(name for name in dict.fromkeys(values) if name is not None)
        numbers = {name: code for code, name in enumerate(texts)}
        codes = [0 if value is None else numbers[value] for value in values]
        return FrameColumn(np.array(codes, dtype=np.int32), texts, missing)
    filled = [0 if value is None else value for value in values]
    return FrameColumn(np.array(filled, dtype=np.dtype(kind)), None, missing)


def frame(columns: FrameColumns, library: FrameLibrary) -> Any:  # noqa: ANN401  libraries are optional
    """Return columns as a frame of a library.

    Raises:
        TraceError: There is no such library, or it is not installed.
    """
    if library not in _LIBRARIES:
        raise TraceError(f"there are no frames of {library!r}; use one of {', '.join(_LIBRARIES)}")
    return _MAKERS[library](installed(library), columns)


def installed(library: str) -> Any:  # noqa: ANN401  as above
    """Import a library that is optional.

    Raises:
        TraceError: It is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise TraceError(
            f"frames of {library} need {library}, which is not installed; pip install {library}"
        ) from error


def _pandas_frame(pandas: Any, columns: FrameColumns) -> Any:  # noqa: ANN401
    return pandas.DataFrame({name: _pandas(pandas, it) for name, it in columns.items()}, copy=False)


def _pandas(pandas: Any, column: FrameColumn) -> Any:  # noqa: ANN401
    values, missing = column.values, None if column.known is None else ~column.known
    if column.names is not None:
        codes = values if missing is None else np.where(missing, -1, values)
        # Codes are made to fit: checking them would take as long as all else.
        kind = pandas.CategoricalDtype(pandas.Index(column.names, dtype=object))
        return pandas.Categorical.from_codes(codes, dtype=kind, validate=False)
    if missing is None:
        return values
    if values.dtype.kind == "f":
        return pandas.arrays.FloatingArray(values, missing)
    return pandas.arrays.IntegerArray(values, missing)


def _polars_frame(polars: Any, columns: FrameColumns) -> Any:  # noqa: ANN401
    made = []
    for name, column in columns.items():
        series = polars.Series(name, column.values)
        if column.names is not None:
            # Where all is missing there are no names to be taken.
            names = column.names or ("",)
            series = polars.Series(name, names, dtype=polars.Enum(names)).gather(series)
        if column.known is not None:
            nothing = polars.Series(name, [None], dtype=series.dtype)
            series = series.zip_with(polars.Series(column.known), nothing)
        made.append(series)
    return polars.DataFrame(made)


def _arrow_table(pyarrow: Any, columns: FrameColumns) -> Any:  # noqa: ANN401
    return pyarrow.table({name: arrow_array(pyarrow, it) for name, it in columns.items()})


def arrow_array(pyarrow: Any, column: FrameColumn) -> Any:  # noqa: ANN401
    """Return a column as an array of Arrow's."""
    mask = None if column.known is None else ~column.known
    values = pyarrow.array(column.values, mask=mask)
    if column.names is None:
        return values
    return pyarrow.DictionaryArray.from_arrays(
        values, pyarrow.array(column.names, pyarrow.string())
    )


_MAKERS: Final = {"pandas": _pandas_frame, "polars": _polars_frame, "pyarrow": _arrow_table}
