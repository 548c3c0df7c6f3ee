"""UTM against the package that GPS2Vec's code uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import utm as official

from embedfield.encoders import utm

RANDOM = np.column_stack(
    (np.random.default_rng(7).uniform(-180, 180, 400), np.random.default_rng(8).uniform(-80, 84, 400))
)
# Corners and both sides of seams: of zones, of bands, of Norway's and Svalbard's exceptions.
SEAMS = np.array(
    [(lon, lat) for lon in (-180, -174, 0, 3, 6, 9, 12, 21, 33, 42, 179.9, 180) for lat in (-80, -8, 0, 56, 64, 72, 84)]
)
NUDGED = np.concatenate([SEAMS, SEAMS - [1e-9, 0], SEAMS - [0, 1e-9]])
VALID = NUDGED[(NUDGED[:, 0] >= -180) & (NUDGED[:, 1] >= -80)]


@pytest.mark.parametrize("places", [RANDOM, VALID], ids=["random", "seams"])
def test_zones_and_metres_are_the_packages(places: np.ndarray) -> None:
    numbers, bands = utm.zones(torch.from_numpy(places))
    for place, number, band in zip(places, numbers.tolist(), bands.tolist(), strict=True):
        easting, northing, *zone = official.from_latlon(place[1], place[0])
        letter = utm.BANDS[band]
        assert [number, letter] == zone, place
        found = utm.metres(torch.from_numpy(place[None]), number, letter)[0].tolist()
        assert found == pytest.approx([easting, northing], abs=1e-8)


def test_a_zone_reaches_from_its_corners_to_its_middle() -> None:
    west, south, east, north = utm.extent(32, "N")
    assert (west, south) == pytest.approx(official.from_latlon(0, 6)[:2], abs=1e-6)
    assert east == 1_000_000 - west
    # The top edge bends away from the equator: it is highest in the corners.
    assert north == pytest.approx(official.from_latlon(8 - 1e-8, 6)[1], abs=1e-6)
    assert utm.extent(32, "V")[0] == pytest.approx(official.from_latlon(56, 3)[0], abs=1e-6)
