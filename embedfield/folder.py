"""Folder: where a field stands in its catalogue, what it is called, and what may stand beside it for a while."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

import filelock

from embedfield.errors import BusyError, GridError
from embedfield.integrity import sync, sync_folder
from embedfield.places import GLOBE
from embedfield.plan import result_folder, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from embedfield.formats import ZarrStore
    from embedfield.formats.geozarr import Layout
    from embedfield.formats.packing import Dtype
    from embedfield.grid import Grid
    from embedfield.region import Region


def field_id(
    model: str,
    grid: Grid,
    format: str,  # noqa: A002
    dtype: Dtype,
    wishes: Mapping[str, float] = MappingProxyType({}),
    *,
    area: str | None = None,
    layout: Layout = "sharded",
    store: ZarrStore = "files",
) -> str:
    """Return the name of a field's folder: model, what is asked of it, resolution, crs, area, format, dtype.

    Args:
        model: Name of the model.
        grid: Where the pixels are.
        format: ``cog`` or ``zarr``.
        dtype: Type of the stored numbers.
        wishes: Inputs, dims and other numbers by name, such as ``{"month": 7}``: ``…-month7-…``.
        area: What it covers, in words; None for its bounds, if they are not the globe.
        layout: Of Zarr.
        store: Of Zarr.
    """
    wished = "".join(f"-{name}{value:.10g}" for name, value in sorted(wishes.items()))
    unit = "deg" if grid.geographic else "m" if grid.unit == "metres" else grid.unit.replace(" ", "")
    system = "" if grid.geographic else f"-{grid.crs.replace(':', '').lower()}"
    if area is None:
        area = "" if grid.bounds == GLOBE else _edges(grid)
    where = f"-{area}" if area else ""
    kept = f"{'' if layout == 'sharded' else f'-{layout}'}{'' if store == 'files' else f'-{store}'}"
    return f"{model}{wished}-{grid.res:.10g}{unit}{system}{where}-{format}-{dtype}{kept}"


def _edges(grid: Grid) -> str:
    """Return the bounds of a grid as a part of a name."""
    west, south, east, north = grid.bounds
    east = east - 360 if grid.geographic and east > 180 else east
    return "-".join(_degrees(edge, sides) for edge, sides in ((west, "we"), (south, "sn"), (east, "we"), (north, "sn")))


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):.10g}{sides[value >= 0]}"


def area_of(grid: Grid, region: Region | None, *, given: bool) -> str:
    """Return what is built as a part of a name: a region, bounds if they were given, nothing where it is all there is.

    Raises:
        GridError: If the region lies outside of the bounds.
    """
    edges = _edges(grid) if given and grid.bounds != GLOBE else ""
    if region is None:
        return edges
    if not _meets(grid, region):
        raise GridError(
            f"The region {region.name} lies outside of bounds={grid.bounds}. Choose others, or leave one out."
        )
    # Whatever a file is called.
    name = re.sub(r"[^\w.]+", "-", region.name).strip("-.")[:60] or "region"
    return f"{name}-{edges}" if edges else name


def _meets(grid: Grid, region: Region) -> bool:
    """Return whether the box around a region reaches into a grid."""
    west, south, east, north = region.bounds(grid.crs)
    left, bottom, right, top = grid.bounds
    turns = (-360.0, 0.0, 360.0) if grid.geographic else (0.0,)
    return south <= top and north >= bottom and any(west + turn <= right and east + turn >= left for turn in turns)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes out of a field's folder.

    Raises:
        BusyError: If another process is there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(_lock(folder), timeout=0):
            yield
    except filelock.Timeout as error:
        raise BusyError(f"Another process is building {folder}. Wait for it, or write elsewhere with --out.") from error


def check_idle(folder: Path) -> None:
    """Refuse a field's folder where another process is at work; nothing is made there.

    Raises:
        BusyError: If one is.
    """
    if _lock(folder).exists():
        with held(folder):
            return


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def work_folder(folder: Path) -> Path:
    """Return where a field is worked on: beside its folder, where nobody looks for fields."""
    return folder.with_name(f".{folder.name}.build")


def old_folder(folder: Path) -> Path:
    """Return where a field that is replaced stands for a moment."""
    return folder.with_name(f".{folder.name}.old")


def remove(path: Path) -> None:
    """Remove whatever stands under a name, if anything does."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _is_unit(path: Path) -> bool:
    """Return whether a file is a tile or a shard, which is on the disk since the journal has it."""
    return path.suffix == ".tif" or "/embedding/c/" in path.as_posix()


def put_in_place(folder: Path) -> None:
    """Give a field that was worked on, and is whole, its folder, in place of what stood there, and sweep up."""
    old, work = old_folder(folder), work_folder(folder)
    remove(old)
    sync(*(path for path in result_folder(work).rglob("*") if path.is_file() and not _is_unit(path)))
    if folder.exists() or folder.is_symlink():
        folder.rename(old)
    result_folder(work).rename(folder)
    sync_folder(folder.parent)
    sweep(work)
    remove(old)
