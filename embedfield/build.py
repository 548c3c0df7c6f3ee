"""Build: model + grid + where → a field on disk, in a catalogue."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedfield.builder import Builder
from embedfield.catalog import add_to_catalog, is_entered
from embedfield.clock import Clock
from embedfield.closing import close, put_back
from embedfield.cluster import Alone, cluster_of
from embedfield.evaluate import gpus
from embedfield.formats import write_raster
from embedfield.formats.journal import Journal, Work
from embedfield.order import Order
from embedfield.spread import Spread, portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pystac
    from distributed import Client

    from embedfield.card import Card
    from embedfield.cluster import Shared
    from embedfield.evaluate import Precision
    from embedfield.formats import Format, ZarrStore
    from embedfield.formats.geozarr import Layout
    from embedfield.formats.packing import Dtype
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds
    from embedfield.plan import Plan
    from embedfield.region import Region
    from embedfield.site import Site


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
    zarr_store: ZarrStore = "files",
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
    note: Callable[[str], None] | None = None,
    client: Client | str | None = None,
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
        zarr_store: Of Zarr: ``files``, or ``icechunk`` for a repository with a commit a build (the package icechunk
            must be installed); with ``overwrite`` the earlier builds stay in its history.
        pca: Keep so many principal components, area-weighted and of unit
            variance; None for the vectors themselves.
        dims: Length of the prefix that is wanted of a Matryoshka model; None
            for its card's.
        weights: A checkpoint of your own; None for the released one.
        database: A database of your own, for a model that looks things up.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        precision: ``float64``, ``float32``, ``tf32`` or ``bf16``; None for the
            official one.
        out: Folder of the catalogue; or ``s3://…``, ``gs://…``, ``az://…`` for one in a bucket, with the credentials
            that the environment has.
        overwrite: Replace a different field that stands there.
        verify: Hold the field against its encoder, and keep the certificate.
        offline: Never touch the network.
        progress: Told (pixels done, pixels in all) as the build goes on; first of
            all those that an earlier process did.
        step: Told what is done, as it begins: ``drawing the preview``.
        report: Told one line of news at a time.
        note: Told how a build on a cluster goes: units done, and which are slow.
        client: Workers of Dask that share the build: a client of theirs, or
            what `cluster_of` takes, such as ``local`` or ``tcp://HOST:8786``.
            The result has the same bytes.
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
        ClusterError: If there is no such cluster, it is lost, or a unit of
            work fails several times.
    """
    tell = _Tell(progress or _nothing, step or _nothing, report or _nothing, note or _nothing)
    asked: dict[str, Any] = {
        "model": model, "res": res, "bounds": bounds, "crs": crs, "region": region, "layer": layer, "mask": mask,
        "supersample": supersample, "format": format, "dtype": dtype, "layout": layout, "zarr_store": zarr_store,
        "pca": pca, "dims": dims, "weights": weights, "database": database, "device": device, "precision": precision,
        "out": out, "overwrite": overwrite, "offline": offline, **inputs,
    }  # fmt: skip
    if client is not None or "://" in str(out):
        with _shared(portable(asked), client, tell) as (shared, workers):
            return _spread(shared, workers, out, tell, verify=verify)
    tell.step("loading the model")
    order = Order.of(**asked, report=tell.report)
    with order.site.hold():
        if order.fulfilled():
            return _found(order.site, order.device, tell)
        return _finish(order, tell, verify=verify)


class _Tell(NamedTuple):
    """Who is told how a build goes on."""

    progress: Callable[[int, int], None]
    step: Callable[[str], None]
    report: Callable[[str], None]
    note: Callable[[str], None]


def _nothing(*_: Any) -> None:
    """Hear what is told, for a caller who does not want to."""


def _finish(order: Order, tell: _Tell, *, verify: bool) -> StoredField:
    """Do what is left of a build."""
    begun, clock = time.monotonic(), Clock()
    plan = _plan(order, tell)
    verdict = close(order, plan, _write(order, plan, clock, tell), tell.step, verify=verify)
    seconds = {"total": time.monotonic() - begun, **clock.seconds}
    run = _run(order.device, seconds, resumed=plan.resumed)
    return _entered(order.site, run, (clock.line(), *verdict), tell)


def _entered(site: Site, run: dict[str, Any], news: Iterable[str], tell: _Tell) -> StoredField:
    """Enter a field that is whole into the catalogue, and open it."""
    stored = site.open_settled()
    item = add_to_catalog(site.out, stored, run)
    site.sweep()
    for line in (f"{_summary(stored, item)}, in {run['seconds']['total']:.1f} s", *news):
        tell.report(line)
    return stored


@contextmanager
def _shared(
    asked: dict[str, Any], client: Client | str | None, tell: _Tell
) -> Iterator[tuple[Shared[Builder], Callable[[], int]]]:
    """Yield who writes a field piece by piece, and how many they are: the workers of a cluster, or this process."""
    begin = partial(Builder.of, asked)
    if client is None:
        yield Alone(begin), lambda: 0
        return
    devices = 0 if asked["device"] == "cpu" else gpus()
    with cluster_of(client, gpus=devices, report=tell.report) as cluster, cluster.share(begin) as shared:
        yield shared, lambda: cluster.workers


def _spread(
    shared: Shared[Builder], workers: Callable[[], int], out: str | Path, tell: _Tell, *, verify: bool
) -> StoredField:
    """Build a field piece by piece."""
    tell.step("loading the model")
    survey = shared.ask(Builder.survey)
    survey = survey._replace(site=survey.site.under(out))
    for line in survey.news:
        tell.report(line)
    with survey.site.hold():
        begun = time.monotonic()
        tell.step("measuring the range of each band")
        state = shared.ask(Builder.begin)
        if state == "there":
            return _found(survey.site, survey.device, tell)
        if state == "resumed":
            tell.report(f"Going on with the build that was begun in {survey.site.unfinished}.")
        tasks = survey.pieces.division.pieces
        if tasks < workers():
            tell.report(f"There are {workers()} workers, and work for {tasks}: the others have nothing to do.")
        tell.step("")
        tally = Spread(shared, survey, workers).write(tell.progress, tell.note)
        tell.step("drawing the preview, and verifying")
        verdict = shared.ask(Builder.close, tally.saturated, verify)
        seconds = {"total": time.monotonic() - begun, **tally.seconds}
        run = _run(survey.device, seconds, resumed=state == "resumed")
        run |= {"workers": workers()} if workers() else {}
        return _entered(survey.site, run, verdict, tell)


def _plan(order: Order, tell: _Tell) -> Plan:
    """Return the plan of a build: begun earlier, or now."""
    plan = order.begun()
    if plan:
        put_back(plan, order.raster)
        tell.report(f"Going on with the build that was begun in {order.site.unfinished}.")
        return plan
    tell.step("measuring the range of each band")
    return order.begin()


def _write(order: Order, plan: Plan, clock: Clock, tell: _Tell) -> Path:
    """Write what is missing of a raster, and return the path to open."""
    grid, done = plan.field.grid, 0
    total, before = grid.width * grid.height, plan.pixels_done(order.pieces.units)
    tell.progress(before, total)

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        if done > before:
            tell.progress(done, total)

    work = Work(plan.field, plan.packing, Journal(plan.folder / "journal"), count, clock)
    return write_raster(work, plan.result / order.raster, order.layout)


def _run(device: str, seconds: Mapping[str, float], *, resumed: bool) -> dict[str, Any]:
    """Return what an item says of a build; of one that was stopped, what its last part took.

    Args:
        device: Kind of device that computed it.
        seconds: What it took in all, and its parts; of several workers all of theirs together.
        resumed: Whether it was begun earlier.
    """
    spent = {name: round(part, 2) for name, part in seconds.items()}
    return {"device": device, "seconds": spent} | ({"resumed": True} if resumed else {})


def _summary(field: StoredField, item: pystac.Item) -> str:
    size = sum(asset.extra_fields["file:size"] for asset in item.assets.values())
    return f"{field.grid.width} x {field.grid.height} pixels x {field.dim} bands, {size / 1e6:.1f} MB"


def _found(site: Site, device: str, tell: _Tell) -> StoredField:
    """Open a field that is there already, and finish what a build that was killed at its very end left to do."""
    stored = site.open()
    site.sweep()
    if not is_entered(site.out, stored):
        add_to_catalog(site.out, stored, {"device": device})
    use = "makes one" if isinstance(site.place, Path) else "tells what it would say"
    hint = "" if site.has_certificate() else f" It has no certificate: 'embedfield verify {site}' {use}."
    tell.report(f"{site} is there already, and the same.{hint}")
    return stored
