"""Packing: how float vectors become stored numbers, and the way back."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from embedfield.errors import PackingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.grid import Window

Dtype = Literal["uint8", "int16", "float16", "float32"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


class Levels(NamedTuple):
    """The codes of an integer dtype."""

    first: int
    """Code of a band's least value; the one below it is nodata."""
    last: int
    """Code of its greatest value."""
    bits: int
    """Binary digits between the quantum and a band's magnitude: few enough for exact decoding in float32."""


LEVELS = {"uint8": Levels(1, 255, 21), "int16": Levels(-32767, 32767, 22)}
# Half the distance between neighbouring float16, relative to a value of normal size.
HALF_ERROR = 2.0**-11
# Places at which a band's range is measured.
SAMPLE = 16_384
# Bytes of float32 that are computed at a time.
STRIP = 64 * 2**20
# How much wider than the sample's the range is taken, on either side: the field's own is a little wider.
MARGIN = 1 / 64


@dataclass(frozen=True, eq=False)
class Packing:
    """An affine rule a band: value = code · scale + offset.

    For integer dtypes scale and offset are whole multiples of one power of
    two, chosen so that code · scale + offset is exact in float32: every reader
    gets the same values, bit for bit, in float32 or float64, in any order of
    operations. ``docs/packing.json`` has values and codes to test a reader with.
    """

    dtype: Dtype
    """How numbers are stored. GeoTIFF has no float16 that all read: there it is float32 with float16's digits."""
    scale: npt.NDArray[np.float64]
    """(dim,); ones for float16 and float32."""
    offset: npt.NDArray[np.float64]
    """(dim,); zeros for float16 and float32."""

    @property
    def nodata(self) -> float:
        """The stored number that means no value."""
        return LEVELS[self.dtype].first - 1 if self.dtype in LEVELS else math.nan

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize

    @property
    def max_error(self) -> npt.NDArray[np.float64]:
        """Largest difference, (dim,), that packing makes to a value within its band's range.

        Of float16 it is relative to the value, and holds for values above 6e-5.
        """
        if self.dtype in LEVELS:
            # Half a step, and what float32 may err in a value half way between two codes: 2 · 255 · 2**-24 steps.
            return self.scale / 2 * (1 + 2**-14)
        return np.full_like(self.scale, HALF_ERROR if self.dtype == "float16" else 0.0)

    def describe(self) -> str:
        """Return what packing costs, in words."""
        largest = self.max_error.max()
        words = {"float16": f"largest error {largest:.2g} of a value", "float32": "no error"}
        return words.get(self.dtype, f"largest error {largest:.2g}")

    def to_dict(self) -> dict[str, Any]:
        """Return the packing as plain data for JSON."""
        return {"dtype": self.dtype, "scale": self.scale.tolist(), "offset": self.offset.tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Packing:
        """Return the packing that `to_dict` gave."""
        return cls(data["dtype"], np.array(data["scale"]), np.array(data["offset"]))

    @classmethod
    def fit(cls, low: npt.NDArray[np.floating], high: npt.NDArray[np.floating], dtype: Dtype) -> Packing:
        """Return the packing whose codes span a range in each band.

        Args:
            low: Least values, (dim,), finite.
            high: Greatest values, (dim,), finite.
            dtype: Type of the stored numbers.

        Raises:
            PackingError: If the dtype is not one of `DTYPES` or cannot hold the
                range, or a range is not finite.
        """
        if dtype not in DTYPES:
            raise PackingError(f"dtype={dtype!r} cannot be stored. Choose from: {', '.join(DTYPES)}.")
        low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        if not (np.isfinite(low) & np.isfinite(high)).all():
            raise PackingError("The encoder gives values that are not finite. Check the weights, or use float64.")
        magnitude = np.maximum(abs(low), abs(high))
        if dtype == "float16":
            _check_half(magnitude)
        if dtype not in LEVELS:
            return cls(dtype, np.ones_like(low), np.zeros_like(low))
        if (high - low > np.finfo(np.float32).max / 2).any():
            raise PackingError("The encoder's values span more than float32 holds. Check the weights.")
        first, last, bits = LEVELS[dtype]
        # Few multiples of the quantum leave float32 room for code · scale, which spans the range.
        quantum = np.exp2(np.floor(np.log2(np.maximum(magnitude, np.finfo(np.float32).tiny))) - bits)
        start = np.floor(low / quantum)
        steps = np.maximum(np.ceil((high / quantum - start) / (last - first)), 1)
        return cls(dtype, steps * quantum, (start - first * steps) * quantum)

    @classmethod
    def measure(cls, field: Field, dtype: Dtype) -> Packing:
        """Return the packing for a field, its ranges measured on an equal-area sample.

        A field of few pixels is measured at each of them, and nothing saturates.
        """
        grid = field.grid
        few = grid.width * grid.height <= SAMPLE
        values = field.read().reshape(field.dim, -1).T if few else field.at(field.places(SAMPLE))
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
            span = (0.0 if few else MARGIN) * (high - low)
        return cls.fit(low - span, high + span, dtype)

    def pack(self, values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], int]:
        """Return the codes of a block, and how many values lay outside their range.

        Args:
            values: (dim, height, width), float32; NaN where there is no value.

        Returns:
            Codes (dim, height, width) in the packing's dtype, and the number
            of values that took the first or last code because they lie beyond it.
        """
        if self.dtype == "float32":
            return np.ascontiguousarray(values, dtype=self.dtype), 0
        codes = np.empty(values.shape, dtype=self.dtype)
        pack = self._round if self.dtype in LEVELS else _halve_digits
        saturated = _by_band(len(values), lambda band: pack(values[band], codes[band], band))
        return codes, sum(saturated)

    def _round(self, plane: npt.NDArray[np.float32], codes: npt.NDArray[Any], band: int) -> int:
        """Set the codes of a band; return how many of its values lay outside its range."""
        first, last, _ = LEVELS[self.dtype]
        # 255 codes leave float32 digits to spare; 65,535 do not.
        wide = np.float32 if self.dtype == "uint8" else np.float64
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows saturates
            code = np.subtract(plane, wide(self.offset[band]), dtype=wide)
            code /= wide(self.scale[band])
            np.rint(code, out=code)
            low, high = code.min(), code.max()
            if low >= first and high <= last:  # never so with a NaN in it
                codes[...] = code
                return 0
            outside = int(np.count_nonzero(code < first) + np.count_nonzero(code > last))
            codes[...] = np.where(np.isnan(code), self.nodata, code.clip(first, last))
        return outside

    def unpack(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the values (dim, height, width), float32, of codes; NaN for nodata."""
        if self.dtype not in LEVELS:
            return codes.astype(np.float32, copy=False)
        shape = (-1, *(1,) * (codes.ndim - 1))
        values = codes * self.scale.astype(np.float32).reshape(shape)
        values += self.offset.astype(np.float32).reshape(shape)
        values[codes == self.nodata] = np.nan
        return values

    def halved(self, codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the codes of the means of the values of 2 x 2 pixels, leaving out nodata.

        An affine rule lets means be taken of codes: the mean of the values is
        the value of the mean. Halves are rounded up.

        Args:
            codes: (dim, height, width).

        Returns:
            (dim, ceil(height / 2), ceil(width / 2)); at an odd edge means of the pixels that are there.
        """
        dim, height, width = codes.shape
        small = np.empty((dim, -(-height // 2), -(-width // 2)), dtype=codes.dtype)
        mean = self._mean_of_codes if self.dtype in LEVELS else self._mean_of_floats

        def halve(band: int) -> None:
            plane = codes[band]
            if height % 2 or width % 2:
                plane = np.pad(plane, ((0, height % 2), (0, width % 2)), constant_values=self.nodata)
            small[band] = mean(plane)

        _by_band(dim, halve)
        return small

    def _mean_of_codes(self, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return means, rounded, of 2 x 2 codes of an even plane."""
        nodata = int(self.nodata)
        total = _sum_of_quads(plane, np.uint16 if plane.dtype == np.uint8 else np.int32)
        there = plane != nodata
        if there.all():
            full: npt.NDArray[Any] = (total + 2) >> 2
            return full
        count = _sum_of_quads(there.view(np.uint8), np.uint16).astype(total.dtype)
        total -= (4 - count) * total.dtype.type(nodata)
        mean: npt.NDArray[Any] = (2 * total + count) // np.maximum(2 * count, 1)
        return np.where(count > 0, mean, nodata)

    def _mean_of_floats(self, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return means of 2 x 2 numbers of an even plane, those that are there."""
        there = ~np.isnan(plane)
        total = _sum_of_quads(np.where(there, plane, 0), np.float32)
        count = _sum_of_quads(there.view(np.uint8), np.uint16)
        mean: npt.NDArray[Any] = np.divide(total, count, out=np.full(count.shape, np.nan, np.float32), where=count > 0)
        return mean.astype(np.float16) if self.dtype == "float16" else mean


def _sum_of_quads(plane: npt.NDArray[Any], wide: type[np.number[Any]]) -> npt.NDArray[Any]:
    """Return sums over 2 x 2 numbers of an even plane in a wider type."""
    if plane.dtype == np.uint8 and plane.flags.c_contiguous:
        # Two neighbours are the halves of one 16-bit number: no strides, several times as fast.
        pairs = plane.view(np.uint16)
        across = (pairs & 0xFF) + (pairs >> 8)
    else:
        across = np.add(plane[:, ::2], plane[:, 1::2], dtype=wide)
    result: npt.NDArray[Any] = across[::2] + across[1::2]
    return result


def _halve_digits(plane: npt.NDArray[np.float32], codes: npt.NDArray[Any], _: int) -> int:
    """Set a band to the nearest float16; return how many of its values lay outside their range."""
    with np.errstate(over="ignore", under="ignore"):
        codes[...] = plane
    beyond = np.isinf(codes)
    codes[beyond] = np.copysign(np.finfo(np.float16).max, codes[beyond])
    return int(np.count_nonzero(beyond))


def _check_half(magnitude: npt.NDArray[np.float64]) -> None:
    """Refuse bands that float16 has too few exponents for.

    Raises:
        PackingError: If a band's largest value is beyond 65,504, or below 6e-5
            and more than the rounding of the largest band.
    """
    limits = np.finfo(np.float16)
    rounding = np.finfo(np.float32).eps * magnitude.max()
    wrong = (magnitude > limits.max) | ((magnitude > rounding) & (magnitude < limits.smallest_normal))
    if wrong.any():
        band = int(wrong.argmax())
        raise PackingError(
            f"float16 cannot hold band {band}, whose values reach {magnitude[band]:.3g}: it holds 6e-05 to 65504. "
            "Choose int16 or float32."
        )


def packed(field: Field, window: Window, packing: Packing) -> Iterator[tuple[Window, npt.NDArray[Any], int]]:
    """Yield a window of a field in strips that bound memory: where, its codes, and how many values saturated.

    Args:
        field: What is packed.
        window: Pixels of its grid.
        packing: How.
    """
    # A reduced field computes its model's whole vectors first.
    rows = max(1, STRIP // (4 * field.card.dim * window.width))
    for strip in window.tiles(rows, window.width):
        yield strip, *packing.pack(field.read(strip))


def _by_band[T](dim: int, task: Callable[[int], T]) -> list[T]:
    """Do a task for each band, on all processors: numpy lets go of the interpreter in its loops."""
    workers = min(dim, os.cpu_count() or 1)
    # A few long jobs: hundreds of short ones would cost more than the work itself.
    parts = np.array_split(np.arange(dim), 4 * workers)
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda part: [task(int(band)) for band in part], parts)
        return [result for part in done for result in part]
