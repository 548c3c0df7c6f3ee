"""A file of places sampled into a file of a table, of any size."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import shapely

from embedfield.amounts import bytes_text
from embedfield.cluster import check_place
from embedfield.errand import Errand, origins_of, sample_apart
from embedfield.errors import StorageError
from embedfield.located import Located, warn_off
from embedfield.parts import Everywhere, Parts, Squares, workplace
from embedfield.projection import plane_of
from embedfield.sampler import STATUS, Sampler, Samples
from embedfield.tables import PlacesBatch, PlacesFile, check_output, new_table, open_places, points_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy.typing as npt
    from distributed import Client

    from embedfield.cluster import Shared
    from embedfield.errand import Ready
    from embedfield.field import Field, Method
    from embedfield.sampler import Column, Columns

    type Workers = Callable[[], AbstractContextManager[Shared[Ready]]]

# Rows that are read and written at a time.
ROWS = 65_536
# Bytes of values that are written at a time, where rows are wide.
WRITTEN = 32 * 2**20
# Bytes of values that are sampled together: the more, the fewer blocks are decoded twice.
HELD = 64 * 2**20
# Places at the least that are sampled together.
LEAST = 16_384
# Bytes that a place itself takes while it is sampled, about.
POINT_BYTES, SHAPE_BYTES = 256, 2048
HEADER = b"embedfield"
# Column of the points that are drawn of coordinates.
POINT = "geometry"


class Sampled(NamedTuple):
    """A table that was written."""

    path: Path
    """Where it is."""
    rows: int
    """How many rows it has: as many as places came."""
    statuses: dict[str, int]
    """How many of them have each status, the most frequent first."""


def sample_file(
    field: Field | Sequence[Field],
    places: str | Path | PlacesFile,
    output: str | Path,
    *,
    method: Method | None = None,
    stats: str | Sequence[str] | None = None,
    columns: Columns = "wide",
    buffer: float | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    step: Callable[[str], None] | None = None,
    client: Client | str | None = None,
    again: Callable[[], Iterable[Field]] | None = None,
    gpus: int = 0,
    report: Callable[[str], None] | None = None,
) -> Sampled:
    """Sample fields at the places of a file, and write the table, in memory that does not grow with either.

    More places than fit are divided on the disk, beside the output, by where they lie, so that each block of a field
    is decoded once; there must be room for the table's numbers. The workers of a cluster sample such parts side by
    side. They need the same embedfield, and to see the output's folder under the same path; stored fields are opened
    where they lie by each of them. The table is the same.

    Args:
        field: Stored or computed; or several, whose columns then stand side by side.
        places: A file that `open_places` opens, or has opened.
        output: Table to write, its format by its suffix: ``.parquet``, ``.csv``, ``.tsv``, ``.gpkg``, ``.feather``.
        method: Of points: ``nearest``, ``bilinear`` or ``exact``; None for each field's first.
        stats: As for `zonal_stats`; None for values at points, and for the mean if not all places are points.
        columns: ``wide`` for a column a band, ``list`` for one column of lists.
        buffer: Metres around each place that are a part of it.
        overwrite: Replace a table that stands there.
        progress: Told how many places are done, of how many, in each step.
        step: Told what is done from now on.
        client: A cluster that samples what is divided: a client of Dask, or its name, as ``local``, ``local:4`` or
            ``tcp://HOST:PORT``; None for this process.
        again: Makes the same fields in a worker, once; picklable. None to send each worker the fields themselves:
            of a stored one that is its path, of an encoder its weights.
        gpus: How many GPUs this machine has, for encoders on a cluster that is started here.
        report: Told what is worth knowing of the cluster, a line at a time.

    Raises:
        PlacesError: If places cannot be read or asked for that, or the format cannot hold the table.
        OutputExistsError: If something stands there and may not be replaced.
        StorageError: If the disk is full or may not be written.
        ClusterError: If the cluster is not there, is lost, or cannot do it.
    """
    path = check_output(output, overwrite=overwrite)
    if isinstance(client, str):
        check_place(client)
    file = places if isinstance(places, PlacesFile) else open_places(places)
    report = report or (lambda _line: None)
    run = _Run(file, progress or (lambda _done, _total: None), step or (lambda _doing: None), report)
    points = run.points()
    if stats is None and (buffer is not None or not points):
        stats = "mean"
    asked = method, stats, columns, buffer
    sampler = Sampler(field, *asked)
    sampler.check_free(file.schema.names)
    statuses: Counter[str] = Counter()
    layout = sampler.layout()
    # A GeoPackage is of places on a map, whatever they came as.
    drawn = POINT if path.suffix.lower() == ".gpkg" and file.geometry is None else None
    schema = _schema(file.schema, sampler, layout, drawn)
    with (
        new_table(path, schema, geometry=file.geometry or drawn, crs=file.crs, overwrite=overwrite) as write,
        workplace(path) as folder,
    ):
        errand = Errand(again or partial(tuple, sampler.fields), asked, run.crs, folder, origins_of(sampler.fields))
        workers = None if client is None else partial(errand.sent, client, gpus, report)
        for batch, samples in run.answers(sampler, folder, workers):
            write(_table(batch, samples, schema, layout, file.crs))
            statuses.update(samples.status.tolist())
    return Sampled(path, file.count, dict(statuses.most_common()))


class _Run:
    """A file of places that is read several times."""

    def __init__(
        self,
        file: PlacesFile,
        progress: Callable[[int, int], None],
        step: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        self.file, self._progress, self._step, self._report = file, progress, step, report
        self.crs, _ = plane_of(file.crs, str(file.path))
        self._rows = ROWS

    def batches(self, doing: str) -> Iterator[Any]:
        """Yield its batches, and tell how far it is."""
        self._step(doing)
        done = 0
        for batch in self.file.batches(self._rows):
            yield batch
            done += batch.table.num_rows
            self._progress(done, self.file.count)

    def located(self, doing: str) -> Iterator[Located]:
        """Yield the places of its batches."""
        for batch in self.batches(doing):
            yield self._located(batch)

    def _located(self, batch: PlacesBatch) -> Located:
        return Located(self.crs, batch.geometries, batch.xy)

    def points(self) -> bool:
        """Return whether all are points; warn if most are no places."""
        points, off = True, 0
        for located in self.located("reading the places"):
            points &= located.points
            off += located.off()
        warn_off(off, self.file.count)
        return points

    def answers(self, sampler: Sampler, folder: Path, workers: Workers | None) -> Iterator[tuple[PlacesBatch, Samples]]:
        """Yield the rows of the file and what was found for them, batch by batch."""
        self._rows = min(ROWS, max(1024, WRITTEN // (4 * sampler.width)))
        own = POINT_BYTES if self.file.geometry is None else SHAPE_BYTES
        # An encoder has no blocks: it is asked for a batch at a time, whoever asks it.
        most = self._rows if sampler.exact else max(LEAST, HELD // (4 * sampler.width + own))
        if workers and self.file.count <= most:
            self._report(f"{self.file.count:,} places are too few to be divided between workers: sampled here.")
            workers = None
        if sampler.exact and not workers:
            for batch in self.batches("sampling"):
                yield batch, sampler.sample(self._located(batch))
            return
        found = self._at_once(sampler) if self.file.count <= most else self._divided(sampler, folder, most, workers)
        # In this order: what is found is computed before the table is begun.
        for samples, batch in zip(found, self.batches("writing the table"), strict=True):
            yield batch, samples

    def _at_once(self, sampler: Sampler) -> Iterator[Samples]:
        parts = list(self.located("reading the places"))
        if not parts:
            return
        self._step("sampling")
        found = sampler.sample(
            Located.joined(parts), lambda share: self._progress(int(share * self.file.count), self.file.count)
        )
        stops = np.cumsum([len(part) for part in parts]).tolist()
        for start, stop in zip([0, *stops], stops, strict=False):
            yield Samples(found.numbers[start:stop], found.status[start:stop])

    def _divided(self, sampler: Sampler, folder: Path, most: int, workers: Workers | None) -> Iterator[Samples]:
        _check_room(folder, 4 * sampler.width * self.file.count)
        if workers:
            self._step("waiting for workers")
        held: AbstractContextManager[Shared[Ready] | None] = workers() if workers else nullcontext()
        # Workers first: if they cannot do it, nothing else need be done.
        with held as shared:
            parts = self._parts(sampler, folder, most)
            self._step("sampling")
            if shared is None:
                parts.sample(self.crs, self._here(sampler))
            else:
                self._there(shared, parts)
        yield from parts.samples()

    def _parts(self, sampler: Sampler, folder: Path, most: int) -> Parts:
        """Return the places, divided."""
        if sampler.exact:
            parts = Parts(folder, Everywhere(), np.array([self.file.count]), most)
            parts.divide(self.located("dividing the places"))
            return parts
        squares = Squares(next(field for field in sampler.fields if not sampler.exactly(field)))
        counts = np.zeros(squares.count, dtype=np.int64)
        for located in self.located("counting the places of each block"):
            counts += np.bincount(squares.of(located.lonlat()[0]), minlength=squares.count)
        parts = Parts(folder, squares, counts, most)
        parts.divide(self.located("dividing the places by block"))
        return parts

    def _here(self, sampler: Sampler) -> Callable[[Located], Samples]:
        """Return what samples places in this process, and tells how far it is."""
        done = 0

        def ask(located: Located) -> Samples:
            nonlocal done
            found = sampler.sample(
                located, lambda share: self._progress(done + int(share * len(located)), self.file.count)
            )
            done += len(located)
            self._progress(done, self.file.count)
            return found

        return ask

    def _there(self, shared: Shared[Ready], parts: Parts) -> None:
        """Have workers sample all parts, and tell how far they are."""
        done = 0
        self._progress(done, self.file.count)
        for group, width in shared.each(sample_apart, parts.groups()):
            parts.enter(group, width)
            done += group.size
            self._progress(done, self.file.count)


def _check_room(folder: Path, wanted: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        StorageError: If it has none.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise StorageError(
            f"Sampling needs {bytes_text(wanted)} in {folder.parent} while it runs, and {bytes_text(free)} are free. "
            "Make room there, or write elsewhere."
        )


def _schema(places: pa.Schema, sampler: Sampler, layout: list[Column], drawn: str | None) -> pa.Schema:
    """Return the columns of the places and those that they get, each with what it is in its metadata."""
    schema = places
    for column in layout:
        kind = pa.float32() if column.single else pa.list_(pa.float32())
        schema = schema.append(pa.field(column.name, kind, metadata={HEADER: json.dumps(column.about)}))
    schema = schema.append(pa.field(STATUS, pa.string()))
    if drawn:
        schema = schema.append(pa.field(drawn, pa.binary()))
    found: pa.Schema = schema.with_metadata((places.metadata or {}) | {HEADER: sampler.describe()})
    return found


def _table(batch: PlacesBatch, samples: Samples, schema: pa.Schema, layout: list[Column], crs: str) -> pa.Table:
    """Return rows of places with what was found for them; where there is no value, null."""
    bands = np.ascontiguousarray(samples.numbers.T)
    columns = [
        pa.array(bands[column.bands.start], from_pandas=True) if column.single else _lists(bands[column.bands])
        for column in layout
    ]
    columns.append(pa.array(samples.status))
    held = [*batch.table.columns, *columns]
    if len(held) < len(schema) and batch.xy is not None:
        held.append(pa.array(shapely.to_wkb(points_of(batch.xy, crs)), type=pa.binary()))
    return pa.Table.from_arrays(held, schema=schema)


def _lists(bands: npt.NDArray[np.float32]) -> pa.ListArray:
    """Return vectors (dim, N) as a column of lists, null where there is no value."""
    dim, count = bands.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * dim)
    return pa.ListArray.from_arrays(offsets, pa.array(bands.T.ravel()), mask=pa.array(np.isnan(bands).any(axis=0)))
