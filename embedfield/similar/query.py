"""Query: what a field is compared with, the directions of vectors at some places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import pandas as pd

from embedfield.errors import PlacesError, WeightsError
from embedfield.located import Located, located_of
from embedfield.places import pairs
from embedfield.sampler import Sampler
from embedfield.tables import read_places
from embedfield.window import Window

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.evaluate import Evaluator
    from embedfield.field import Field

    type Places = str | Path | pd.DataFrame | npt.ArrayLike

Match = Literal["mean", "any"]
# Pixels along the longer side of the level whose mean is the middle of a field, at the least.
LEVEL = 256
# How many times the square of that it may have.
MOST = 4
# Places, spread evenly by area, that stand in for it where there is no such level.
SAMPLE = 4096
# Places that are compared with at a time.
TOGETHER = 256
# Length of a vector, by that of the middle, below which it is what rounding leaves, and has no direction.
DUST = 1e-6
# Places of a query that are written into the header of its map.
TOLD = 16


@dataclass(frozen=True, eq=False)
class Query:
    """What a field is compared with. Make one with `of`."""

    directions: npt.NDArray[np.float32]
    """(n, dim), of length 1; of several the nearest counts."""
    middle: npt.NDArray[np.float64] | None
    """(dim,), what is taken off all vectors before their directions are compared; None for nothing."""
    located: Located
    """The places."""
    about: dict[str, Any]
    """What was asked, as plain data for JSON."""

    @classmethod
    def of(
        cls, field: Field, places: Places, *, match: Match = "mean", centre: bool = True,
        evaluator: Evaluator | None = None,
    ) -> Self:  # fmt: skip
        """Look up vectors of places.

        Args:
            field: Stored or computed; of components the model's vectors are restored.
            places: Degrees (lon, lat), (N, 2); a table, GeoDataFrame or file of places as `extract_points` takes
                them. At points the vector is interpolated (bilinear); if some are lines or polygons, it is the mean
                of the pixels under each.
            match: ``mean`` for the mean direction of the places, ``any`` for the nearest of them.
            centre: Take the field's mean, by area, off all vectors first.
            evaluator: The field's encoder, to ask it instead of the pixels; places may then lie anywhere.

        Raises:
            PlacesError: If there is no place or no such match, if the field has no value at a place, or a vector
                has no direction.
            WeightsError: If the encoder is not the one that the field was made with.
        """
        if match not in get_args(Match):
            raise PlacesError(f"match={match!r} is not known. Choose from: {', '.join(get_args(Match))}.")
        located = _located(places)
        vectors = _pixels_at(field, located) if evaluator is None else _exact_at(field, located, evaluator)
        middle = _middle(field) if centre else None
        directions = _directions(field, vectors, middle)
        if match == "mean":
            directions = _mean_direction(directions)
        about = {"of": field.name, "places": len(located), "match": match, "centred": centre}
        about |= {"exact": evaluator is not None}
        if located.points:
            about["lonlat"] = located.lonlat()[0][:TOLD].round(6).tolist()
        return cls(directions.astype(np.float32), middle, located, about)

    @property
    def title(self) -> str:
        """What it asks, in words."""
        count, what = len(self.located), "place" if self.located.points else "shape"
        where = f"a {what}" if count == 1 else f"{count:,} {what}s"
        if count == 1 and self.located.points:
            ((lon, lat),) = self.about["lonlat"]
            where = f"longitude {lon:g}, latitude {lat:g}"
        return f"Cosine similarity to {where}{'' if self.middle is None else ', centred'}"

    def similarity(self, vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return the cosine of the angle between vectors and the query, in [-1, 1].

        Args:
            vectors: (N, dim), NaN where there is none.

        Returns:
            (N,), float32; NaN where there is no vector, or it has no direction, as zero and infinite ones.
        """
        vectors = vectors if self.middle is None else vectors - self.middle.astype(vectors.dtype)
        lengths = _lengths(vectors, self.middle)
        best = np.full(len(vectors), -np.inf, dtype=np.float32)
        for start in range(0, len(self.directions), TOGETHER):
            # An infinite number has no product with zero, and its vector no length below.
            with np.errstate(invalid="ignore"):
                cosines = vectors @ self.directions[start : start + TOGETHER].T.astype(vectors.dtype)
            np.maximum(best, cosines.max(axis=1), out=best, casting="same_kind")
        found: npt.NDArray[np.float32] = np.clip(best / lengths, -1, 1).astype(np.float32, copy=False)
        return found


def _located(places: Places) -> Located:
    """Return places, one at least.

    Raises:
        PlacesError: If there is none.
    """
    if isinstance(places, str | Path):
        places = read_places(places)
    table = places if isinstance(places, pd.DataFrame) else pd.DataFrame(pairs(places), columns=["lon", "lat"])
    located = located_of(table)
    if not len(located):
        raise PlacesError("There is no place to be similar to. Give one at least.")
    return located


def _pixels_at(field: Field, located: Located) -> npt.NDArray[np.floating]:
    """Return the model's vectors that a field has at places, (N, dim), NaN where it has none.

    Raises:
        PlacesError: If it has none at one of them.
    """
    sampler = Sampler(field, "bilinear") if located.points else Sampler(field, stats="mean")
    found = sampler.sample(located)
    reasons = {"nodata": f"{field.name} has no value there", "outside": f"it is outside of {field.name}"}
    status = np.where(np.isfinite(found.numbers).all(axis=1), "", "nodata")
    _check_status(located, np.where(found.status == "valid", status, found.status), reasons)
    return field.restored(found.numbers)


def _exact_at(field: Field, located: Located, evaluator: Evaluator) -> npt.NDArray[np.floating]:
    """Return the encoder's vectors at places, (N, dim).

    Raises:
        PlacesError: If one is no point on the globe.
        WeightsError: If the encoder is not the field's.
    """
    for name, digest in evaluator.sha256.items():
        made = field.provenance.get(name)
        if made != digest:
            raise WeightsError(
                f"{field.name} was made with {name} {made or 'unknown'}, and the encoder has {digest or 'none'}: their "
                "vectors cannot be compared. Give the file that it was made with, or leave out --exact."
            )
    if not located.points:
        raise PlacesError("An exact vector is one of a point, and not all places are points. Leave out --exact.")
    lonlat, status = located.lonlat()
    _check_status(located, status, {})
    vectors = evaluator.encode(lonlat)
    lost = np.where(np.isfinite(vectors).all(axis=1), "", "nodata")
    _check_status(located, lost, {"nodata": f"{evaluator.card.name} has no finite value there"})
    return vectors


def _check_status(located: Located, status: npt.NDArray[np.str_], reasons: dict[str, str]) -> None:
    """Refuse places that have no vector: those with a status, (N,), that is not empty.

    Raises:
        PlacesError: If there is one.
    """
    wrong = np.flatnonzero(status != "")
    if not len(wrong):
        return
    row = int(wrong[0])
    reasons = {"missing": "it has no coordinates", "invalid": "it is not on the globe"} | reasons
    others = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
    x, y = located.xy[row]
    raise PlacesError(
        f"Nothing can be similar to place {row}{others}, at ({x:.12g}, {y:.12g}): {reasons[str(status[row])]}. "
        "Choose another, or remove such rows."
    )


def _middle(field: Field) -> npt.NDArray[np.float64]:
    """Return the mean of a field's vectors by area, (dim,).

    Raises:
        PlacesError: If it has no values.
    """
    levels = {1: field.grid.shape, **field.overviews}
    factor = max((factor for factor, shape in levels.items() if max(shape) >= LEVEL), default=1)
    height, width = levels[factor]
    # A coarser level is of means already, and costs a few requests.
    few = height * width <= MOST * LEVEL**2
    total, area = _sum_of_level(field, factor, height, width) if few else _sum_of_places(field)
    if not area:
        raise PlacesError(f"{field.name} has no value where its mean was looked for. Give --no-centre.")
    mean: npt.NDArray[np.float64] = field.restored((total / area)[None])[0]
    return mean


def _sum_of_level(field: Field, factor: int, height: int, width: int) -> tuple[npt.NDArray[np.float64], float]:
    """Return the sum of what the pixels of a level hold by their areas, (bands,), and the sum of these."""
    grid, side = field.grid, field.blocksize
    down, right = (
        np.minimum(np.arange(count + 1) * factor, most) for count, most in zip((height, width), grid.shape, strict=True)
    )
    edges = grid.north - down * grid.res
    tall, wide = -np.diff(np.sin(np.deg2rad(edges)) if grid.geographic else edges), np.diff(right)
    total, area = np.zeros(field.dim), 0.0
    for window in Window(0, 0, width, height).tiles(side, side):
        values = field.read(window) if factor == 1 else field.read_overview(factor, window)
        there = np.isfinite(values).all(axis=0)
        weights = np.where(there, np.outer(tall[window.rows], wide[window.cols]), 0.0)
        total += np.where(there, values, 0).reshape(field.dim, -1) @ weights.ravel()
        area += float(weights.sum())
    return total, area


def _sum_of_places(field: Field) -> tuple[npt.NDArray[np.float64], float]:
    """Return the same of places, each of which stands for an area of one size."""
    values = field.at(field.places(SAMPLE), "nearest")
    values = values[np.isfinite(values).all(axis=1)]
    return values.sum(axis=0, dtype=np.float64), float(len(values))


def _lengths(vectors: npt.NDArray[np.floating], middle: npt.NDArray[np.float64] | None) -> npt.NDArray[np.floating]:
    """Return lengths of vectors (N, dim) less the middle, (N,); NaN for what is rounding, or infinite."""
    lengths: npt.NDArray[np.floating] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    least = 0.0 if middle is None else DUST * float(np.linalg.norm(middle))
    return np.where((lengths > least) & (lengths < np.inf), lengths, np.nan)


def _directions(
    field: Field, vectors: npt.NDArray[np.floating], middle: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64]:
    """Return directions, (N, dim), of vectors, from which the middle is taken.

    Raises:
        PlacesError: If one has none.
    """
    vectors = vectors.astype(np.float64) - (0.0 if middle is None else middle)
    lengths = _lengths(vectors, middle)
    if np.isnan(lengths).any():
        row = int(np.isnan(lengths).argmax())
        what, mend = ("is zero", "Choose another place.")
        if middle is not None:
            what, mend = ("is the field's own mean", "Choose another place, or give --no-centre.")
        raise PlacesError(f"The vector of {field.name} at place {row} {what}, and has no direction. {mend}")
    return vectors / lengths[:, None]


def _mean_direction(directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the direction, (1, dim), of the mean of directions, (N, dim).

    Raises:
        PlacesError: If they cancel.
    """
    mean = directions.mean(axis=0, keepdims=True)
    length = np.linalg.norm(mean)
    if length <= DUST:
        raise PlacesError(f"The vectors of the {len(directions):,} places cancel: they have no mean direction. Give "
                          "--match any.")  # fmt: skip
    return mean / length
