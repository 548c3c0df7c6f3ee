"""How fast pixels are computed and builds are made, against what the machine's own matrix product allows."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from figure import MEGABYTE, RUNS, Figure, apart, peak_memory, seconds_of
from held import Held
from random_weights import ENCODERS, satclip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from embedfield.evaluate import Evaluator
    from embedfield.field import Field
    from embedfield.window import Window

# Seconds that a rate is measured for, at least: a processor may be faster for less. Then on a GPU.
LONG, LONGER = 0.25, 1.0
# Rows of a lattice of 0.1 degrees that are computed at once: 30 MB, about as builds do. Of more
# it would be measured how fast the system gives memory. Then on a GPU.
ROWS, MANY_ROWS = 8, 512
# Places that are encoded one by one, as many as the promise names.
PLACES = 1_000_000
START = """
import sys
from pathlib import Path
import embedfield as ef
evaluator = ef.load("satclip-l40", sys.argv[1], "cpu", "float32")
field = ef.EncodedField(evaluator, ef.Grid.from_bounds(0.1))
field.read(next(field.grid.window.tiles(16, 3600)))
"""


def matrix_rates(device: str = "cpu", precision: str = "float32") -> dict[str, float]:
    """Return multiply-adds a second of large products of matrices, by who makes them."""
    import torch
    from torch.nn import functional

    from embedfield.encoders.linear import product

    rows, width = (1024, 512) if device == "cpu" else (131_072, 4096)
    x, weight = (torch.rand(size, width, device=device) for size in (rows, width))
    products: Any = precision if precision in {"tf32", "bf16"} else "full"
    makers: dict[str, Callable[[], torch.Tensor]] = {
        "embedfield's own layer": lambda: product(x, weight, None, products)
    }
    if products == "full":
        makers["torch.nn.functional.linear"] = lambda: functional.linear(x, weight)
    with torch.inference_mode():
        return {name: rows * width * width / _seconds(make, device) for name, make in makers.items()}


def _seconds(make: Callable[[], object], device: str) -> float:
    """Return the seconds that a product takes, the least of several turns."""
    import torch

    def turn() -> None:
        for _ in range(10):
            make()
        if device != "cpu":
            torch.cuda.synchronize()

    turn()
    return 1 / max(rate_of(turn) for _ in range(RUNS)) / 10


def rate_of(task: Callable[[], object], least: float = LONG) -> float:
    """Return how often a second something can be done, from so many seconds of it."""
    times, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < least:
        task()
        times += 1
    return times / spent


def lattice(name: str, share: float, folder: Path) -> list[Figure]:
    """Return how near a model's lattice comes to the speed of the arithmetic that is left of it.

    Args:
        name: Of the encoder, in `ENCODERS`.
        share: Of that speed, which is promised.
        folder: Where to write.
    """
    make, macs = ENCODERS[name]
    evaluator = make(folder)
    speed, rates = 0.0, dict[str, float]()
    pixels_a_second(evaluator)
    for _ in range(RUNS):  # in turns, so that what else the machine does slows both
        for maker, rate in matrix_rates().items():
            rates[maker] = max(rate, rates.get(maker, 0))
        speed = max(speed, pixels_a_second(evaluator))
    others = ", ".join(f"{100 * macs * speed / rate:.0f} % of {maker}" for maker, rate in rates.items())
    note = f"{speed:,.0f} pixels/s; {others}"
    figures = [Figure(f"{name}: share of the matrix limit", macs * speed / max(rates.values()), share, "", False, note)]
    return figures + (_over_pointwise(speed, folder) if name == "satclip-l40" else [])


def _over_pointwise(speed: float, folder: Path) -> list[Figure]:
    """Return how many times faster a lattice of SatCLIP is than its places one by one, in float64."""
    exact = satclip(folder, "float64")
    places = np.random.default_rng(0).uniform((-180, -90), (180, 90), (16_384, 2))
    exact.encode(places[:2048])
    single = len(places) / min(seconds_of(lambda: exact.encode(places)) for _ in range(3))
    note = f"{speed:,.0f} pixels/s, {single:,.0f} places/s"
    return [Figure("satclip-l40: lattice over pointwise float64", speed / single, 20, "times", False, note)]


def exact_places(share: float, folder: Path) -> list[Figure]:
    """Return how near SatCLIP's places, one by one, come to the speed of their network's products alone.

    Args:
        share: Of that speed, which is promised.
        folder: Where to write.
    """
    evaluator = satclip(folder)
    places = np.random.default_rng(0).uniform((-180, -90), (180, 90), (PLACES, 2))
    evaluator.encode(places[:8192])
    macs = 1600 * 512 + 512 * 512 + 512 * 256
    speed, rate = 0.0, 0.0
    for _ in range(RUNS):  # in turns, as above
        rate = max(rate, *matrix_rates().values())
        speed = max(speed, len(places) * rate_of(lambda: evaluator.encode(places)))
    note = f"{speed:,.0f} places/s; the products alone would allow {rate / macs:,.0f}"
    return [Figure("satclip-l40: exact places, float32", macs * speed / rate, share, "", False, note)]


def pixels_a_second(evaluator: Evaluator, rows: int = ROWS, least: float = LONG) -> float:
    """Return how many pixels a second lattices of 0.1 degrees are computed with."""
    lons, lats = np.arange(-179.95, 180, 0.1), 45 - 0.1 * np.arange(rows)
    return len(lons) * rows * rate_of(functools.partial(evaluator.encode_lattice, lons, lats), least)


def whole_build(kind: Any, folder: Path) -> list[Figure]:
    """Return how much longer a build takes than the slower of its two halves alone, certificate and all."""
    from embedfield.build import build_field
    from embedfield.evaluate import EncodedField
    from embedfield.formats import SUFFIXES, write_raster
    from embedfield.formats.journal import Journal, Work
    from embedfield.formats.packing import Packing
    from embedfield.grid import Grid

    field = EncodedField(satclip(folder), Grid.from_bounds(0.25))
    strips = list(field.grid.window.tiles(45, field.grid.width))
    build_field(
        "satclip-l40", 10, weights=folder / "satclip.ckpt", out=folder / "warm", format=kind, precision="float32"
    )
    held = Held(field)
    packing = Packing.measure(held, "uint8")

    def write(run: int) -> None:
        work = Work(held, packing, Journal(folder / f"journal{run}"), lambda _: None)
        write_raster(work, folder / f"{run}{SUFFIXES[kind]}")

    def build(run: int) -> None:
        said: dict[str, Any] = {"weights": folder / "satclip.ckpt", "out": folder / f"out{run}", "precision": "float32"}
        build_field("satclip-l40", 0.25, format=kind, **said)

    computing, writing, whole = (float("inf"),) * 3
    for run in range(3):
        computing = min(computing, seconds_of(lambda: _read(field, strips)))
        writing = min(writing, seconds_of(functools.partial(write, run)))
        whole = min(whole, seconds_of(functools.partial(build, run)))
    name = {"cog": "COG", "zarr": "Zarr"}[kind]
    note = f"whole {whole:.1f} s; computing alone {computing:.1f} s, writing alone {writing:.1f} s"
    return [
        Figure(
            f"{name}: build of 0.25 degrees over its longer half", whole / max(computing, writing), 1.25, "", True, note
        )
    ]


def _read(field: Field, windows: Iterable[Window]) -> None:
    for window in windows:
        field.read(window)


def steady(folder: Path) -> list[Figure]:
    """Return how much slower the slowest of four resolutions is computed than the fastest, once begun."""
    from embedfield.evaluate import EncodedField
    from embedfield.grid import Grid

    evaluator = satclip(folder)
    evaluator.encode_lattice(np.arange(100.0), np.arange(50.0))
    speeds = {}
    for res in (1.0, 0.5, 0.25, 0.1):
        field = EncodedField(evaluator, Grid.from_bounds(res))
        strips = list(field.grid.window.tiles(max(1, 65_536 // field.grid.width), field.grid.width))
        runs = {1.0: 5, 0.5: 3, 0.25: 2, 0.1: 1}[res]
        spent = min(seconds_of(functools.partial(_read, field, strips)) for _ in range(runs))
        speeds[f"{res:g}°"] = field.grid.width * field.grid.height / spent
    note = ", ".join(f"{res} {speed:,.0f} pixels/s" for res, speed in speeds.items())
    spread = max(speeds.values()) / min(speeds.values()) - 1
    return [Figure("satclip-l40: spread of speeds over resolutions", spread, 0.2, "", True, note)]


def start_up(folder: Path) -> list[Figure]:
    """Return the seconds from the start of a process to its first block."""
    satclip(folder)
    command = [sys.executable, "-c", START, str(folder / "satclip.ckpt")]
    spent = [seconds_of(lambda: subprocess.run(command, check=True)) for _ in range(RUNS)]
    return [Figure("satclip-l40: from start to the first block", min(spent), 4, "s", True)]


def build_memory(folder: Path) -> list[Figure]:
    """Return the memory that builds of two extents take at most."""
    satclip(folder)
    figures = []
    for name, bounds in (("the globe", None), ("a sixth of it", (0.0, -60.0, 60.0, 60.0))):
        peak = apart(_peak_of_build, str(folder), bounds)
        figures.append(Figure(f"satclip-l40: peak memory of {name} at 0.1 degrees", peak / MEGABYTE, 2000, "MB", True))
    return figures


def _peak_of_build(folder: str, bounds: Any) -> int:
    from embedfield.build import build_field

    build_field(
        "satclip-l40", 0.1, bounds=bounds, weights=f"{folder}/satclip.ckpt", out=f"{folder}/out", overwrite=True
    )
    return peak_memory()


# On a GPU. ----------------------------------------------------------------------------------------------------------


def check_gpu() -> None:
    """Refuse to measure a GPU that is not there."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch sees no NVIDIA GPU here. Without one: make bench")


def lattice_on_gpu(name: str, folder: Path) -> list[Figure]:
    """Return how near a model's lattice comes to the chip's own matrix product, at each precision."""
    import torch

    make, macs = ENCODERS[name]
    chip = torch.cuda.get_device_name()
    figures = []
    for precision in ("float32", "tf32", "bf16"):
        evaluator = make(folder, precision, "cuda")
        pixels_a_second(evaluator)
        rate = max(matrix_rates("cuda", precision).values())
        speed = max(pixels_a_second(evaluator, MANY_ROWS, LONGER) for _ in range(RUNS))
        note = f"{chip}: {speed:,.0f} pixels/s, on the host's side of the bus"
        figures.append(
            Figure(f"{name}, {precision}: share of the matrix limit", macs * speed / rate, 0, "", False, note)
        )
    return figures


def globe_on_gpu(name: str, seconds: float, folder: Path) -> list[Figure]:
    """Return the seconds of a whole build of the globe at 0.1 degrees as Zarr, without its certificate."""
    import torch

    from embedfield.build import build_field

    own = {"weights": folder / "satclip.ckpt"} if name == "satclip-l40" else {}
    ENCODERS[name][0](folder)
    news: list[str] = []
    said: dict[str, Any] = {"format": "zarr", "device": "cuda", "verify": False, **own}
    build_field(name, 10, out=folder / "warm", **said)
    spent = seconds_of(lambda: build_field(name, 0.1, out=folder / "out", report=news.append, **said))
    note = f"{torch.cuda.get_device_name()}: {'; '.join(news[-2:])}"
    return [Figure(f"{name}: the globe at 0.1 degrees as Zarr", spent, seconds, "s", True, note)]


BENCHES: dict[str, Callable[[Path], list[Figure]]] = {
    **{
        f"{name}-speed": functools.partial(lattice, name, share)
        for name, share in (
            ("satclip-l40", 0.75),
            ("geoclip", 0.85),
            ("csp", 0.8),
            ("sinr", 0.8),
            ("climplicit", 0.8),
            ("mind", 0.8),
        )
    },
    "satclip-l40-places": functools.partial(exact_places, 0.6),
    "cog-build": functools.partial(whole_build, "cog"),
    "zarr-build": functools.partial(whole_build, "zarr"),
    "resolutions": steady,
    "start": start_up,
    "build-memory": build_memory,
}

ON_GPU: dict[str, Callable[[Path], list[Figure]]] = {
    **{f"{name}-speed": functools.partial(lattice_on_gpu, name) for name in ENCODERS},
    "satclip-l40-globe": functools.partial(globe_on_gpu, "satclip-l40", 10.0),
    "geoclip-globe": functools.partial(globe_on_gpu, "geoclip", 60.0),
}
