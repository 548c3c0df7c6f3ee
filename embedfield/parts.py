"""Parts: more places than fit in memory, divided on the disk by where they are, and brought back into their order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import shapely

from embedfield.errors import StorageError
from embedfield.located import Located
from embedfield.sampler import Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.field import Field

# Squares that the pixels of a field are divided into, at most, to count the places in each.
SQUARES = 2**20
# Parts that places are divided into, about: of each batch some should lie in one, and not one alone.
PARTS = 4096
STATUSES: Final = np.array(["valid", "nodata", "outside", "missing", "invalid"])


class Squares:
    """The blocks of a field, or squares of several, in the order in which they are stored."""

    def __init__(self, field: Field) -> None:
        """Divide the pixels of a field."""
        self._grid = field.grid
        self._side = field.blocksize
        while self.count > SQUARES:
            self._side *= 2

    @property
    def _across(self) -> int:
        return -(-self._grid.width // self._side)

    @property
    def count(self) -> int:
        """How many there are, and one more for places that lie in none."""
        return self._across * -(-self._grid.height // self._side) + 1

    def of(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return in which square each of places (N, 2) lies, (N,)."""
        found = np.full(len(lonlat), self.count - 1)
        there = np.flatnonzero(np.isfinite(lonlat).all(axis=1))
        there = there[self._grid.contains(lonlat[there])]
        rows, cols = (position.astype(np.int64) for position in self._grid.positions(lonlat[there]))
        rows, cols = rows.clip(max=self._grid.height - 1), cols.clip(max=self._grid.width - 1)
        found[there] = rows // self._side * self._across + cols // self._side
        return found


class Parts:
    """Places divided into parts, each in a file, of neighbouring squares."""

    def __init__(self, folder: Path, squares: Squares, counts: npt.NDArray[np.int64], most: int) -> None:
        """Divide squares into parts.

        Args:
            folder: Where files may be made.
            squares: Where places may lie.
            counts: How many places lie in each, (squares,).
            most: How many places are sampled together at most.
        """
        self._folder, self._squares, self._most = folder, squares, most
        self._part = _shares(counts, max(1, most, -(-int(counts.sum()) // PARTS)))
        self._sizes: list[npt.NDArray[np.int64]] = []
        self._record: np.dtype[Any] | None = None

    def divide(self, batches: Iterable[Located]) -> None:
        """Write places, batch by batch, into the files of their parts.

        Raises:
            StorageError: If the disk is full.
        """
        for located in batches:
            lonlat, _ = located.lonlat()
            part = self._part[self._squares.of(lonlat)]
            self._sizes.append(np.bincount(part, minlength=int(self._part[-1]) + 1))
            for number in np.unique(part).tolist():
                members = np.flatnonzero(part == number)
                with self._appended(number, "places") as file:
                    batch = _batch(members, located[members])
                    file.write(b"" if file.tell() else batch.schema.serialize())
                    file.write(batch.serialize())

    def sample(self, crs: str, ask: Callable[[Located], Samples]) -> None:
        """Sample the places of each part together, or if they are too many for that, some after the others.

        Args:
            crs: Reference system of the places.
            ask: Answers for some places.

        Raises:
            StorageError: If the disk is full.
        """
        for number in np.flatnonzero(sum(self._sizes)).tolist():
            path = self._path(number, "places")
            with pa.ipc.open_stream(str(path)) as reader:
                for table in _together(reader, self._most):
                    found = ask(_located(table, crs))
                    with self._appended(number, "found") as file:
                        # Not tofile, which does not tell when a full disk takes but a part.
                        file.write(_records(table["row"].to_numpy(), found).view(np.uint8))
                    self._record = _dtype(found.numbers.shape[1])
            path.unlink()

    def samples(self) -> Iterator[Samples]:
        """Yield what was found, in the batches that were divided, in their order."""
        given = np.zeros(int(self._part[-1]) + 1, dtype=np.int64)
        for sizes in self._sizes:
            numbers = np.flatnonzero(sizes).tolist()
            records = np.concatenate([self._found(number, given[number], sizes[number]) for number in numbers])
            given += sizes
            order = np.argsort(records["row"])
            yield Samples(records["values"][order], STATUSES[records["status"][order]])

    def _found(self, number: int, start: int, count: int) -> npt.NDArray[Any]:
        """Return some of what was found in a part."""
        record = _dtype(0) if self._record is None else self._record
        return np.fromfile(self._path(number, "found"), record, count, offset=start * record.itemsize)

    def _path(self, number: int, kind: str) -> Path:
        return self._folder / f"{number}.{kind}"

    @contextmanager
    def _appended(self, number: int, kind: str) -> Iterator[Any]:
        """Open a file of a part to write at its end: there are more of them than may be open together.

        Raises:
            StorageError: If the disk is full.
        """
        try:
            with self._path(number, kind).open("ab") as file:
                yield file
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(
                f"Cannot divide the places in {self._folder.parent}: {reason}. Make room there, or write elsewhere."
            ) from error


def _shares(counts: npt.NDArray[np.int64], share: int) -> npt.NDArray[np.int64]:
    """Return in which part each square lies, in rising order, (squares,).

    A part has squares with so many places together at most, or one square
    alone that goes beyond the share in which it begins.
    """
    stops = np.cumsum(counts)
    first, last = (stops - counts) // share, (stops - 1) // share
    return 2 * first + (last > first)


def _batch(rows: npt.NDArray[np.int64], located: Located) -> pa.RecordBatch:
    """Return places and their rows as they are kept in a file."""
    row = pa.array(rows.astype(np.uint32))
    if located.geometries is None:
        return pa.RecordBatch.from_arrays([row, *map(pa.array, located.xy.T.copy())], ["row", "x", "y"])
    wkb = pa.array(shapely.to_wkb(located.geometries), type=pa.large_binary())
    return pa.RecordBatch.from_arrays([row, wkb], ["row", "wkb"])


def _together(batches: Iterable[Any], most: int) -> Iterator[pa.Table]:
    """Yield the rows of batches, so many together; the last have the rest."""
    held: list[Any] = []
    room = most
    for batch in batches:
        left = batch
        while len(left):
            held.append(left.slice(0, room))
            left = left.slice(room)
            room -= len(held[-1])
            if not room:
                yield pa.Table.from_batches(held)
                held, room = [], most
    if held:
        yield pa.Table.from_batches(held)


def _located(table: pa.Table, crs: str) -> Located:
    if "wkb" in table.column_names:
        return Located(crs, geometries=shapely.from_wkb(table["wkb"].to_numpy(zero_copy_only=False)))
    return Located(crs, xy=np.column_stack((table["x"].to_numpy(), table["y"].to_numpy())))


def _dtype(width: int) -> np.dtype[Any]:
    """Return how what was found at a place is kept in a file."""
    return np.dtype([("row", "u4"), ("status", "u1"), ("values", "f4", (width,))])


def _records(rows: npt.NDArray[np.uint32], found: Samples) -> npt.NDArray[Any]:
    records = np.empty(len(rows), dtype=_dtype(found.numbers.shape[1]))
    records["row"], records["values"] = rows, found.numbers
    order = np.argsort(STATUSES)
    records["status"] = order[np.searchsorted(STATUSES, found.status, sorter=order)]
    return records
