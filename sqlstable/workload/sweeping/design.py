"""Which combinations of values are run: every one, or a stated design of fewer."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from math import prod
from random import Random
from typing import Final

from sqlstable.analysis.scaling.runs import Scalar
from sqlstable.errors import SettingsError

SEED: Final = 0
"""Of the shuffles of a Latin hypercube: the same command runs the same combinations."""

_TRIES: Final = 200

ONE_AT_A_TIME: Final = "one"
"""Name of the design that changes one thing at a time."""

Combination = dict[str, Scalar]
"""A value for each name."""


def every_combination(values: Mapping[str, Sequence[Scalar]]) -> list[Combination]:
    """Return all combinations, the first values first.

    Examples:
        >>> every_combination({"page_size": [512, 4096], "layout": ["managed"]})
        [{'page_size': 512, 'layout': 'managed'}, {'page_size': 4096, 'layout': 'managed'}]
    """
    return [dict(zip(values, row, strict=True)) for row in product(*values.values())]


def one_at_a_time(values: Mapping[str, Sequence[Scalar]]) -> list[Combination]:
    """Return the first values together, then each other value with the first ones of the rest.

    What two changes do together is not seen.

    Examples:
        >>> [tuple(it.values()) for it in one_at_a_time({"a": [1, 2], "b": [5, 6, 7]})]
        [(1, 5), (2, 5), (1, 6), (1, 7)]
    """
    first = {name: listed[0] for name, listed in values.items()}
    others = [{**first, name: value} for name, listed in values.items() for value in listed[1:]]
    return [first, *others]


def latin_hypercube(values: Mapping[str, Sequence[Scalar]], count: int) -> list[Combination]:
    """Return so many combinations in which each value of a name comes equally often.

    The first values together are among them, to compare with. Of many shuffles the one that has
    most pairs of values of two names together is taken.

    Args:
        values: By name.
        count: At least as many as any name has values; with all there are, it is every one.

    Raises:
        SettingsError: Fewer than that.

    Examples:
        >>> found = latin_hypercube({"a": [1, 2, 3], "b": [5, 6, 7]}, 3)
        >>> sorted(it["a"] for it in found), sorted(it["b"] for it in found)
        ([1, 2, 3], [5, 6, 7])

    Source:
        M. D. McKay, R. J. Beckman and W. J. Conover, "A Comparison of Three Methods for Selecting
        Values of Input Variables", *Technometrics* 21 (1979), for strata that are values here.
    """
    least = max(map(len, values.values()))
    if count < least:
        raise SettingsError(
            f"a design of {count} runs cannot have each of {least} values once; give {least} or "
            "more"
        )
    if count >= prod(map(len, values.values())):
        return every_combination(values)
    draw = Random(SEED)  # noqa: S311  no secret
    designs = (_shuffled(values, count, draw) for _ in range(_TRIES))
    return max(designs, key=_quality)


def _shuffled(
    values: Mapping[str, Sequence[Scalar]], count: int, draw: Random
) -> list[Combination]:
    columns = []
    for listed in values.values():
        column = [listed[place % len(listed)] for place in range(count)]
        # The first row stays: it has the first value of each name.
        rest = column[1:]
        draw.shuffle(rest)
        columns.append([column[0], *rest])
    return [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]


def _quality(design: Sequence[Combination]) -> tuple[int, int]:
    """Return how many rows differ, and how many pairs of values stand together somewhere."""
    rows = {tuple(row.items()) for row in design}
    pairs = {pair for row in rows for pair in combinations(row, 2)}
    return len(rows), len(pairs)
