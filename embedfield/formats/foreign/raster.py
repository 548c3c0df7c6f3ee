"""ForeignRaster: a field made by others in a raster that GDAL reads."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyproj
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning

from embedfield.errors import FormatError
from embedfield.formats.cog import CogField
from embedfield.formats.foreign.decoding import Affine, SignedSquare, Stored
from embedfield.formats.foreign.field import ForeignField
from embedfield.formats.foreign.place import code_of, grid_of
from embedfield.formats.stored import HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from affine import Affine as Transform


class RasterFacts(NamedTuple):
    """What a raster says of itself."""

    path: Path | str
    """What was opened."""
    dtype: str
    """Type of its numbers."""
    shape: tuple[int, int]
    """(height, width)."""
    names: list[str]
    """What its bands are called, (dim,); empty texts where they are not."""
    scale: list[float]
    """Of each band, 1 where none is stated."""
    offset: list[float]
    """Of each band, 0 where none is stated."""
    nodata: list[float]
    """Of each band, NaN where none is stated."""
    masked: bool
    """Whether it has a mask of its own."""
    transform: Transform
    """From (col, row) to its reference system."""
    crs: pyproj.CRS | None
    """Its reference system; None where it has none."""
    ours: bool
    """Whether embedfield wrote it."""

    @classmethod
    def of(cls, path: Path | str, dataset: rasterio.DatasetReader) -> Self:
        """Return what a dataset says of itself.

        Raises:
            FormatError: If its bands are no numbers of one type, or it does not tell where they are.
        """
        if not dataset.count:
            raise FormatError(
                f"{path} has no bands of its own, but {len(dataset.subdatasets)} rasters in it. Write out the one that "
                "is meant, as with gdal_translate."
            )
        kinds = sorted(set(dataset.dtypes))
        if len(kinds) > 1 or not _is_number(kinds[0]):
            raise FormatError(f"{path} holds {', '.join(kinds)}, and the bands of a field are numbers of one type.")
        # GDAL's word for none. With a reference system alone its pixels would be degrees, or metres, from nowhere.
        if dataset.transform.is_identity:
            raise FormatError(
                f"{path} does not tell where its pixels are: it has no geotransform. Give it one, as with "
                "gdal_translate -a_ullr; or write it as a Zarr with coordinates."
            )
        own = MaskFlags.per_dataset in dataset.mask_flag_enums[0] and MaskFlags.alpha not in dataset.mask_flag_enums[0]
        return cls(
            path,
            kinds[0],
            dataset.shape,
            [text or "" for text in dataset.descriptions],
            list(dataset.scales),
            list(dataset.offsets),
            [np.nan if code is None else float(code) for code in dataset.nodatavals],
            own,
            dataset.transform,
            pyproj.CRS.from_wkt(dataset.crs.to_wkt()) if dataset.crs else None,
            HEADER.upper() in dataset.tags(),
        )

    @property
    def packed(self) -> bool:
        """Whether it states how its numbers become values."""
        return any(scale != 1 for scale in self.scale) or any(self.offset)


class RasterLook(CogField):
    """A raster that is opened to see what it says of itself."""

    facts: RasterFacts

    def _take_dataset(self, dataset: rasterio.DatasetReader) -> None:
        del dataset
        self.facts = _facts(self)


class ForeignRaster(ForeignField, CogField):
    """A field made by others in a GeoTIFF, a VRT or another raster that GDAL reads."""

    format = "raster"

    def __init__(self, path: str | Path, layout: Mapping[str, Any]) -> None:
        """Open a field.

        Args:
            path: A path, or an address on a network.
            layout: With ``rule`` (``affine`` or ``signed-square``), ``card``, and ``crs`` where the raster has none.

        Raises:
            FormatError: If GDAL cannot open it, or it is not as its layout says.
        """
        self._asked = layout
        CogField.__init__(self, path)

    def _take_dataset(self, dataset: rasterio.DatasetReader) -> None:
        self._take_layout(self._asked)
        facts, dim = _facts(self), self.dim
        if len(facts.names) < dim:
            raise FormatError(
                f"{self.path} has {len(facts.names)} bands, and {dim} were entered. Enter it anew with 'embedfield "
                "catalog add'."
            )
        crs = code_of(self.path, facts.crs, self._asked.get("crs"))
        self.grid, self._flipped = grid_of(self.path, facts.transform, facts.shape, crs)
        signed = self._asked["rule"] == "signed-square"
        self._masked = facts.masked and not signed
        self.packing = (
            SignedSquare()
            if signed
            else Affine(facts.dtype, facts.scale[:dim], facts.offset[:dim], facts.nodata[:dim], masked=self._masked)
        )
        if self.packing.dtype != facts.dtype:
            raise FormatError(f"{self.path} holds {facts.dtype}, and {self.packing.dtype} was entered. Enter it anew.")
        self.blocksize = self._side(*dataset.block_shapes[0])
        self._bands = None if dim == len(facts.names) else list(range(1, dim + 1))
        self._take_names(facts.names[:dim])

    def _shapes(self) -> dict[int, tuple[int, int]]:
        with self._reading():
            height, width = self.grid.shape
            factors = set(self._dataset.overviews(1))
            whole = {factor: (-(-height // factor), -(-width // factor)) for factor in factors if factor > 1}
            return {factor: shape for factor, shape in whole.items() if self._level(factor).shape == shape}

    def _stored(self, rows: slice, cols: slice, overview: int | None) -> Stored:
        window = (rows.start, rows.stop), (cols.start, cols.stop)
        with self._reading():
            dataset = self._level(overview) if overview else self._dataset
            codes = dataset.read(self._bands, window=window)
            return Stored(codes, dataset.read_masks(1, window=window)[None] if self._masked else None)

    def close(self) -> None:
        """Let go of the file and its coarser levels."""
        CogField.close(self)


def _facts(field: CogField) -> RasterFacts:
    """Return what the raster of a field that is being opened says of itself."""
    # A dataset that threads share does not tell the names of its bands.
    with field._env(), warnings.catch_warnings():  # noqa: SLF001  they are one
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it is refused instead
        with rasterio.open(field._gdal_name) as dataset:  # noqa: SLF001  the same
            return RasterFacts.of(field.path, dataset)


def _is_number(dtype: str) -> bool:
    """Return whether a dtype of rasterio's is one of real numbers."""
    return not dtype.startswith("complex")
