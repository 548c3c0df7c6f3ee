"""Summary: how vectors are spread, band by band, by length, and by direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedfield.fidelity import plain
from embedfield.reduce import Reduction

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

PERCENTILES = (5, 25, 50, 75, 95)
# Parts of the variance of which it is told how many components have them.
SHARES = (0.5, 0.9, 0.95, 0.99)
# Bands whose percentiles are taken at a time.
PART = 16


@dataclass(frozen=True, eq=False)
class BandStatistics:
    """What each band holds."""

    names: Sequence[str]
    """Of the bands."""
    numbers: dict[str, npt.NDArray[np.float64]]
    """``mean``, ``std``, ``min``, ``p05``, ``p25``, ``p50``, ``p75``, ``p95`` and ``max`` of each band, (dim,)."""

    @classmethod
    def of(cls, names: Sequence[str], values: npt.NDArray[np.floating]) -> Self:
        """Return the statistics of values (N, dim), finite, N one at least; spread evenly by area."""
        parts = [_statistics(values[:, start : start + PART]) for start in range(0, len(names), PART)]
        return cls(names, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def by_variation(self) -> list[int]:
        """Return the numbers of the bands, those that vary most first."""
        order: list[int] = np.argsort(-self.numbers["std"], kind="stable").tolist()
        return order

    def to_dict(self) -> list[dict[str, Any]]:
        """Return a band after the other as plain data for JSON."""
        return [
            {"name": name, **{of: plain(float(values[band])) for of, values in self.numbers.items()}}
            for band, name in enumerate(self.names)
        ]


@dataclass(frozen=True, eq=False)
class Lengths:
    """How long vectors are, and how much of them is the same everywhere."""

    numbers: dict[str, float]
    """``mean``, ``std``, ``min``, percentiles and ``max`` of the vectors' Euclidean lengths."""
    cosine: float | None
    """Mean cosine of the vectors of two places; None of fewer than two that are not zero."""
    common: float | None
    """Squared length of the mean vector over the mean squared length; None if all are zero."""

    @classmethod
    def of(cls, vectors: npt.NDArray[np.floating]) -> Self:
        """Return what vectors (N, dim) have; finite, N one at least."""
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
        numbers = {name: float(values[0]) for name, values in _statistics(lengths[:, None]).items()}
        squared = float(np.square(lengths).mean())
        mean = vectors.mean(axis=0, dtype=np.float64)
        return cls(numbers, _mean_cosine(vectors, lengths), float(mean @ mean) / squared if squared else None)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data for JSON."""
        others = {"mean_cosine": self.cosine, "common_share": self.common}
        return {name: None if value is None else plain(value) for name, value in {**self.numbers, **others}.items()}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Into how many directions the variance of vectors is divided."""

    explained: npt.NDArray[np.float64]
    """(dim,), share of the variance of each principal component, falling; all 0 where vectors do not vary."""

    @classmethod
    def of(cls, vectors: npt.NDArray[np.floating]) -> Self:
        """Return the spectrum of vectors (N, dim), finite; spread evenly by area."""
        return cls(Reduction.fit(vectors, vectors.shape[1]).explained)

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy of the singular values of centred vectors (Roy and Vetterli 2007).

        So many directions of equal deviation would be as many; 0 where vectors do not vary.
        """
        singular = np.sqrt(self.explained[self.explained > 0])
        shares = singular / singular.sum() if len(singular) else np.zeros(0)
        return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0

    def components(self, share: float) -> int:
        """Return how many components hold a share of the variance, above 0 and below 1; 0 where there is none."""
        return int(np.searchsorted(np.cumsum(self.explained), share)) + 1 if self.explained.any() else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data for JSON."""
        return {
            "effective_rank": plain(self.effective_rank),
            "components": {f"{share:g}": self.components(share) for share in SHARES},
            "explained": [plain(float(share)) for share in self.explained],
        }


def _statistics(values: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.float64]]:
    """Return mean, deviation, extremes and percentiles of columns (N, n), each (n,)."""
    whole = values.astype(np.float64)
    percentiles = np.percentile(whole, PERCENTILES, axis=0)
    return {
        "mean": whole.mean(axis=0),
        "std": whole.std(axis=0),
        "min": whole.min(axis=0),
        **{f"p{share:02d}": found for share, found in zip(PERCENTILES, percentiles, strict=True)},
        "max": whole.max(axis=0),
    }


def _mean_cosine(vectors: npt.NDArray[np.floating], lengths: npt.NDArray[np.float64]) -> float | None:
    """Return the mean cosine of two different vectors of those that are not zero."""
    directed = lengths > 0
    count = int(directed.sum())
    if count < 2:  # two make a pair
        return None
    # The square of the sum of all directions is all pairs' cosines, and that of each with itself.
    together = (vectors[directed] / lengths[directed, None]).sum(axis=0)
    return float((together @ together - count) / (count * (count - 1)))
