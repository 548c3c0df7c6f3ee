"""Colours: how vectors of a model become red, green and blue, the same in all of its fields."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedfield.errors import FormatError
from embedfield.integrity import placed
from embedfield.places import equal_area_places
from embedfield.processors import one_at_a_time
from embedfield.reduce import Reduction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.card import Card

# Name of the file that a field's folder has of them.
COLOURS = "colours.json"
# Raised when a reader of an older file could misunderstand a newer one.
VERSION = 1
# Places at which an encoder is asked.
PLACES = 4096
# Percentiles of a sample that have the colours at the ends, here and wherever a band is stretched.
CLIP = (2, 98)
# Digits that are kept: as many as a float32 has.
DIGITS = 9
# Up to so many numbers three colours show a vector whole, its length too.
WHOLE = 3
RULE = {
    True: "255 * (axis . vector / |vector| - low) / (high - low), clipped, of each axis: red, green, blue",
    False: "255 * (axis . vector - low) / (high - low), clipped, of each axis: red, green, blue",
}


@dataclass(frozen=True, eq=False)
class Colours:
    """Axes through a model's vectors, and the range of each that becomes 0 to 255 of a colour.

    What an encoder means is a direction: most were trained by cosine, and
    length is noise. So vectors are shown by their directions, but for those of
    three numbers or fewer. An axis along which nothing differs is zero.
    """

    model: str
    """Name of the model."""
    axes: npt.NDArray[np.float64]
    """(k, dim): red, green and blue; fewer where a vector has fewer numbers."""
    low: npt.NDArray[np.float64]
    """(k,): what becomes 0."""
    high: npt.NDArray[np.float64]
    """(k,): what becomes 255."""
    weights_sha256: str | None = None
    """Digest of the weights that the vectors come from; None where there are none."""
    fitted_on: str = "a sample"
    """What was looked at to fit them, in words."""

    @classmethod
    def fit(
        cls,
        values: npt.NDArray[np.floating],
        *,
        model: str,
        weights_sha256: str | None = None,
        fitted_on: str = "a sample",
    ) -> Self:
        """Return the colours that show a sample best: its three strongest principal components.

        Each is stretched between its percentiles 2 and 98. The same sample
        always gives the same colours; signs are such that the largest entry of
        an axis is positive.

        Args:
            values: Vectors of a model, (N, dim), spread evenly by area; those
                without a value (NaN, or infinite) are left out. Without any, one colour shows
                all vectors.
            model: Name of the model.
            weights_sha256: Digest of its weights.
            fitted_on: What the sample is, in words.
        """
        sample = values[np.isfinite(values).all(axis=1)].astype(np.float64)
        if not len(sample):
            sample = np.zeros((1, values.shape[1]))
        directions = sample / _lengths(sample.T)[:, None]
        reduction = Reduction.fit(directions, min(3, values.shape[1]))
        # Along an axis on which nothing differs rounding would be all that one sees.
        axes = _rounded(np.where(reduction.deviation[:, None] > 0, reduction.components, 0.0))
        with one_at_a_time():
            low, high = _stretch(directions @ axes.T)
        return cls(model, axes, low, high, weights_sha256, fitted_on)

    @classmethod
    def of_encoder(
        cls,
        encode: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.floating]],
        card: Card,
        weights_sha256: str | None = None,
    ) -> Self:
        """Return the colours of a model, whatever part of the world a field of it covers.

        The encoder is asked at 4,096 places spread evenly over the globe, or
        over the latitudes where it is defined; the same at every call.

        Args:
            encode: Gives vectors (N, dim) of degrees (lon, lat), (N, 2); NaN
                where there is none.
            card: The model.
            weights_sha256: Digest of its weights.
        """
        south, north = card.latitudes
        places = equal_area_places(PLACES, (-180.0, south, 180.0, north))
        said = f"the encoder at {PLACES:,} places, evenly by area, {south:g} to {north:g} degrees of latitude"
        return cls.fit(encode(places), model=card.name, weights_sha256=weights_sha256, fitted_on=said)

    @property
    def dim(self) -> int:
        """Length of the vectors that they are for."""
        return int(self.axes.shape[1])

    @property
    def directions(self) -> bool:
        """Whether a vector's length is left out of account."""
        return self.dim > WHOLE

    def components(
        self, values: npt.NDArray[np.floating], reduction: Reduction | None = None
    ) -> npt.NDArray[np.float32]:
        """Return what vectors are along the axes.

        Args:
            values: (dim, height, width) or (dim, N); where there is a
                reduction, its components in place of the vectors.
            reduction: The way from the vectors to the components, and back.

        Returns:
            (k, height, width) or (k, N), float32; NaN where there is no value, or an infinite one.
        """
        flat = values.reshape(len(values), -1)
        # Of an infinite number comes what is none, as of NaN: it too has no colour.
        with np.errstate(invalid="ignore"):
            found = self._along(flat) if reduction is None else self._along_restored(flat, reduction)
        return np.where(np.isfinite(found), found, np.float32(np.nan)).reshape(-1, *values.shape[1:])

    def of(self, values: npt.NDArray[np.floating], reduction: Reduction | None = None) -> npt.NDArray[np.uint8]:
        """Return the colours of vectors.

        Args:
            values: (dim, height, width); where there is a reduction, its
                components in place of the vectors.
            reduction: The way from the vectors to the components, and back.

        Returns:
            Red, green, blue, alpha, (height, width, 4), uint8; without a value transparent.
        """
        return self.painted(self.components(values, reduction))

    def painted(self, components: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return the colours (height, width, 4), RGBA, of components (k, height, width)."""
        there = ~np.isnan(components).any(axis=0)
        low, high = (edge.astype(np.float32)[:, None, None] for edge in (self.low, self.high))
        stretched = np.nan_to_num((components - low) / np.where(high > low, high - low, 1)).clip(0, 1)
        picture = np.empty((*there.shape, 4), dtype=np.uint8)
        # Fewer than three components repeat the last: one becomes a grey picture.
        for colour in range(3):
            picture[..., colour] = np.rint(255 * stretched[min(colour, len(stretched) - 1)]) * there
        picture[..., 3] = 255 * there
        return picture

    def stretched(self, sample: npt.NDArray[np.floating]) -> Self:
        """Return the same axes, stretched anew by components (k, N) of a sample; those without a value are left out."""
        there = sample[:, ~np.isnan(sample).any(axis=0)]
        if not there.shape[1]:
            return self
        low, high = _stretch(there.T)
        return type(self)(self.model, self.axes, low, high, self.weights_sha256, self.fitted_on)

    def to_json(self) -> str:
        """Return the colours as JSON; the same text for the same colours."""
        said = {
            "version": VERSION,
            "model": self.model,
            "dim": self.dim,
            "weights_sha256": self.weights_sha256,
            "fitted_on": self.fitted_on,
            "rule": RULE[self.directions],
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "axes": self.axes.tolist(),
        }
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in said.items())
        return f"{{\n{lines}\n}}\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "This text") -> Self:
        """Return the colours that `to_json` wrote.

        Args:
            text: What it wrote.
            source: Where it came from, for messages.

        Raises:
            FormatError: If it wrote something else, or a newer embedfield wrote it.
        """
        try:
            told = json.loads(text)
            axes, low, high = _checked(told)
            sha256 = None if told["weights_sha256"] is None else str(told["weights_sha256"])
            return cls(str(told["model"]), axes, low, high, sha256, str(told["fitted_on"]))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise FormatError(
                f"{source} holds no colours that this embedfield reads: {error}. Make others with 'embedfield preview'."
            ) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the colours of a file.

        Raises:
            FormatError: If it is not there or not such a file.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FormatError(f"Cannot read colours from {path}: {error.strerror}. Give another file.") from error
        return cls.from_json(data, str(path))

    def write(self, path: Path) -> None:
        """Write the colours into a file that `read` reads, in place of what it holds."""
        text = self.to_json()
        placed(path, lambda part: part.write_text(text, encoding="utf-8"))

    def _along(self, vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return components (k, N) of vectors (dim, N)."""
        # The threads of a matrix product would cost more than they help: it has few rows.
        found = np.einsum("kd,dn->kn", self.axes.astype(np.float32), vectors) / _lengths(vectors)
        return np.asarray(found, dtype=np.float32)

    def _along_restored(self, reduced: npt.NDArray[np.floating], reduction: Reduction) -> npt.NDArray[np.float32]:
        """Return components (k, N) of the vectors that (components of a reduction, N) stand for.

        The vectors themselves, many times as many numbers, are never made: rows
        of the reduction are orthonormal, so their lengths follow from the components.
        To them belongs what the reduction lost, on average, or reduced fields would
        be more colourful than whole ones.
        """
        steps = reduction.components * reduction.deviation[:, None]
        along = np.einsum("kr,rn->kn", self.axes @ steps.T, reduced) + (self.axes @ reduction.mean)[:, None]
        if self.directions:
            squares = np.einsum("r,rn->n", 2 * steps @ reduction.mean, reduced) + reduction.mean @ reduction.mean
            squares += np.einsum("r,rn,rn->n", reduction.deviation**2, reduced, reduced) + _lost(reduction)
            along /= np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))
        return np.asarray(along, dtype=np.float32)


def _lengths(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the lengths (N,) of vectors (dim, N); 1 where three colours show them whole."""
    if len(vectors) <= WHOLE:
        return np.ones(vectors.shape[1], dtype=vectors.dtype)
    lengths = np.sqrt(np.einsum("dn,dn->n", vectors, vectors))
    return np.asarray(np.maximum(lengths, np.finfo(vectors.dtype).tiny))


def _lost(reduction: Reduction) -> float:
    """Return the variance that a reduction leaves out: the mean square of what it takes from a vector."""
    kept, share = float((reduction.deviation**2).sum()), float(reduction.explained.sum())
    return kept * max(0.0, 1 / share - 1) if share > 0 else 0.0


def _stretch(components: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what of components (N, k) becomes 0 and what becomes 255, (k,) each."""
    low, high = np.percentile(components.astype(np.float64), CLIP, axis=0)
    return _rounded(low), _rounded(high)


def _rounded(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return numbers as they are written: colours that are read again are the same."""
    kept = [float(f"{number:.{DIGITS}g}") + 0.0 for number in numbers.ravel()]  # + 0.0: no -0.0
    return np.array(kept).reshape(numbers.shape)


def _checked(
    told: dict[str, Any],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the axes of what JSON tells, and the two ends of their ranges, once they are known to be such.

    Raises:
        ValueError: If they are not, or of a newer version.
    """
    if told["version"] > VERSION:
        raise ValueError(f"they are of version {told['version']}, and this embedfield reads {VERSION}: update it")
    axes, low, high = (np.array(told[name], dtype=np.float64) for name in ("axes", "low", "high"))
    if axes.ndim != 2 or not 1 <= len(axes) <= 3 or axes.shape[1] < 1 or not low.shape == high.shape == axes.shape[:1]:
        raise ValueError("axes, low and high are not one, two or three of each")
    if not all(np.isfinite(part).all() for part in (axes, low, high)) or (low > high).any():
        raise ValueError("axes, low and high are not finite, or low is above high")
    return axes, low, high
