"""Precision: how exactly an encoder is computed, chosen by what it costs the numbers that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedfield.errors import PackingError
from embedfield.formats.packing import Packing

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.evaluate import Evaluator, Precision
    from embedfield.field import Field
    from embedfield.formats.packing import Dtype

    Vectors = npt.NDArray[np.floating]

# Places at which precisions are compared.
PLACES = 256
# What computing may err, as a share of what packing errs.
SHARE = 0.1


@dataclass(frozen=True)
class Chosen:
    """An evaluator, and what its precision costs."""

    evaluator: Evaluator
    error: float | None
    """Root mean square of what its values differ by from those of the official precision, each band's as a share of
    the band's standard deviation; None for the official precision itself."""


def choose(field: Field, evaluator: Evaluator, dtype: Dtype, wanted: Precision | None) -> Chosen:
    """Return an evaluator at a precision that is wanted, else at the fastest that is good enough.

    Good enough is one whose error is below a tenth of the error of packing,
    both measured at places of the field against the official precision, which
    is taken where none is.

    Args:
        field: Where the evaluator is to be asked.
        evaluator: Of the official precision.
        dtype: How numbers will be stored.
        wanted: A precision; None for the fastest that is good enough.

    Raises:
        DeviceError: If the device or the encoder does not have what is wanted.
    """
    if wanted == evaluator.precision or (wanted is None and not evaluator.faster):
        return Chosen(evaluator, None)
    places = field.places(PLACES)
    official = evaluator.encode(places)
    there = np.isfinite(official).all(axis=1)
    places, official = places[there], official[there].astype(np.float64)
    limit = SHARE * _packing_error(official, dtype)
    for precision in evaluator.faster if wanted is None else (wanted,):
        trial = evaluator.at(precision)
        error = _error(trial.encode(places), official)
        if wanted or error < limit:
            return Chosen(trial, error)
    return Chosen(evaluator, None)


def _packing_error(values: Vectors, dtype: Dtype) -> float:
    """Return what packing makes of values (n, dim), measured as precision is; 0 where it cannot be known."""
    if not len(values):
        return 0.0
    try:
        packing = Packing.fit(values.min(axis=0), values.max(axis=0), dtype)
    except PackingError:  # which the build will say, of the whole field
        return 0.0
    codes, _ = packing.pack(values.T[:, :, None].astype(np.float32))
    return _error(packing.unpack(codes)[:, :, 0].T, values)


def _error(found: Vectors, official: Vectors) -> float:
    """Return the root mean square difference of vectors (n, dim), by the standard deviation of each band."""
    if not len(official):
        return 0.0
    spread = official.std(axis=0)
    bands = spread > 0
    if not bands.any():
        return 0.0
    return float(np.sqrt((((found - official)[:, bands] / spread[bands]) ** 2).mean()))
