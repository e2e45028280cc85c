"""Quantiles of Student's t distribution, without a library for statistics."""

import math
from functools import lru_cache

_HALVINGS = 200
_T_MAX = 1e9


@lru_cache(maxsize=256)
def t_quantile(confidence: float, freedom: int) -> float:
    """Return the t within which a two-sided interval of this confidence lies.

    Args:
        confidence: Above 0 and below 1, as in 0.95.
        freedom: Degrees of freedom, 1 or more.

    Returns:
        The t with ``P(|T| <= t) = confidence``.

    Examples:
        >>> [round(t_quantile(0.95, freedom), 3) for freedom in (1, 2, 3, 10, 1000)]
        [12.706, 4.303, 3.182, 2.228, 1.962]

    Source:
        The inverse, by halving an interval, of the closed form for whole degrees of freedom: M.
        Abramowitz and I. Stegun, *Handbook of Mathematical Functions*, 26.7.3 and 26.7.4.
    """
    assert 0 < confidence < 1
    assert freedom >= 1
    low, high = 0.0, _T_MAX
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _probability(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def _probability(t: float, freedom: int) -> float:
    """Return the probability that the absolute value is at most t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    is_odd = freedom % 2
    # Each term is the one before times cosine squared and a ratio of neighbouring whole numbers.
    term, total = (cosine if is_odd else 1.0), 0.0
    for step in range(1 + is_odd, freedom, 2):
        total += term
        term *= cosine * cosine * step / (step + 1)
    return (angle + sine * total) * 2 / math.pi if is_odd else sine * total
