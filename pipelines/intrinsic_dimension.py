"""The intrinsic dimension of GeoCLIP on land, beside the published one.

    python pipelines/intrinsic_dimension.py LAND [--places 100000]

LAND is a file of the world's land or countries, such as Natural Earth's at
1:110 million. Places are drawn as for the published row (Measuring the
Intrinsic Dimension of Earth Representations, ICLR 2026, arXiv 2511.02101),
and the estimators are those of `embedfield describe`. With 100,000 places it
takes two to five minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

import embedfield as ef
from embedfield.describe.intrinsic import IntrinsicDimension, intrinsic_dimension

if TYPE_CHECKING:
    import numpy.typing as npt

PLACES, SEED = 100_000, 42
PUBLISHED = {"MLE": 11.21, "MOM": 13.02, "TLE": 11.53, "FisherS": 7.68}
console = Console(soft_wrap=True, highlight=False)


def main(land: Path, count: int = PLACES) -> IntrinsicDimension | None:
    """Print the estimates beside the published ones, and return them; None of too few places."""
    start = time.monotonic()
    lonlat = places_on(ef.Region.read(land), count)
    found = intrinsic_dimension(ef.load("geoclip").encode(lonlat), lambda what: console.print(f"{what} …"))
    if found is None:
        console.print(f"{count} places tell no dimension: give more than 100.")
        return None
    table = Table("GeoCLIP on land", *PUBLISHED, box=None)
    table.add_row(f"{found.distinct:,} places", *(f"{found.estimates[name]:.2f}" for name in PUBLISHED))
    table.add_row(f"published, {PLACES:,}", *(f"{value:.2f}" for value in PUBLISHED.values()))
    console.print(table)
    if count != PLACES:
        console.print("Estimates fall as places are more: only those of equally many compare.")
    console.print(f"In all {time.monotonic() - start:.0f} s.")
    return found


def places_on(land: ef.Region, count: int) -> npt.NDArray[np.float64]:
    """Return random places on land, degrees (count, 2), evenly by area, drawn as the published ones were."""
    # The published numbers come from numpy's old generator, in this order.
    rng = np.random.RandomState(SEED)
    found = np.empty((0, 2))
    while len(found) < count:
        lon = rng.uniform(-180, 180, count)
        lat = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
        drawn = np.column_stack((lon, lat))
        found = np.concatenate((found, drawn[land.holds(drawn)]))
    return found[:count]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="GeoCLIP's intrinsic dimension on land.")
    parser.add_argument("land", type=Path, help="a file of polygons")
    parser.add_argument("--places", type=int, default=PLACES, help="how many places")
    asked = parser.parse_args()
    main(asked.land, asked.places)
