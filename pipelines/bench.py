"""What computing and storing cost, measured on this machine against what was promised.

    make bench           or: python pipelines/bench.py [--only NAME ...] [--json FILE]
    make bench-gpu       the same for an NVIDIA GPU: python pipelines/bench.py --gpu

Prints a table and writes the same as JSON, with the machine's name and the
versions in it. Speeds are the best of five runs: what else the machine does
can only slow them. GeoCLIP's weights are fetched once; all else is made here.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import clusters
import numpy as np
import random_weights
import sampling
import speed
from figure import MEGABYTE, RUNS, Figure, apart, peak_memory
from held import Held
from rich.console import Console
from rich.table import Table
from waves import Waves

from embedfield.formats import SUFFIXES, write_field, write_raster
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import Packing
from embedfield.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from embedfield.evaluate import Evaluator
    from embedfield.field import Field
    from embedfield.grid import Bounds

Format = Literal["cog", "zarr"]
# Beside the repository's own files; git does not look there.
RESULT = Path("build/bench.json")
PACKAGES = ("embedfield", "numpy", "rasterio", "torch", "zarr")
# Rows that are compared at a time.
STRIP = 100
console = Console(soft_wrap=True, highlight=False)


# Figures. -----------------------------------------------------------------------------------------------------------


def size_and_loss(
    name: str, load: Callable[[Path], Evaluator], bounds: Bounds, bits: float, folder: Path
) -> list[Figure]:
    """Return what a model's values cost as uint8 in a COG, and what they lose.

    Args:
        name: Of the model, for the table.
        load: Maker of its encoder, given a folder.
        bounds: West, south, east, north of the region, at 0.1 degrees.
        bits: How many a value may take.
        folder: Where to write.
    """
    from embedfield.evaluate import EncodedField

    field = Held(EncodedField(load(folder), Grid.from_bounds(0.1, bounds)))
    with write_field(field, folder / "field.tif") as stored:
        height, width = field.grid.shape
        where = f"{width} x {height} px, {field.dim} bands"
        return [
            Figure(f"{name}: COG without overviews, a value", bits_of(stored.disk_path), bits, "bits", note=where),
            Figure(f"{name}: mean cosine loss of packing", cosine_loss(field, stored), 5e-5, "", note=where),
        ]


def bits_of(path: Path) -> float:
    """Return the bits that a value takes in a GeoTIFF, on average, its overviews and header aside."""
    import rasterio

    with rasterio.open(path) as dataset:
        high, wide = dataset.block_shapes[0]
        names = [
            f"BLOCK_SIZE_{col}_{row}"
            for row in range(-(-dataset.height // high))
            for col in range(-(-dataset.width // wide))
        ]
        sizes = [dataset.get_tag_item(name, "TIFF", bidx=band) for band in dataset.indexes for name in names]
        return float(8 * sum(int(size or 0) for size in sizes) / (dataset.count * dataset.width * dataset.height))


def cosine_loss(field: Field, stored: Field) -> float:
    """Return 1 minus the cosine of a vector and its stored self, the mean over all pixels."""
    total = 0.0
    for strip in field.grid.window.tiles(STRIP, field.grid.width):
        one, other = (found.read(strip).astype(np.float64) for found in (field, stored))
        lengths = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
        total += float((1 - (one * other).sum(axis=0) / lengths).sum())
    return total / (field.grid.width * field.grid.height)


def write_speed(kind: Format, target: float, folder: Path) -> list[Figure]:
    """Return how fast floats in memory become a raster once their ranges are known: packing, overviews and all.

    Args:
        kind: Of the raster.
        target: Megabytes of raw codes a second.
        folder: Where to write.
    """
    field = Held(Waves(1024))
    packing = Packing.measure(field, "uint8")
    seconds, busy = [], []
    for run in range(RUNS):
        work = Work(field, packing, Journal(folder / f"journal{run}"), lambda _: None)
        start, before = time.perf_counter(), time.process_time()
        write_raster(work, folder / f"{run}{SUFFIXES[kind]}")
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - before)
    told = f"runs of {', '.join(f'{second:.1f}' for second in seconds)} s; {min(busy):.1f} s of all processors together"
    name = {"cog": "COG", "zarr": "Zarr"}[kind]
    codes = field.values.size
    if kind == "zarr":  # whose coarser levels are arrays of codes like the first
        codes = sum(
            math.prod(json.loads(path.read_text())["shape"]) for path in folder.glob("0.zarr/**/embedding/zarr.json")
        )
        told = f"{field.values.size / MEGABYTE / min(seconds):.0f} MB/s of the finest level alone; {told}"
    speed = codes / MEGABYTE / min(seconds)
    return [Figure(f"{name}: writing floats as uint8", speed, target, "MB/s", at_most=False, note=told)]


def memory(kind: Format, folder: Path) -> list[Figure]:
    """Return how much more memory four times as large a raster takes, both larger than what one piece may take."""
    peaks = [apart(peak_of_writing, side, str(folder / f"{side}{SUFFIXES[kind]}")) for side in (2048, 4096)]
    small, large = (f"{peak / MEGABYTE:,.0f} MB" for peak in peaks)
    name = {"cog": "COG", "zarr": "Zarr"}[kind]
    note = f"{small} for 1.1 GB of codes, {large} for 4.3 GB"
    return [Figure(f"{name}: peak memory of 4 times the size", peaks[1] / peaks[0], 1.2, "", note=note)]


def peak_of_writing(side: int, path: str) -> int:
    """Write a raster of a square field, and return the most bytes that this process ever had in memory."""
    write_field(Waves(side), path).close()
    return peak_memory()


BENCHES: dict[str, Callable[[Path], list[Figure]]] = {
    "satclip": functools.partial(
        size_and_loss, "SatCLIP-like", random_weights.satclip, (-60.0, -60.0, 60.0, 60.0), 2.0
    ),
    "geoclip": functools.partial(size_and_loss, "GeoCLIP", random_weights.geoclip, (-10.0, 34.0, 30.0, 74.0), 7.0),
    "cog-speed": functools.partial(write_speed, "cog", 70.0),
    "zarr-speed": functools.partial(write_speed, "zarr", 200.0),
    "cog-memory": functools.partial(memory, "cog"),
    "zarr-memory": functools.partial(memory, "zarr"),
    **sampling.BENCHES,
    **clusters.BENCHES,
    **speed.BENCHES,
}


# The table. ---------------------------------------------------------------------------------------------------------


def main(words: list[str] | None = None, benches: Mapping[str, Callable[[Path], list[Figure]]] = BENCHES) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="speeds on an NVIDIA GPU")
    parser.add_argument("--only", metavar="NAME", nargs="+", help=f"some of: {', '.join((*benches, *speed.ON_GPU))}")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, default=RESULT, help=f"where to write; {RESULT} if not said"
    )
    said = parser.parse_args(words)
    if said.gpu:
        benches = speed.ON_GPU
        speed.check_gpu()
    if unknown := [name for name in said.only or () if name not in benches]:
        parser.error(f"--only {unknown[0]}: choose from {', '.join(benches)}")
    found = list(measured({name: benches[name] for name in said.only or benches}))
    console.print(table(found))
    said.json.parent.mkdir(parents=True, exist_ok=True)
    said.json.write_text(json.dumps(report(found), indent=2) + "\n", encoding="utf-8")
    console.print(f"Written to {said.json}")


def measured(benches: Mapping[str, Callable[[Path], list[Figure]]]) -> Iterable[Figure]:
    """Yield the figures of benches, each in a folder of its own that is removed after."""
    for name, bench in benches.items():
        with TemporaryDirectory(prefix=f"bench-{name}-") as folder, console.status(name):
            start = time.monotonic()
            yield from bench(Path(folder))
            console.print(f"[green]{name}[/]: {time.monotonic() - start:.0f} s")


def table(figures: Iterable[Figure]) -> Table:
    """Return figures as a table."""
    drawn = Table("figure", "target", "measured", "ok", "")
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        verdict = "[green]yes[/]" if figure.ok else "[red]no[/]"
        drawn.add_row(
            figure.name,
            f"{sign} {figure.target:g} {figure.unit}".strip(),
            f"{figure.measured:.3g} {figure.unit}".strip(),
            verdict,
            figure.note,
        )
    return drawn


def report(figures: Iterable[Figure]) -> dict[str, Any]:
    """Return figures, and what they were measured on, as plain data for JSON."""
    return {"machine": machine(), "figures": [{**asdict(figure), "ok": figure.ok} for figure in figures]}


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code."""
    named = Path("/proc/cpuinfo")
    lines = named.read_text(encoding="utf-8").splitlines() if named.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    main()
