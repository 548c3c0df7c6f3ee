"""Packing: how float vectors become stored numbers, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from embedfield.errors import PackingError
from embedfield.places import equal_area_places

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from embedfield.field import Field

Dtype = Literal["uint8", "float32"]
DTYPES: tuple[Dtype, ...] = ("uint8", "float32")
# Codes of the values of an integer dtype, lowest and highest; nodata lies below.
LEVELS = {"uint8": (1, 255)}
# Places at which a band's range is measured.
SAMPLE = 16_384
# How much wider than the sample's the range is taken, on either side: the field's own is a little wider.
MARGIN = 1 / 64


@dataclass(frozen=True, eq=False)
class Packing:
    """An affine rule a band: value = code · scale + offset.

    For integer dtypes scale and offset are whole multiples of one power of
    two, chosen so that code · scale + offset is exact in float32: every reader
    gets the same values, bit for bit, in float32 or float64, in any order of
    operations.
    """

    dtype: Dtype
    """Type of the stored numbers."""
    scale: npt.NDArray[np.float64]
    """(dim,); ones for float32."""
    offset: npt.NDArray[np.float64]
    """(dim,); zeros for float32."""

    @property
    def nodata(self) -> float:
        """The stored number that means no value."""
        return LEVELS[self.dtype][0] - 1 if self.dtype in LEVELS else math.nan

    @property
    def itemsize(self) -> int:
        """Bytes of a stored number."""
        return np.dtype(self.dtype).itemsize

    @property
    def max_error(self) -> npt.NDArray[np.float64]:
        """Largest difference, (dim,), that packing makes to a value within its band's range."""
        # Half a step, and what float32 may err in a value half way between two codes: 2 · 255 · 2**-24 steps.
        return self.scale / 2 * (1 + 2**-14) if self.dtype in LEVELS else np.zeros_like(self.scale)

    @classmethod
    def fit(cls, low: npt.NDArray[np.floating], high: npt.NDArray[np.floating], dtype: Dtype) -> Packing:
        """Return the packing whose codes span a range in each band.

        Args:
            low: Least values, (dim,), finite.
            high: Greatest values, (dim,), finite.
            dtype: Type of the stored numbers.

        Raises:
            PackingError: If the dtype is not one of `DTYPES`, or a range is not finite.
        """
        if dtype not in DTYPES:
            raise PackingError(f"dtype={dtype!r} cannot be stored. Choose from: {', '.join(DTYPES)}.")
        low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        if not (np.isfinite(low) & np.isfinite(high)).all():
            raise PackingError("The encoder gives values that are not finite. Check the weights, or use float64.")
        if dtype not in LEVELS:
            return cls(dtype, np.ones_like(low), np.zeros_like(low))
        first, last = LEVELS[dtype]
        if (high - low > np.finfo(np.float32).max / 2).any():
            raise PackingError("The encoder's values span more than float32 holds. Check the weights.")
        # Multiples of the quantum up to 2**23 leave float32 room for code · scale, which spans the range.
        magnitude = np.maximum(np.maximum(abs(low), abs(high)), np.finfo(np.float32).tiny)
        quantum = np.exp2(np.floor(np.log2(magnitude)) - 21)
        start = np.floor(low / quantum)
        steps = np.maximum(np.ceil((high / quantum - start) / (last - first)), 1)
        return cls(dtype, steps * quantum, (start - first * steps) * quantum)

    @classmethod
    def measure(cls, field: Field, dtype: Dtype) -> Packing:
        """Return the packing for a field, its ranges measured on an equal-area sample.

        A field of few pixels is measured at each of them, and nothing saturates.
        """
        grid = field.grid
        if grid.width * grid.height <= SAMPLE:
            values, margin = field.read().reshape(field.dim, -1).T, 0.0
        else:
            values, margin = _sample(field), MARGIN
        there = ~np.isnan(values)
        if not there.any():
            raise PackingError(
                f"{field.card.name} has no value anywhere in bounds={grid.bounds}. "
                "Choose other bounds, or check the weights for numbers that are not finite."
            )
        # A band without any value is packed as if it were zero.
        some = there.any(axis=0)
        low, high = (
            np.where(some, edge(values, axis=0, where=there, initial=start), 0.0).astype(np.float64)
            for edge, start in ((np.min, np.inf), (np.max, -np.inf))
        )
        with np.errstate(invalid="ignore"):  # `fit` refuses what is not finite
            span = margin * (high - low)
        return cls.fit(low - span, high + span, dtype)

    def pack(self, values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], int]:
        """Return the codes of a block, and how many values lay outside their range.

        Args:
            values: (dim, height, width), float32; NaN where there is no value.

        Returns:
            Codes (dim, height, width) in the packing's dtype, and the number
            of values that took the first or last code because they lie beyond it.
        """
        if self.dtype not in LEVELS:
            return np.ascontiguousarray(values, dtype=self.dtype), 0
        first, last = LEVELS[self.dtype]
        codes = np.empty(values.shape, dtype=self.dtype)
        saturated = 0
        for band, plane in enumerate(values):
            with np.errstate(over="ignore"):  # what overflows saturates
                code = np.rint((plane - np.float32(self.offset[band])) / np.float32(self.scale[band]))
            saturated += int(np.count_nonzero((code < first) | (code > last)))
            codes[band] = np.where(np.isnan(code), self.nodata, code.clip(first, last))
        return codes, saturated

    def unpack(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the values (dim, height, width), float32, of codes; NaN for nodata."""
        if self.dtype not in LEVELS:
            return codes.astype(np.float32, copy=False)
        shape = (-1, *(1,) * (codes.ndim - 1))
        values = codes * self.scale.astype(np.float32).reshape(shape)
        values += self.offset.astype(np.float32).reshape(shape)
        values[codes == self.nodata] = np.nan
        return values

    def mean(self, codes: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        """Return the codes of the means of the values along an axis, leaving out nodata.

        An affine rule lets means be taken of codes: the mean of the values is
        the value of the mean.
        """
        result: npt.NDArray[Any]
        if self.dtype not in LEVELS:
            there = ~np.isnan(codes)
            count = there.sum(axis=axis)
            total = np.where(there, codes, 0).sum(axis=axis, dtype=np.float32)
            result = np.divide(total, count, out=np.full(count.shape, np.nan, np.float32), where=count > 0)
            return result
        # Nodata is 0 and adds nothing to a sum.
        total, count = codes.sum(axis=axis, dtype=np.uint32), (codes != self.nodata).sum(axis=axis, dtype=np.uint32)
        result = ((2 * total + count) // np.maximum(2 * count, 1)).astype(self.dtype)
        return result


def _sample(field: Field) -> npt.NDArray[np.float32]:
    """Return vectors (n, dim) at places spread evenly over the part of a field where its encoder is defined."""
    west, south, east, north = field.grid.bounds
    least, greatest = field.card.latitudes
    south, north = max(south, least), min(north, greatest)
    if south >= north:
        return np.full((1, field.dim), np.nan, dtype=np.float32)
    return field.at(equal_area_places(SAMPLE, (west, south, east, north)))
