"""Backend: fields, stored ones and ones that are still to be computed, as datasets of xarray."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray
from xarray.backends import BackendEntrypoint
from xarray.core import indexing

from embedfield.backend.lazy import LazyPixels
from embedfield.card import Card
from embedfield.errors import FormatError, GridError, InputsError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from embedfield.backend.virtual import VirtualField
    from embedfield.evaluate import Precision
    from embedfield.formats import Format
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds
    from embedfield.region import Region

CONVENTIONS = "CF-1.11"
# Inputs of models that have arguments of their own.
NAMED = {"month", "year"}
# Larger JSON is no item, and is not read to find that out.
LARGEST_ITEM = 8 * 2**20


class Backend(BackendEntrypoint):
    """The engine ``embedfield`` of `xarray.open_dataset`.

    A dataset has the variable ``embedding`` (band, y, x), float32, NaN where
    there is no value; its pixels are read, or computed, when they are touched.
    The coordinates are the names of the bands, the centres of rows and columns
    in units of the reference system, and ``spatial_ref``, where rioxarray finds
    that system and the transform.
    """

    description = "Fields of location embeddings: stored ones, and models that are computed where they are touched"

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        overview: int | None = None,
        res: float | None = None,
        bounds: Bounds | None = None,
        crs: str | None = None,
        region: str | Path | Region | None = None,
        layer: str | None = None,
        mask: bool | None = None,
        supersample: int | None = None,
        weights: str | Path | None = None,
        database: str | Path | None = None,
        dims: int | None = None,
        month: float | None = None,
        year: float | None = None,
        inputs: Mapping[str, float] | None = None,
        precision: Precision | None = None,
        device: str | None = None,
        offline: bool | None = None,
        format: Format | None = None,  # noqa: A002  the field's word, as in build_field
    ) -> xarray.Dataset:
        """Open a stored field, or a model as a field that is computed where it is touched.

        Args:
            filename_or_obj: What `embedfield.open_field` opens: a raster, the
                folder of a field or its STAC item, here or at an address. Or
                the name of a model, or a `Card`. What is there by a path is
                taken for that, even if a model has the same name.
            drop_variables: Names to leave out.
            overview: Of a stored field: how many pixels a side one of the
                coarser level stands for that is wanted; None for the pixels.
            res: Of a model, which needs it: side of a pixel. It and all that
                follow are as in `embedfield.build_field`.
            bounds: west, south, east, north.
            crs: Reference system of the pixels; None for EPSG:4326.
            region: A vector file: pixels that do not touch it have no value.
            layer: Of the region's file.
            mask: False to take only the bounds from the region.
            supersample: A pixel is the mean of so many times so many places.
            weights: A checkpoint of your own.
            database: A database of your own.
            dims: Length of the prefix that is wanted of a Matryoshka model.
            month: Of a model that takes one.
            year: Of a model that takes one.
            inputs: Any other input of a model, by name.
            precision: ``float64``, ``float32``, ``tf32`` or ``bf16``; None for
                the official one.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            offline: Never touch the network.
            format: Blocks of pixels have the very bits of a build as float32
                in this format, ``cog`` or ``zarr``; single ones may differ in
                the last.

        Raises:
            FormatError: If there is neither such a field nor such a model, or
                an argument is for the other kind.
            GridError: If there is no such coarser level, or res is not given.
            EmbedfieldError: As of `embedfield.open_field` and
                `embedfield.build_field`.
        """
        asked = {
            "res": res, "bounds": bounds, "crs": crs, "region": region, "layer": layer, "mask": mask,
            "supersample": supersample, "weights": weights, "database": database, "dims": dims, "month": month,
            "year": year, "inputs": inputs, "precision": precision, "device": device, "offline": offline,
            "format": format,
        }  # fmt: skip
        given = {name: value for name, value in asked.items() if value is not None}
        with ExitStack() as undo:
            source = (
                _computed(filename_or_obj, given, overview)
                if _is_model(filename_or_obj)
                else _stored(filename_or_obj, given, overview, undo)
            )
            dataset = _dataset(source, overview or 1)
            undo.pop_all()
        dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        dataset = dataset.drop_vars(dropped, errors="ignore")
        dataset.set_close(source.field.close)
        return dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether something is an item of embedfield or the folder of one, on this disk: no raster of others."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = Path(filename_or_obj)
        item = path / f"{path.name}.json" if path.is_dir() else path
        if item.suffix != ".json" or not item.is_file() or item.stat().st_size > LARGEST_ITEM:
            return False
        try:
            said = json.loads(item.read_bytes())
        except ValueError:
            return False
        properties = said.get("properties") if isinstance(said, dict) else None
        return isinstance(properties, dict) and "embedfield:version" in properties


class _Source(NamedTuple):
    """A field, and what a dataset says of it."""

    field: StoredField | VirtualField
    header: Mapping[str, Any]
    """Its card and provenance, as a raster would keep them."""
    chunks: tuple[Any, Any]
    """Rows and columns of the pieces that are cheap to read: their size, or each one's."""
    name: str
    """What was opened."""


# What it is. --------------------------------------------------------------------------------------------------------


def _is_model(name: Any) -> bool:
    """Return whether a model is asked for, and not a field that is stored.

    Raises:
        FormatError: If it is neither.
    """
    from embedfield import models
    from embedfield.formats.address import SCHEME

    if isinstance(name, Card):
        return True
    # Path.exists raises what a path cannot be, such as too long.
    if not isinstance(name, str) or SCHEME.match(name) or os.path.exists(name):  # noqa: PTH110  the same
        return False
    try:
        models.card(name)
    except UnknownModelError as error:
        raise FormatError(
            f"{name!r} is no field: nothing is there by that path, seen from {Path.cwd()}. And it is no model: {error}"
        ) from error
    return True


def _stored(name: Any, given: Mapping[str, Any], overview: int | None, undo: ExitStack) -> _Source:
    """Return a stored field, which is closed if what follows fails.

    Raises:
        FormatError: If there is none, or an argument is for fields that are computed.
        GridError: If there is no such coarser level.
    """
    from embedfield.formats import open_field
    from embedfield.formats.stored import header_of

    if not isinstance(name, str | os.PathLike):
        raise FormatError(f"{name!r} is no field. Give a path, an address, the name of a model or its card.")
    if given:
        raise FormatError(
            f"{', '.join(given)}: not for a stored field, and {name} is a path or an address. Leave out what is of a "
            "model to be computed; where something has a model's name, give the model's card."
        )
    field = open_field(name if isinstance(name, str) else Path(name))
    undo.callback(field.close)
    if overview not in (None, 1, *field.overviews):
        known = ", ".join(map(str, field.overviews)) or "none"
        raise GridError(f"overview={overview!r} is no coarser level of {name}. It has: {known}.")
    header = header_of(field, field.packing, field.saturated)
    return _Source(field, header, (field.blocksize, field.blocksize), str(field.path))


def _computed(model: str | Card, given: Mapping[str, Any], overview: int | None) -> _Source:
    """Return a model as a field.

    Raises:
        GridError: If res is not given, or a coarser level is asked for.
        InputsError: If an input is given twice.
        EmbedfieldError: As of `build_field`.
    """
    from embedfield import models
    from embedfield.backend.virtual import DTYPE, virtual_field
    from embedfield.formats.packing import Packing
    from embedfield.formats.stored import header_of

    name = model.name if isinstance(model, Card) else model
    if "res" not in given:
        raise GridError(f"{name} is a model, and res, the side of its pixels, is not given. Give res, as in res=0.1.")
    if overview is not None:
        raise GridError(f"overview={overview!r} is of stored fields, and {name} is a model. Give a coarser res.")
    named = {key: given[key] for key in NAMED & given.keys()}
    others = dict(given.get("inputs", {}))
    if twice := sorted(named.keys() & others.keys()):
        raise InputsError(f"{twice[0]} is given twice: by its name, and in inputs. Give it once.")
    # Now: an input named as an argument, such as dims, would be taken for that.
    models.asked(model, named | others)
    rest = {key: value for key, value in given.items() if key not in {*NAMED, "inputs"}}
    field = virtual_field(model, **rest, **named, **others)
    packing = Packing(DTYPE, np.ones(field.dim), np.zeros(field.dim))
    return _Source(field, header_of(field, packing, 0), field.chunks, name)


# The dataset. -------------------------------------------------------------------------------------------------------


def _dataset(source: _Source, factor: int) -> xarray.Dataset:
    """Return a field as a dataset, of pixels as large as so many times so many of its own."""
    import rioxarray  # noqa: F401  registers the .rio accessor, as `Field.to_xarray` does

    from embedfield.axes import coordinates_of
    from embedfield.formats.stored import HEADER

    field, card = source.field, source.field.card
    told = {"model": card.name, "licence": card.licence, HEADER: json.dumps(source.header)}
    pixels = LazyPixels(field, factor, source.chunks)
    chunks = {"band": field.dim, "y": source.chunks[0], "x": source.chunks[1]}
    embedding = xarray.Variable(
        ("band", "y", "x"),
        indexing.LazilyIndexedArray(pixels),
        {"long_name": card.title, **told},
        {"preferred_chunks": chunks, "grid_mapping": "spatial_ref", "source": source.name},
    )
    about = {"Conventions": CONVENTIONS, "title": card.title, "references": card.homepage, **told}
    bands = xarray.Variable("band", field.band_names, {"long_name": "name of the band"})
    dataset = xarray.Dataset({"embedding": embedding}, {"band": bands, **coordinates_of(field.grid, factor)}, about)
    dataset.encoding["source"] = source.name
    return dataset
