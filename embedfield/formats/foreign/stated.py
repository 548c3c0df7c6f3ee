"""Stated: what the attributes of a Zarr array say of its numbers, and of its times."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield.errors import FormatError
from embedfield.formats.packing import OFFSETS, SCALES
from embedfield.formats.stored import refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.foreign.store import Array, Store

# Attributes that say which number means no value.
NODATA = ("_FillValue", "missing_value")
# Those of CF that numpy's dates are of.
CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
MEND = "Ask who made it"


def check_numbers(path: Path | str, name: str, array: Array) -> None:
    """Refuse an array that does not hold real numbers.

    Raises:
        FormatError: If it does not.
    """
    if array.dtype.kind not in "iuf":
        raise FormatError(f"{path} holds {array.dtype} in {name!r}, and embeddings are numbers. Choose another array.")


def packed(array: Array) -> bool:
    """Return whether attributes say how an array's numbers are packed."""
    return any(name in array.attrs for name in (*SCALES, *OFFSETS))


def rules_of(array: Array, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return scale and offset, (count,) each, that attributes state; ones and zeros where they state none."""
    return _of_bands(array, SCALES, 1.0, count), _of_bands(array, OFFSETS, 0.0, count)


def _of_bands(array: Array, names: tuple[str, str], neutral: float, count: int) -> npt.NDArray[np.float64]:
    each, together = names
    if each in array.attrs:
        return np.asarray(array.attrs[each], dtype=np.float64)[:count]
    return np.full(count, float(array.attrs.get(together, neutral)))  # type: ignore[arg-type]  # an error is one of metadata


def nodata_of(array: Array) -> float:
    """Return the code that means no value, as xarray understands it; NaN where none is stated."""
    # Of version 2 the fill value is nodata; of version 3 it is what a chunk is that was not written, and no more.
    if array.metadata.zarr_format == 2 and array.fill_value is not None:
        return float(array.fill_value)
    return next((_number(array.attrs[name]) for name in NODATA if name in array.attrs), np.nan)


def _number(stated: Any) -> float:
    """Return a number that JSON may hold as text: 'NaN', or the bytes of a float64 as xarray writes them."""
    if not isinstance(stated, str):
        return float(np.ravel(stated)[0])
    try:
        return float(stated)
    except ValueError:
        (value,) = struct.unpack("<d", base64.b64decode(stated, validate=True))
        return float(value)


def times_of(store: Store, name: str) -> list[Any]:
    """Return the times of an array: dates as texts, else what its coordinate has; counted from 0 where it has none."""
    path = store.coordinate(name, "t")
    if not path:
        return list(range(store.array(name).shape[store.axes(name).index("t")]))
    values, told = store.values(path), store.array(path).attrs
    if " since " in str(told.get("units")) and str(told.get("calendar", CALENDARS[0])).lower() in CALENDARS:
        with refused(store.path, f"has times in {path!r} that cannot be read", MEND):
            return _dates(values, told)
    return [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]


def _dates(values: npt.NDArray[Any], told: Mapping[str, Any]) -> list[str]:
    """Return numbers that are counted since a date as texts, days alone where they are whole ones."""
    from xarray import Variable
    from xarray.conventions import decode_cf_variable

    stated = {key: told[key] for key in ("units", "calendar") if key in told}
    dates = decode_cf_variable("time", Variable("time", values, stated)).to_numpy().astype("datetime64[s]")
    days = dates.astype("datetime64[D]")
    return [str(each) for each in (days if (days == dates).all() else dates)]


def time_of(store: Store, name: str, time: Any) -> int:
    """Return which time of an array is wanted, counted from 0.

    Args:
        store: Where the array is.
        name: Its path.
        time: One of its times, or the start of the text of one, such as a
            date's year; None if it has but one.

    Raises:
        FormatError: If it does not have that time, or none is wanted of several.
    """
    known = times_of(store, name)
    wanted = range(len(known)) if time is None else _fitting(known, str(time))
    if len(wanted) == 1:
        return wanted[0]
    several = "several times" if time is None else f"{'several times' if wanted else 'no time'} {time!r}"
    raise FormatError(
        f"{store.path} has {several} in {name!r}. Choose one, as with --time {known[-1] if known else 0}; it has: "
        f"{', '.join(map(str, known))}."
    )


def _fitting(known: Sequence[Any], text: str) -> list[int]:
    """Return which times are a text, or else dates that begin with it."""
    texts = [str(each) for each in known]
    return [number for number, each in enumerate(texts) if each == text] or [
        number for number, each in enumerate(texts) if each.startswith(tuple(f"{text}{mark}" for mark in "-T:"))
    ]
