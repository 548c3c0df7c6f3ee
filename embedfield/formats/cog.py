"""Cloud-Optimized GeoTIFF: one file, or a set of tiles under a VRT."""

from __future__ import annotations

import math
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import MemoryFile

from embedfield.errors import FormatError
from embedfield.formats.packing import packed
from embedfield.formats.stored import (
    HEADER,
    StoredField,
    check_bands,
    grid_of,
    packing_of,
    parse_header,
)
from embedfield.formats.vrt import BLOCKSIZE, Vrt, memory_name
from embedfield.grid import Window
from embedfield.integrity import placed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from embedfield.formats.journal import Work
    from embedfield.formats.packing import Packing
    from embedfield.grid import Grid

# Small blocks keep a point cheap; tile interleaving keeps its bands together and one band cheap.
OPTIONS = {
    "driver": "COG",
    "INTERLEAVE": "TILE",
    "BLOCKSIZE": BLOCKSIZE,
    "COMPRESS": "ZSTD",
    "LEVEL": 1,
    "PREDICTOR": "YES",
    # The budget keeps a file far below 4 GB, and its table of blocks, which a reader fetches first, half as large.
    "BIGTIFF": "NO",
    "NUM_THREADS": "ALL_CPUS",
}
# Bytes of raw codes that one file may hold while it is written.
BUDGET = 512 * 2**20
# Megabytes that GDAL may keep of blocks, which otherwise is a twentieth of all memory.
CACHE = 64


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
        self.grid = grid_of(self.path, dataset.transform, dataset.shape, crs, self._crs)
        rounded = self._dtype == "float16" and dataset.dtypes[0] == "float32"
        dtype = "float16" if rounded else dataset.dtypes[0]
        self.packing = packing_of(self.path, dtype, dataset.scales, dataset.offsets)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window, (dim, height, width), float32."""
        rows, cols = (window or self.grid.window).rows, (window or self.grid.window).cols
        self.grid.checked(window)  # refuses a window past the edge, which GDAL would shorten
        try:
            with rasterio.Env(GDAL_CACHEMAX=CACHE):
                codes = self._dataset.read(window=((rows.start, rows.stop), (cols.start, cols.stop)))
        except RasterioIOError as error:
            if self._dataset.closed:
                raise FormatError(f"{self.path} is closed. Open it again.") from error
            raise FormatError(f"{self.path} cannot be read: it is damaged or cut short. Build it again.") from error
        return self.packing.unpack(codes)

    def close(self) -> None:
        """Let go of the file."""
        self._dataset.close()


def write_cog(work: Work, path: Path) -> Path:
    """Write a field, as one COG or, past the memory budget, as tiles and a VRT.

    Args:
        work: What to write, and how; what its journal has is kept.
        path: ``….tif``; a set of tiles becomes ``….vrt`` and a folder beside it.

    Returns:
        The path to open: `path`, or that of the VRT.
    """
    field, packing = work.field, work.packing
    tiles = list(_tiles(field.grid, field.dim * np.dtype(_stored(packing)).itemsize))
    if len(tiles) == 1:
        _write_tile(work, tiles[0], path)
        return path
    folder = path.with_suffix(".tiles")
    folder.mkdir(exist_ok=True)
    names = [f"{folder.name}/r{tile.row_off:06d}c{tile.col_off:06d}.tif" for tile in tiles]
    saturated = sum(_write_tile(work, tile, path.parent / name) for tile, name in zip(tiles, names, strict=True))
    vrt = Vrt(field, packing, saturated, field.grid.window, _stored(packing))
    for tile, name in zip(tiles, names, strict=True):
        vrt.add_tile(name, tile)
    return placed(path.with_suffix(".vrt"), lambda part: part.write_text(vrt.text(), encoding="utf-8"))


def _tiles(grid: Grid, pixel_bytes: int) -> Iterator[Window]:
    """Return windows whose raw bytes stay under the budget; few large ones."""
    if grid.width * grid.height * pixel_bytes <= BUDGET:
        return grid.window.tiles(*grid.shape)
    side = max(BLOCKSIZE, 2 ** int(math.log2(math.sqrt(BUDGET / pixel_bytes))))
    return grid.window.tiles(side, side)


def _stored(packing: Packing) -> str:
    """Return the type of the numbers in the file: GDAL before 3.11 does not know float16."""
    return "float32" if packing.dtype == "float16" else packing.dtype


def _write_tile(work: Work, tile: Window, path: Path) -> int:
    """Write one file, if it is not there already, and return how many of its values saturated."""
    unit, packing = path.name, work.packing
    done = work.journal.done(unit, path)
    if done:
        work.progress(tile.width * tile.height)
        return done["saturated"]
    codes, saturated = _codes(work, tile, unit)
    levels = [codes]
    while max(levels[-1].shape[1:]) > BLOCKSIZE:
        levels.append(packing.halved(levels[-1]))
    vrt = Vrt(work.field, packing, saturated, tile, _stored(packing))
    vrt.add_arrays(levels)
    overviews = "FORCE_USE_EXISTING" if len(levels) > 1 else "NONE"
    with rasterio.Env(GDAL_MEM_ENABLE_OPEN="YES", GDAL_CACHEMAX=CACHE), rasterio.open(vrt.text()) as source:
        placed(path, lambda part: _write_file(source, part, OVERVIEWS=overviews, **OPTIONS))
    work.journal.add(unit, path, saturated=saturated)
    return saturated


def _codes(work: Work, tile: Window, unit: str) -> tuple[npt.NDArray[Any], int]:
    """Return the codes (dim, height, width) of a tile, and how many of its values saturated."""
    codes = np.empty((work.field.dim, tile.height, tile.width), dtype=_stored(work.packing))
    start, saturated = work.journal.restore(unit, codes)
    if start:
        work.progress(start * tile.width)
    rest = Window(tile.col_off, tile.row_off + start, tile.width, tile.height - start)
    for strip, block, outside in packed(work.field, rest, work.packing):
        top = strip.row_off - tile.row_off
        codes[:, top : top + strip.height] = block
        saturated += outside
        work.progress(strip.width * strip.height)
        work.journal.keep(unit, codes, top + strip.height, saturated)
    return codes, saturated


def _write_file(source: rasterio.DatasetReader, path: Path, **options: Any) -> None:
    """Write a file by way of memory: on a full disk GDAL may leave one that is cut short, and say nothing."""
    with MemoryFile(ext=".tif") as file:
        _copy(source, file.name, **options)
        path.write_bytes(file.getbuffer())


def _copy(source: rasterio.DatasetReader, path: Path | str, **options: Any) -> None:
    """Let GDAL write a file.

    Raises:
        OSError: If it cannot: a disk is full, or a folder may not be written.
    """
    try:
        rasterio.shutil.copy(source, path, **options)
    except CPLE_BaseError as error:
        raise OSError(str(error)) from error


def bits_per_value(codes: npt.NDArray[Any], packing: Packing) -> float:
    """Return the bits that a value takes in a file, compressed, without overviews.

    Args:
        codes: (dim, height, width), as `packing` gave them.
        packing: How they are packed.
    """
    stored = np.ascontiguousarray(codes, dtype=_stored(packing))
    with (
        rasterio.Env(GDAL_MEM_ENABLE_OPEN="YES"),
        warnings.catch_warnings(),
        MemoryFile(ext=".tif") as file,
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(memory_name(stored)) as source:
            _copy(source, file.name, OVERVIEWS="NONE", **OPTIONS)
        with file.open() as written:
            sizes = (
                written.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
                for band in written.indexes
                for (row, col), _ in written.block_windows(band)
            )
            return 8 * sum(int(size) for size in sizes if size) / codes.size
