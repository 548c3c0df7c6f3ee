"""Cloud-Optimized GeoTIFF: one file, or a set of tiles under a VRT."""

from __future__ import annotations

import math
import warnings
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from embedfield.errors import FormatError
from embedfield.formats.address import Address
from embedfield.formats.crew import Crew, Part
from embedfield.formats.packing import STRIP, strip_rows
from embedfield.formats.pyramid import Pyramid
from embedfield.formats.stored import (
    HEADER,
    StoredField,
    check_bands,
    grid_of,
    packing_of,
    parse_header,
)
from embedfield.formats.tiff import Blocks, compressed, write_tiff
from embedfield.formats.vrt import BLOCKSIZE, Vrt
from embedfield.integrity import placed
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from embedfield.formats.journal import Work
    from embedfield.formats.packing import Dtype, Packing
    from embedfield.formats.pyramid import Cell
    from embedfield.grid import Grid

# Bytes of raw codes that one file may have, for they are in memory while it is written.
BUDGET = 512 * 2**20
# The same of a file of a set: while one is compressed and written, the next is computed.
TILE_BUDGET = BUDGET // 2
# Bytes that GDAL may keep of blocks, which otherwise are a twentieth of all memory.
CACHE = 64 * 2**20
# What this process has opened on a network. GDAL remembers such files, and which were not there, as long as it runs.
KNOWN: set[str] = set()


class CogField(StoredField):
    """A field in a GeoTIFF or a VRT."""

    format = "cog"
    blocksize = BLOCKSIZE

    def __init__(self, path: str | Path) -> None:
        """Open a field.

        Args:
            path: A path, or an address on a network.

        Raises:
            FormatError: If GDAL cannot open it, or it is no field of embedfield.
        """
        # GDAL opens a file again for each thread, and those of a VRT when they are read.
        self._take_place(path)
        self._levels: dict[int, rasterio.DatasetReader] = {}
        try:
            with self._env(), warnings.catch_warnings():
                # A file that is not ours or not whole is refused below.
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._forget()
                self._dataset = rasterio.open(self._gdal_name, thread_safe=True)
        except RasterioIOError as error:
            self._check_reach()
            reason = f": {error}" if isinstance(self._file, Path) else ""
            raise FormatError(f"{self.path} cannot be opened{reason}. It is no raster, or not a whole one.") from error
        with ExitStack() as undo:
            undo.callback(self._dataset.close)
            self._take_dataset(self._dataset)
            undo.pop_all()

    @property
    def _gdal_name(self) -> Path | str:
        return self._file.gdal_name if isinstance(self._file, Address) else self._file

    def _forget(self) -> None:
        """Have GDAL forget what it knows of a file on a network: another may be in its place since, or one at last."""
        if not isinstance(self._gdal_name, str):
            return
        if self._gdal_name in KNOWN:
            with rasterio.Env(CPL_VSIL_CURL_NON_CACHED=self._gdal_name), suppress(RasterioIOError):
                rasterio.open(self._gdal_name).close()
        KNOWN.add(self._gdal_name)

    def _env(self) -> rasterio.Env:
        """Return the configuration under which GDAL opens and reads the file."""
        settings = self._file.gdal_settings if isinstance(self._file, Address) else {}
        return rasterio.Env(GDAL_CACHEMAX=CACHE, **settings)

    def _check_reach(self) -> None:
        """Find out whether it was the network that failed: what GDAL says of that is of many kinds, and none plain.

        Raises:
            FormatError: If it was.
        """
        if isinstance(self._file, Address):
            self._file.check()

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

    def _factors(self) -> list[int]:
        with self._reading():
            own = self._dataset.overviews(1)
            if own or self._dataset.driver != "VRT" or len(self._dataset.files) < 2:
                return sorted(own)
            # Over tiles GDAL reads coarsely from their levels, and does not tell. The first tile is a whole one.
            with rasterio.open(self._dataset.files[1]) as tile:
                return sorted(tile.overviews(1))

    def _codes(self, window: Window, overview: int | None = None) -> npt.NDArray[Any]:
        with self._reading():
            if overview:
                return self._coarser(window, overview)
            codes: npt.NDArray[Any] = self._dataset.read(window=_ranges(window))
            return codes

    def _coarser(self, window: Window, factor: int) -> npt.NDArray[Any]:
        """Return the stored numbers of a window of a coarser level."""
        codes: npt.NDArray[Any]
        if factor in self._dataset.overviews(1):
            codes = self._level(factor).read(window=_ranges(window))
        else:
            below = Window(*(factor * number for number in astuple(window)))
            (top, bottom), (left, right) = _ranges(below)
            inside = (top, min(bottom, self.grid.height)), (left, min(right, self.grid.width))
            codes = self._dataset.read(window=inside, out_shape=(self.dim, window.height, window.width))
        return codes

    def _level(self, factor: int) -> rasterio.DatasetReader:
        """Return a coarser level of the file as GDAL opens it, which takes as long as it takes to open the file."""
        if factor not in self._levels:
            number = self._dataset.overviews(1).index(factor)
            self._levels[factor] = rasterio.open(self._gdal_name, overview_level=number, thread_safe=True)
        return self._levels[factor]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn errors of GDAL into ours.

        Raises:
            FormatError: If there is one.
        """
        try:
            with self._env():
                yield
        except RasterioIOError as error:
            if self._dataset.closed:
                raise FormatError(f"{self.path} is closed. Open it again.") from error
            self._check_reach()
            raise FormatError(f"{self.path} cannot be read: it is damaged or cut short. {self.mend}") from error

    def close(self) -> None:
        """Let go of the file."""
        for dataset in (self._dataset, *self._levels.values()):
            dataset.close()


def _ranges(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return a window as rasterio takes it."""
    return (window.rows.start, window.rows.stop), (window.cols.start, window.cols.stop)


def write_cog(work: Work, path: Path) -> Path:
    """Write a field, as one COG or, past the memory budget, as tiles and a VRT.

    Args:
        work: What to write, and how; what its journal has is kept.
        path: ``….tif``; a set of tiles becomes ``….vrt`` and a folder beside it.

    Returns:
        The path to open: `path`, or that of the VRT.
    """
    tiles = tiles_of(path, work.field.grid, work.field.dim, work.packing.dtype)
    return finish_cog(work, path, write_tiles(work, tiles))


def tiles_of(path: Path, grid: Grid, dim: int, dtype: Dtype) -> dict[Path, Window]:
    """Return the files that a field is written into, and which pixels each has.

    Args:
        path: As for `write_cog`.
        grid: Of the field.
        dim: How many bands it has.
        dtype: Type of the stored numbers.
    """
    windows = list(grid.window.tiles(*tile_shape(grid, dim, dtype)))
    if len(windows) == 1:
        return {path: windows[0]}
    folder = path.with_suffix(".tiles")
    return {folder / f"r{window.row_off:06d}c{window.col_off:06d}.tif": window for window in windows}


def finish_cog(work: Work, path: Path, saturated: int) -> Path:
    """Write what tells of all files of a field, once these are there; return the path to open.

    Args:
        work: What is written, and how.
        path: As for `write_cog`.
        saturated: How many values of the field saturated.
    """
    field, dtype = work.field, work.packing.dtype
    tiles = tiles_of(path, field.grid, field.dim, dtype)
    if path in tiles:
        return path
    vrt = Vrt(field, work.packing, saturated, field.grid.window, stored(dtype).name)
    for tile, window in tiles.items():
        vrt.add_tile(f"{tile.parent.name}/{tile.name}", window)
    return placed(path.with_suffix(".vrt"), lambda part: part.write_text(vrt.text(), encoding="utf-8"))


def tile_shape(grid: Grid, dim: int, dtype: Dtype) -> tuple[int, int]:
    """Return height and width of the files of a field: the whole of it, or tiles within the memory budget."""
    pixel_bytes = dim * stored(dtype).itemsize
    if grid.width * grid.height * pixel_bytes <= BUDGET:
        return grid.shape
    side = max(BLOCKSIZE, 2 ** int(math.log2(math.sqrt(min(BUDGET, TILE_BUDGET) / pixel_bytes))))
    return side, side


def peak_memory(grid: Grid, dim: int, dtype: Dtype) -> int:
    """Return the bytes that writing takes at most: floats in strips, codes of two files, and what is made of them."""
    height, width = tile_shape(grid, dim, dtype)
    codes = dim * height * width * stored(dtype).itemsize
    files = 1 if (height, width) == grid.shape else 2
    # Compressed, with overviews, numbers that no compressor could make smaller.
    return 3 * STRIP + files * (codes + codes * 4 // 3)


def stored(dtype: Dtype) -> np.dtype[Any]:
    """Return the type of the numbers in a file: GDAL before 3.11 does not know float16."""
    return np.dtype("float32" if dtype == "float16" else dtype)


def write_tiles(work: Work, tiles: Mapping[Path, Window]) -> int:
    """Write files, those that are not there already; return how many of their values saturated.

    Args:
        work: What to write, and how; what its journal has is kept.
        tiles: As `tiles_of` gives them, or some of these.
    """
    for folder in {path.parent for path in tiles}:
        folder.mkdir(exist_ok=True)
    with Crew(work) as crew:
        under_way = [_Tile(crew, path, window) for path, window in tiles.items()]
        strips = chain.from_iterable(tile.strips() for tile in under_way)
        for (tile, window, _), saturated in crew.packed(strips):
            tile.take(window, saturated)
        crew.finish()
        return sum(tile.saturated for tile in under_way)


class _Tile:
    """A file under way: one, or one of a set."""

    def __init__(self, crew: Crew, path: Path, window: Window) -> None:
        """Take note of what goes where."""
        self.crew, self.work, self.path, self.window = crew, crew.work, path, window
        self.pyramid = Pyramid(crew, (window.height, window.width), BLOCKSIZE, self._store)
        self.saturated = 0
        self._rows = 0
        self._blocks: dict[Cell, Blocks] = {}
        self._lock = Lock()

    def strips(self) -> Iterator[list[Part[_Tile]]]:
        """Yield what is to be computed; nothing if the file is there already."""
        tile, done = self.window, self.work.journal.done(self.path.name, self.path)
        if done:
            self.saturated = done["saturated"]
            self.work.progress(tile.width * tile.height)
            return
        self.crew.begin()
        self._codes = np.empty((self.work.field.dim, tile.height, tile.width), dtype=stored(self.work.packing.dtype))
        start, self.saturated = self.work.journal.restore(self.path.name, self._codes)
        if start:
            self.work.progress(start * tile.width)
        self._hand_over(start)
        rest = Window(tile.col_off, tile.row_off + start, tile.width, tile.height - start)
        for strip in rest.tiles(strip_rows(self.work.field, tile.width), tile.width):
            top = strip.row_off - tile.row_off
            yield [Part(self, strip, self._codes[:, top : top + strip.height])]

    def take(self, strip: Window, saturated: int) -> None:
        """Go on with a strip whose codes are set."""
        self.saturated += saturated
        self.work.progress(strip.width * strip.height)
        rows = strip.rows.stop - self.window.row_off
        self.work.journal.keep(self.path.name, self._codes, rows, self.saturated)
        self._hand_over(rows)

    def _hand_over(self, rows: int) -> None:
        """Have the squares compressed whose rows are all there."""
        whole = rows // BLOCKSIZE if rows < self.window.height else self.pyramid.counts(0)[0]
        for cell in self.pyramid.cells(0):
            if self._rows <= cell.row < whole:
                square = self.pyramid.window(cell)
                self.pyramid.add(cell, self._codes[:, square.rows, square.cols])
        self._rows = whole

    def _store(self, cell: Cell, codes: npt.NDArray[Any]) -> None:
        """Compress a square; the last one to be done completes the file."""
        with self.work.clock.part("writing"):
            blocks = compressed(codes)
        with self._lock:
            self._blocks[cell] = blocks
            left = sum(map(math.prod, map(self.pyramid.counts, range(len(self.pyramid.shapes))))) - len(self._blocks)
        if not left:
            self._finish()

    def _finish(self) -> None:
        """Write the file, and let go of what it was made of."""
        del self._codes
        with self.work.clock.part("writing"):
            dtype = stored(self.work.packing.dtype).name
            vrt = Vrt(self.work.field, self.work.packing, self.saturated, self.window, dtype)
            shapes = enumerate(self.pyramid.shapes)
            levels = [(shape, [self._blocks[cell] for cell in self.pyramid.cells(level)]) for level, shape in shapes]
            placed(self.path, lambda part: write_tiff(part, vrt.text(), levels))
            self.work.journal.add(self.path.name, self.path, saturated=self.saturated)
        self._blocks.clear()
        self.crew.end()


def bits_per_value(codes: npt.NDArray[Any], packing: Packing) -> float:
    """Return the bits that a value takes in a file, compressed, without overviews.

    Args:
        codes: (dim, height, width), as `packing` gave them.
        packing: How they are packed.
    """
    _, height, width = codes.shape
    squares = Window(0, 0, width, height).tiles(BLOCKSIZE, BLOCKSIZE)
    kind = stored(packing.dtype)
    blocks = (compressed(codes[:, square.rows, square.cols].astype(kind, copy=False)) for square in squares)
    return 8 * sum(sum(block.sizes) for block in blocks) / codes.size
