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
    console.print(f"[bold]GeoCLIP over the globe at 1 degree, into {folder}[/]\n")
    cog, zarr = build(folder, "cog"), build(folder, "zarr")
    table = sample(cog, folder)
    show(
        {
            "COG": (cog, "512 bands of one byte, in QGIS, GDAL, rasterio"),
            "Zarr": (zarr, "the same numbers, in xarray"),
            "table": (table, "30 cities with a column for each band"),
            "preview": (cog.with_name("preview.png"), "three principal components as colours"),
            "STAC": (folder / "catalog" / "catalog.json", "the catalogue of both fields"),
        }
    )
    console.print(
        f"\nIn all {time.monotonic() - start:.0f} s. How to open them:\n", HOW_TO_OPEN.format(cog=cog, zarr=zarr)
    )


def build(folder: Path, kind: Literal["cog", "zarr"]) -> Path:
    """Build the field in one format, or find it built."""
    with timed(f"build --format {kind}"), Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"GeoCLIP as {kind}")
        with ef.build_field(
            "geoclip",
            res=1,
            format=kind,
            out=folder / "catalog",
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            report=console.print,
        ) as field:
            return field.path


def sample(cog: Path, folder: Path) -> Path:
    """Sample the field at the cities."""
    with timed("sample cities.csv"), ef.open_field(cog) as field:
        table = ef.extract_points(field, ef.read_places(HERE / "cities.csv"), "bilinear")
        return ef.write_table(table, folder / "cities.parquet", overwrite=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a step took."""
    start = time.monotonic()
    yield
    console.print(f"[green]done[/] {what} in {time.monotonic() - start:.1f} s")


def show(made: dict[str, tuple[Path, str]]) -> None:
    """Print what was made and how large it is."""
    console.print("\nMade:")
    for name, (path, what) in made.items():
        console.print(f"  {name:<8} {size_of(path) / 1e6:6.1f} MB  {path}\n  {'':<19}{what}")


def size_of(path: Path) -> int:
    """Return the bytes of a file or of a folder's files."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


HOW_TO_OPEN = """
  [bold]QGIS[/]     Layer > Add Raster Layer > {cog}
  [bold]GDAL[/]     gdalinfo {cog}
  [bold]rasterio[/] rasterio.open("{cog}").read(1)          # codes; values = codes * scales[0] + offsets[0]
  [bold]xarray[/]   ds = xarray.open_zarr("{zarr}")
           ds.embedding * ds.scale + ds.offset
  [bold]Python[/]   embedfield.open_field("{cog}").at([[8.54, 47.37]], "bilinear")
  [bold]pandas[/]   pandas.read_parquet("cities.parquet")   # beside the catalogue
"""

if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
