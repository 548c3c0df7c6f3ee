"""Build: model + grid + where → a field on disk, in a catalogue."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import filelock
import numpy as np

from embedfield import models
from embedfield.errors import (
    BusyError,
    EmbedfieldError,
    FormatError,
    GridError,
    OutputExistsError,
    PackingError,
    StorageError,
)
from embedfield.evaluate import EncodedField, Precision, load
from embedfield.formats import SUFFIXES, open_field, write_field
from embedfield.formats.packing import DTYPES, Dtype
from embedfield.grid import Grid
from embedfield.places import GLOBE
from embedfield.preview import write_preview
from embedfield.stac import add_to_catalog, check_catalog, is_entered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pystac

    from embedfield.card import Card
    from embedfield.field import Field
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds

Format = Literal["cog", "zarr"]
# No field is compressed further than this.
GREATEST_COMPRESSION = 100


def build_field(
    model: str | Card,
    res: float,
    *,
    bounds: Bounds = GLOBE,
    format: Format = "cog",  # noqa: A002  the field's word, as in rasterio's driver and --format
    dtype: Dtype = "uint8",
    dims: int | None = None,
    weights: str | Path | None = None,
    database: str | Path | None = None,
    device: str = "auto",
    precision: Precision | None = None,
    out: str | Path = "catalog",
    overwrite: bool = False,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
    **inputs: Any,
) -> StoredField:
    """Evaluate a model on a grid, write it into a catalogue, and open it.

    The field goes into the folder ``<out>/<model>/<id>`` with a preview and a
    STAC item. The same call again opens what is there. Nothing stands in that
    folder before it is whole, and no part of a field remains of a build that
    fails.

    Args:
        model: Name or alias of a model, or a card of your own.
        res: Side of a pixel in degrees.
        bounds: west, south, east, north in degrees; west greater than east
            crosses the antimeridian.
        format: ``cog`` or ``zarr``.
        dtype: Type of the stored numbers, ``uint8`` or ``float32``.
        dims: Length of the prefix that is wanted of a Matryoshka model; None
            for its card's.
        weights: A checkpoint of your own; None for the released one.
        database: A database of your own, for a model that looks things up.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N``.
        precision: ``float32`` or ``float64``; None for the official one.
        out: Folder of the catalogue.
        overwrite: Replace a different field that stands there.
        offline: Never touch the network.
        progress: Told (pixels done, pixels in all) as the build goes on.
        report: Told one line of news at a time.
        inputs: What is asked beside the place, such as ``month=7``, by the
            names in the model's card.

    Raises:
        UnknownModelError: If there is no such model.
        InputsError: If the model takes no input of a name, or not that number.
        GridError: If bounds and resolution make no grid, or one where the
            model has no value.
        FormatError: If there is no such format.
        PackingError: If the dtype cannot hold the field.
        WeightsError: If the weights cannot be had or are not the model's.
        DeviceError: If this machine has no such device or precision.
        OutputExistsError: If another field stands there.
        StorageError: If the disk is full or may not be written.
        BusyError: If another process is building it.
    """
    report = report or (lambda _: None)
    _check_choices(format, dtype)
    grid = Grid.from_bounds(res, bounds)
    card = models.asked(model, inputs, dims)
    out = _local_folder(out)
    folder = out / card.name / field_id(card.name, grid, format, dtype, {**inputs, **({"dims": dims} if dims else {})})
    _check_place(out, folder)
    _check_size(grid, card.dim * np.dtype(dtype).itemsize, folder)
    _check_latitudes(grid, card)
    evaluator = load(
        model, weights, device, precision, dims=dims, database=database, offline=offline, report=report, **inputs
    )
    field = EncodedField(evaluator, grid)
    with _storage_errors(folder), _held(folder):
        if folder.exists() and not _must_replace(folder, field, overwrite=overwrite):
            stored = open_field(folder)
            if not is_entered(out, stored):  # a build was killed before it did
                add_to_catalog(out, stored)
            report(f"{folder} is there already, and the same.")
        else:
            seconds = _write(field, folder, SUFFIXES[format], dtype, progress)
            stored = open_field(folder)
            item = add_to_catalog(out, stored, {"device": str(evaluator.device), "seconds": round(seconds, 1)})
            report(f"{_summary(stored, item)}, in {seconds:.1f} s")
        return stored


def _summary(field: StoredField, item: pystac.Item) -> str:
    size = sum(asset.extra_fields["file:size"] for asset in item.assets.values())
    return f"{field.grid.width} x {field.grid.height} pixels x {field.dim} bands, {size / 1e6:.1f} MB"


def field_id(
    model: str,
    grid: Grid,
    format: Format,  # noqa: A002
    dtype: Dtype,
    asked: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """Return the name of a field's folder: model, what is asked of it, resolution, bounds if not global, format, dtype.

    Args:
        model: Name of the model.
        grid: Where the pixels are.
        format: ``cog`` or ``zarr``.
        dtype: Type of the stored numbers.
        asked: Inputs and dims by name, such as ``{"month": 7}``: ``…-month7-…``.
    """
    west, south, east, north = grid.bounds
    edges = [
        _degrees(west, "we"),
        _degrees(south, "sn"),
        _degrees(east if east <= 180 else east - 360, "we"),
        _degrees(north, "sn"),
    ]
    area = "" if grid.bounds == GLOBE else "-" + "-".join(edges)
    wishes = "".join(f"-{name}{value:.10g}" for name, value in sorted(asked.items()))
    return f"{model}{wishes}-{grid.res:.10g}deg{area}-{format}-{dtype}"


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):.10g}{sides[value >= 0]}"


def _check_choices(format: str, dtype: str) -> None:  # noqa: A002
    if format not in get_args(Format):
        raise FormatError(f"format={format!r} is not known. Choose from: {', '.join(get_args(Format))}.")
    if dtype not in DTYPES:
        raise PackingError(f"dtype={dtype!r} cannot be stored. Choose from: {', '.join(DTYPES)}.")


def _check_latitudes(grid: Grid, card: Card) -> None:
    """Refuse a grid that lies where a model has no value.

    Raises:
        GridError: If no row of its pixels lies in the model's latitudes.
    """
    south, north = card.latitudes
    lats = grid.lats()
    if not ((lats >= south) & (lats <= north)).any():
        raise GridError(
            f"{card.name} has values from {south:g} to {north:g} degrees of latitude, and the bounds "
            f"{grid.bounds} hold no pixel there. Choose other bounds."
        )


def _local_folder(out: str | Path) -> Path:
    """Return the folder of a catalogue.

    Raises:
        OutputExistsError: If it is an address.
    """
    if "://" in str(out):
        raise OutputExistsError(
            f"{out} is an address, and a catalogue is a folder on this machine. Name one with --out."
        )
    return Path(out).expanduser()


def _standing(folder: Path) -> Path:
    """Return the nearest thing above a folder that is there."""
    return next(path for path in folder.absolute().parents if path.exists())


def _check_size(grid: Grid, pixel_bytes: int, folder: Path) -> None:
    """Refuse a field that no compression would fit onto the disk: a slip in the resolution.

    Raises:
        GridError: If its raw numbers are a hundred times what is free.
    """
    raw = grid.width * grid.height * pixel_bytes
    if raw > GREATEST_COMPRESSION * shutil.disk_usage(_standing(folder)).free:
        raise GridError(
            f"res={grid.res:g} makes {grid.width:,} x {grid.height:,} pixels, {raw / 1e12:,.0f} TB "
            "before compression, far more than the disk has room for. Choose a coarser res or smaller bounds."
        )


def _check_place(root: Path, folder: Path) -> None:
    """Refuse a place for a catalogue where something else stands."""
    standing = _standing(folder)
    if not standing.is_dir():
        raise OutputExistsError(f"{standing} is a file, and a folder should go there. Write elsewhere with --out.")
    check_catalog(root, folder.parent.name)


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into ours, while a field's folder is written.

    Raises:
        StorageError: If there is one.
    """
    try:
        yield
    except EmbedfieldError:
        raise
    except OSError as error:
        raise StorageError(
            f"Cannot write {folder}: {error.strerror or error}. Make room there and make it writable, "
            "or write elsewhere with --out."
        ) from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other processes out of a field's folder.

    Raises:
        BusyError: If another process is there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            yield
    except filelock.Timeout as error:
        raise BusyError(f"Another process is building {folder}. Wait for it, or write elsewhere with --out.") from error


def _must_replace(folder: Path, field: Field, *, overwrite: bool) -> bool:
    """Return whether the field in a folder is to be replaced; False if it is the same."""
    if overwrite:
        return True
    try:
        with open_field(folder) as held:
            found = identity(held)
    except FormatError as error:
        raise OutputExistsError(
            f"{folder} exists and holds something else: {error} Give --overwrite to replace it."
        ) from error
    for name, value in identity(field).items():
        if found[name] != value:
            raise OutputExistsError(
                f"{folder} holds another field: its {name} is {found[name]!r}, and this build's is {value!r}. "
                "Give --overwrite to replace it, or write elsewhere with --out."
            )
    return False


def identity(field: Field) -> dict[str, Any]:
    """Return what makes two fields in one folder the same."""
    return {
        "model": field.card.name,
        "dim": field.dim,
        "options": json.loads(json.dumps(dict(field.card.options))),
        "weights_sha256": field.provenance.get("weights_sha256"),
        "database_sha256": field.provenance.get("database_sha256"),
        "precision": field.provenance.get("precision"),
        "grid": field.grid.to_dict(),
    }


def _write(field: Field, folder: Path, suffix: str, dtype: Dtype, progress: Callable[[int, int], None] | None) -> float:
    """Write a field's folder under a temporary name and rename it; return the seconds it took."""
    start = time.monotonic()
    part, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    # The lock is held: what stands there was left by a process that is gone.
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    done, total = 0, field.grid.width * field.grid.height

    def tell(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress:
            progress(done, total)

    try:
        with write_field(field, part / f"{folder.name}{suffix}", dtype=dtype, progress=tell) as stored:
            write_preview(stored, part / "preview.png")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
    return time.monotonic() - start
