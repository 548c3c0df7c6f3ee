"""Tiff: a Cloud-Optimized GeoTIFF laid out as GDAL lays it out, its blocks compressed by threads of our own.

GDAL compresses tile-interleaved blocks in one thread, and copies them several
times before. So it is asked for a file without pixels, which has all that is
to be known of them, and the pixels are added here: what comes out is the file
that GDAL would have written, but for what the compressor makes of each block.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from numcodecs import zstd
from rasterio._err import CPLE_BaseError
from rasterio.io import MemoryFile

from embedfield.formats.vrt import BLOCKSIZE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

# Small blocks keep a point cheap; tile interleaving keeps its bands together and one band cheap.
OPTIONS = {
    "driver": "COG",
    "INTERLEAVE": "TILE",
    "BLOCKSIZE": BLOCKSIZE,
    "COMPRESS": "ZSTD",
    "PREDICTOR": "YES",
    # The budget keeps a file far below 4 GB, and its table of blocks, which a reader fetches first, half as large.
    "BIGTIFF": "NO",
}
# Of blocks as small as these the third level is as fast as the first, and makes a twentieth less.
LEVEL = 3
# Bands of a block that are prepared at a time: they stay in the cache of a processor.
BANDS = 8
# Numbers of TIFF tags, and of types of their values.
REDUCED, WIDTH, HEIGHT, OFFSETS, COUNTS = 254, 256, 257, 324, 325
TABLES = (OFFSETS, COUNTS)
SHORT, LONG = 3, 4
# Bytes of a value by its type.
SIZES = {1: 1, 2: 1, SHORT: 2, LONG: 4, 5: 8, 12: 8, 16: 8}
# Tags that an overview has from the raster: type of numbers, compression, bands, predictor, size of blocks, nodata.
SHARED = (258, 259, 262, 277, 284, 317, 322, 323, 338, 339, 42113)


class Blocks(NamedTuple):
    """The compressed blocks of all bands at one place."""

    data: bytes
    """One after the other, each between its size and its last four bytes once more, as readers of COGs know them."""
    sizes: list[int]
    """Bytes of each block itself, (dim,)."""


class Tag(NamedTuple):
    """An entry of a TIFF directory."""

    kind: int
    """Type of its values."""
    data: bytes
    """Its values."""


def compressed(codes: npt.NDArray[Any]) -> Blocks:
    """Return the blocks of all bands at one place, compressed.

    Args:
        codes: (dim, height, width), at most 128 x 128.
    """
    pieces, sizes = list[bytes](), list[int]()
    for start in range(0, len(codes), BANDS):
        for block in _predicted(codes[start : start + BANDS]):
            data = zstd.compress(block, LEVEL)
            pieces += (struct.pack("<I", len(data)), data, data[-4:])
            sizes.append(len(data))
    return Blocks(b"".join(pieces), sizes)


def _predicted(codes: npt.NDArray[Any]) -> npt.NDArray[np.uint8 | np.uint16]:
    """Return blocks of some bands (n, numbers), each number less the one west of it, as TIFF's predictors have it."""
    bands, height, width = codes.shape
    whole = np.zeros((bands, BLOCKSIZE, BLOCKSIZE), dtype=codes.dtype)
    whole[:, :height, :width] = codes
    if codes.dtype.kind == "f":
        # A row's highest bytes first, then all that come next: neighbours have more in common so.
        parts = whole.view(np.uint8).reshape(-1, BLOCKSIZE, codes.itemsize)[..., ::-1]
        rows = np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(-1, BLOCKSIZE * codes.itemsize)
    else:
        rows = whole.view(f"u{codes.itemsize}").reshape(-1, BLOCKSIZE)
    less = np.empty_like(rows)
    # All rows as one: several times as fast as row by row.
    np.subtract(rows.reshape(-1)[1:], rows.reshape(-1)[:-1], out=less.reshape(-1)[1:])
    less[:, 0] = rows[:, 0]
    return less.reshape(bands, -1)


def write_tiff(path: Path, source: str, levels: list[tuple[tuple[int, int], list[Blocks]]]) -> None:
    """Write a file.

    Args:
        path: Where.
        source: A VRT without pixels, whose bands have all that is to be known of them.
        levels: (height, width) of the raster and of each overview, and the
            blocks at their places, row by row.

    Raises:
        OSError: If it cannot be written: a disk is full.
    """
    start, tags = _directory(_without_pixels(source))
    directories = [tags if not level else _coarser(tags, shape) for level, (shape, _) in enumerate(levels)]
    # Where blocks lie is not known before it is known how long all this is, and that does not depend on it.
    placed = [directory | _table(blocks, 0) for directory, (_, blocks) in zip(directories, levels, strict=True)]
    begin = len(_head(start, placed))
    for number in reversed(range(len(levels))):  # the coarsest first
        blocks = levels[number][1]
        placed[number] = directories[number] | _table(blocks, begin)
        begin += sum(len(block.data) for block in blocks)
    with path.open("wb") as file:
        file.write(_head(start, placed))
        for _, blocks in reversed(levels):
            file.writelines(block.data for block in blocks)


def _without_pixels(source: str) -> bytes:
    """Return the file that GDAL writes of a VRT without pixels.

    Raises:
        OSError: If it cannot.
    """
    with MemoryFile(ext=".tif") as file, rasterio.open(source) as dataset:
        try:
            rasterio.shutil.copy(dataset, file.name, **OPTIONS, OVERVIEWS="NONE", SPARSE_OK="YES")
        except CPLE_BaseError as error:
            raise OSError(str(error)) from error
        return bytes(file.getbuffer())


def _directory(data: bytes) -> tuple[bytes, dict[int, Tag]]:
    """Return what stands before the first directory of a TIFF, and its entries."""
    (at,) = struct.unpack_from("<4xI", data)
    (count,) = struct.unpack_from("<H", data, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        number, kind, values = struct.unpack_from("<HHI", data, entry)
        size = SIZES[kind] * values
        (start,) = struct.unpack_from("<I", data, entry + 8) if size > 4 else (entry + 8,)
        tags[number] = Tag(kind, data[start : start + size])
    return data[:at], tags


def _coarser(tags: dict[int, Tag], shape: tuple[int, int]) -> dict[int, Tag]:
    """Return the entries of an overview, where its blocks lie aside."""
    height, width = shape
    own = {REDUCED: Tag(LONG, struct.pack("<I", 1)), WIDTH: _size(width), HEIGHT: _size(height)}
    return own | {number: tags[number] for number in SHARED if number in tags}


def _size(pixels: int) -> Tag:
    return Tag(SHORT, struct.pack("<H", pixels)) if pixels < 2**16 else Tag(LONG, struct.pack("<I", pixels))


def _table(blocks: list[Blocks], begin: int) -> dict[int, Tag]:
    """Return where the blocks of a level lie, and how long they are: band by band, the first from a byte on."""
    sizes = np.array([block.sizes for block in blocks], dtype=np.int64)
    ends = begin + np.cumsum(sizes + 8).reshape(sizes.shape)
    offsets = ends - sizes - 4
    return {
        number: Tag(LONG, values.T.astype("<u4").tobytes()) for number, values in ((OFFSETS, offsets), (COUNTS, sizes))
    }


def _head(start: bytes, directories: list[dict[int, Tag]]) -> bytes:
    """Return all of a file that comes before its blocks: the directories, then where the blocks lie, as GDAL has it.

    A reader over the network has all directories with the first bytes it fetches.
    """
    *begins, table = accumulate(map(_length, directories), initial=len(start))
    parts, tables = [start], list[bytes]()
    for tags, begin in zip(directories, begins, strict=True):
        spot = begin + 6 + 12 * len(tags)
        entries, values = list[bytes](), list[bytes]()
        for number, (kind, data) in sorted(tags.items()):
            value = data.ljust(4, b"\0")
            if len(data) > 4 and number in TABLES:
                value, table = struct.pack("<I", table), table + len(data)
                tables.append(data)
            elif len(data) > 4:
                value, spot = struct.pack("<I", spot), spot + len(data) + len(data) % 2
                values.append(data + b"\0" * (len(data) % 2))
            entries.append(struct.pack("<HHI", number, kind, len(data) // SIZES[kind]) + value)
        following = spot if tags is not directories[-1] else 0
        parts += (struct.pack("<H", len(tags)), *entries, struct.pack("<I", following), *values)
    return b"".join(parts + tables)


def _length(tags: dict[int, Tag]) -> int:
    """Return the bytes of a directory and of its values, where its blocks lie aside."""
    large = [len(data) for number, (_, data) in tags.items() if len(data) > 4 and number not in TABLES]
    return 6 + 12 * len(tags) + sum(size + size % 2 for size in large)
