"""Medians: those of weighted values, of as many as there may be."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import numpy as np

from embedfield.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Values = npt.NDArray[np.float32]
    Weights = npt.NDArray[np.float64]

# Bytes of values that are ranked together.
RANKED = 16 * 2**20
# Values of one band that are ranked together; of more a part at a time.
MOST = 2**21
# Values by which these parts are chosen.
SAMPLE = 2**16


class Kept:
    """Values of pixels under shapes, kept on the disk until those of a shape are complete."""

    def __init__(self, dim: int) -> None:
        """Keep values of so many bands; use it as a context, at whose end they are gone."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this object
        self._dim = dim
        self._segments: dict[int, list[tuple[int, int]]] = {}

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the values."""
        self._file.close()

    def add(self, shape: int, values: Values, weights: Weights) -> None:
        """Keep values (n, dim) of pixels under a shape, and their weights (n,), above 0.

        Raises:
            StorageError: If the disk is full.
        """
        try:
            start = self._file.seek(0, 2)
            self._file.write(weights.astype(np.float64).tobytes())
            self._file.write(values.T.astype(np.float32).tobytes())
        except OSError as error:
            raise StorageError(
                f"{tempfile.gettempdir()} cannot take the values that medians are made of: {error.strerror}. "
                "Make room there, or set TMPDIR to where there is room."
            ) from error
        self._segments.setdefault(shape, []).append((start, len(weights)))

    def medians(self, count: int) -> npt.NDArray[np.float64]:
        """Return the weighted medians of so many shapes, (count, dim); NaN where there are no values."""
        result = np.full((count, self._dim), np.nan)
        for shape, segments in self._segments.items():
            many = sum(number for _, number in segments)
            step = max(1, RANKED // (8 * many))
            for start in range(0, self._dim, step):
                bands = range(start, min(start + step, self._dim))
                result[shape, start : bands.stop] = (
                    weighted_medians(*self._read(segments, bands)) if many <= MOST else self._large(segments, start)
                )
        return result

    def _read(self, segments: Sequence[tuple[int, int]], bands: range) -> tuple[Values, Weights]:
        """Return the values (n, bands) and the weights (n,) of segments."""
        values, weights = [], []
        for start, number in segments:
            self._file.seek(start)
            weights.append(np.frombuffer(self._file.read(8 * number)))
            self._file.seek(4 * number * bands.start, 1)
            own = np.frombuffer(self._file.read(4 * number * len(bands)), dtype=np.float32)
            values.append(own.reshape(len(bands), number).T)
        return np.concatenate(values), np.concatenate(weights)

    def _large(self, segments: list[tuple[int, int]], band: int) -> float:
        """Return the median of one band of a shape that has too many values to rank them together: part by part."""
        number = sum(own for _, own in segments)
        sample = np.concatenate([
            self._read([segment], range(band, band + 1))[0][:: 1 + number // SAMPLE, 0] for segment in segments
        ])  # fmt: skip
        shares = np.linspace(0, 1, 2 + 2 * number // MOST)[1:-1]
        bounds = np.unique(np.quantile(sample, shares, method="nearest")).astype(np.float64)
        parts = [*pairwise([-np.inf, *bounds.tolist(), np.inf])]
        # Of each part: how many different values, their weight, the first of them and its weight.
        told = np.array([_told(*self._ranked(segments, band, *part)) for part in parts])
        full = np.flatnonzero(told[:, 0])
        counts, weights, firsts, first_weights = told[full].T
        before, below = np.cumsum(counts) - counts, np.cumsum(weights) - weights
        last = counts.sum() - 1
        wanted = last * weights.sum() / 2
        starts = before * first_weights + last * below
        here = int(np.searchsorted(starts, wanted, side="right")) - 1
        values, own = self._ranked(segments, band, *parts[full[here]])
        numbers = before[here] + np.arange(len(values))
        stands = numbers * own + last * (below[here] + np.cumsum(own) - own)
        # The next value after these may be the first of the next part.
        values, stands = np.append(values, firsts[here + 1 : here + 2]), np.append(stands, starts[here + 1 : here + 2])
        return float(np.interp(wanted, stands, values))

    def _ranked(
        self, segments: Sequence[tuple[int, int]], band: int, low: float, high: float
    ) -> tuple[Weights, Weights]:
        """Return the different values of a band from low to below high, rising, and the weight of each."""
        found = []
        for segment in segments:
            values, weights = self._read([segment], range(band, band + 1))
            chosen = (values[:, 0] >= low) & (values[:, 0] < high)
            found.append(_distinct(values[chosen, 0], weights[chosen]))
        return _distinct(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _distinct(values: npt.NDArray[np.floating], weights: Weights) -> tuple[Weights, Weights]:
    """Return the different ones among values (n,), rising, and the summed weight of each."""
    each, where = np.unique(values, return_inverse=True)
    return each.astype(np.float64), np.bincount(where, weights, minlength=len(each))


def _told(values: Weights, weights: Weights) -> tuple[float, float, float, float]:
    """Return how many values there are, what they weigh, the first and what it weighs; 0 where there is none."""
    return len(values), weights.sum(), values[:1].sum(), weights[:1].sum()


def weighted_medians(values: npt.NDArray[np.floating], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the medians of columns, as exactextract has them.

    Of m different values in rising order the k-th, from 0, stands at
    k w_k + (m - 1) (w_0 + … + w_(k-1)), where w are the summed weights of each;
    the median is read between them at half of where the last one stands.

    Args:
        values: (n, dim).
        weights: (n,), above 0.

    Returns:
        (dim,), float64.

    Source: exactextract's weighted form of Hyndman and Fan's seventh
    definition, 1996, The American Statistician 50, 361-365.
    """
    order = np.argsort(values, axis=0, kind="stable")
    ranked = np.take_along_axis(values, order, axis=0).astype(np.float64)
    through = np.cumsum(weights[order], axis=0)
    last = np.ones(ranked.shape, dtype=bool)
    last[:-1] = ranked[1:] != ranked[:-1]
    ended = np.zeros_like(through)
    ended[1:] = np.where(last[:-1], through[:-1], 0.0)
    below = np.maximum.accumulate(ended, axis=0)
    number = np.cumsum(last, axis=0) - last
    stands = number * (through - below) + number[-1] * below
    wanted = stands[-1] / 2
    right = np.minimum((last & (stands <= wanted)).sum(axis=0), number[-1])
    (low, here), (high, there) = (
        tuple(np.take_along_axis(part, _where(last, number, side), axis=0)[0] for part in (ranked, stands))
        for side in (np.maximum(right - 1, 0), right)
    )
    share = np.divide(wanted - here, there - here, out=np.zeros_like(wanted), where=there > here)
    medians: npt.NDArray[np.float64] = low + share * (high - low)
    return medians


def _where(
    last: npt.NDArray[np.bool_], number: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return in which row (1, dim) of each column the value of a number has its last place."""
    rows: npt.NDArray[np.int64] = np.argmax(last & (number == wanted), axis=0)[None]
    return rows
