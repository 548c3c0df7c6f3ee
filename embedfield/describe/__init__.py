"""Describe: what the vectors of a field are like, at random places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield.describe.autocorrelation import Autocorrelation
from embedfield.describe.drawn import SEED, Drawn
from embedfield.describe.intrinsic import MOST, intrinsic_dimension
from embedfield.describe.summary import BandStatistics, Lengths, Spectrum
from embedfield.fidelity import plain
from embedfield.region import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedfield.describe.intrinsic import IntrinsicDimension
    from embedfield.field import Field

# Places by default: enough for all but the longest and the shortest distances, and a matter of seconds.
SAMPLE = 5_000
# Bands that are named as the most and the least varying.
NAMED = 3
# Points of the curve of correlation that are printed.
POINTS = 6


@dataclass(frozen=True, eq=False)
class Description:
    """What the vectors of a field are like, at random places spread evenly by area."""

    field: dict[str, Any]
    """Which field: ``name``, ``model``, ``dim``, ``components``, ``grid`` of a raster, and ``exact``."""
    region: str | None
    """The area that places were confined to; None for all of the field."""
    places: int
    """How many had a value: all numbers below are of these."""
    pixels: int | None
    """How many different pixels they come from; None of an encoder, which is asked at the places."""
    empty: int
    """How many more places were read that have no value."""
    bands: BandStatistics
    """Of the bands as the field holds them, which may be components."""
    lengths: Lengths
    """Of the vectors. Those of components are restored to the model's first, here and below."""
    spectrum: Spectrum
    """Of the vectors' variance."""
    dimension: IntrinsicDimension | None
    """Of the vectors; None of fewer than 101 different ones, or of one band."""
    autocorrelation: Autocorrelation
    """Of the vectors, by distance."""

    @property
    def lines(self) -> list[str]:
        """The description as text."""
        return [f"{name:<12} {value}" for name, value in _lines(self)]

    @property
    def band_lines(self) -> list[str]:
        """The statistics of all bands as a table of text."""
        names = list(self.bands.numbers)
        width = max(len("band"), *map(len, self.bands.names))
        head = f"{'band':<{width}}" + "".join(f"{name:>11}" for name in names)
        rows = [
            f"{name:<{width}}" + "".join(f"{self.bands.numbers[of][band]:>11.4g}" for of in names)
            for band, name in enumerate(self.bands.names)
        ]
        return [head, *rows]

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain data for JSON; None for a number that there is not.

        Returns:
            ``field``, ``region``, ``places``, ``pixels`` and ``empty`` as above,
            ``seed`` of the places; ``lengths`` (``mean``, ``std``, ``min``,
            ``p05`` to ``p95``, ``max``, ``mean_cosine``, ``common_share``);
            ``spectrum`` (``effective_rank``; ``components``, how many hold a
            share of the variance; ``explained``, the share of each);
            ``dimension`` (``distinct``, ``MLE``, ``MOM``, ``TLE``,
            ``FisherS``) or None; ``autocorrelation`` (``length_km``,
            ``shorter_than_km``, ``longer_than_km``, and the curve,
            ``distances_km``, ``correlations`` and ``pairs``); ``bands``, of
            each its ``name`` and statistics.
        """
        dimension = self.dimension
        return {
            "field": self.field,
            "region": self.region,
            "seed": SEED,
            "places": self.places,
            "pixels": self.pixels,
            "empty": self.empty,
            "lengths": self.lengths.to_dict(),
            "spectrum": self.spectrum.to_dict(),
            "dimension": dimension
            and {
                "distinct": dimension.distinct,
                **{name: plain(value) for name, value in dimension.estimates.items()},
            },
            "autocorrelation": self.autocorrelation.to_dict(),
            "bands": self.bands.to_dict(),
        }


def describe_field(
    field: Field,
    *,
    sample: int = SAMPLE,
    region: Region | str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    step: Callable[[str], None] | None = None,
) -> Description:
    """Say what the vectors of a field are like: statistics, dimension, and how far they resemble one another.

    The field is read at random places, spread evenly by area: so means are
    weighted by area, and not by pixels. The same field gives the same
    description. What follows grows with the sample, not with the raster.

    Args:
        field: A stored field, or an encoder, which is asked at the places.
        sample: How many places with a value. Estimates of dimension from
            neighbours fall as there are more: published ones are of 100,000
            on land.
        region: Polygons that places are to lie in, or a file of such; None
            for all of the field.
        progress: Told (places read, places wanted) as it goes on.
        step: Told what is done, before it is.

    Raises:
        PlacesError: If no place is wanted, none has a value, or the region cannot be read.
    """
    area = Region.read(region) if isinstance(region, (str, Path)) else region
    tell = step or (lambda _: None)
    tell("reading random places")
    drawn = Drawn.of(field, sample, area, progress)
    tell("measuring")
    vectors = field.restored(drawn.values).astype(np.float32, copy=False)
    return Description(
        field=_facts(field, drawn),
        region=area.name if area else None,
        places=len(drawn.values),
        pixels=drawn.pixels,
        empty=drawn.empty,
        bands=BandStatistics.of(field.band_names, drawn.values),
        lengths=Lengths.of(vectors),
        spectrum=Spectrum.of(vectors),
        autocorrelation=Autocorrelation.of(vectors, drawn.lonlat),
        dimension=intrinsic_dimension(vectors, tell),
    )


def _facts(field: Field, drawn: Drawn) -> dict[str, Any]:
    """Return which field it is, as plain data."""
    exact = drawn.pixels is None
    return {
        "name": field.name,
        "model": field.card.name,
        "dim": field.card.dim,
        "components": field.components,
        "exact": exact,
        **({} if exact else {"grid": field.grid.to_dict()}),
    }


def _lines(of: Description) -> Iterator[tuple[str, str]]:
    """Yield what is described, and in what words."""
    yield "field", of.field["name"] + (", asked exactly" if of.field["exact"] else "")
    yield "places", _places_text(of)
    yield from _band_lines(of)
    numbers = of.lengths.numbers
    yield (
        "lengths",
        f"mean {numbers['mean']:.4g}, std {numbers['std']:.3g}, {numbers['min']:.4g} to {numbers['max']:.4g}",
    )
    if of.lengths.cosine is not None and of.lengths.common is not None:
        common = f"{100 * of.lengths.common:.3g} % of the squared length is that of the mean vector"
        yield "directions", f"mean cosine of two places {of.lengths.cosine:z.3f}; {common}"
    yield "variance", _variance_text(of.spectrum)
    yield "dimension", _dimension_text(of.dimension)
    yield "correlation", _correlation_text(of.autocorrelation)


def _places_text(of: Description) -> str:
    where = f" in {of.region}" if of.region else ""
    pixels = "" if of.pixels is None else f", in {of.pixels:,} pixel{'s' * (of.pixels != 1)}"
    empty = f"; {of.empty:,} more have no value" if of.empty else ""
    return f"{of.places:,} at random{where}, evenly by area{pixels}{empty}"


def _band_lines(of: Description) -> Iterator[tuple[str, str]]:
    numbers, order = of.bands.numbers, of.bands.by_variation()
    still = sum(numbers["min"] == numbers["max"])
    kind = "components" if of.field["components"] else "bands"
    yield kind, f"{len(order)}, {still} of them constant" if still else str(len(order))
    ends = (min(numbers["min"]), max(numbers["max"]), min(numbers["mean"]), max(numbers["mean"]))
    yield "  values", "{:.4g} to {:.4g}, means {:.4g} to {:.4g}".format(*ends)
    for label, some in (("  most", order[:NAMED]), ("  least", order[::-1][:NAMED])):
        yield label, "std " + ", ".join(f"{numbers['std'][band]:.3g} {of.bands.names[band]}" for band in some)


def _variance_text(spectrum: Spectrum) -> str:
    if not spectrum.explained.any():
        return "none: all vectors are the same"
    parts = [f"{100 * share:.0f} % in {spectrum.components(share)}" for share in (0.5, 0.9, 0.99)]
    return f"{', '.join(parts)} of {len(spectrum.explained)} components; effective rank {spectrum.effective_rank:.1f}"


def _dimension_text(dimension: IntrinsicDimension | None) -> str:
    if dimension is None:
        return f"not to be told of fewer than {MOST + 1} different vectors, or of one band"
    found = ", ".join(f"{name} {value:.2f}" for name, value in dimension.estimates.items())
    return f"{found}, of {dimension.distinct:,} different vectors; compare those of equally many"


def _correlation_text(found: Autocorrelation) -> str:
    if found.length_km is not None:
        length = f"falls to 1/e at {_km(found.length_km)}"
    elif found.shorter_than_km is not None:
        length = f"below 1/e at {_km(found.shorter_than_km)} already; a --region shows shorter distances"
    elif found.longer_than_km is not None:
        length = f"above 1/e up to {_km(found.longer_than_km)}"
    else:
        return "not to be told: too few places, or all vectors are the same"
    steps = range(0, len(found.pairs), max(1, -(-len(found.pairs) // POINTS)))
    curve = ", ".join(f"{found.correlations[n]:z.2f} at {_km(found.distances_km[n])}" for n in steps)
    return f"{length}; {curve}"


def _km(distance: float) -> str:
    return f"{distance:,.0f} km" if distance >= 100 else f"{distance:.3g} km"
