"""Cloud-Optimized GeoTIFF: one file, or a set of tiles under a VRT."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from embedfield.errors import FormatError
from embedfield.formats.stored import (
    HEADER,
    StoredField,
    check_bands,
    grid_of,
    header_of,
    packing_of,
    parse_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.formats.packing import Packing
    from embedfield.grid import Grid, Window

# Small blocks keep a point cheap; tile interleaving keeps its bands together and one band cheap.
BLOCKSIZE = 128
OPTIONS = {
    "driver": "COG",
    "INTERLEAVE": "TILE",
    "BLOCKSIZE": BLOCKSIZE,
    "COMPRESS": "ZSTD",
    "LEVEL": 1,
    "PREDICTOR": "YES",
    "BIGTIFF": "YES",
    "NUM_THREADS": "ALL_CPUS",
}
# Bytes of raw codes that one file may hold while it is written.
BUDGET = 512 * 2**20
# Bytes of float32 that are computed at a time.
STRIP = 64 * 2**20
GDAL_TYPES = {"uint8": "Byte", "float32": "Float32"}


class CogField(StoredField):
    """A field in a GeoTIFF or a VRT."""

    format = "cog"
    blocksize = BLOCKSIZE

    def __init__(self, path: Path) -> None:
        """Open a field.

        Raises:
            FormatError: If GDAL cannot open it, or it is no field of embedfield.
        """
        self.path = Path(path)
        # GDAL opens a file again for each thread, and those of a VRT when they are read.
        self._file = self.path.absolute()
        try:
            with warnings.catch_warnings():
                # A file that is not ours or not whole is refused below.
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._dataset = rasterio.open(self._file, thread_safe=True)
        except RasterioIOError as error:
            raise FormatError(f"{path} cannot be opened: {error}. It is no raster, or not a whole one.") from error
        with ExitStack() as undo:
            undo.callback(self._dataset.close)
            self._take_dataset(self._dataset)
            undo.pop_all()

    def _take_dataset(self, dataset: rasterio.DatasetReader) -> None:
        """Set what the file says of itself.

        Raises:
            FormatError: If it is no field of embedfield.
        """
        self._take_header(parse_header(dataset.tags().get(HEADER.upper()), self.path))
        check_bands(self.path, dataset.count, self.dim)
        crs = dataset.crs.to_string() if dataset.crs else None
        self.grid = grid_of(self.path, dataset.transform, dataset.shape, crs)
        self.packing = packing_of(self.path, dataset.dtypes[0], dataset.scales, dataset.offsets)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window, (dim, height, width), float32."""
        rows, cols = (window or self.grid.window).rows, (window or self.grid.window).cols
        self.grid.lons(window)  # refuses a window past the edge, which GDAL would shorten
        try:
            codes = self._dataset.read(window=((rows.start, rows.stop), (cols.start, cols.stop)))
        except RasterioIOError as error:
            if self._dataset.closed:
                raise FormatError(f"{self.path} is closed. Open it again.") from error
            raise FormatError(f"{self.path} cannot be read: it is damaged or cut short. Build it again.") from error
        return self.packing.unpack(codes)

    def close(self) -> None:
        """Let go of the file."""
        self._dataset.close()


def write_cog(field: Field, path: Path, packing: Packing, progress: Callable[[int], None]) -> Path:
    """Write a field, as one COG or, past the memory budget, as tiles and a VRT.

    Args:
        field: What to write; read in strips.
        path: ``….tif``; a set of tiles becomes ``….vrt`` and a folder beside it.
        packing: How numbers are stored.
        progress: Told the number of pixels done, piece by piece.

    Returns:
        The path to open: `path`, or that of the VRT. It is there only when
        everything is whole.
    """
    tiles = list(_tiles(field.grid, field.dim * packing.itemsize))
    if len(tiles) == 1:
        _write_tile(field, tiles[0], path, packing, progress)
        return path
    folder = path.with_suffix(".tiles")
    folder.mkdir()
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder)
        saturated = 0
        names = [f"{folder.name}/r{tile.row_off:06d}c{tile.col_off:06d}.tif" for tile in tiles]
        for tile, name in zip(tiles, names, strict=True):
            saturated += _write_tile(field, tile, path.parent / name, packing, progress)
        vrt = _Vrt(field.grid.shape, field, packing, saturated, field.grid.window)
        for band in range(field.dim):
            for tile, name in zip(tiles, names, strict=True):
                vrt.add_source(band, name, tile)
        result = _placed(path.with_suffix(".vrt"), lambda part: part.write_text(vrt.text()))
        undo.pop_all()
    return result


def _placed(path: Path, write: Callable[[Path], object]) -> Path:
    """Write under a temporary name, then rename: a file that is there is whole."""
    part = path.with_name(f"{path.name}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _tiles(grid: Grid, pixel_bytes: int) -> Iterator[Window]:
    """Return windows whose raw bytes stay under the budget; few large ones."""
    if grid.width * grid.height * pixel_bytes <= BUDGET:
        return grid.window.tiles(*grid.shape)
    side = max(BLOCKSIZE, 2 ** int(math.log2(math.sqrt(BUDGET / pixel_bytes))))
    return grid.window.tiles(side, side)


def _write_tile(field: Field, tile: Window, path: Path, packing: Packing, progress: Callable[[int], None]) -> int:
    """Write one file and return how many of its values saturated."""
    codes = np.empty((field.dim, tile.height, tile.width), dtype=packing.dtype)
    rows = max(1, STRIP // (4 * field.dim * tile.width))
    saturated = 0
    for strip in tile.tiles(rows, tile.width):
        top = strip.row_off - tile.row_off
        codes[:, top : top + strip.height], outside = packing.pack(field.read(strip))
        saturated += outside
        progress(strip.width * strip.height)
    levels = [codes]
    while max(levels[-1].shape[1:]) > BLOCKSIZE:
        levels.append(_halved(levels[-1], packing))
    vrt = _Vrt((tile.height, tile.width), field, packing, saturated, tile)
    for band in range(field.dim):
        vrt.add_levels(band, levels)
    overviews = "FORCE_USE_EXISTING" if len(levels) > 1 else "NONE"
    with rasterio.Env(GDAL_MEM_ENABLE_OPEN="YES"), rasterio.open(vrt.text()) as source:
        _placed(path, lambda part: _copy(source, part, OVERVIEWS=overviews, **OPTIONS))
    return saturated


def _copy(source: rasterio.DatasetReader, path: Path, **options: Any) -> None:
    """Let GDAL write a file.

    Raises:
        OSError: If it cannot: a disk is full, or a folder may not be written.
    """
    try:
        rasterio.shutil.copy(source, path, **options)
    except CPLE_BaseError as error:
        raise OSError(str(error)) from error


def _halved(codes: npt.NDArray[Any], packing: Packing) -> npt.NDArray[Any]:
    """Return codes of means of 2 x 2 pixels; at an odd edge, of those that are there."""
    dim, height, width = codes.shape
    small = np.empty((dim, -(-height // 2), -(-width // 2)), dtype=codes.dtype)
    even = np.full((2 * small.shape[1], 2 * small.shape[2]), packing.nodata, dtype=codes.dtype)
    for band, plane in enumerate(codes):
        even[:height, :width] = plane
        quads = np.stack((even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]))
        small[band] = packing.mean(quads, axis=0)
    return small


class _Vrt:
    """A GDAL virtual raster: bands with their names and packing, and where their pixels are."""

    def __init__(self, shape: tuple[int, int], field: Field, packing: Packing, saturated: int, window: Window) -> None:
        height, width = shape
        self.packing = packing
        self.root = Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
        SubElement(self.root, "SRS", dataAxisToSRSAxisMapping="2,1").text = field.grid.crs
        west, north = field.grid.transform @ (window.col_off, window.row_off)
        SubElement(
            self.root, "GeoTransform"
        ).text = f"{west!r}, {field.grid.res!r}, 0, {north!r}, 0, {-field.grid.res!r}"
        metadata = SubElement(self.root, "Metadata")
        SubElement(metadata, "MDI", key=HEADER.upper()).text = json.dumps(header_of(field, saturated))
        SubElement(metadata, "MDI", key="AREA_OR_POINT").text = "Area"
        self.bands = [self._band(number, name) for number, name in enumerate(field.band_names)]

    def _band(self, number: int, name: str) -> Element:
        band = SubElement(
            self.root, "VRTRasterBand", dataType=GDAL_TYPES[self.packing.dtype], band=str(number + 1),
            blockXSize=str(BLOCKSIZE), blockYSize=str(BLOCKSIZE),
        )  # fmt: skip
        SubElement(band, "Description").text = name
        SubElement(band, "NoDataValue").text = repr(self.packing.nodata)
        SubElement(band, "Scale").text = repr(float(self.packing.scale[number]))
        SubElement(band, "Offset").text = repr(float(self.packing.offset[number]))
        return band

    def add_levels(self, band: int, levels: list[npt.NDArray[Any]]) -> None:
        """Let a band's pixels and overviews be arrays (dim, height, width) in memory."""
        for level, array in enumerate(levels):
            source = SubElement(self.bands[band], "Overview" if level else "SimpleSource")
            SubElement(source, "SourceFilename", relativeToVRT="0").text = _memory_name(array)
            SubElement(source, "SourceBand").text = str(band + 1)

    def add_source(self, band: int, name: str, window: Window) -> None:
        """Let a part of a band be the same band of a file."""
        source = SubElement(self.bands[band], "SimpleSource")
        SubElement(source, "SourceFilename", relativeToVRT="1").text = name
        SubElement(source, "SourceBand").text = str(band + 1)
        size: dict[str, str] = {"xSize": str(window.width), "ySize": str(window.height)}
        SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0"} | size)
        SubElement(source, "DstRect", {"xOff": str(window.col_off), "yOff": str(window.row_off)} | size)

    def text(self) -> str:
        """Return the XML."""
        return tostring(self.root, encoding="unicode")


def _memory_name(array: npt.NDArray[Any]) -> str:
    """Return the name under which GDAL reads a contiguous array (dim, height, width)."""
    dim, height, width = array.shape
    kind = GDAL_TYPES[array.dtype.name]
    return f"MEM:::DATAPOINTER={array.ctypes.data},PIXELS={width},LINES={height},BANDS={dim},DATATYPE={kind}"
