"""Packing: how float vectors become stored numbers, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from embedfield.errors import PackingError

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from embedfield.field import Field

Dtype = Literal["uint8", "int16", "float16", "float32"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
# Attributes by which arrays of others say how numbers are packed: of each band, or of all together.
SCALES, OFFSETS = ("scales", "scale_factor"), ("offsets", "add_offset")


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
# Places at which a band's range is measured; a field of fewer pixels is measured at each of them.
SAMPLE = 16_384
# Bytes of float32 that are computed at a time, while as many are packed.
STRIP = 16 * 2**20
# Pixels of these, at most.
PIXELS = 32_768
# Values that are packed at a time: the numbers on the way stay in the cache of a processor.
PIECE = 64 * 2**10
# How much wider than the sample's the range is taken, on either side: the field's own is a little wider. With a
# quarter of the places it takes five times the margin for as many values to saturate, and packing errs a tenth more.
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

    def pack(
        self, values: npt.NDArray[np.float32], out: npt.NDArray[Any] | None = None
    ) -> tuple[npt.NDArray[Any], int]:
        """Return the codes of a block, and how many values lay outside their range.

        Args:
            values: (dim, height, width), float32; NaN where there is no value.
            out: Where the codes go, (dim, height, width), of the packing's dtype
                or one that holds its numbers; None for a new array.

        Returns:
            Codes (dim, height, width) in the packing's dtype, and the number
            of values that took the first or last code because they lie beyond it.
        """
        codes = np.empty(values.shape, dtype=self.dtype) if out is None else out
        if self.dtype == "float32":
            codes[...] = values
            return codes, 0
        _, height, width = values.shape
        # What is computed on the way stays in the cache: some bands at a time, or some rows of one.
        bands, rows = max(1, PIECE // max(1, height * width)), max(1, PIECE // max(1, width))
        # 255 codes leave float32 digits to spare; 65,535 do not.
        wide = {"uint8": np.float32, "int16": np.float64, "float16": np.float16}[self.dtype]
        buffer = np.empty((bands, min(rows, height), width), dtype=wide)
        saturated = 0
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # what overflows saturates
            for band, top in product(range(0, len(values), bands), range(0, height, rows)):
                piece = slice(band, band + bands), slice(top, top + rows)
                code = buffer[: len(values) - band, : height - top]
                saturated += self._pack_piece(values[piece], codes[piece], code, piece[0])
        return codes, saturated

    def _pack_piece(
        self, values: npt.NDArray[np.float32], codes: npt.NDArray[Any], code: npt.NDArray[Any], bands: slice
    ) -> int:
        """Set codes of some bands, by way of a buffer of their shape; return how many lay outside the range."""
        if self.dtype == "float16":
            return _halve_digits(values, codes, code)
        first, last, _ = LEVELS[self.dtype]
        offset, scale = (found[bands, None, None].astype(code.dtype) for found in (self.offset, self.scale))
        np.subtract(values, offset, out=code, dtype=code.dtype)
        np.divide(code, scale, out=code)
        np.rint(code, out=code)
        if first <= code.min() and code.max() <= last:  # never so with a NaN in it
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

    def halved(self, codes: npt.NDArray[Any], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the codes of the means of the values of 2 x 2 pixels, leaving out nodata.

        An affine rule lets means be taken of codes: the mean of the values is
        the value of the mean. Halves are rounded up.

        Args:
            codes: (dim, height, width).
            out: Where the result goes; None for a new array.

        Returns:
            (dim, ceil(height / 2), ceil(width / 2)); at an odd edge means of the pixels that are there.
        """
        dim, height, width = codes.shape
        small = np.empty((dim, -(-height // 2), -(-width // 2)), dtype=codes.dtype) if out is None else out
        mean = self._mean_of_codes if self.dtype in LEVELS else self._mean_of_floats
        # A few bands at a time stay in the cache.
        some = max(1, PIECE // max(1, height * width))
        for band in range(0, dim, some):
            planes = codes[band : band + some]
            if height % 2 or width % 2:
                edges = (0, 0), (0, height % 2), (0, width % 2)
                planes = np.pad(planes, edges, constant_values=self.nodata)
            small[band : band + some] = mean(np.ascontiguousarray(planes))
        return small

    def _mean_of_codes(self, planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return means, rounded, of 2 x 2 codes of even planes."""
        nodata = int(self.nodata)
        total = _sum_of_quads(planes, np.uint16 if planes.dtype == np.uint8 else np.int32)
        if planes.min(initial=nodata + 1) > nodata:  # the least code there is
            total += 2
            total >>= 2
            return total
        count = _sum_of_quads((planes != nodata).view(np.uint8), np.uint16).astype(total.dtype)
        total -= (4 - count) * total.dtype.type(nodata)
        mean: npt.NDArray[Any] = (2 * total + count) // np.maximum(2 * count, 1)
        return np.where(count > 0, mean, nodata)

    def _mean_of_floats(self, planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return means of 2 x 2 numbers of even planes, those that are there."""
        there = ~np.isnan(planes)
        total = _sum_of_quads(np.where(there, planes, 0), np.float32)
        count = _sum_of_quads(there.view(np.uint8), np.uint16)
        mean: npt.NDArray[Any] = np.divide(total, count, out=np.full(count.shape, np.nan, np.float32), where=count > 0)
        return mean.astype(np.float16) if self.dtype == "float16" else mean


def _sum_of_quads(planes: npt.NDArray[Any], wide: type[np.number[Any]]) -> npt.NDArray[Any]:
    """Return sums over 2 x 2 numbers of contiguous even planes in a wider type."""
    if planes.dtype == np.uint8:
        # Two neighbours are the halves of one 16-bit number: no strides, several times as fast.
        pairs = planes.view(np.uint16)
        across = pairs & 0xFF
        across += pairs >> 8
    else:
        across = np.add(planes[..., ::2], planes[..., 1::2], dtype=wide)
    result: npt.NDArray[Any] = across[:, ::2] + across[:, 1::2]
    return result


def _halve_digits(piece: npt.NDArray[np.float32], codes: npt.NDArray[Any], half: npt.NDArray[Any]) -> int:
    """Set codes to the nearest float16, by way of a buffer; return how many values lay outside their range."""
    half[...] = piece
    beyond = np.isinf(half)
    half[beyond] = np.copysign(np.finfo(np.float16).max, half[beyond])
    codes[...] = half
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


def strip_rows(field: Field, width: int) -> int:
    """Return how many rows of so many pixels of a field are computed at a time."""
    return max(1, strip_pixels(field) // width)


def strip_pixels(field: Field) -> int:
    """Return how many pixels of a field are computed at a time."""
    # A reduced field computes its model's whole vectors first. Of a slow encoder few: what is not done yet is not told.
    return min(PIXELS, STRIP // (4 * field.card.dim))
