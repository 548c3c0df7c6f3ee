"""Build: model + grid + where → a field on disk, in a catalogue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from embedfield.catalog import add_to_catalog, is_entered
from embedfield.certificate import write_certificate
from embedfield.clock import Clock
from embedfield.folder import held, old_folder, put_in_place, remove, work_folder
from embedfield.formats import open_field, write_raster
from embedfield.formats.journal import Journal, Work
from embedfield.integrity import storage_errors, write_sums
from embedfield.order import Order
from embedfield.pictures.colours import COLOURS, Colours
from embedfield.pictures.preview import colours_of, write_both
from embedfield.pictures.style import style_path, write_style
from embedfield.plan import sweep
from embedfield.verify import verify_field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pystac

    from embedfield.card import Card
    from embedfield.evaluate import Precision
    from embedfield.formats import Format
    from embedfield.formats.geozarr import Layout
    from embedfield.formats.packing import Dtype
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds
    from embedfield.plan import Plan
    from embedfield.region import Region


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
    step: Callable[[str], None] | None = None,
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
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        precision: ``float64``, ``float32``, ``tf32`` or ``bf16``; None for the
            official one.
        out: Folder of the catalogue.
        overwrite: Replace a different field that stands there.
        verify: Hold the field against its encoder, and keep the certificate.
        offline: Never touch the network.
        progress: Told (pixels done, pixels in all) as the build goes on; first of
            all those that an earlier process did.
        step: Told what is done, as it begins: ``drawing the preview``.
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
    tell = _Tell(progress or _nothing, step or _nothing, report or _nothing)
    tell.step("loading the model")
    order = Order.of(
        model, res, bounds=bounds, crs=crs, region=region, layer=layer, mask=mask, supersample=supersample,
        format=format, dtype=dtype, layout=layout, pca=pca, dims=dims, weights=weights, database=database,
        device=device, precision=precision, out=out, overwrite=overwrite, offline=offline, report=tell.report,
        **inputs,
    )  # fmt: skip
    with storage_errors(order.folder), held(order.folder):
        return _found(order, tell) if order.fulfilled() else _finish(order, tell, verify=verify)


class _Tell(NamedTuple):
    """Who is told how a build goes on."""

    progress: Callable[[int, int], None]
    step: Callable[[str], None]
    report: Callable[[str], None]


def _nothing(*_: Any) -> None:
    """Hear what is told, for a caller who does not want to."""


def _finish(order: Order, tell: _Tell, *, verify: bool) -> StoredField:
    """Do what is left of a build."""
    begun, clock = time.monotonic(), Clock()
    plan = _plan(order, tell)
    with open_field(_write(order, plan, clock, tell)) as written:
        tell.step("drawing the preview")
        _draw(written, order, plan.result)
        verdict = _certified(written, order, plan.result, tell) if verify else []
    tell.step("entering it into the catalogue")
    _leave_out(plan.result, (".*.part",) if verify else (".*.part", "certificate.*"))
    write_sums(plan.result)
    put_in_place(plan, order.folder)
    stored, seconds = open_field(order.folder), time.monotonic() - begun
    item = add_to_catalog(order.out, stored, _run(plan, clock, seconds))
    for line in (f"{_summary(stored, item)}, in {seconds:.1f} s", clock.line(), *verdict):
        tell.report(line)
    return stored


def _plan(order: Order, tell: _Tell) -> Plan:
    """Return the plan of a build: begun earlier, or now."""
    plan = order.begun()
    if plan:
        tell.report(f"Going on with the build that was begun in {plan.folder}.")
        return plan
    tell.step("measuring the range of each band")
    return order.begin()


def _write(order: Order, plan: Plan, clock: Clock, tell: _Tell) -> Path:
    """Write what is missing of a raster, and return the path to open."""
    grid, done = plan.field.grid, 0
    total, before = grid.width * grid.height, plan.pixels_done(order.units)
    tell.progress(before, total)

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        if done > before:
            tell.progress(done, total)

    work = Work(plan.field, plan.packing, Journal(plan.folder / "journal"), count, clock)
    return write_raster(work, plan.result / order.raster, order.layout)


def _draw(field: StoredField, order: Order, folder: Path) -> None:
    """Make the pictures of a field, in colours that all fields of its model have, wherever they lie."""
    evaluator, weights = order.evaluator, field.provenance.get("weights_sha256")
    if evaluator.local:  # its networks of all the world would take longer to read than a field to build
        colours = colours_of(field, own=True)
    else:
        colours = Colours.of_encoder(evaluator.encode, field.card, weights)
    colours.write(folder / COLOURS)
    write_both(field, folder / "preview.png", folder / "rgb.tif", colours)
    write_style(field, style_path(field.disk_path))


def _certified(field: StoredField, order: Order, folder: Path, tell: _Tell) -> list[str]:
    """Hold a field against its encoder, write the certificate beside it, and return it in words."""
    tell.step("verifying: the encoder is asked at random places")
    certificate = verify_field(field, order.judge)
    write_certificate(certificate, folder)
    return certificate.lines


def _leave_out(folder: Path, patterns: Iterable[str]) -> None:
    """Remove what an earlier process left in a field's folder that is no part of it."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


def _run(plan: Plan, clock: Clock, seconds: float) -> dict[str, Any]:
    """Return what an item says of a build; of one that was stopped, what its last part took."""
    spent = {name: round(part, 2) for name, part in {"total": seconds, **clock.seconds}.items()}
    return {"device": plan.device, "seconds": spent} | ({"resumed": True} if plan.resumed else {})


def _summary(field: StoredField, item: pystac.Item) -> str:
    size = sum(asset.extra_fields["file:size"] for asset in item.assets.values())
    return f"{field.grid.width} x {field.grid.height} pixels x {field.dim} bands, {size / 1e6:.1f} MB"


def _found(order: Order, tell: _Tell) -> StoredField:
    """Open a field that is there already, and finish what a build that was killed at its very end left to do."""
    folder = order.folder
    stored = open_field(folder)
    remove(old_folder(folder))
    if not (work_folder(folder) / "field").exists():
        sweep(work_folder(folder))
    if not is_entered(order.out, stored):
        add_to_catalog(order.out, stored, {"device": order.device})
    certified = (folder / "certificate.json").exists()
    hint = "" if certified else f" It has no certificate: 'embedfield verify {folder}' makes one."
    tell.report(f"{folder} is there already, and the same.{hint}")
    return stored
