"""Fidelity: how near vectors that were read lie to the encoder's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

# Digits of a number in JSON.
DIGITS = 6
# What single precision cannot tell from a number, relative to it.
ROUNDING = 4 * float(np.finfo(np.float32).eps)
# Numbers that are compared at a time.
PART = 2**14


@dataclass(frozen=True, eq=False)
class Spread:
    """How far vectors lie from their mean: the measure that errors are held against."""

    count: int
    """Number of vectors."""
    mean: npt.NDArray[np.float64]
    """(dim,)."""
    squares: npt.NDArray[np.float64]
    """(dim,), sum of squared distances from the mean."""

    @classmethod
    def of(cls, values: npt.NDArray[np.floating]) -> Self:
        """Return the spread of vectors (N, dim), finite."""
        mean = values.mean(axis=0, dtype=np.float64) if len(values) else np.zeros(values.shape[1])
        return cls(len(values), mean, np.square(values - mean).sum(axis=0, dtype=np.float64))

    def __add__(self, other: Self) -> Self:
        """Return the spread of the vectors of both."""
        count = self.count + other.count
        apart, share = other.mean - self.mean, other.count / max(count, 1)
        between = np.square(apart) * self.count * share
        return type(self)(count, self.mean + apart * share, self.squares + other.squares + between)

    @property
    def variances(self) -> npt.NDArray[np.float64]:
        """Mean squared distance from the mean by dimension, (dim,); 0 in one that varies by rounding alone."""
        found = self.squares / max(self.count, 1)
        return np.where(found > np.square(ROUNDING * self.mean), found, 0.0)

    @property
    def variance(self) -> float:
        """The same, over all dimensions together."""
        return float(self.variances.sum())


@dataclass(frozen=True, eq=False)
class Fidelity:
    """A comparison of vectors, place by place. Made by `compare`; those of two samples add up to that of both.

    Cosine and loss, which is 1 − cosine, look at directions. The relative
    error of a place is the length of got − exact over the root of the mean
    squared length of exact − its mean: 1 is as bad as the sample's mean in
    place of every vector.
    """

    loss: npt.NDArray[np.float64]
    """(N,), 1 − cosine, without cancellation."""
    squares: npt.NDArray[np.float64]
    """(N,), squared lengths of the errors."""
    spread: Spread
    """Of the exact vectors, or of those of another sample that errors are to be held against."""
    by_dimension: npt.NDArray[np.float64] | None
    """(dim,), sums of squared errors; None of a part of a sample."""

    @classmethod
    def compare(
        cls, exact: npt.NDArray[np.floating], got: npt.NDArray[np.floating], spread: Spread | None = None
    ) -> Self:
        """Return the fidelity of vectors to exact ones.

        Args:
            exact: What they should be, (N, dim), finite.
            got: What they are, (N, dim).
            spread: What errors are held against; None for that of the exact vectors.
        """
        squares, by_dimension = np.empty(len(exact)), np.zeros(exact.shape[1])
        for part in _parts(exact):
            errors = np.square(np.subtract(got[part], exact[part], dtype=np.float64))
            squares[part] = errors.sum(axis=1)
            by_dimension += errors.sum(axis=0)
        return cls(loss(exact, got), squares, spread or Spread.of(exact), by_dimension)

    def __add__(self, other: Self) -> Self:
        """Return the fidelity of both samples together."""
        by_dimension = None
        if self.by_dimension is not None and other.by_dimension is not None:
            by_dimension = self.by_dimension + other.by_dimension
        return type(self)(
            np.concatenate((self.loss, other.loss)),
            np.concatenate((self.squares, other.squares)),
            self.spread + other.spread,
            by_dimension,
        )

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self.loss)

    def part(self, which: npt.NDArray[np.bool_]) -> Self:
        """Return the fidelity at some of the places, held against the spread of all."""
        return type(self)(self.loss[which], self.squares[which], self.spread, None)

    def against(self, spread: Spread) -> Self:
        """Return the same, its errors held against the spread of other vectors."""
        return type(self)(self.loss, self.squares, spread, self.by_dimension)

    @property
    def cosine(self) -> float:
        """Mean cosine; NaN where there is no place."""
        return 1 - self.mean_loss

    @property
    def cosine_p01(self) -> float:
        """Cosine at the worst 1 % of places; NaN where there is no place."""
        return 1 - _percentile(self.loss, 99)

    @property
    def mean_loss(self) -> float:
        """Mean of 1 − cosine; NaN where there is no place."""
        return float(self.loss.mean()) if len(self) else math.nan

    @property
    def standard_error(self) -> float:
        """Standard error of the mean loss, and so of the mean cosine; NaN of fewer than two places."""
        return float(self.loss.std(ddof=1) / math.sqrt(len(self))) if len(self) > 1 else math.nan

    @property
    def relative(self) -> npt.NDArray[np.float64]:
        """Relative errors of the places, (N,); NaN where the exact vectors do not differ."""
        return _ratio(self.squares, np.full(len(self), self.spread.variance))

    @property
    def relative_rmse(self) -> float:
        """Root of the mean squared error over that of the mean squared distance of exact vectors from their mean."""
        return float(_ratio(self.squares.mean(), np.array(self.spread.variance))) if len(self) else math.nan

    @property
    def dimensions(self) -> npt.NDArray[np.float64]:
        """Relative RMSE of each dimension, (dim,); NaN in one that does not vary, and of a part of a sample."""
        if self.by_dimension is None or not len(self):
            return np.full(len(self.spread.mean), np.nan)
        return _ratio(self.by_dimension / len(self), self.spread.variances)

    @property
    def brief(self) -> dict[str, float | None]:
        """The three numbers that matter most, as plain data for JSON."""
        three = {"cosine": self.cosine, "cosine_p01": self.cosine_p01, "relative_rmse": self.relative_rmse}
        return {name: plain(value) for name, value in three.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data for JSON; None for one that there is not."""
        loss = {"mean": self.mean_loss} | {name: _percentile(self.loss, q) for name, q in WORST.items()}
        cosine = {name: 1 - loss[of] for name, of in (("mean", "mean"), ("p50", "p50"), ("p01", "p99"), ("min", "max"))}
        relative = {name: _percentile(self.relative, q) for name, q in WORST.items()}
        groups = {"cosine": cosine, "loss": loss, "relative_error": relative}
        found: dict[str, Any] = {
            group: {name: plain(value) for name, value in numbers.items()} for group, numbers in groups.items()
        }
        return found | {"relative_rmse": plain(self.relative_rmse)}


# Percentiles of what should be small, by the names they have in JSON.
WORST = {"p50": 50, "p99": 99, "max": 100}


def loss(exact: npt.NDArray[np.floating], got: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return 1 − cosine of each pair of vectors (N, dim), (N,).

    Two zeros are the same direction; a zero and something else are at right angles.
    """
    found = np.empty(len(exact))
    for part in _parts(exact):
        found[part] = _loss(np.asarray(exact[part], dtype=np.float64), np.asarray(got[part], dtype=np.float64))
    return found


def _loss(exact: npt.NDArray[np.float64], got: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = [np.linalg.norm(values, axis=1, keepdims=True) for values in (exact, got)]
    with np.errstate(invalid="ignore"):  # what is infinite has no direction, and becomes NaN
        one, other = (v / np.where(n == 0, 1, n) for v, n in zip((exact, got), lengths, strict=True))
        one -= other
    # 1 − cos would lose the digits of what is small: unit vectors lie √(2 · loss) apart.
    found: npt.NDArray[np.float64] = np.square(one, out=one).sum(axis=1) / 2
    zeros = sum((n[:, 0] == 0).astype(int) for n in lengths)
    return np.where(zeros == 1, 1.0, found)


def _parts(values: npt.NDArray[np.floating]) -> Iterator[slice]:
    """Yield slices of vectors (N, dim) that are few enough to stay in a processor's cache, as float64 too."""
    rows = max(1, PART // max(1, values.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(values), rows))


def plain(value: float, digits: int = DIGITS) -> float | None:
    """Return a number rounded to significant digits, for JSON; None if it is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _ratio(squares: npt.NDArray[np.float64] | np.floating, norm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the root of squares over their norm; NaN where that is zero."""
    ratio = np.divide(squares, norm, out=np.full(norm.shape, np.nan), where=norm > 0)
    rooted: npt.NDArray[np.float64] = np.sqrt(ratio)
    return rooted


def _percentile(values: npt.NDArray[np.float64], share: float) -> float:
    with np.errstate(invalid="ignore"):  # between two infinite ones there is none
        return float(np.percentile(values, share)) if len(values) else math.nan
