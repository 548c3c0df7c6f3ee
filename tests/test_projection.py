"""A projection is pyproj's, except that it says where it has nothing to show."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyproj
import pytest

from embedfield.errors import GridError
from embedfield.projection import checked_crs, projection, unit_of

PLANES = ["EPSG:3035", "EPSG:32633", "ESRI:54009", "EPSG:8857", "EPSG:3857", "EPSG:3413", "EPSG:2193", "EPSG:27700"]


@pytest.mark.parametrize("crs", PLANES)
def test_places_in_the_area_of_a_plane_are_where_pyproj_puts_them(crs: str) -> None:
    area = pyproj.CRS.from_user_input(crs).area_of_use
    assert area is not None
    west, south, east, north = area.bounds
    lonlat = np.random.default_rng(8).uniform((west, south), (east, north), (2000, 2))
    xy = projection(crs).forward(lonlat)
    expected = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*lonlat.T)
    np.testing.assert_allclose(xy, np.column_stack(expected), rtol=0, atol=1e-6)
    # Through a change of datum the way back may be another one, which ends a few hundred metres off.
    back = projection(crs).inverse(xy)
    assert np.nanmax(abs(back - lonlat)[:, 1]) < (0.005 if crs == "EPSG:27700" else 1e-8)


def test_axes_are_taken_as_east_and_north_whatever_their_order() -> None:
    # EPSG:2193 names its northing first; New Zealand's origin is 173 east on the equator, 1600 and 10000 km.
    np.testing.assert_allclose(projection("EPSG:2193").forward(np.array([[173.0, 0.0]])), [[1.6e6, 1e7]], atol=1e-3)


@pytest.mark.parametrize("crs", ["ESRI:54009", "EPSG:8857", "EPSG:3857", "EPSG:8859"])
def test_both_names_of_the_meridian_where_a_map_is_cut_open_are_shown(crs: str) -> None:
    lats = np.linspace(-89.9, 89.9, 500) if crs != "EPSG:3857" else np.linspace(-85, 85, 500)
    for lon in (-180.0, 180.0, -30.0, 150.0):
        xy = projection(crs).forward(np.column_stack((np.full(500, lon), lats)))
        assert np.isfinite(xy).all()


def test_beyond_the_globe_there_is_nothing() -> None:
    corner = np.array([[-1.7e7, 8e6], [0, 8.5e6], [1e9, 0], [np.nan, 0], [0, 0]])
    found = projection("EPSG:8857").inverse(corner)
    assert np.isnan(found).any(axis=1).tolist() == [True, True, True, True, False]
    assert np.isnan(projection("EPSG:3035").forward(np.array([[np.nan, 0.0]]))).all()


def test_what_a_plane_cannot_show_is_nowhere_in_it() -> None:
    # Krovak's formulas carry places on other continents into Bohemia.
    places = np.array([(15.0, 50.0), (-150.0, -40.0), (100.0, -70.0)])
    found = np.isnan(projection("EPSG:5514").forward(places)).any(axis=1)
    assert not found[0]
    raw = np.column_stack(pyproj.Transformer.from_crs("EPSG:4326", "EPSG:5514", always_xy=True).transform(*places.T))
    assert np.isfinite(raw).all()
    assert found[1:].any()


def test_a_code_is_read_however_it_is_written() -> None:
    assert [checked_crs(crs) for crs in ("epsg:3035", " EPSG:3035 ", "esri:54009", "EPSG:4326", "epsg:4326")] == [
        *("EPSG:3035", "EPSG:3035", "ESRI:54009", "EPSG:4326", "EPSG:4326")
    ]
    assert unit_of("EPSG:3035") == "metres"


def test_a_plane_without_an_area_asks_for_bounds() -> None:
    with pytest.raises(GridError, match="does not say which area it is made for. Give bounds"):
        projection("+proj=laea +lat_0=10 +lon_0=20 +type=crs").area()


def test_many_threads_get_the_same_places() -> None:
    lonlat = np.random.default_rng(9).uniform((-10, 35), (40, 70), (20_000, 2))
    plane = projection("EPSG:3035")
    expected = plane.forward(lonlat)
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(plane.forward, [lonlat] * 16):
            np.testing.assert_array_equal(found, expected)
