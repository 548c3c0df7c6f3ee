"""Reduction: principal components of embeddings, weighed by area on the sphere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from safetensors.numpy import load, save

from embedfield.errors import FormatError, PackingError
from embedfield.field import Field
from embedfield.processors import one_at_a_time

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.card import Card
    from embedfield.field import Method
    from embedfield.window import Window

# Places at which components are fitted.
SAMPLE = 16_384


@dataclass(frozen=True, eq=False)
class Reduction:
    """A linear map from vectors to their principal components, of unit variance, and back."""

    mean: npt.NDArray[np.float64]
    """(dim,)."""
    components: npt.NDArray[np.float64]
    """(k, dim), orthonormal rows, by falling variance."""
    deviation: npt.NDArray[np.float64]
    """(k,), standard deviation along each component."""
    explained: npt.NDArray[np.float64]
    """(k,), share of the variance that each component explains."""

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
        with one_at_a_time():
            variance, axes = np.linalg.eigh(centred.T @ centred / len(values))
        # Less than the rounding of the values themselves is no variance.
        noise = len(mean) * np.finfo(np.float64).eps * (variance[-1] + mean @ mean)
        variance = np.where(variance > noise, variance, 0.0)
        components = axes.T[::-1][:k]
        largest = np.take_along_axis(components, abs(components).argmax(axis=1)[:, None], axis=1)
        strongest = variance[::-1][:k]
        explained = strongest / variance.sum() if variance.any() else np.zeros_like(strongest)
        return cls(mean, components * np.sign(largest), np.sqrt(strongest), explained)

    @classmethod
    def measure(cls, field: Field, k: int) -> Self:
        """Return the reduction to the k strongest components of a field, fitted on an equal-area sample of it.

        Raises:
            PackingError: If a field's vectors have no k components.
        """
        check_components(k, field.card)
        values = field.at(field.places(SAMPLE))
        values = values[~np.isnan(values).any(axis=1)]
        if len(values) <= k:
            raise PackingError(
                f"{field.card.name} has values at {len(values)} of the places sampled in {field.grid.bounds}, too few "
                f"for pca={k}. Choose other bounds or fewer components."
            )
        return cls.fit(values, k)

    def reduce(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return components (N, k) of vectors (N, dim): of zero mean and unit variance in the sample."""
        scale = np.divide(1.0, self.deviation, out=np.zeros_like(self.deviation), where=self.deviation > 0)
        with one_at_a_time():
            reduced: npt.NDArray[np.float64] = (values - self.mean) @ self.components.T * scale
        return reduced

    def restore(self, reduced: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the vectors (N, dim) nearest to those that components (N, k) came from."""
        with one_at_a_time():
            restored: npt.NDArray[np.float64] = (reduced * self.deviation) @ self.components + self.mean
        return restored

    def to_bytes(self) -> bytes:
        """Return the reduction as a safetensors file; the same bytes for the same reduction."""
        return save({name: np.ascontiguousarray(value) for name, value in vars(self).items()})

    @classmethod
    def read(cls, path: Path, sha256: str) -> Self:
        """Return the reduction of a file that `to_bytes` made.

        Args:
            path: The file.
            sha256: Digest that it must have.

        Raises:
            FormatError: If it is not there, or another.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FormatError(
                f"Cannot read {path}, the way back to vectors: {error.strerror}. Put the field's own file there."
            ) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise FormatError(f"{path} is not the file that its field was made with. Put the field's own file there.")
        return cls(**load(data))

    def to_dict(self) -> dict[str, Any]:
        """Return what a header says of the reduction: plain data for JSON."""
        return {
            "method": "area-weighted PCA, unit variance",
            "components": len(self.components),
            "explained": [float(f"{share:.6g}") for share in self.explained],
            "sha256": hashlib.sha256(self.to_bytes()).hexdigest(),
        }


def check_components(k: int, card: Card) -> None:
    """Refuse a number of components that a model's vectors do not have.

    Raises:
        PackingError: If it is so.
    """
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= card.dim:
        raise PackingError(
            f"pca={k!r} is no number of components: {card.name} has {card.dim} dimensions. "
            f"Give a whole number from 1 to {card.dim}."
        )


class ReducedField(Field):
    """A field's principal components, as a field."""

    def __init__(self, field: Field, reduction: Reduction) -> None:
        """See a field through a reduction."""
        self.field, self._reduction = field, reduction
        self.card, self.grid, self.region = field.card, field.grid, field.region
        self.provenance, self.methods, self.blocksize = field.provenance, field.methods, field.blocksize
        self.accelerated = field.accelerated
        self.components = len(reduction.components)

    @property
    def reduction(self) -> Reduction:
        """The map to the components, and back."""
        return self._reduction

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the components of a window, (k, height, width), float32."""
        values = self.field.read(window)
        flat = self._reduction.reduce(values.reshape(len(values), -1).T)
        return flat.T.reshape(-1, *values.shape[1:]).astype(np.float32)

    def pixels(self, rows: npt.ArrayLike, cols: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the components of single pixels, (N, k), float32."""
        return self._reduction.reduce(self.field.pixels(rows, cols)).astype(np.float32)

    def places(self, count: int) -> npt.NDArray[np.float64]:
        """Return places spread evenly by area over the part of the field that can have values."""
        return self.field.places(count)

    def _at(self, lonlat: npt.NDArray[np.float64], method: Method) -> npt.NDArray[np.float32]:
        # Means of components are components of means.
        return self._reduction.reduce(self.field.at(lonlat, method)).astype(np.float32)
