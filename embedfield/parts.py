"""Parts: more places than fit in memory, divided on the disk by where they are, and brought back into their order."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import shapely

from embedfield.errors import StorageError
from embedfield.located import Located
from embedfield.sampler import Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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


class Everywhere:
    """One square that is everywhere: an encoder has no blocks, and may be asked in the order of the places."""

    count = 1
    """How many squares there are."""

    def of(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return in which square each of places (N, 2) lies, (N,)."""
        return np.zeros(len(lonlat), dtype=np.int64)


class Group(NamedTuple):
    """Places of a part that are sampled together: all of them, or where they are too many so many after the others."""

    folder: Path
    """Where its files are."""
    part: int
    """Number of its part."""
    number: int
    """Its own within the part."""
    size: int
    """How many places it has."""

    def __str__(self) -> str:
        """Return what it is called: ``part 17``, ``part 17.2``."""
        return f"part {self.part}.{self.number}" if self.number else f"part {self.part}"

    @property
    def places(self) -> Path:
        """The file of its places."""
        return _path(self.folder, self.part, self.number, "places")

    @property
    def found(self) -> Path:
        """The file of what was found there."""
        return _path(self.folder, self.part, self.number, "found")


class Parts:
    """Places divided into parts of neighbouring squares, each in a file, or several."""

    def __init__(self, folder: Path, squares: Squares | Everywhere, counts: npt.NDArray[np.int64], most: int) -> None:
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
        self._counts = np.zeros(int(self._part[-1]) + 1, dtype=np.int64)
        self._record: np.dtype[Any] | None = None

    def divide(self, batches: Iterable[Located]) -> None:
        """Write places, batch by batch, into the files of their parts.

        Raises:
            StorageError: If the disk is full.
        """
        for located in batches:
            lonlat, _ = located.lonlat()
            part = self._part[self._squares.of(lonlat)]
            for number in np.unique(part).tolist():
                self._add(number, np.flatnonzero(part == number), located)
            self._sizes.append(np.bincount(part, minlength=len(self._counts)))
            self._counts += self._sizes[-1]

    def _add(self, number: int, members: npt.NDArray[np.int64], located: Located) -> None:
        """Write those places of a batch that belong to a part, each with its group."""
        group = (self._counts[number] + np.arange(len(members))) // self._most
        for one in np.unique(group).tolist():
            own = members[group == one]
            with _appended(_path(self._folder, number, one, "places")) as file:
                batch = _batch(own, located[own])
                file.write(b"" if file.tell() else batch.schema.serialize())
                file.write(batch.serialize())

    def groups(self) -> Iterator[Group]:
        """Yield what there is to sample, once places are divided, part by part."""
        for number in np.flatnonzero(self._counts).tolist():
            left = int(self._counts[number])
            for group, start in enumerate(range(0, left, self._most)):
                yield Group(self._folder, number, group, min(self._most, left - start))

    def sample(self, crs: str, ask: Callable[[Located], Samples]) -> None:
        """Sample each group, one after the other.

        Args:
            crs: Reference system of the places.
            ask: Answers for some places.

        Raises:
            StorageError: If the disk is full.
        """
        for group in self.groups():
            self.enter(group, sample_group(group, crs, ask, group.found))

    def enter(self, group: Group, width: int) -> None:
        """Take note of a group that is sampled, with so many numbers a place: its places are not wanted any more."""
        self._record = _dtype(width)
        group.places.unlink()

    def samples(self) -> Iterator[Samples]:
        """Yield what was found, in the batches that were divided, in their order."""
        given = np.zeros_like(self._counts)
        for sizes in self._sizes:
            numbers = np.flatnonzero(sizes).tolist()
            records = np.concatenate(
                [some for number in numbers for some in self._found(number, int(given[number]), int(sizes[number]))]
            )
            given += sizes
            order = np.argsort(records["row"])
            yield Samples(records["values"][order], STATUSES[records["status"][order]])

    def _found(self, number: int, start: int, count: int) -> Iterator[npt.NDArray[Any]]:
        """Yield some of what was found in a part, group by group."""
        record = _dtype(0) if self._record is None else self._record
        stop = start + count
        while start < stop:
            group, before = divmod(start, self._most)
            here = min(stop - start, self._most - before)
            path = _path(self._folder, number, group, "found")
            yield np.fromfile(path, record, here, offset=before * record.itemsize)
            start += here


def sample_group(group: Group, crs: str, ask: Callable[[Located], Samples], found: Path) -> int:
    """Sample the places of a group together, and add what is found to a file.

    Args:
        group: What to sample.
        crs: Reference system of the places.
        ask: Answers for some places.
        found: Where it is kept.

    Returns:
        How many numbers a place got.

    Raises:
        StorageError: If the disk is full.
    """
    with pa.ipc.open_stream(str(group.places)) as reader:
        table = reader.read_all()
    answer = ask(_located(table, crs))
    with _appended(found) as file:
        # Not tofile, which does not tell when a full disk takes but a part.
        file.write(_records(table["row"].to_numpy(), answer).view(np.uint8))
    width: int = answer.numbers.shape[1]
    return width


def _path(folder: Path, part: int, group: int, kind: str) -> Path:
    return folder / (f"{part}.{kind}.{group}" if group else f"{part}.{kind}")


@contextmanager
def _appended(path: Path) -> Iterator[Any]:
    """Open a file of a group to write at its end: there are more of them than may be open together.

    Raises:
        StorageError: If the disk is full.
    """
    try:
        with path.open("ab") as file:
            yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"Cannot divide the places in {path.parent.parent}: {reason}. Make room there, or write elsewhere."
        ) from error


@contextmanager
def workplace(path: Path) -> Iterator[Path]:
    """Yield a folder beside a file, from the root on, to work in; afterwards it is gone."""
    folder = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}."))
    try:
        yield folder
    finally:
        # A worker that does not know yet that nobody waits for it makes no file in a folder that it does not find.
        shutil.rmtree(folder.rename(f"{folder}.gone"))


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
