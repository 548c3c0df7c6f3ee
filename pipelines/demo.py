"""The main job, on real weights: GeoCLIP over the globe, then at cities.

    make demo            or: python pipelines/demo.py [FOLDER]

Builds GeoCLIP at 1 degree as COG and as Zarr into a catalogue, samples it at
pipelines/cities.csv, and says what was made and how to open it. A second run
reuses what is there.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress

import embedfield as ef

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
console = Console(soft_wrap=True, highlight=False)


def main(folder: Path) -> None:
    """Make everything and say so."""
    start = time.monotonic()
    console.print(f"[bold]GeoCLIP over the globe at 1 degree, into {folder}/[/]\n")
    cog, zarr = build(folder, "cog"), build(folder, "zarr")
    table = sample(cog, folder)
    made = {
        "COG": (cog, "512 bands of one byte, for QGIS, GDAL, rasterio"),
        "Zarr": (zarr, "the same numbers, for xarray"),
        "preview": (cog.with_name("preview.png"), "three principal components as colours"),
        "table": (table, "30 cities, a column for each band"),
        "catalogue": (folder / "catalog" / "catalog.json", "STAC, with both fields in it"),
    }
    console.print("\nMade")
    for name, (path, what) in made.items():
        console.print(f"  {name:<10}{size_of(path) / 1e6:5.1f} MB  {path}\n  {'':<20}{what}")
    console.print(f"\nHow near is a 1 degree raster to GeoCLIP itself? {nearness(table)}")
    console.print(HOW_TO_OPEN.format(cog=cog, zarr=zarr, table=table))
    console.print(f"In all {time.monotonic() - start:.0f} s.")


def build(folder: Path, kind: Literal["cog", "zarr"]) -> Path:
    """Build the field in one format, or find it built."""
    hidden = not console.is_terminal
    with timed(f"build --format {kind}"), Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(f"GeoCLIP as {kind}")
        with ef.build_field(
            "geoclip",
            res=1,
            format=kind,
            out=folder / "catalog",
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            report=console.print,
        ) as field:
            return field.disk_path


def sample(cog: Path, folder: Path) -> Path:
    """Sample the field at the cities."""
    with timed("sample cities.csv"), ef.open_field(cog) as field:
        table = ef.extract_points(field, ef.read_places(HERE / "cities.csv"), "bilinear")
        return ef.write_table(table, folder / "cities.parquet", overwrite=True)


def nearness(table: Path) -> str:
    """Return in words how the table's vectors compare with the encoder's own."""
    places = pd.read_parquet(table)
    stored = places.filter(like="geoclip_").to_numpy()
    exact = ef.load("geoclip").encode(places[["lon", "lat"]])
    cosine = (stored * exact).sum(axis=1) / np.linalg.norm(stored, axis=1) / np.linalg.norm(exact, axis=1)
    return (
        f"At the {len(places)} cities the cosine is {cosine.mean():.2f} on average, {cosine.min():.2f} to "
        f"{cosine.max():.2f}: GeoCLIP varies within a third of a degree.\n"
        "Choose a finer --res, or ask the encoder itself: embedfield sample --model geoclip pipelines/cities.csv"
    )


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a step took."""
    start = time.monotonic()
    yield
    console.print(f"[green]{what}[/]: {time.monotonic() - start:.1f} s")


def size_of(path: Path) -> int:
    """Return the bytes of a file or of a folder's files."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


HOW_TO_OPEN = """
How to open them (commands and Python after: source .venv/bin/activate)
  QGIS       Layer > Add Layer > Add Raster Layer, and choose the .tif
  GDAL       gdalinfo {cog}
  rasterio   rasterio.open("{cog}")
  xarray     ds = xarray.open_zarr("{zarr}"); ds.embedding * ds.scale + ds.offset
  pandas     pandas.read_parquet("{table}")
  embedfield embedfield info {cog}
"""

if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
