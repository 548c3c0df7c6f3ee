"""Build: model + grid + where → a field on disk, in a catalogue."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embedfield import models
from embedfield.certificate import write_certificate
from embedfield.errors import (
    FormatError,
    GridError,
    OutputExistsError,
    PackingError,
)
from embedfield.evaluate import EncodedField, Precision, check_centres, load
from embedfield.folder import area_of, field_id, held, old_folder, put_in_place, remove, work_folder
from embedfield.formats import SUFFIXES, check_layout, open_field, write_raster
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import DTYPES, Dtype
from embedfield.grid import Grid
from embedfield.integrity import storage_errors, write_sums
from embedfield.plan import Plan, identity, sweep
from embedfield.preview import write_preview
from embedfield.reduce import check_components
from embedfield.region import Region
from embedfield.stac import add_to_catalog, check_catalog, is_entered
from embedfield.verify import verify_field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pystac

    from embedfield.card import Card
    from embedfield.certificate import Certificate
    from embedfield.evaluate import Evaluator
    from embedfield.field import Field
    from embedfield.formats.geozarr import Layout
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds

Format = Literal["cog", "zarr"]
# No field is compressed further than this.
GREATEST_COMPRESSION = 100


def build_field(
    model: str | Card,
    res: float,
    *,
    bounds: Bounds | None = None,
    crs: str = "EPSG:4326",
    region: str | Path | Region | None = None,
    layer: str | None = None,
    mask: bool = True,
    supersample: int = 1,
    format: Format = "cog",  # noqa: A002  the field's word, as in rasterio's driver and --format
    dtype: Dtype = "uint8",
    layout: Layout = "sharded",
    pca: int | None = None,
    dims: int | None = None,
    weights: str | Path | None = None,
    database: str | Path | None = None,
    device: str = "auto",
    precision: Precision | None = None,
    out: str | Path = "catalog",
    overwrite: bool = False,
    verify: bool = True,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
    **inputs: Any,
) -> StoredField:
    """Evaluate a model on a grid, write it into a catalogue, and open it.

    The field goes into the folder ``<out>/<model>/<id>`` with a preview, a
    certificate and a STAC item. The same call again opens what is there.
    Nothing stands in that folder before it is whole. What a build has done
    when it is killed or fails is kept beside it, hidden; the same call goes on
    from there and ends in the same bytes.

    Args:
        model: Name or alias of a model, or a card of your own.
        res: Side of a pixel, in units of the crs: degrees, or metres.
        bounds: west, south, east, north in units of the crs; in degrees west
            greater than east crosses the antimeridian. None for the region's,
            or the globe, or the area of use of the crs.
        crs: Reference system of the pixels: ``EPSG:4326``, or a projected one.
        region: A vector file, or what `Region.read` made of one: pixels that
            do not touch it have no value.
        layer: Of the region's file, where it has several.
        mask: False to take only the bounds from the region.
        supersample: A pixel is the mean of so many times so many places in it.
        format: ``cog`` or ``zarr``.
        dtype: ``uint8`` or ``int16``, one scale and offset a band; ``float16``
            or ``float32``.
        layout: Of Zarr: ``sharded``, or ``flat`` for readers without shards.
        pca: Keep so many principal components, area-weighted and of unit
            variance; None for the vectors themselves.
        dims: Length of the prefix that is wanted of a Matryoshka model; None
            for its card's.
        weights: A checkpoint of your own; None for the released one.
        database: A database of your own, for a model that looks things up.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N``.
        precision: ``float32`` or ``float64``; None for the official one.
        out: Folder of the catalogue.
        overwrite: Replace a different field that stands there.
        verify: Hold the field against its encoder, and keep the certificate.
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
        PlacesError: If the region cannot be read.
        FormatError: If there is no such format.
        PackingError: If the dtype cannot hold the field.
        WeightsError: If the weights cannot be had or are not the model's.
        DeviceError: If this machine has no such device or precision.
        OutputExistsError: If another field stands there.
        StorageError: If the disk is full or may not be written.
        BusyError: If another process is building it.
    """
    report = report or (lambda _: None)
    _check_choices(format, dtype, layout)
    region = Region.read(region, layer) if isinstance(region, str | Path) else region
    grid = _grid(res, bounds, crs, region)
    card = models.asked(model, inputs, dims)
    check_centres(supersample)
    if pca is not None:
        check_components(pca, card)
    out = _local_folder(out)
    wishes = {**inputs, **_given(dims=dims, pca=pca, ss=supersample if supersample != 1 else None)}
    masked = region if mask else None
    area = area_of(grid, masked, given=bounds is not None or region is not masked)
    folder = out / card.name / field_id(card.name, grid, format, dtype, wishes, area=area, layout=layout)
    _check_place(out, folder)
    _check_size(grid, (pca or card.dim) * np.dtype(dtype).itemsize, folder)
    _check_latitudes(grid, card)
    evaluator = load(
        model, weights, device, precision, dims=dims, database=database, offline=offline, report=report, **inputs
    )
    field = EncodedField(evaluator, grid, supersample=supersample, region=masked)
    with storage_errors(folder), held(folder):
        if folder.exists() and not _must_replace(folder, field, pca, overwrite=overwrite):
            return _found(out, folder, evaluator.device.type, report)
        plan = _plan(folder, field, dtype, pca, overwrite=overwrite)
        asked = evaluator if verify else None
        return _finish(plan, out, folder, format, layout=layout, evaluator=asked, progress=progress, report=report)


def _finish(
    plan: Plan,
    out: Path,
    folder: Path,
    format: Format,  # noqa: A002
    *,
    layout: Layout,
    evaluator: Evaluator | None,
    progress: Callable[[int, int], None] | None,
    report: Callable[[str], None],
) -> StoredField:
    """Do what is left of a build; None as the evaluator leaves the field without a certificate."""
    begun = time.monotonic()
    if plan.resumed:
        report(f"Going on with the build that was begun in {plan.folder}.")
    with _written(plan, f"{folder.name}{SUFFIXES[format]}", layout, progress) as written:
        write_preview(written, plan.result / "preview.png")
        verdict = _certified(written, evaluator, plan.result, report).lines if evaluator else []
    _leave_out(plan.result, (".*.part",) if evaluator else (".*.part", "certificate.*"))
    write_sums(plan.result)
    put_in_place(plan, folder)
    seconds = time.monotonic() - begun
    stored = open_field(folder)
    run = {"device": plan.device, "seconds": round(seconds, 1)} | ({"resumed": True} if plan.resumed else {})
    item = add_to_catalog(out, stored, run)
    for line in (f"{_summary(stored, item)}, in {seconds:.1f} s", *verdict):
        report(line)
    return stored


def _leave_out(folder: Path, patterns: Iterable[str]) -> None:
    """Remove what an earlier process left in a field's folder that is no part of it."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


def _found(out: Path, folder: Path, device: str, report: Callable[[str], None]) -> StoredField:
    """Open a field that is there already, and finish what a build that was killed at its very end left to do."""
    stored = open_field(folder)
    remove(old_folder(folder))
    if not (work_folder(folder) / "field").exists():
        sweep(work_folder(folder))
    if not is_entered(out, stored):
        add_to_catalog(out, stored, {"device": device})
    certified = (folder / "certificate.json").exists()
    hint = "" if certified else f" It has no certificate: 'embedfield verify {folder}' makes one."
    report(f"{folder} is there already, and the same.{hint}")
    return stored


def _certified(field: StoredField, evaluator: Evaluator, folder: Path, report: Callable[[str], None]) -> Certificate:
    """Hold a field against its encoder, and write the certificate beside it."""
    report("Verifying: the encoder is asked at random places.")
    certificate = verify_field(field, evaluator)
    write_certificate(certificate, folder)
    return certificate


def _given(**wishes: float | None) -> dict[str, float]:
    """Return what was given."""
    return {name: value for name, value in wishes.items() if value is not None}


def _grid(res: float, bounds: Bounds | None, crs: str, region: Region | None) -> Grid:
    """Return the grid over bounds, else over a region, else over all that a reference system is for."""
    if bounds is None and region is not None:
        return Grid.covering(res, region.bounds(crs), crs)
    return Grid.from_bounds(res, bounds, crs)


def _plan(folder: Path, field: EncodedField, dtype: Dtype, pca: int | None, *, overwrite: bool) -> Plan:
    """Return the plan of a field's build: begun earlier, or now."""
    work, device = work_folder(folder), field.evaluator.device.type
    try:
        return Plan.open(work, field, dtype, pca, device)
    except OutputExistsError:
        if not overwrite:
            raise
    sweep(work)
    return Plan.open(work, field, dtype, pca, device)


def _summary(field: StoredField, item: pystac.Item) -> str:
    size = sum(asset.extra_fields["file:size"] for asset in item.assets.values())
    return f"{field.grid.width} x {field.grid.height} pixels x {field.dim} bands, {size / 1e6:.1f} MB"


def _check_choices(format: str, dtype: str, layout: str) -> None:  # noqa: A002
    if format not in get_args(Format):
        raise FormatError(f"format={format!r} is not known. Choose from: {', '.join(get_args(Format))}.")
    if dtype not in DTYPES:
        raise PackingError(f"dtype={dtype!r} cannot be stored. Choose from: {', '.join(DTYPES)}.")
    check_layout(SUFFIXES[format], layout)


def _check_latitudes(grid: Grid, card: Card) -> None:
    """Refuse a grid that lies where a model has no value.

    Raises:
        GridError: If no row of its pixels lies in the model's latitudes.
    """
    south, north = card.latitudes
    # Of a projected grid only the edges are known without transforming each pixel.
    lats = grid.lats() if grid.geographic else np.array(grid.lonlat_bounds[1::2])
    if lats.min() > north or lats.max() < south:
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
    raw, free = grid.width * grid.height * pixel_bytes, shutil.disk_usage(_standing(folder)).free
    if raw > GREATEST_COMPRESSION * free:
        raise GridError(
            f"res={grid.res:g} {grid.unit} makes {grid.width:,} x {grid.height:,} pixels, {raw / 1e9:,.1f} GB before "
            f"compression, and the disk has {free / 1e9:,.1f} GB left. Choose a coarser res or smaller bounds, or make "
            "room."
        )


def _check_place(root: Path, folder: Path) -> None:
    """Refuse a place for a catalogue where something else stands."""
    standing = _standing(folder)
    if not standing.is_dir():
        raise OutputExistsError(f"{standing} is a file, and a folder should go there. Write elsewhere with --out.")
    check_catalog(root, folder.parent.name)


def _must_replace(folder: Path, field: Field, pca: int | None, *, overwrite: bool) -> bool:
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
    for name, value in (identity(field) | {"components": pca}).items():
        if found[name] != value:
            raise OutputExistsError(
                f"{folder} holds another field: its {name} is {found[name]!r}, and this build's is {value!r}. "
                "Give --overwrite to replace it, or write elsewhere with --out."
            )
    return False


@contextmanager
def _written(
    plan: Plan, name: str, layout: Layout, progress: Callable[[int, int], None] | None
) -> Iterator[StoredField]:
    """Write what is missing of a raster, and open it."""
    done, total = 0, plan.field.grid.width * plan.field.grid.height

    def tell(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress:
            progress(done, total)

    work = Work(plan.field, plan.packing, Journal(plan.folder / "journal"), tell)
    with open_field(write_raster(work, plan.result / name, layout)) as stored:
        yield stored
