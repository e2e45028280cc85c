"""Laws of growth, fitted to few sizes, with intervals that say how little that is.

What a script takes at a size is a count without chance in it: two runs agree. So what a law misses
is not noise but the law's own fault, and steps: whole OS pages, trees that get a level more. Four
things keep predictions honest about that:

* **Several laws are fitted**, and a prediction's interval is the hull of the intervals of all that
  the data leave standing. Far beyond the sizes these part, and the interval opens.
* **No law is taken to hold better than `MISFIT`**, and no count better than its own step, however
  well few points happen to lie on it.
* **Beyond the sizes** every interval opens by `DRIFT` of an exponent.
* **With few sizes Student's t is large**: of three, each law with two coefficients leaves one
  degree of freedom.

Residuals are relative (of logarithms), so that the small sizes count as much as the large.

Source:
    Least squares, intervals of a prediction and Student's t: N. R. Draper and H. Smith, *Applied
    Regression Analysis*, 3rd ed., sections 1.4, 3.1 and 24.6. The choice among laws: AIC, and what
    a difference in it means, K. P. Burnham and D. R. Anderson, *Model Selection and Multimodel
    Inference*, 2nd ed., sections 2.2 and 2.6. Their correction for few data is the same for all
    laws with two coefficients, and left out: it would let the constant, with one, beat growth that
    five sizes show.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import SettingsError
from sqlstable.trace.student import t_quantile

CONFIDENCE: Final = 0.95

SIZES_MIN: Final = 3
"""Of two sizes any law with two coefficients fits exactly, and nothing says how wrong it is."""

DRIFT: Final = 0.05
"""Of the exponent, beyond the sizes: there a law may bend by so much more or less. A tree that gets
a level more, numbers that get a digit more and sorts make work a little more than linear; ten times
beyond, this is 12 %. Chosen by ``benchmarks.scaling``, which shows what it holds for."""

MISFIT: Final = 0.01
"""Relative: the law of a B-tree is smooth to about so much, as cells fill SQLite pages unevenly
and row numbers get a byte longer now and then."""

SUPPORT_MAX: Final = 7.0
"""Difference in AIC up to which the data leave a law standing beside the best one."""

_NORMAL_QUANTILE: Final = 1.959964
"""Of the normal distribution, for `CONFIDENCE`: where the scatter is known beforehand."""

_STEP_VARIANCE: Final = 1 / 12
"""Of a number rounded to whole steps: that of the uniform distribution over one."""

_Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected at a size."""

    value: float
    low: float
    "Of the interval that should hold the real value with a confidence of `CONFIDENCE`."
    high: float

    def holds(self, real: float) -> bool:
        """Tell whether the interval holds a value."""
        return self.low <= real <= self.high


@dataclass(frozen=True, slots=True)
class Exponent:
    """The k of a power law a·n^k, as log-log least squares has it."""

    value: float
    low: float
    high: float
    is_power_law: bool
    "Whether the data leave a power law standing; if not, it is an average over a bend."


@dataclass(frozen=True, slots=True)
class FittedLaw:
    """One law with its coefficients."""

    name: str
    "constant, logarithmic, linear, n log n, quadratic or power."
    coefficients: tuple[float, float]
    "(a, b) of a + b·f(n), b being 0 for constant; (a, k) of a·n^k."
    score: float
    "AIC but for a constant, smaller is better."
    chi_square: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    "Of the coefficients, where the scatter is as assumed; of a power law, of (log a, k)."
    freedom: int

    def value(self, size: float) -> float:
        """Return what the law says at a size."""
        a, b = self.coefficients
        return a * size**b if self.name == POWER else a + b * basis(self.name, size)

    def predict(self, size: float, *, step: float) -> Prediction | None:
        """Return the prediction of this law alone; None where it says nothing above zero."""
        value = self.value(size)
        if not 0 < value < math.inf:
            return None
        if self.name == POWER:
            spread = self._spread(1.0, math.log(size), value, step)
            # More says nothing any more, and must not overflow.
            factor = math.exp(min(spread, _SPREAD_MAX))
            return Prediction(value, value / factor, value * factor)
        spread = value * self._spread(1 / value, basis(self.name, size) / value, value, step)
        return Prediction(value, value - spread, value + spread)

    def shows_growth(self) -> bool:
        """Tell whether the second coefficient is larger than its own uncertainty."""
        return abs(self.coefficients[1]) > self.quantile * math.sqrt(self.covariance[1][1])

    def _spread(self, one: float, other: float, value: float, step: float) -> float:
        """Return half an interval, relative to the value, for a gradient of two coefficients."""
        (aa, ab), (_, bb) = self.covariance
        variance = one * one * aa + 2 * one * other * ab + other * other * bb
        return self.quantile * math.sqrt(max(variance, 0.0) + _variance(value, step))

    @property
    def quantile(self) -> float:
        """How many of the assumed standard deviations an interval reaches to either side."""
        scatter = math.sqrt(self.chi_square / self.freedom)
        return max(t_quantile(CONFIDENCE, self.freedom) * scatter, _NORMAL_QUANTILE)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a count was at several sizes, and the laws by which it may grow.

    Examples:
        >>> found = fit([1000, 3000, 10_000, 30_000], [12, 36, 120, 360])
        >>> found.best.name, round(found.exponent.value, 2), found.exponent.is_power_law
        ('linear', 1.0, True)
        >>> found.predict(100_000).holds(1200)
        True
    """

    sizes: tuple[float, ...]
    values: tuple[float, ...]
    step: float
    "What the count goes by: 1 OS page, say."
    laws: tuple[FittedLaw, ...]
    "Those that the data leave standing, the best first."
    exponent: Exponent

    @property
    def best(self) -> FittedLaw:
        """The law with the smallest AIC."""
        return self.laws[0]

    @property
    def is_constant(self) -> bool:
        """Whether the count was the same at all sizes."""
        return len(set(self.values)) == 1

    def predict(self, size: float) -> Prediction:
        """Return what the best law says, and the hull of the intervals of all that stand."""
        found = [it for law in self.laws if (it := law.predict(size, step=self.step)) is not None]
        if not found:
            return Prediction(0.0, 0.0, math.inf)
        beyond = max(size / max(self.sizes), min(self.sizes) / size, 1.0) ** DRIFT
        # A count is whole: what lies within half a step of the interval cannot be told from it.
        return Prediction(
            found[0].value,
            max(0.0, min(it.low for it in found) / beyond - self.step / 2),
            max(it.high for it in found) * beyond + self.step / 2,
        )


POWER: Final = "power"
"""Name of the law a·n^k."""

CONSTANT: Final = "constant"
"""Name of the law that nothing grows."""

SLOW: Final = ("logarithmic", "linear")
"""Names of the laws by which trees get deeper, and tables larger."""

SUMS: Final = (*SLOW, "n log n", "quadratic")
"""Names of the laws a + b·f(n)."""

_SPREAD_MAX: Final = 100.0
"""Of logarithms."""


def basis(name: str, size: float) -> float:
    """Return f(n) of a law a + b·f(n).

    Examples:
        >>> basis("quadratic", 3), basis("constant", 3)
        (9, 0.0)
    """
    match name:
        case "logarithmic":
            return math.log(size)
        case "linear":
            return size
        case "n log n":
            return size * math.log(size)
        case "quadratic":
            return size * size
    return 0.0


def fit(sizes: Sequence[float], values: Sequence[float], *, step: float = 1.0) -> Fit:
    """Fit all laws to what a count was at several sizes.

    Args:
        sizes: Above 0, each once; `SIZES_MIN` or more.
        values: As many counts, above 0.
        step: What the counts go by.

    Returns:
        The laws that the data leave standing.
    """
    return _fitted(tuple(map(float, sizes)), tuple(map(float, values)), step)


def growth_exponent(
    sizes: Sequence[float], values: Sequence[float], *, step: float = 1.0
) -> Exponent:
    """Return how a count grows with a size: the k of n^k, with its interval of 95 % confidence.

    Args:
        sizes: Above 0, each once; `SIZES_MIN` or more.
        values: As many counts, above 0.
        step: What the counts go by; no interval is narrower than this allows.

    Raises:
        SettingsError: They are too few, not as many as each other, or not above 0.

    Examples:
        >>> found = growth_exponent([100, 1000, 10_000, 100_000], [12, 12, 13, 12])
        >>> round(found.value, 1), found.low < 0 < found.high
        (0.0, True)
    """
    if not len(sizes) == len(values) >= SIZES_MIN or len(set(sizes)) != len(sizes):
        raise SettingsError(
            f"an exponent needs {SIZES_MIN} sizes or more, each once, and a count for each; there "
            f"are {len(set(sizes))} sizes and {len(values)} counts"
        )
    if min(*sizes, *values) <= 0 or step <= 0:
        raise SettingsError("sizes, counts and step of an exponent are above 0; leave others out")
    return fit(sizes, values, step=step).exponent


# Messages that a script repeats are often equal.
@lru_cache(maxsize=4096)
def _fitted(sizes: tuple[float, ...], values: tuple[float, ...], step: float) -> Fit:
    assert len(sizes) == len(values) >= SIZES_MIN
    assert len(set(sizes)) == len(sizes)
    assert all(size > 0 for size in sizes)
    assert all(value > 0 for value in values)
    x = np.array(sizes, dtype=np.float64)
    y = np.array(values, dtype=np.float64)
    power = _power(x, y, step)
    sums = [law for name in SUMS if (law := _sum_law(name, x, y, step)) is not None]
    is_linear = any(_is_within_a_step(law, x, y, step) for law in sums if law.name == "linear")
    # Rounding to whole steps may hide a slow growth. A steep law whose growth the data do not show
    # would only say that anything may come; and where a line misses no count by more than its step,
    # nothing shows that growth is steeper.
    found = [
        *(it for it in sums if it.name in SLOW or (it.shows_growth() and not is_linear)),
        power,
        _constant(y, step),
    ]
    # Of equally good ones the plainest: linear before a power near 1.
    order = (CONSTANT, "linear", POWER, *SUMS)
    found.sort(key=lambda law: (law.score, order.index(law.name)))
    standing = tuple(law for law in found if law.score - found[0].score <= SUPPORT_MAX)
    _, k = power.coefficients
    half = power.quantile * math.sqrt(power.covariance[1][1])
    exponent = Exponent(
        k, k - half, k + half, is_power_law=power in standing or standing[0].name == CONSTANT
    )
    return Fit(sizes, values, step, standing, exponent)


def _is_within_a_step(law: FittedLaw, x: _Vector, y: _Vector, step: float) -> bool:
    missed = np.array(
        [abs(law.value(float(size)) - value) for size, value in zip(x, y, strict=True)]
    )
    return bool(np.all(missed <= step))


def _power(x: _Vector, y: _Vector, step: float) -> FittedLaw:
    design = np.column_stack([np.ones_like(x), np.log(x)])
    weight = 1 / _variances(y, step)
    solution, covariance = _least_squares(design, np.log(y), weight)
    residual = np.log(y) - design @ solution
    return _law(POWER, (math.exp(solution[0]), float(solution[1])), covariance, residual, weight)


def _sum_law(name: str, x: _Vector, y: _Vector, step: float) -> FittedLaw | None:
    """Fit a + b·f(n) to relative residuals; None where it is not above zero at all sizes."""
    grown = np.array([basis(name, float(size)) for size in x])
    design = np.column_stack([np.ones_like(x), grown]) / y[:, None]
    weight = 1 / _variances(y, step)
    solution, covariance = _least_squares(design, np.ones_like(y), weight)
    relative = design @ solution
    if not np.all(relative > 0):
        return None
    return _law(
        name, (float(solution[0]), float(solution[1])), covariance, -np.log(relative), weight
    )


def _constant(y: _Vector, step: float) -> FittedLaw:
    weight = 1 / _variances(y, step)
    solution, covariance = _least_squares(1 / y[:, None], np.ones_like(y), weight)
    none = np.array([[float(covariance[0, 0]), 0.0], [0.0, 0.0]])
    level = float(solution[0])
    return _law(CONSTANT, (level, 0.0), none, np.log(y / level), weight)


def _law(
    name: str,
    coefficients: tuple[float, float],
    covariance: _Vector,
    residual: _Vector,
    weight: _Vector,
) -> FittedLaw:
    count = len(residual)
    chi_square = float(np.sum(weight * residual**2))
    coefficient_count = 1 if name == CONSTANT else 2
    # With the scatter. What lies below the assumed scatter tells nothing apart.
    parameters = coefficient_count + 1
    score = count * math.log(max(chi_square / count, 1.0)) + 2 * parameters
    (aa, ab), (ba, bb) = covariance.tolist()
    return FittedLaw(
        name=name,
        coefficients=coefficients,
        score=score,
        chi_square=chi_square,
        covariance=((aa, ab), (ba, bb)),
        freedom=count - coefficient_count,
    )


def _least_squares(design: _Vector, target: _Vector, weight: _Vector) -> tuple[_Vector, _Vector]:
    """Return the solution of weighted least squares, and the covariance of its coefficients.

    Columns are scaled first: those of n² and of 1 differ by more than a double has digits for.
    """
    scale = np.sqrt(np.sum(weight[:, None] * design**2, axis=0))
    scaled = design / scale
    inverse = np.linalg.pinv(scaled.T @ (weight[:, None] * scaled))
    solution = inverse @ (scaled.T @ (weight * target))
    return solution / scale, inverse / np.outer(scale, scale)


def _variances(values: _Vector, step: float) -> _Vector:
    return np.array([_variance(float(value), step) for value in values])


def _variance(value: float, step: float) -> float:
    """Return the relative variance that is assumed of a count: the law's, and of its step."""
    return MISFIT**2 + _STEP_VARIANCE * (step / value) ** 2
