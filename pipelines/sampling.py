"""What sampling costs: points and polygons of a field of 256 bands, beside the tools that people use now."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import rasterio
import shapely
from figure import MEGABYTE, RUNS, Figure, apart, peak_memory, seconds_of
from waves import Waves

from embedfield.formats import open_field, write_field
from embedfield.stream import sample_file
from embedfield.zonal import zones

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.stored import StoredField

SIDE, POINTS, POLYGONS = 1200, 100_000, 1_000
# Points that rasterio is asked for: all would take it a quarter of an hour.
FEW = 500
# Rows that are written to the file of places at a time.
BATCH = 1_000_000


def points(folder: Path) -> list[Figure]:
    """Return how sampling points compares with asking rasterio for each, and with reading the blocks they touch."""
    with write_field(Waves(SIDE), folder / "waves.tif") as field:
        places = _places(field, POINTS)
        ours, once = np.inf, np.inf
        for _ in range(RUNS):  # in turns, so that what else the machine does slows both
            ours = min(ours, seconds_of(functools.partial(field.at, places)))
            once = min(once, seconds_of(functools.partial(_read_blocks, field)))
        with rasterio.open(field.disk_path) as raster:
            theirs = seconds_of(lambda: list(raster.sample(places[:FEW].tolist()))) * POINTS / FEW
    note = f"{POINTS / ours:,.0f} points/s; {POINTS / theirs:,.0f} by rasterio, in input order"
    return [
        Figure("points: over rasterio.sample", theirs / ours, 200, "times", False, note),
        Figure("points: over reading the touched blocks", ours / once, 4, "times", True, f"{once:.2f} s for these"),
    ]


def polygons(folder: Path) -> list[Figure]:
    """Return how the means of circles compare with exactextract, block after block of the raster, band after band."""
    import geopandas
    from exactextract import exact_extract

    with write_field(Waves(SIDE), folder / "waves.tif") as field:
        west, south, east, north = field.grid.bounds
        rng = np.random.default_rng(1)
        centres = rng.uniform((west + 1, south + 1), (east - 1, north - 1), (POLYGONS, 2))
        circles = shapely.buffer(shapely.points(centres), rng.uniform(0.2, 1.0, POLYGONS))
        table = geopandas.GeoDataFrame(geometry=circles, crs="EPSG:4326")
        ours = min(seconds_of(lambda: zones(field, circles)) for _ in range(RUNS))
        asked = functools.partial(
            exact_extract, field.disk_path, table, "mean(coverage_weight=area_spherical_m2)",
            strategy="raster-sequential", output="pandas",
        )  # fmt: skip
        theirs = seconds_of(asked)
    note = f"{POLYGONS / ours:,.0f} polygons/s; {POLYGONS / theirs:,.0f} by exactextract"
    return [Figure("polygons: over exactextract, raster-sequential", theirs / ours, 1.5, "times", False, note)]


def memory(folder: Path) -> list[Figure]:
    """Return how much more memory ten million points take than one million."""
    few, many = (apart(_sample, folder, count) for count in (1_000_000, 10_000_000))
    note = f"{few / MEGABYTE:,.0f} MB and {many / MEGABYTE:,.0f} MB, 32 bands"
    return [Figure("sampling: memory for 10 million points over 1 million", many / few, 1.15, "times", True, note)]


def _sample(folder: Path, count: int) -> int:
    """Return the most bytes that a process has while it samples a file of so many points."""
    stored = folder / "small.tif"
    if not stored.exists():
        write_field(Waves(600, dim=32), stored).close()
    with open_field(stored) as field:
        path = folder / f"{count}.parquet"
        _write_places(field, path, count)
        sample_file(field, path, folder / f"{count}.sampled.parquet")
    return peak_memory()


def _write_places(field: StoredField, path: Path, count: int) -> None:
    schema = pa.schema([("lon", pa.float64()), ("lat", pa.float64())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, count, BATCH):
            lon, lat = _places(field, BATCH, start).T.copy()
            writer.write_table(pa.table({"lon": lon, "lat": lat}, schema=schema))


def _places(field: StoredField, count: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return random places on a field, (count, 2)."""
    west, south, east, north = field.grid.bounds
    return np.random.default_rng(seed).uniform((west, south), (east, north), (count, 2))


def _read_blocks(field: StoredField) -> None:
    """Have GDAL decode every block of a field once, in as many threads as there are cores."""
    with rasterio.open(field.disk_path, thread_safe=True) as raster, ThreadPoolExecutor() as pool:

        def read(window: Any) -> None:
            raster.read(window=window)

        list(pool.map(read, [window for _, window in raster.block_windows(1)]))


BENCHES: dict[str, Callable[[Path], list[Figure]]] = {
    "points": points,
    "polygons": polygons,
    "sampling-memory": memory,
}
