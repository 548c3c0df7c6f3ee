"""Pieces: how a raster is divided, so that processes can write a piece at a time each, to the same bytes as one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedfield.formats import cog, geozarr
from embedfield.formats.pyramid import Cell, Levels
from embedfield.formats.shards import inner_levels, shards_across, squares, unit_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedfield.formats import Format
    from embedfield.formats.geozarr import Layout
    from embedfield.formats.journal import Journal, Work
    from embedfield.formats.packing import Dtype
    from embedfield.grid import Grid
    from embedfield.window import Window


class Units(NamedTuple):
    """The parts of which a journal is kept: what is done of them need not be done again."""

    count: int  # type: ignore[assignment]  # a tuple counts its items by that name, which nobody wants here
    """Tiles of a COG; shards of a Zarr's finest level, or parts as large, of several files each."""
    height: int
    """Pixels of a whole one; those at an edge may have fewer."""
    width: int
    """The same across."""


class Division(NamedTuple):
    """How much there is of all the pieces, without naming them."""

    pieces: int
    """How many there are of the finest level, which do not wait for each other."""
    joined: int
    """How many make a shard of a coarser level of four that are finished; 0 where each piece has its own levels."""
    height: int
    """Pixels of a whole piece."""
    width: int
    """The same across."""
    files: int
    """How many files there are in all."""
    again: float
    """Share of all bytes of the raster that are read again for coarser levels."""


class Piece(NamedTuple):
    """What one process writes at a time: a tile, shards that are computed together, or a shard of a coarser level."""

    level: int
    """0 for pixels that are computed; a coarser level is made of the one below."""
    row: int
    """Of a tile its number; of shards how many of their kind lie north of them."""
    col: int
    """How many lie west of them."""
    name: str
    """For those who read of it."""

    def __str__(self) -> str:
        """Return its name."""
        return self.name


@dataclass(frozen=True)
class Pieces(ABC):
    """All pieces of a field, before anything of it is there."""

    grid: Grid
    """Of the field."""
    dim: int
    """How many bands it has."""
    dtype: Dtype
    """Type of the stored numbers."""
    layout: Layout
    """Of Zarr."""
    raster: str
    """Name of the raster in the field's folder: ``….tif``, whose tiles lie beside it, or ``….zarr``."""

    @property
    @abstractmethod
    def units(self) -> Units:
        """The parts of which the journal is kept."""

    @property
    @abstractmethod
    def division(self) -> Division:
        """How much there is of them all."""

    @property
    @abstractmethod
    def peak_memory(self) -> int:
        """Bytes that writing all at once needs at most, beside what the process has and its encoder needs."""

    @abstractmethod
    def stages(self) -> Iterator[Iterator[Piece]]:
        """Yield all pieces in stages: those of a later one are made of what the earlier ones wrote."""

    @abstractmethod
    def files(self, piece: Piece) -> dict[str, list[str]]:
        """Return the files of a piece in the field's folder, by the unit of the journal that they belong to."""

    @abstractmethod
    def windows(self, piece: Piece) -> list[Window]:
        """Return the pixels of the field that are computed for a piece."""

    @abstractmethod
    def write(self, work: Work, folder: Path, piece: Piece) -> None:
        """Write a piece into a folder of this process alone.

        Args:
            work: What is written, and how.
            folder: Where the raster's files go, prepared, with the files that the piece needs.
            piece: One that `stages` gave.
        """

    @abstractmethod
    def finish(self, work: Work, folder: Path, saturated: int) -> Path:
        """Write what tells of all pieces into a folder, which is prepared; return the path to open.

        Args:
            work: What is written, and how.
            folder: Of the field.
            saturated: How many values of the field saturated.
        """

    def needed(self, piece: Piece) -> list[str]:  # noqa: ARG002  others ask for it
        """Return the files in the field's folder that a piece is made of; those without any value are not there."""
        return []

    @abstractmethod
    def claim(self, journal: Journal, folder: Path) -> None:
        """Take note that the raster is written into a field's folder, as a process does that writes it all."""

    @abstractmethod
    def prepare(self, work: Work, folder: Path) -> None:
        """Put all that the raster has but its pieces into a folder."""


class CogPieces(Pieces):
    """The tiles of a COG; there may be one alone."""

    @cached_property
    def _tiles(self) -> list[tuple[Path, Window]]:
        return list(cog.tiles_of(Path(self.raster), self.grid, self.dim, self.dtype).items())

    @property
    def units(self) -> Units:
        """The tiles."""
        height, width = cog.tile_shape(self.grid, self.dim, self.dtype)
        return Units(-(-self.grid.height // height) * -(-self.grid.width // width), height, width)

    @property
    def division(self) -> Division:
        """A file is a piece, with its coarser levels."""
        count, height, width = self.units
        return Division(count, 0, height, width, files=count, again=0.0)

    @property
    def peak_memory(self) -> int:
        """Floats in strips, and two files."""
        return cog.peak_memory(self.grid, self.dim, self.dtype)

    def stages(self) -> Iterator[Iterator[Piece]]:
        """Yield the tiles."""
        yield (Piece(0, number, 0, tile.name) for number, (tile, _) in enumerate(self._tiles))

    def files(self, piece: Piece) -> dict[str, list[str]]:
        """Return the one of a tile."""
        tile, _ = self._tiles[piece.row]
        return {tile.name: [tile.as_posix()]}

    def windows(self, piece: Piece) -> list[Window]:
        """Return the tile's."""
        return [self._tiles[piece.row][1]]

    def write(self, work: Work, folder: Path, piece: Piece) -> None:
        """Write a tile."""
        tile, window = self._tiles[piece.row]
        cog.write_tiles(work, {folder / tile: window})

    def claim(self, journal: Journal, folder: Path) -> None:
        """Do nothing: tiles are noted one by one."""

    def prepare(self, work: Work, folder: Path) -> None:
        """Do nothing: a tile has all that belongs to it."""

    def finish(self, work: Work, folder: Path, saturated: int) -> Path:
        """Write a VRT over several tiles."""
        return cog.finish_cog(work, folder / self.raster, saturated)


class ZarrPieces(Pieces):
    """Squares of shards with the coarser ones that lie on one square alone; then the shards of still coarser levels."""

    @cached_property
    def _levels(self) -> Levels:
        return Levels(self.grid.shape, geozarr.SHARD)

    @cached_property
    def _across(self) -> int:
        return shards_across(self.dim * geozarr.SHARD**2 * np.dtype(self.dtype).itemsize)

    @property
    def _inner(self) -> int:
        return inner_levels(self._levels, self._across)

    @property
    def units(self) -> Units:
        """The shards of the finest level."""
        rows, cols = self._levels.counts(0)
        return Units(rows * cols, *geozarr.shard_shape(self.grid))

    @property
    def division(self) -> Division:
        """What is above the squares is made of shards that are read again, and so is the first level that is."""
        shards = [math.prod(self._levels.counts(level)) for level in range(len(self._levels.shapes))]
        height, width = (min(geozarr.SHARD * self._across, size) for size in self.grid.shape)
        return Division(
            -(-self.grid.height // height) * -(-self.grid.width // width),
            sum(shards[self._inner + 1 :]),
            height,
            width,
            files=sum(shards),
            again=sum(shards[self._inner : -1]) / sum(shards),
        )

    @property
    def peak_memory(self) -> int:
        """Floats in strips, shards side by side, and those above them."""
        return geozarr.peak_memory(self.grid, self.dim, self.dtype)

    def stages(self) -> Iterator[Iterator[Piece]]:
        """Yield squares, then levels."""
        yield (Piece(0, *square, self._name(*square)) for square in squares(self._levels, self._across))
        for level in range(self._inner + 1, len(self._levels.shapes)):
            yield (Piece(*cell, f"shard {unit_of(cell)}") for cell in self._levels.cells(level))

    def _name(self, row: int, col: int) -> str:
        shards = list(self._square(Piece(0, row, col, ""), 0))
        last = f" to {unit_of(shards[-1])}" if len(shards) > 1 else ""
        return f"shard{'s' if last else ''} {unit_of(shards[0])}{last}"

    def _square(self, piece: Piece, level: int) -> Iterator[Cell]:
        """Yield the shards of a level that lie on a square of shards."""
        rows, cols = self._levels.counts(level)
        side = self._across >> level
        for row in range(piece.row * side, min((piece.row + 1) * side, rows)):
            for col in range(piece.col * side, min((piece.col + 1) * side, cols)):
                yield Cell(level, row, col)

    def _cells(self, piece: Piece) -> list[Cell]:
        """Return the shards of a piece."""
        if piece.level:
            return [Cell(*piece[:3])]
        return [cell for level in range(self._inner + 1) for cell in self._square(piece, level)]

    def _names(self, cell: Cell) -> list[str]:
        shape, window = self._levels.shapes[cell.level], self._levels.window(cell)
        folder = geozarr.folders_of(Path(self.raster), self.grid)[cell.level].as_posix()
        return [f"{folder}/{name}" for name in geozarr.chunking_of(self.layout).names(shape, window)]

    def files(self, piece: Piece) -> dict[str, list[str]]:
        """Return those of each shard."""
        return {unit_of(cell): self._names(cell) for cell in self._cells(piece)}

    def windows(self, piece: Piece) -> list[Window]:
        """Return those of its shards of the finest level."""
        return [self._levels.window(cell) for cell in self._cells(piece) if not cell.level]

    def needed(self, piece: Piece) -> list[str]:
        """Return the files of the shards below a coarser one."""
        below = self._levels.below(Cell(*piece[:3])) if piece.level else []
        return [name for cell in below for name in self._names(cell)]

    def write(self, work: Work, folder: Path, piece: Piece) -> None:
        """Write shards."""
        path = folder / self.raster
        if piece.level:
            geozarr.write_coarser(work, path, self.layout, Cell(*piece[:3]))
        else:
            geozarr.write_square(work, path, self.layout, piece.row, piece.col)

    def claim(self, journal: Journal, folder: Path) -> None:
        """Remove what a journal that was lost may have told of."""
        geozarr.claim_zarr(journal, folder / self.raster)

    def prepare(self, work: Work, folder: Path) -> None:
        """Lay out the group."""
        geozarr.lay_out(work, folder / self.raster, self.layout)

    def finish(self, work: Work, folder: Path, saturated: int) -> Path:
        """Write the metadata."""
        return geozarr.finish_zarr(work, folder / self.raster, saturated, self.layout)


def pieces_of(
    grid: Grid,
    dim: int,
    dtype: Dtype,
    *,
    format: Format,  # noqa: A002
    layout: Layout,
    raster: str,
) -> Pieces:
    """Return the pieces of a field.

    Args:
        grid: Of the field.
        dim: How many bands it has.
        dtype: Type of the stored numbers.
        format: Of the raster.
        layout: Of Zarr.
        raster: Name of the raster.
    """
    return (CogPieces if format == "cog" else ZarrPieces)(grid, dim, dtype, layout, raster)
