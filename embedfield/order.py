"""Order: what is asked of a build, once it is known to make sense."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np

from embedfield import models
from embedfield.bucket_site import BucketSite
from embedfield.catalog import check_catalog
from embedfield.disk_site import DiskSite
from embedfield.errors import DeviceError, FormatError, GridError, OutputExistsError, PackingError
from embedfield.evaluate import ROUNDED, EncodedField, Precision, check_centres, load
from embedfield.folder import area_of, field_id
from embedfield.formats import SUFFIXES, Format, ZarrStore, check_layout, check_store
from embedfield.formats.bucket import Bucket
from embedfield.formats.packing import DTYPES
from embedfield.formats.pieces import pieces_of
from embedfield.grid import Grid
from embedfield.plan import Plan, identity, precision_begun
from embedfield.precision import choose
from embedfield.reduce import check_components
from embedfield.region import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.card import Card
    from embedfield.evaluate import Evaluator
    from embedfield.formats.geozarr import Layout
    from embedfield.formats.packing import Dtype
    from embedfield.formats.pieces import Pieces
    from embedfield.grid import Bounds
    from embedfield.site import Site

# An address that lost a slash, as by Path("s3://…").
SLIP = re.compile(r"(s3|gs|az):/(?!/)")
# No field is compressed further than this.
GREATEST_COMPRESSION = 100


@dataclass(frozen=True, eq=False)
class Order:
    """A field to compute, how it is to be stored, and where. Nothing is computed or written yet."""

    field: EncodedField
    """What is computed: the model's whole vectors."""
    judge: Evaluator
    """The model, as what is stored is held against it."""
    pca: int | None
    """How many principal components are kept of them; None for the vectors themselves."""
    format: Format
    """Of the raster."""
    dtype: Dtype
    """Type of the stored numbers."""
    layout: Layout
    """Of Zarr."""
    store: ZarrStore
    """Of Zarr."""
    site: Site
    """Where the field goes, in the catalogue."""
    overwrite: bool
    """Whether another field that stands there may be replaced."""

    @classmethod
    def of(
        cls,
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
        offline: bool = False,
        report: Callable[[str], None] | None = None,
        sized: bool = True,
        **inputs: Any,
    ) -> Self:
        """Return the order of a build, its model loaded.

        Arguments and errors are those of `build_field`; a field that no disk
        here has room for is refused if it is to be ``sized``.
        """
        check_choices(format, dtype, layout, precision)
        check_store(zarr_store, format, layout)
        grid, region = ground_of(res, bounds, crs, region, layer)
        card = models.asked(model, inputs, dims)
        check_centres(supersample)
        if pca is not None:
            check_components(pca, card)
        masked = region if mask else None
        area = area_of(grid, masked, given=bounds is not None or region is not masked)
        wishes = {**inputs, **_given(dims=dims, pca=pca, ss=supersample if supersample != 1 else None)}
        name = field_id(card.name, grid, format, dtype, wishes, area=area, layout=layout, store=zarr_store)
        site = _site_of(out, card.name, name)
        if zarr_store == "icechunk":
            site.check_commits()
        site.check()
        check_catalog(site.out, card.name)
        if sized:
            _check_size(grid, (pca or card.dim) * np.dtype(dtype).itemsize, site)
        check_latitudes(grid, card)
        official = load(
            model, weights, device, None, dims=dims, database=database, offline=offline, report=report, **inputs
        )
        field = EncodedField(official, grid, supersample=supersample, region=masked)
        chosen = choose(field, official, dtype, precision or _earlier_precision(site, official))
        field = EncodedField(
            chosen.evaluator, grid, supersample=supersample, region=masked, precision_error=chosen.error
        )
        # What rounding costs is to be seen in the certificate.
        judge = official if chosen.evaluator.precision in ROUNDED else chosen.evaluator
        return cls(field, judge, pca, format, dtype, layout, zarr_store, site, overwrite)

    @property
    def evaluator(self) -> Evaluator:
        """The model."""
        return self.field.evaluator

    @property
    def device(self) -> str:
        """Kind of device that computes, such as ``cpu``."""
        return self.evaluator.device.type

    @property
    def dim(self) -> int:
        """How many bands are stored."""
        return self.pca or self.field.dim

    @property
    def raster(self) -> str:
        """Name of the file that is written, or from which those of its tiles come."""
        return f"{self.site.folder.name}{SUFFIXES[self.format]}"

    @cached_property
    def pieces(self) -> Pieces:
        """The pieces in which it is written."""
        grid, dim = self.field.grid, self.dim
        return pieces_of(grid, dim, self.dtype, format=self.format, layout=self.layout, raster=self.raster)

    def fulfilled(self) -> bool:
        """Return whether the same field stands in its place, and is not to be replaced.

        Raises:
            OutputExistsError: If something else stands there, which is not to be replaced.
        """
        if self.overwrite or not self.site.stands():
            return False
        try:
            with self.site.open() as held:
                found = identity(held)
        except FormatError as error:
            raise OutputExistsError(
                f"{self.site} exists and holds something else: {error} Give --overwrite to replace it."
            ) from error
        for name, value in (identity(self.field) | {"components": self.pca}).items():
            if found[name] != value:
                raise OutputExistsError(
                    f"{self.site} holds another field: its {name} is {found[name]!r}, and this build's is {value!r}. "
                    "Give --overwrite to replace it, or write elsewhere with --out."
                )
        return True

    def begun(self) -> Plan | None:
        """Return the plan of a build of the same field that was stopped; None if there is none to go on with.

        Raises:
            OutputExistsError: If a build of another one was stopped there, and is not to be replaced.
        """
        self.site.bring_plan()
        try:
            return Plan.find(self.site.work, self.field, self.pca, self.device, self.site.unfinished)
        except OutputExistsError:
            if not self.overwrite:
                raise
        return None

    def begin(self) -> Plan:
        """Return a new plan, in place of what an earlier build left."""
        plan = Plan.begin(self.site.work, self.field, self.dtype, self.pca, self.device)
        self.site.keep_plan()
        return plan


def _given(**wishes: float | None) -> dict[str, float]:
    """Return what was given."""
    return {name: value for name, value in wishes.items() if value is not None}


def ground_of(
    res: float, bounds: Bounds | None, crs: str, region: str | Path | Region | None, layer: str | None
) -> tuple[Grid, Region | None]:
    """Return the grid over bounds, else over a region, else over all that a reference system is for; and the region.

    The arguments are those of `build_field`.

    Raises:
        GridError: If bounds and resolution make no grid.
        PlacesError: If the region cannot be read.
    """
    region = Region.read(region, layer) if isinstance(region, str | Path) else region
    if bounds is None and region is not None:
        return Grid.covering(res, region.bounds(crs), crs), region
    return Grid.from_bounds(res, bounds, crs), region


def _earlier_precision(site: Site, official: Evaluator) -> Precision | None:
    """Return the precision of what is there already of a field, whole or not, if it can be had here."""
    try:
        found = site.open().provenance.get("precision") if site.stands() else None
    except FormatError:  # something else stands there, as will be said when it is in the way
        found = None
    site.bring_plan()
    found = found or precision_begun(site.work)
    return next((name for name in (official.precision, *official.faster) if name == found), None)


def check_choices(format: str, dtype: str, layout: str, precision: str | None) -> None:  # noqa: A002
    """Refuse what there is nothing of by that name.

    Raises:
        FormatError: If there is no such format, or it has no such layout.
        PackingError: If there is no such dtype.
        DeviceError: If there is no such precision.
    """
    if precision not in (None, *get_args(Precision)):
        raise DeviceError(f"precision={precision!r}. Choose from: {', '.join(get_args(Precision))}.")
    if format not in get_args(Format):
        raise FormatError(f"format={format!r} is not known. Choose from: {', '.join(get_args(Format))}.")
    if dtype not in DTYPES:
        raise PackingError(f"dtype={dtype!r} cannot be stored. Choose from: {', '.join(DTYPES)}.")
    check_layout(SUFFIXES[format], layout)


def check_latitudes(grid: Grid, card: Card) -> None:
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


def _site_of(out: str | Path, model: str, name: str) -> Site:
    """Return where a field goes.

    Args:
        out: The catalogue's folder: a path, or the address of one in a bucket.
        model: Name of the model.
        name: Of the field.

    Raises:
        FormatError: If it is an address of no bucket.
    """
    if SLIP.match(str(out)):
        raise FormatError(f"{out} is neither a folder nor an address: one has two slashes, as in s3://bucket/catalog.")
    if "://" not in str(out):
        return DiskSite(Path(out).expanduser(), model, name)
    return BucketSite(Bucket.of(str(out)), model, name)


def _check_size(grid: Grid, pixel_bytes: int, site: Site) -> None:
    """Refuse a field that no compression would fit onto the disk: a slip in the resolution.

    Raises:
        GridError: If its raw numbers are a hundred times what is free.
    """
    raw, free = grid.width * grid.height * pixel_bytes, site.free()
    if free is not None and raw > GREATEST_COMPRESSION * free:
        raise GridError(
            f"res={grid.res:g} {grid.unit} makes {grid.width:,} x {grid.height:,} pixels, {raw / 1e9:,.1f} GB before "
            f"compression, and the disk has {free / 1e9:,.1f} GB left. Choose a coarser res or smaller bounds, or make "
            "room."
        )
