"""ArrayField: an array of xarray as a field."""

from __future__ import annotations

import json
import re
from itertools import batched
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedfield import axes, models
from embedfield.card import NO_CODE, Card
from embedfield.errors import CardError, FormatError, GridError, UnknownModelError
from embedfield.field import Field
from embedfield.formats.packing import OFFSETS, SCALES
from embedfield.formats.stored import HEADER, HEADER_VERSION, HELD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    import xarray

    from embedfield.window import Window

# Names of the variables of a field in Zarr.
PACKED = ("embedding", "scale", "offset")
# Dimensions that rioxarray takes for rows and columns only if attributes say so.
USUAL = (("lat", "lon"), ("latitude", "longitude"))


class ArrayField(Field):
    """An array over a plane with a reference system, as a field. Pixels are read when they are asked for.

    Names of bands are those of the field that the array came from; else begin
    with the array's, and go on with the bands' own or with ``000`` and on.
    """

    # Until they are known, `dim` and `band_names` are those of the whole field that the array may be a part of.
    _names: list[str] | None = None

    def __init__(self, array: xarray.DataArray | xarray.Dataset) -> None:
        """See an array as a field.

        Args:
            array: The dataset of a field in Zarr, as `xarray.open_zarr` opens
                it; or an array (band, y, x) or (y, x), or a dataset of one such
                array, with coordinates and a reference system, as
                `Field.to_xarray` and `rioxarray.open_rasterio` give it. A part
                of one will do, whatever was cut off.

        Raises:
            GridError: If its pixels are not squares, evenly spaced, in a
                reference system that is known.
            FormatError: If it is not numbers, or it cannot be told what they mean.
        """
        self._array, place, self._packing = _taken(array)
        self.grid, flipped = axes.grid_of(self._array, place)
        if flipped:
            self._array = self._array[:, ::-1]
        self._take_names(array)
        chunks = [sizes[0] for sizes in (self._array.chunks or ())[1:]]
        self.blocksize = max(chunks, default=Field.blocksize)

    @property
    def dim(self) -> int:
        """How many bands the array has."""
        return len(self._names) if self._names else super().dim

    @property
    def band_names(self) -> list[str]:
        """Names of the bands."""
        return list(self._names) if self._names else super().band_names

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the values of a window, (dim, height, width), float32."""
        window = self.grid.checked(window)
        return self._packing.unpack(self._array[:, window.rows, window.cols].values)

    def _parts(
        self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        from dask.base import compute

        block_bytes = self._array.dtype.itemsize * self.dim * self.blocksize**2
        # To plan takes dask longer than to read a block: it is asked for many at once.
        for parts in batched(self._windows(rows, cols), max(1, HELD // block_bytes)):
            blocks = compute(*(self._array[:, window.rows, window.cols].data for _, window in parts))  # type: ignore[no-untyped-call]
            for ((members,), window), codes in zip(parts, blocks, strict=True):
                picked = codes[:, rows[members] - window.row_off, cols[members] - window.col_off]
                yield members, self._packing.unpack(picked).T

    def _take_names(self, array: xarray.DataArray | xarray.Dataset) -> None:
        """Set what the attributes say of the model and the bands."""
        attributes = {**array.attrs, **self._array.attrs}
        header = _header(attributes)
        if header is not None:
            self.card, self.provenance = _card_of(header), dict(header.get("provenance") or {})
            self.components = (header.get("reduction") or {}).get("components")
        else:
            self.card = _card_named(attributes, self._array)
        whole = self.band_names
        self._names = _own_names(self._array, self.card.name) or [
            whole[number] for number in _numbers(self._array, len(whole))
        ]


class _Affine(NamedTuple):
    """How stored numbers become values: code · scale + offset."""

    scale: npt.NDArray[np.float64]
    """(dim,)."""
    offset: npt.NDArray[np.float64]
    """(dim,)."""
    nodata: float | None
    """The stored number that means no value; NaN always does."""

    def unpack(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the values of codes (dim, …), float32; NaN for nodata."""
        shape = (-1, *(1,) * (codes.ndim - 1))
        values = codes.astype(np.float32)
        if (self.scale != 1).any() or self.offset.any():
            # In float64, rounded once: of embedfield's own packing these are the bits that all readers get.
            values = (codes * self.scale.reshape(shape) + self.offset.reshape(shape)).astype(np.float32)
        if self.nodata is not None:
            values[codes == self.nodata] = np.nan
        return values


# What an array is. --------------------------------------------------------------------------------------------------


def _taken(array: xarray.DataArray | xarray.Dataset) -> tuple[xarray.DataArray, axes.Place, _Affine]:
    """Return the array (band, y, x) itself, where it is, and how its numbers are packed."""
    import rioxarray  # noqa: F401  registers the .rio accessor
    import xarray

    dataset = array if isinstance(array, xarray.Dataset) else None
    ours = dataset is not None and all(name in dataset for name in PACKED)
    chosen = array if dataset is None else dataset["embedding"] if ours else _only(dataset)
    assert isinstance(chosen, xarray.DataArray)  # noqa: S101  for mypy: what is no dataset is an array
    banded = _banded(chosen)
    if banded.dtype.kind not in "iufb":
        raise FormatError(f"The array holds {banded.dtype}, and embeddings are numbers. Choose an array of numbers.")
    nodata = chosen.rio.nodata
    if ours and dataset is not None:
        scale, offset = (np.atleast_1d(dataset[name].to_numpy()).astype(np.float64) for name in PACKED[1:])
    else:
        scale, offset = _attributed(banded)
    return banded, axes.place_of(array), _Affine(scale, offset, None if nodata is None or np.isnan(nodata) else nodata)


def _only(dataset: xarray.Dataset) -> xarray.DataArray:
    """Return the one array of a dataset that lies in a plane.

    Raises:
        FormatError: If there is none, or several.
    """
    found = [str(name) for name in dataset.data_vars if {*_axes(dataset)} <= set(map(str, dataset[name].dims))]
    if len(found) != 1:
        raise FormatError(
            f"The dataset has {len(found)} arrays over {' and '.join(_axes(dataset))}"
            f"{': ' + ', '.join(found) if found else ''}. Choose one, as in dataset['{(found or ['name'])[0]}']."
        )
    return dataset[found[0]]


def _axes(array: xarray.DataArray | xarray.Dataset) -> tuple[str, str]:
    """Return the names of the dimensions of rows and columns.

    Raises:
        GridError: If there are none.
    """
    from rioxarray.exceptions import MissingSpatialDimensionError

    try:
        return str(array.rio.y_dim), str(array.rio.x_dim)
    except MissingSpatialDimensionError as error:
        for y, x in USUAL:
            if y in array.dims and x in array.dims:
                return y, x
        raise GridError(
            f"The array's dimensions are {', '.join(map(str, array.dims))}, and none are y and x. "
            "Rename them, as in array.rename(row='y', column='x')."
        ) from error


def _banded(array: xarray.DataArray) -> xarray.DataArray:
    """Return an array as (band, y, x), whatever the first is called.

    Raises:
        FormatError: If it has another dimension beside.
    """
    y, x = _axes(array)
    others = [name for name in array.dims if name not in (x, y)]
    if len(others) > 1:
        raise FormatError(
            f"The array has the dimensions {', '.join(map(str, array.dims))}, and a field has bands, y and x. "
            f"Choose one of {others[0]!r}, as in array.isel({others[0]}=0)."
        )
    if not others:
        name = "band" if "band" not in array.coords else "__band__"
        return array.expand_dims(name).transpose(name, y, x)
    return array.transpose(others[0], y, x)


def _attributed(array: xarray.DataArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return scale and offset (dim,) that an array's attributes state; ones and zeros where they state none.

    Raises:
        FormatError: If it cannot be told whether they are applied already.
    """
    scale, offset = _for_bands(array, SCALES, 1.0), _for_bands(array, OFFSETS, 0.0)
    if array.dtype.kind == "f" and ((scale != 1).any() or offset.any()):
        # Arithmetic keeps attributes: such an array may be values, or codes that became floats.
        names = ", ".join(name for name in (*SCALES, *OFFSETS) if name in array.attrs)
        raise FormatError(
            f"The array holds {array.dtype}, and its attributes ({names}) state how integers are packed: it cannot be "
            "told whether that is undone. Open it with mask_and_scale=True, or remove these attributes."
        )
    return scale, offset


def _for_bands(array: xarray.DataArray, names: tuple[str, str], neutral: float) -> npt.NDArray[np.float64]:
    """Return numbers (dim,) that attributes state: the first of one a band, the second one for all."""
    each, together = names
    if each not in array.attrs:
        return np.full(len(array), float(array.attrs.get(together, neutral)))
    stated = np.asarray(array.attrs[each], dtype=np.float64)
    return stated[_numbers(array, len(stated))]


def _numbers(array: xarray.DataArray, count: int) -> list[int]:
    """Return the numbers, from 0, that an array's bands had among the bands of its raster.

    Args:
        array: (band, y, x).
        count: How many bands the raster has.

    Raises:
        FormatError: If some were cut off, and it is not known which.
    """
    name = str(array.dims[0])
    coordinate = array.coords.get(name)
    if coordinate is not None and coordinate.dtype.kind in "iu":
        # GDAL counts bands from 1; those of our Zarr are counted from 0, and say so.
        numbers = coordinate.to_numpy() - ("from 0" not in str(coordinate.attrs.get("long_name")))
        if (numbers >= 0).all() and (numbers < count).all():
            return [int(number) for number in numbers]
    if len(array) == count:
        return list(range(count))
    raise FormatError(
        f"The array has {len(array)} of the {count} bands that its attributes tell of, and not which. "
        f"Keep its coordinate {name!r}."
    )


def _own_names(array: xarray.DataArray, model: str) -> list[str] | None:
    """Return the names that an array's bands have, each beginning with the model's; None unless they differ."""
    coordinate = array.coords.get(str(array.dims[0]))
    names: Sequence[Any] = ()
    described = array.attrs.get("long_name")
    if coordinate is not None and coordinate.ndim == 1 and coordinate.dtype.kind in "UTO":
        names = [str(name) for name in coordinate.to_numpy()]
    elif isinstance(described, tuple | list):
        names = [str(described[number]) for number in _numbers(array, len(described))]
    if len(set(names)) < len(array) or not all(names):
        return None
    return [name if name.startswith(f"{model}_") else f"{model}_{name}" for name in names]


# Whose it is. -------------------------------------------------------------------------------------------------------


def _header(attributes: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Return the header of a field: from Zarr as it is, from a GeoTIFF as text; None where there is none.

    Raises:
        FormatError: If it cannot be read, or a newer embedfield wrote it.
    """
    found = attributes.get(HEADER, attributes.get(HEADER.upper()))
    if found is None:
        return None
    try:
        header = json.loads(found) if isinstance(found, str) else dict(found)
        version = int(header["version"])
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"The array's header of embedfield cannot be read: {error}. Open the field again.") from error
    if version > HEADER_VERSION:
        raise FormatError(f"The array has header version {version}; this embedfield reads {HEADER_VERSION}. Update it.")
    return header


def _card_of(header: Mapping[str, Any]) -> Card:
    try:
        return Card.from_dict(header["card"])
    except (CardError, KeyError, TypeError) as error:
        raise FormatError(f"The array's header of embedfield cannot be read: {error}. Open the field again.") from error


def _card_named(attributes: Mapping[Any, Any], array: xarray.DataArray) -> Card:
    """Return the card of the model that an array names, else a plain one with the array's own name."""
    model = attributes.get("model")
    try:
        return models.card(str(model))
    except UnknownModelError:
        said = str(model or array.name or "array")
    name = re.sub(r"[^a-z0-9+-]+", "-", said.lower()).strip("-+") or "array"
    return Card(name=name, title=said, dim=len(array), code=NO_CODE, homepage="not stated", code_licence="none")
