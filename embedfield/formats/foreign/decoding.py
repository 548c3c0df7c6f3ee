"""Decoding: how the numbers that others store become values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class Stored(NamedTuple):
    """Numbers as they are stored."""

    codes: npt.NDArray[Any]
    """(dim, height, width), or (dim, n) of single pixels."""
    aside: npt.NDArray[Any] | None = None
    """What is stored beside them for each pixel, such as a scale: (1 or dim, height, width), or (1 or dim, n)."""

    def pick(self, pixels: npt.NDArray[np.int64]) -> Stored:
        """Return the numbers (dim, n) of some pixels, counted row by row."""
        codes = self.codes.reshape(len(self.codes), -1).take(pixels, axis=1)
        if self.aside is None:
            return Stored(codes)
        return Stored(codes, self.aside.reshape(len(self.aside), -1).take(pixels, axis=1))

    def upside_down(self) -> Stored:
        """Return them with the last row first."""
        codes = np.ascontiguousarray(self.codes[:, ::-1])
        return Stored(codes, None if self.aside is None else self.aside[:, ::-1])


class Decoding(ABC):
    """A rule by which stored numbers become values; it has what a `Packing` tells its readers."""

    method: str
    """The rule's name in ``emb:quantization``."""
    dtype: str
    """Type of the stored numbers."""
    scale: npt.NDArray[np.float64] | None = None
    """(dim,) where a value is code · scale + offset; None where the rule is another."""
    offset: npt.NDArray[np.float64] | None = None
    """(dim,), likewise."""
    nodata: float | None = None
    """The stored number that means no value, of all bands; None where something else tells."""

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize

    @abstractmethod
    def unpack(self, codes: npt.NDArray[Any], aside: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float32]:
        """Return the values of codes (dim, …), float32; NaN where there is none."""

    @abstractmethod
    def describe(self) -> str:
        """Return the rule in words."""

    def quantization(self) -> dict[str, Any]:
        """Return the rule as ``emb:quantization`` of STAC has it."""
        return {"method": self.method, "original_dtype": "float32", "quantized_dtype": self.dtype}


class SignedSquare(Decoding):
    """AlphaEarth's rule: value = sign(code) · (code / 127.5)²; -128 is no value."""

    method = "signed_square"
    dtype = "int8"
    nodata = -128

    def __init__(self) -> None:
        """Compute the values of all codes, in the order of their bytes as unsigned numbers."""
        codes = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
        values = (np.sign(codes) * (codes / 127.5) ** 2).astype(np.float32)
        values[128] = np.nan
        self._values = values

    def unpack(self, codes: npt.NDArray[Any], aside: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float32]:
        """Return the values of codes (dim, …), float32; NaN where there is none."""
        del aside  # it has none
        return self._values[codes.astype(np.int8, copy=False).view(np.uint8)]

    def describe(self) -> str:
        """Return the rule in words."""
        return "sign(code) · (code / 127.5)², no value where -128"


class PixelScale(Decoding):
    """TESSERA's rule: value = code · the scale of the pixel; where that is not finite there is no value."""

    method = "per_pixel_scale"
    dtype = "int8"

    def unpack(self, codes: npt.NDArray[Any], aside: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float32]:
        """Return the values of codes (dim, …), float32; NaN where there is none."""
        assert aside is not None  # noqa: S101  for mypy: whoever reads such a field reads its scales
        scale = np.where(np.isfinite(aside), aside, np.nan).astype(np.float32, copy=False)
        values: npt.NDArray[np.float32] = np.multiply(codes, scale, dtype=np.float32)
        return values

    def describe(self) -> str:
        """Return the rule in words."""
        return "code · the scale of the pixel, no value where that is not finite"


class Affine(Decoding):
    """A rule a band: value = code · scale + offset; no value where the code is nodata, or a mask is 0.

    Computed in float64 and rounded once.
    """

    def __init__(
        self,
        dtype: str,
        scale: npt.ArrayLike,
        offset: npt.ArrayLike,
        nodata: npt.ArrayLike | None = None,
        *,
        masked: bool = False,
    ) -> None:
        """Take the rules of all bands.

        Args:
            dtype: Type of the stored numbers.
            scale: (dim,).
            offset: (dim,).
            nodata: The code of each band that means no value, (dim,); NaN, or
                what the dtype cannot hold, where a band has none.
            masked: Whether a mask is stored beside the codes.
        """
        self.dtype, self.masked = dtype, masked
        self.scale, self.offset = np.asarray(scale, dtype=np.float64), np.asarray(offset, dtype=np.float64)
        self._codes = _held(np.full(len(self.scale), np.nan) if nodata is None else np.asarray(nodata, float), dtype)
        self.plain = bool((self.scale == 1).all() and not self.offset.any())
        self.method = "none" if self.plain else "linear"
        common = self._codes[0] if len(set(self._codes)) == 1 else None
        nothing = np.nan if np.dtype(dtype).kind == "f" else None
        self.nodata = nothing if common is None else float(common)

    def unpack(self, codes: npt.NDArray[Any], aside: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float32]:
        """Return the values of codes (dim, …), float32; NaN where there is none."""
        values = np.empty(codes.shape, dtype=np.float32)
        # One band at a time: float64 of all would be many times what is stored.
        for value, code, scale, offset, nodata in zip(values, codes, *self._rules(), self._codes, strict=True):
            with np.errstate(over="ignore"):  # nodata of float64 may be beyond float32
                value[...] = code if self.plain else code * scale + offset
            if nodata is not None:
                value[code == nodata] = np.nan
        if aside is not None:
            values[:, aside[0] == 0] = np.nan
        return values

    def _rules(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        assert self.scale is not None  # noqa: S101  for mypy
        assert self.offset is not None  # noqa: S101  for mypy
        return self.scale, self.offset

    def describe(self) -> str:
        """Return the rule in words."""
        stated = {code for code in self._codes if code is not None}
        nothing = [f"where {', '.join(f'{code:g}' for code in sorted(stated))}"] if stated else []
        nothing += ["where the mask is 0"] if self.masked else []
        rule = "as they are" if self.plain else "code · scale + offset, of each band"
        return rule + (f", no value {' and '.join(nothing)}" if nothing else "")

    def quantization(self) -> dict[str, Any]:
        """Return the rule as ``emb:quantization`` of STAC has it."""
        scale, offset = self._rules()
        return super().quantization() | {"scale": scale.tolist(), "offset": offset.tolist()}


def _held(nodata: npt.NDArray[np.float64], dtype: str) -> list[Any]:
    """Return nodata of each band as its codes are compared with; None where no code can be it, or NaN is."""
    kind = np.dtype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if kind.kind == "f":
            return [None if np.isnan(code) else kind.type(code) for code in nodata]
        limits = np.iinfo(kind)
        return [
            kind.type(code) if code == np.floor(code) and limits.min <= code <= limits.max else None for code in nodata
        ]
