"""Places are checked once; an even spread of them is even."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import cKDTree

from embedfield.errors import PlacesError
from embedfield.places import checked, equal_area_places, places_within

NAN, INF = float("nan"), float("inf")


def unit_vectors(lonlat: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The places as points of the unit sphere."""
    lon, lat = np.deg2rad(lonlat.T)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


@pytest.mark.parametrize(
    ("place", "values", "reason"),
    [
        ((NAN, 5), "(nan, 5)", "not a pair of finite numbers"),
        ((5, NAN), "(5, nan)", "not a pair of finite numbers"),
        ((5, -INF), "(5, -inf)", "not a pair of finite numbers"),
        ((INF, 5), "(inf, 5)", "not a pair of finite numbers"),
        ((5, 90.1), "(5, 90.1)", "latitude outside [-90, 90]"),
        ((5, -90.1), "(5, -90.1)", "latitude outside [-90, 90]"),
        ((5, 90.0000001), "(5, 90.0000001)", "latitude outside [-90, 90]"),
        ((-180.1, 5), "(-180.1, 5)", "longitude outside [-180, 360)"),
        ((-180.0000001, 5), "(-180.0000001, 5)", "longitude outside [-180, 360)"),
        ((360, 5), "(360, 5)", "longitude outside [-180, 360)"),
    ],
)
def test_a_place_off_the_globe_is_refused_by_its_row_and_values(
    place: tuple[float, float], values: str, reason: str
) -> None:
    with pytest.raises(PlacesError) as error:
        checked([(0, 0), (1, 1), place, (2, 2)])
    message = str(error.value)
    assert message.startswith("Place 2, ")
    assert values in message
    assert reason in message


def test_the_first_of_several_wrong_places_is_named_and_the_others_counted() -> None:
    places = np.zeros((2000, 2))
    places[5:1505, 1] = 91
    with pytest.raises(PlacesError, match=r"Place 5 \(and 1,499 more\)"):
        checked(places)


@pytest.mark.parametrize("shape", [(), (2,), (0,), (3, 1), (2, 3), (1, 2, 2)])
def test_an_array_that_is_not_pairs_is_refused_by_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(PlacesError, match=r"Give \(N, 2\): degrees, longitude first") as error:
        checked(np.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("lonlat", [[["here", "there"]], [[1, 2], [3]]], ids=["words", "ragged"])
def test_what_is_no_array_of_numbers_is_refused_as_places(lonlat: Any) -> None:
    with pytest.raises(PlacesError, match="degrees, longitude first"):
        checked(lonlat)


@pytest.mark.parametrize(
    ("lon", "meant"), [(190, -170), (180.5, -179.5), (359.5, -0.5), (180, 180), (-180, -180), (0, 0), (179.9, 179.9)]
)
def test_longitudes_past_180_are_turned_and_both_sides_of_the_antimeridian_kept(lon: float, meant: float) -> None:
    np.testing.assert_array_equal(checked([(1, 2), (lon, -7)]), [(1, 2), (meant, -7)])


def test_turning_a_longitude_leaves_the_array_of_the_caller_as_it_was() -> None:
    places = np.array([(190.0, 5.0)])
    checked(places)
    assert places.tolist() == [[190, 5]]


def test_corners_of_the_world_are_places() -> None:
    corners = [(-180, -90), (-180, 90), (180, -90), (180, 90)]
    np.testing.assert_array_equal(checked(corners), corners)


def test_no_places_are_fine() -> None:
    assert checked(np.empty((0, 2))).shape == (0, 2)


def test_whole_numbers_become_degrees_in_float64() -> None:
    assert checked(np.array([(1, 2)], dtype=np.int16)).dtype == np.float64


def test_an_even_spread_is_the_same_at_every_call() -> None:
    np.testing.assert_array_equal(equal_area_places(1000), equal_area_places(1000))


def test_an_even_spread_has_half_its_places_between_30_south_and_30_north() -> None:
    lat = equal_area_places(20_000)[:, 1]
    assert np.mean(abs(lat) < 30) == pytest.approx(0.5, abs=0.005)
    assert np.mean(lat > 0) == pytest.approx(0.5, abs=0.005)


def test_an_even_spread_has_its_centre_in_the_centre_of_the_earth() -> None:
    vectors = unit_vectors(equal_area_places(20_000))
    assert np.linalg.norm(vectors.mean(axis=0)) < 1e-3
    np.testing.assert_allclose(vectors.T @ vectors / len(vectors), np.eye(3) / 3, atol=1e-3)


def test_an_even_spread_has_no_clumps() -> None:
    distances, _ = cKDTree(vectors := unit_vectors(equal_area_places(2000))).query(vectors, k=2)
    # A square lattice of as many points would be sqrt(4 pi / 2000) = 0.079 apart; random points come to 0.001.
    assert distances[:, 1].min() > 0.05


@pytest.mark.parametrize("count", [0, 1, 7])
def test_an_even_spread_has_as_many_places_as_asked(count: int) -> None:
    assert equal_area_places(count).shape == (count, 2)


def test_a_spread_within_bounds_gives_each_quarter_of_the_area_a_quarter() -> None:
    lon, lat = equal_area_places(8000, (10, 0, 40, 60)).T
    assert (lon.min() >= 10, lon.max() <= 40, lat.min() >= 0, lat.max() <= 60) == (True,) * 4
    middle = np.rad2deg(np.arcsin(np.sin(np.deg2rad(60)) / 2))  # halves the area
    quarters, *_ = np.histogram2d(lon, lat, bins=[[10, 25, 40], [0, middle, 60]])
    np.testing.assert_allclose(quarters / 8000, 0.25, atol=0.005)


def test_a_spread_across_the_antimeridian_lies_on_both_its_sides() -> None:
    lon, lat = equal_area_places(4000, (170, -20, 200, -10)).T
    assert (abs(lon) <= 180).all()
    assert ((lon >= 170) | (lon <= -160)).all()
    assert np.mean(lon > 0) == pytest.approx(1 / 3, abs=0.01)
    assert ((lat >= -20) & (lat <= -10)).all()


@pytest.mark.parametrize("bounds", [(13.37, 52.5, 13.37 + 1e-4, 52.5 + 1e-4), (0, 89.9, 0.1, 90), (179.9, -90, 180, 0)])
def test_a_spread_within_one_pixel_stays_in_it(bounds: tuple[float, float, float, float]) -> None:
    lon, lat = equal_area_places(100, bounds).T
    west, south, east, north = bounds
    slack = 1e-9  # the rounding of sine and arcsine
    assert ((lon >= west) & (lon <= east)).all()
    assert ((lat >= south - slack) & (lat <= north + slack)).all()
    assert (np.ptp(lon) > 0.9 * (east - west), len(np.unique(lat)) == 100) == (True, True)


def test_places_within_a_part_are_about_as_many_as_are_wanted() -> None:
    for wanted in (100, 5000):
        found = places_within(wanted, (-180, -90, 180, 90), lambda lonlat: abs(lonlat[:, 0]) < 18)
        assert abs(len(found) - wanted) <= 0.1 * wanted
        assert (abs(found[:, 0]) < 18).all()


def test_places_within_a_whole_box_are_those_of_the_box() -> None:
    bounds = (170.0, -20.0, 200.0, 10.0)
    found = places_within(321, bounds, lambda lonlat: np.ones(len(lonlat), dtype=bool))
    np.testing.assert_array_equal(found, equal_area_places(321, bounds))


def test_places_are_not_sought_for_ever() -> None:
    drawn = []

    def none_fits(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        drawn.append(len(lonlat))
        return np.zeros(len(lonlat), dtype=bool)

    assert places_within(10, (0, 0, 1, 1), none_fits).shape == (0, 2)
    assert max(drawn) == 640
    assert len(drawn) < 5
    assert places_within(10, (0, 1, 1, 0), none_fits).shape == (0, 2)  # a box of no height
