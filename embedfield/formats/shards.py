"""Shards: the chunks of a Zarr v3 array as files, many of them to one.

zarr-python writes them one after the other in one thread. What is written here
is the same to the byte, by several.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numcodecs import blosc, zstd
from zarr.storage import LocalStore

from embedfield.formats.crew import Part
from embedfield.formats.packing import strip_rows
from embedfield.formats.pyramid import Cell, Levels, Pyramid
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.crew import Crew
    from embedfield.formats.journal import Entry

# Bytes of codes of the shards side by side that are computed together: each row of a window has tables of its own.
ROW = 32 * 2**20
# Offset and length of a chunk that is not there.
NOWHERE = 2**64 - 1
# Polynomial of CRC-32C, bits reversed.
CASTAGNOLI = 0x82F63B78


@dataclass(frozen=True)
class Chunking:
    """How the chunks of an array lie in files."""

    side: int
    """Pixels of a shard, a side; of what is computed and written as one, where there are no shards."""
    chunk: int
    """Pixels of a chunk, a side."""
    sharded: bool
    """Whether the chunks of a shard are one file, or each one of its own."""

    def shard(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the shards of a level: of a small one no more than its chunks."""
        height, width = (min(self.side, -(-size // self.chunk) * self.chunk) for size in shape)
        return height, width

    def names(self, shape: tuple[int, int], window: Window) -> list[str]:
        """Return the names of the files that hold a shard of a level."""
        high, wide = self.shard(shape) if self.sharded else (self.chunk, self.chunk)
        rows, cols = (
            range(part.start // size, -(-part.stop // size))
            for part, size in ((window.rows, high), (window.cols, wide))
        )
        return [f"c/0/{row}/{col}" for row in rows for col in cols]

    def files(self, codes: npt.NDArray[Any], shape: tuple[int, int], nodata: float) -> list[bytes]:
        """Return the files of a shard of a level, by its codes (dim, height, width), in the order of their names."""
        chunks = {place: compressed(chunk) for place, chunk in self._chunks(codes, nodata)}
        if not self.sharded:
            return list(chunks.values())
        high, wide = self.shard(shape)
        return [_shard(chunks, (high // self.chunk, wide // self.chunk))]

    def _chunks(self, codes: npt.NDArray[Any], nodata: float) -> Iterator[tuple[tuple[int, int], npt.NDArray[Any]]]:
        """Yield chunks, row by row: where, and their codes, filled up with nodata."""
        dim, height, width = codes.shape
        for top, left in product(range(0, height, self.chunk), range(0, width, self.chunk)):
            part = codes[:, top : top + self.chunk, left : left + self.chunk]
            if part.shape[1:] != (self.chunk, self.chunk):
                whole = np.full((dim, self.chunk, self.chunk), nodata, dtype=codes.dtype)
                whole[:, : part.shape[1], : part.shape[2]] = part
                part = whole
            yield (top // self.chunk, left // self.chunk), np.ascontiguousarray(part)


def compressed(chunk: npt.NDArray[Any]) -> bytes:
    """Return a chunk as the codec of its dtype stores it: see `geozarr`."""
    data: bytes = (
        zstd.compress(chunk, 1) if chunk.dtype == np.uint8 else blosc.compress(chunk, b"zstd", 1, blosc.BITSHUFFLE)
    )
    return data


def _shard(chunks: dict[tuple[int, int], bytes], counts: tuple[int, int]) -> bytes:
    """Return a shard of so many chunks from north to south and from west to east: data, then where each lies."""
    index = np.full((*counts, 2), NOWHERE, dtype="<u8")
    at, parts = 0, list[bytes]()
    for place in sorted(chunks, key=lambda place: interleaved(*place)):
        index[place] = at, len(chunks[place])
        at += len(chunks[place])
        parts.append(chunks[place])
    table = index.tobytes()
    return b"".join((*parts, table, struct.pack("<I", crc32c(table))))


def interleaved(row: int, col: int) -> int:
    """Return the number of a place along a Z-shaped curve, on which neighbours lie near each other."""
    return sum((row >> bit & 1) << 2 * bit | (col >> bit & 1) << 2 * bit + 1 for bit in range(32))


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some hundred bytes."""
    sum_ = 0xFFFFFFFF
    for byte in data:
        sum_ = sum_ >> 8 ^ _TABLE[(sum_ ^ byte) & 0xFF]
    return sum_ ^ 0xFFFFFFFF


def _table() -> list[int]:
    """Return what each byte does to a CRC-32C."""
    table = list(range(256))
    for _ in range(8):
        table = [entry >> 1 ^ CASTAGNOLI * (entry & 1) for entry in table]
    return table


_TABLE = _table()


def shards_across(size: int) -> int:
    """Return how many shards of so many bytes of codes are computed together, side by side: a power of two."""
    return 1 << max(0, (ROW // size).bit_length() - 1)


class Shards:
    """The shards of a field and of its coarser levels, on their way to the disk."""

    def __init__(self, crew: Crew, folders: list[Path], chunking: Chunking) -> None:
        """Prepare to write into the folders of the arrays of all levels, the finest first."""
        self.crew, self.work, self.folders, self.chunking = crew, crew.work, folders, chunking
        field = self.work.field
        self.pyramid = Pyramid(crew, field.grid.shape, chunking.side, self._store, self._is_missing)
        self.across = shards_across(field.dim * chunking.side**2 * self.work.packing.itemsize)
        self._top = len(self.pyramid.shapes) - 1
        self._codes: dict[Cell, npt.NDArray[Any]] = {}
        self._saturated = Counter[Cell]()

    def write(self) -> int:
        """Write what is missing; return how many values of the field saturated."""
        return self._write_strips(self._strips(self._rows()))

    def write_square(self, row: int, col: int) -> None:
        """Write the shards that are computed together, a square of them, and the coarser ones that lie on these alone.

        Args:
            row: How many such squares lie north of it.
            col: How many lie west of it.
        """
        self._top = inner_levels(self.pyramid, self.across)
        self._write_strips(self._strips(self._rows_of(row, col)))

    def write_coarser(self, cell: Cell) -> None:
        """Write a shard of a coarser level by those below it, which lie in their folders unless they have no value."""
        below = self.pyramid.below(cell)
        self._top = cell.level
        self.crew.begin(len(below))
        for part in below:
            self.crew.do(self._read_again, part)
        self.crew.finish()

    def _write_strips(self, strips: Iterator[list[Part[Cell]]]) -> int:
        for (cell, window, _), saturated in self.crew.packed(strips):
            self._saturated[cell] += saturated
            self.work.progress(window.width * window.height)
            if window.rows.stop == self.pyramid.window(cell).rows.stop:
                self.pyramid.add(cell, self._codes.pop(cell))
        self.crew.finish()
        return self._saturated.total()

    def _strips(self, rows: Iterator[list[Cell]]) -> Iterator[list[Part[Cell]]]:
        """Yield what is to be computed, shards side by side at a time."""
        for cells in rows:
            found = [self._entry(cell) for cell in cells]
            missing = None in found
            again = [cell for cell in (*cells[: 0 if missing else None], *self._ending(cells)) if self._is_wanted(cell)]
            self.crew.begin(len(cells) * missing + len(again), self.across)
            for cell in again:
                self.crew.do(self._read_again, cell)
            if missing:
                # All of them: a window of another width would be computed with other last bits.
                yield from self._strips_of(cells)
            for cell, entry in zip(cells, found, strict=True):
                if entry and not missing:
                    self._saturated[cell] = entry["saturated"]
                    window = self.pyramid.window(cell)
                    self.work.progress(window.width * window.height)

    def _strips_of(self, cells: list[Cell]) -> Iterator[list[Part[Cell]]]:
        """Yield strips of shards side by side."""
        field = self.work.field
        windows = {cell: self.pyramid.window(cell) for cell in cells}
        for cell, window in windows.items():
            shape = field.dim, window.height, window.width
            self._codes[cell] = np.empty(shape, dtype=self.work.packing.dtype)
        first = windows[cells[0]]
        rows = strip_rows(field, sum(window.width for window in windows.values()))
        for top in range(0, first.height, rows):
            height = min(rows, first.height - top)
            yield [
                Part(
                    cell,
                    Window(window.col_off, window.row_off + top, window.width, height),
                    self._codes[cell][:, top : top + height],
                )
                for cell, window in windows.items()
            ]

    def _rows(self) -> Iterator[list[Cell]]:
        """Yield shards of the field that are computed together, ordered so that those above them are soon whole."""
        for square in squares(self.pyramid, self.across):
            yield from self._rows_of(*square)

    def _rows_of(self, down: int, right: int) -> Iterator[list[Cell]]:
        """Yield the rows of a square of shards."""
        rows, cols = self.pyramid.counts(0)
        side = self.across
        for row in range(down * side, min((down + 1) * side, rows)):
            yield [Cell(0, row, col) for col in range(right * side, min((right + 1) * side, cols))]

    def _ending(self, cells: list[Cell]) -> Iterator[Cell]:
        """Yield the shards of coarser levels of which shards side by side are the last part."""
        rows, cols = self.pyramid.counts(0)
        above = cells
        for level in range(1, len(self.pyramid.shapes)):
            above = sorted({cell.above for cell in above})
            for cell in above:
                last = [
                    min((place + 1) << level, count) - 1 for place, count in zip(cell[1:], (rows, cols), strict=True)
                ]
                if Cell(0, *last) in cells:
                    yield cell

    def _is_wanted(self, cell: Cell) -> bool:
        """Return whether a shard is whole on the disk, and the one above it is not."""
        return self._entry(cell) is not None and self._is_missing(cell.above)

    def _is_missing(self, cell: Cell) -> bool:
        """Return whether there is a shard to be written, and it is not whole on the disk."""
        return cell.level <= self._top and self._entry(cell) is None

    def _read_again(self, cell: Cell) -> None:
        """Read a shard of an earlier process, and go on with the one above it."""
        window = self.pyramid.window(cell)
        array = zarr.open_array(LocalStore(self.folders[cell.level]), mode="r", zarr_format=3)
        self.pyramid.lift(cell, np.asarray(array[:, window.rows, window.cols]))
        self.crew.end()

    def _store(self, cell: Cell, codes: npt.NDArray[Any]) -> None:
        """Write a shard, unless it is whole on the disk."""
        if self._entry(cell) is None:
            with self.work.clock.part("writing"):
                self._write(cell, codes)
        if not cell.level:
            self.crew.end()

    def _write(self, cell: Cell, codes: npt.NDArray[Any]) -> None:
        files = self._files(cell)
        for path in files:  # of a process that was killed
            path.unlink(missing_ok=True)
        nodata = self.work.packing.nodata
        empty = np.isnan(codes).all() if codes.dtype.kind == "f" else codes.max() == nodata  # the least code there is
        if not empty:  # one without any value is left out
            made = self.chunking.files(codes, self.pyramid.shapes[cell.level], nodata)
            for path, data in zip(files, made, strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        self.work.journal.add(unit_of(cell), *files, saturated=self._saturated[cell])

    def _entry(self, cell: Cell) -> Entry | None:
        """Return what the journal has of a shard; None if it is not whole on the disk."""
        return self.work.journal.done(unit_of(cell), *self._files(cell))

    def _files(self, cell: Cell) -> list[Path]:
        names = self.chunking.names(self.pyramid.shapes[cell.level], self.pyramid.window(cell))
        return [self.folders[cell.level] / name for name in names]


def unit_of(cell: Cell) -> str:
    """Return the name of a shard in the journal."""
    return "-".join(map(str, cell))


def squares(levels: Levels, across: int) -> list[tuple[int, int]]:
    """Return the squares of shards that are computed one after the other: how many lie north and west of each.

    Args:
        levels: Where the shards lie.
        across: How many are computed side by side.
    """
    rows, cols = levels.counts(0)
    found = product(range(-(-rows // across)), range(-(-cols // across)))
    return sorted(found, key=lambda square: interleaved(*square))


def inner_levels(levels: Levels, across: int) -> int:
    """Return how many coarser levels there are whose shards each lie on one square of shards alone."""
    return min(len(levels.shapes) - 1, across.bit_length() - 1)
