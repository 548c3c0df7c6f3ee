"""Reduction: principal components of embeddings, weighed by area on the sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Reduction:
    """A linear map from vectors to their principal components, of unit variance."""

    mean: npt.NDArray[np.float64]
    """(dim,)."""
    components: npt.NDArray[np.float64]
    """(k, dim), orthonormal rows, by falling variance."""
    deviation: npt.NDArray[np.float64]
    """(k,), standard deviation along each component."""

    @classmethod
    def fit(cls, values: npt.NDArray[np.floating], k: int) -> Self:
        """Return the reduction to the k strongest components of a sample.

        The sign of a component is such that its largest entry is positive:
        the same sample always gives the same map.

        Args:
            values: (N, dim), finite; spread evenly by area over the sphere.
            k: Number of components, at most dim.
        """
        mean = values.mean(axis=0, dtype=np.float64)
        centred = values - mean
        variance, axes = np.linalg.eigh(centred.T @ centred / len(values))
        # Less than the rounding of the values themselves is no variance.
        noise = len(mean) * np.finfo(np.float64).eps * (variance[-1] + mean @ mean)
        variance = np.where(variance > noise, variance, 0.0)
        components = axes.T[::-1][:k]
        largest = np.take_along_axis(components, abs(components).argmax(axis=1)[:, None], axis=1)
        return cls(mean, components * np.sign(largest), np.sqrt(variance[::-1][:k]))

    def reduce(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return components (N, k), of zero mean and unit variance in the sample."""
        scale = np.divide(1.0, self.deviation, out=np.zeros_like(self.deviation), where=self.deviation > 0)
        reduced: npt.NDArray[np.float64] = (values - self.mean) @ self.components.T * scale
        return reduced
