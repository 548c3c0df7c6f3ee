"""Pixels are where rasterio says, tile the bounds, and are each counted once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyproj
import pytest
import rasterio.transform

from embedfield.errors import GridError
from embedfield.grid import Grid
from embedfield.places import GLOBE
from embedfield.window import Window

if TYPE_CHECKING:
    from embedfield.grid import Bounds

BERLIN = (13.0, 52.3, 13.8, 52.7)
FIJI = (177.0, -19.0, -178.0, -16.0)


@pytest.mark.parametrize(
    ("res", "bounds", "shape"),
    [
        (10, GLOBE, (18, 36)),
        (0.1, GLOBE, (1800, 3600)),
        (0.05, GLOBE, (3600, 7200)),
        (1 / 3, GLOBE, (540, 1080)),
        (1 / 120, GLOBE, (21600, 43200)),
        (0.1, BERLIN, (4, 8)),
        (0.05, (-0.35, -0.1, 0.7, 0.2), (6, 21)),
        (0.1, (13.3, 52.4, 13.4, 52.5), (1, 1)),
    ],
)
def test_pixels_tile_the_bounds_where_rasterio_puts_them(res: float, bounds: Bounds, shape: tuple[int, int]) -> None:
    grid = Grid.from_bounds(res, bounds)
    assert grid.shape == shape
    assert grid.transform.almost_equals(rasterio.transform.from_bounds(*bounds, *shape[::-1]), 1e-9)
    lons, _ = rasterio.transform.xy(grid.transform, np.zeros(grid.width), np.arange(grid.width))
    _, lats = rasterio.transform.xy(grid.transform, np.arange(grid.height), np.zeros(grid.height))
    np.testing.assert_allclose(grid.lons(), lons, rtol=0, atol=1e-10)
    np.testing.assert_allclose(grid.lats(), lats, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("res", "first"), [(0.1, 179.95), (0.05, 179.975), (1 / 3, 179 + 5 / 6)])
def test_outermost_centres_lie_half_a_pixel_from_the_edge_of_the_world(res: float, first: float) -> None:
    lons = Grid.from_bounds(res).lons()
    assert (lons[0], lons[-1]) == (pytest.approx(-first, abs=1e-9), pytest.approx(first, abs=1e-9))


def test_places_of_a_window_run_row_by_row_from_the_north_west() -> None:
    places = Grid.from_bounds(10).lonlat(Window(34, 1, 2, 2))
    assert places.tolist() == [[165, 75], [175, 75], [165, 65], [175, 65]]


@pytest.mark.parametrize("bounds", [GLOBE, BERLIN, FIJI, (100, -90, 90, 90)], ids=["globe", "east", "fiji", "turned"])
def test_every_pixel_centre_is_a_place_on_its_own_pixel(bounds: Bounds) -> None:
    grid = Grid.from_bounds(0.1 if bounds == BERLIN else 1, bounds)
    places = grid.lonlat()
    assert ((places[:, 0] >= -180) & (places[:, 0] < 360)).all()
    rows, cols = grid.positions(places)
    np.testing.assert_array_equal(np.floor(rows), np.repeat(np.arange(grid.height), grid.width))
    np.testing.assert_array_equal(np.floor(cols), np.tile(np.arange(grid.width), grid.height))


@pytest.mark.parametrize("res", [0.1, 0.05, 0.3, 0.025])
def test_bounds_are_free_of_binary_dust(res: float) -> None:
    assert Grid.from_bounds(res).bounds == GLOBE
    assert Grid.from_bounds(res, (10.2, 40.5, 12.6, 42.3)).bounds == (10.2, 40.5, 12.6, 42.3)


def test_a_grid_is_plain_data_for_json() -> None:
    data = json.loads(json.dumps(Grid.from_bounds(0.1, BERLIN).to_dict()))
    assert data == {"bounds": list(BERLIN), "res": 0.1, "shape": [4, 8], "crs": "EPSG:4326"}


def choices(message: str) -> list[float]:
    """The resolutions that an error advises, as a reader would type them."""
    (advice,) = re.findall(r"Choose a res such as (.*)\.$", message)
    return [float(choice) for choice in advice.split(" or ")]


@pytest.mark.parametrize(
    ("res", "bounds"),
    [
        (0.7, GLOBE),
        (7, GLOBE),
        (0.33, GLOBE),
        (0.0115861496, GLOBE),
        (0.0031, GLOBE),
        (0.3, (0, 0, 1, 2)),
        (5, (0, 0, 0.5, 1)),
        (0.07, BERLIN),
        (0.9, FIJI),
    ],
)
def test_a_res_that_does_not_tile_is_refused_with_choices_that_do(res: float, bounds: Bounds) -> None:
    with pytest.raises(GridError, match=rf"res={res} does not divide .* whole pixels") as error:
        Grid.from_bounds(res, bounds)
    west, south, east, north = bounds
    for choice in choices(str(error.value)):
        assert Grid.from_bounds(choice, bounds).bounds == pytest.approx(
            (west, south, east + 360 * (east < west), north)
        )


def test_choices_are_round_numbers_near_the_res_that_was_asked_for() -> None:
    with pytest.raises(GridError) as error:
        Grid.from_bounds(0.7)
    assert list(choices(str(error.value))) == [0.72, 0.75, 0.6]  # 500, 480 and 600 columns


def test_a_res_for_which_no_other_is_near_is_refused_with_advice_on_bounds() -> None:
    with pytest.raises(GridError, match="Choose bounds that are whole multiples of res"):
        Grid.from_bounds(0.7, (0, 0, 10, 7.3))


def test_a_res_that_misses_by_little_is_refused_by_its_own_digits() -> None:
    with pytest.raises(GridError, match="res=0.1000001 does not divide"):
        Grid.from_bounds(0.1000001)


@pytest.mark.parametrize("res", [0, -1, float("nan"), float("inf")])
def test_a_res_that_is_no_size_is_refused(res: float) -> None:
    with pytest.raises(GridError, match=f"res={res:g} is no size of a pixel"):
        Grid.from_bounds(res)


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ((0, 10, 20, 5), "south=10 and north=5.*Latitudes rise"),
        ((0, 5, 20, 5), "south=5 and north=5.*Latitudes rise"),
        ((0, -91, 20, 5), "south=-91.*within"),
        ((0, 5, 20, 90.5), "north=90.5.*within"),
        ((7, 0, 7, 10), "west=7 and east=7.*differ"),
        ((-181, 0, 7, 10), "west=-181.*within"),
        ((7, 0, 361, 10), "east=361.*within"),
        ((-180, 0, 360, 10), "540 degrees wide. The world is 360"),
        ((float("nan"), 0, 7, 10), "four finite numbers"),
        ((0, 0, 7, float("inf")), "four finite numbers"),
        ((0, 0, 7), "four finite numbers"),
        ((180, 0, -180, 10), "west=180 and east=-180"),  # one meridian, twice named
        ((360, 0, 0, 10), "west=360 and east=0"),
    ],
)
def test_bounds_that_are_no_part_of_the_world_are_refused(bounds: Bounds, reason: str) -> None:
    with pytest.raises(GridError, match=reason):
        Grid.from_bounds(1, bounds)


@pytest.mark.parametrize(("res", "bounds"), [(0.7, (0, 0, 10, 10)), (1, (0, 10, 20, 5)), (1, (0, 0, 400, 10))])
def test_bounds_out_of_an_array_are_printed_as_plain_numbers(res: float, bounds: Bounds) -> None:
    with pytest.raises(GridError) as error:
        Grid.from_bounds(res, np.array(bounds, dtype=np.float64))  # type: ignore[arg-type]  # total_bounds is one
    assert "np.float64" not in str(error.value)


def test_west_greater_than_east_runs_past_180_over_the_right_places() -> None:
    grid = Grid.from_bounds(1, FIJI)
    assert grid.bounds == (177, -19, 182, -16)
    assert grid.lons().tolist() == [177.5, 178.5, 179.5, 180.5, 181.5]
    places = np.array([(179.4, -17.9), (-179.9, -17), (180, -17), (-180, -17), (178, -16.5)])
    assert grid.contains(places).all()
    assert not grid.contains(np.array([(176.9, -17), (-177.9, -17), (0, -17), (179, 17)])).any()


@pytest.mark.parametrize(
    ("bounds", "same"),
    [
        ((200, -10, 210, 10), (-160, -10, -150, 10)),
        ((180, -10, 190, 10), (-180, -10, -170, 10)),
        ((180, -10, -170, 10), (-180, -10, -170, 10)),
        ((350, -10, 360, 10), (-10, -10, 0, 10)),
        ((350, -10, 10, 10), (-10, -10, 10, 10)),
        ((170, -10, 190, 10), (170, -10, -170, 10)),
    ],
)
def test_longitudes_up_to_360_mean_the_same_grid(bounds: Bounds, same: Bounds) -> None:
    assert Grid.from_bounds(1, bounds) == Grid.from_bounds(1, same)


def test_a_world_from_0_to_360_holds_the_western_hemisphere_in_its_eastern_half() -> None:
    grid = Grid.from_bounds(10, (0, -90, 360, 90))
    rows, cols = grid.positions(np.array([(-175, 85), (-5, 85), (5, 85)]))
    assert (rows.tolist(), cols.tolist()) == ([0.5, 0.5, 0.5], [18.5, 35.5, 0.5])


@pytest.mark.parametrize(
    ("res", "bounds", "closed"),
    [
        (10, GLOBE, True),
        (1 / 3, GLOBE, True),
        (0.05, GLOBE, True),
        (10, (0, -90, 360, 90), True),
        (10, (100, 0, 90, 10), False),
        (10, (-170, 0, 190, 10), True),
        (10, (-180, -90, 170, 90), False),
        (0.05, (-180, 0, 179.95, 1), False),
    ],
)
def test_a_grid_is_closed_only_if_it_goes_once_around(res: float, bounds: Bounds, closed: bool) -> None:
    assert Grid.from_bounds(res, bounds).closed is closed


def edges(bounds: Bounds) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The four corners and the middles of the four sides."""
    west, south, east, north = bounds
    middle = (west + (east if east > west else east + 360)) / 2
    lons = [west, middle if middle <= 180 else middle - 360, east]
    return np.array([(lon, lat) for lon in lons for lat in (south, (south + north) / 2, north)])


@pytest.mark.parametrize(
    ("res", "bounds"),
    [
        (10, GLOBE),
        (1 / 3, GLOBE),
        (180 / 161, GLOBE),  # 360 / res is 322 and a little in binary
        (0.1, BERLIN),
        (0.1, (0.7, 0.1, 0.8, 0.3)),  # one of the widths that decimals miss in binary
        (0.1, (179.1, 10, -179.6, 20)),
        (0.1, FIJI),
    ],
)
def test_outer_edges_belong_to_the_grid(res: float, bounds: Bounds) -> None:
    places = edges(bounds)
    inside = Grid.from_bounds(res, bounds).contains(places)
    assert inside.all(), f"left out: {places[~inside].tolist()}"


def test_outer_edges_of_many_worlds_and_regions_belong_to_them() -> None:
    for count in range(1, 400):
        assert Grid.from_bounds(180 / count).contains(edges(GLOBE)).all(), f"180 / {count}"
    for tenths in range(-1800, 1750, 9):
        bounds = (tenths / 10, tenths / 20, (tenths + 50) / 10, tenths / 20 + 1.5)
        if bounds[1] >= -90 and bounds[3] <= 90:
            assert Grid.from_bounds(0.1 if tenths % 2 == 0 else 0.05, bounds).contains(edges(bounds)).all(), bounds


@pytest.mark.parametrize("bounds", [(-180, 0, -170, 10), (170, 0, 180, 10)], ids=["east of it", "west of it"])
def test_both_names_of_the_antimeridian_lie_on_a_grid_that_begins_there(bounds: Bounds) -> None:
    assert Grid.from_bounds(1, bounds).contains(np.array([(-180.0, 5.0), (180.0, 5.0)])).all()


@pytest.mark.parametrize("bounds", [BERLIN, FIJI, (-180, -90, -170, -80)])
def test_places_just_past_the_edges_do_not_belong_to_the_grid(bounds: Bounds) -> None:
    west, south, east, north = bounds
    lon, lat, step = west + 0.2, south + 0.2, 1e-4
    beyond = [((west - step + 180) % 360 - 180, lat), (east + step, lat), (lon, north + step)]
    beyond += [(lon, south - step)] * (south > -90)
    assert not Grid.from_bounds(0.1, bounds).contains(np.array(beyond)).any()


@pytest.mark.parametrize("window", [Window(7, 0, 2, 1), Window(0, 3, 1, 2), Window(8, 0, 1, 1), Window(0, 0, 9, 5)])
def test_a_window_past_the_edge_is_refused(window: Window) -> None:
    grid = Grid.from_bounds(0.1, BERLIN)
    with pytest.raises(GridError, match="passes the edge of a grid of 8 x 4 pixels"):
        grid.lonlat(window)


@pytest.mark.parametrize("offsets_and_sizes", [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 2), (0, 0, 2, 0), (0, 0, 2, -2)])
def test_a_window_of_no_pixels_is_refused(offsets_and_sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(GridError, match="holds no pixel. Offsets start at 0, sizes at 1"):
        Window(*offsets_and_sizes)


@pytest.mark.parametrize("window", [Window(0, 0, 12, 8), Window(3, 5, 11, 7), Window(2, 2, 1, 1)])
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 1), (100, 100)])
def test_tiles_cover_each_pixel_exactly_once(window: Window, size: tuple[int, int]) -> None:
    covered = np.zeros((20, 20), dtype=int)
    corners = []
    for tile in window.tiles(*size):
        assert (tile.height <= size[0], tile.width <= size[1]) == (True, True)
        covered[tile.rows, tile.cols] += 1
        corners.append((tile.row_off, tile.col_off))
    expected = np.zeros((20, 20), dtype=int)
    expected[window.row_off : window.row_off + window.height, window.col_off : window.col_off + window.width] = 1
    np.testing.assert_array_equal(covered, expected)
    assert corners == sorted(corners)


@pytest.mark.parametrize("width", [100, 3600])
def test_a_place_on_the_western_edge_is_in_the_first_column_whatever_its_last_bit(width: int) -> None:
    grid = Grid(west=0.1 + 0.2, north=90.0, res=0.1, width=width, height=1)
    edge = np.array([[0.3, 89.95]])
    assert edge[0, 0] < grid.west
    assert grid.contains(edge).tolist() == [True]
    assert grid.positions(edge)[1].tolist() == [0.0]


@pytest.mark.parametrize("wrong", [{"res": -1.0}, {"width": 0}, {"north": 91.0}, {"height": 19}, {"west": 180.0}])
def test_a_grid_that_is_no_part_of_the_world_cannot_be_made(wrong: dict[str, float]) -> None:
    parts: dict[str, Any] = {"west": -180.0, "north": 90.0, "res": 10.0, "width": 36, "height": 18} | wrong
    with pytest.raises(GridError, match="is no grid on the globe. Make one with Grid.from_bounds"):
        Grid(**parts)


# Single pixels.


@pytest.mark.parametrize("bounds", [GLOBE, FIJI, (0, -90, 360, 90)], ids=["globe", "fiji", "from 0"])
def test_centres_of_single_pixels_are_those_of_the_whole(bounds: Bounds) -> None:
    grid = Grid.from_bounds(1, bounds)
    rows, cols = np.divmod(np.arange(0, grid.width * grid.height, 7), grid.width)
    np.testing.assert_array_equal(grid.centres(rows, cols), grid.lonlat()[::7])


@pytest.mark.parametrize("pixel", [(4, 0), (0, 8), (-1, 0), (0, -1)])
def test_a_pixel_off_the_grid_is_refused(pixel: tuple[int, int]) -> None:
    with pytest.raises(GridError, match=rf"Row {pixel[0]}, column {pixel[1]} is no pixel of a grid of 8 x 4"):
        Grid.from_bounds(0.1, BERLIN).centres([0, pixel[0]], [0, pixel[1]])


# Bounds widened to whole pixels.


@pytest.mark.parametrize(
    ("res", "bounds", "widened"),
    [
        (0.1, (13.02, 52.33, 13.79, 52.61), (13, 52.3, 13.8, 52.7)),
        (0.1, BERLIN, BERLIN),  # nothing to widen, whatever the last bits say
        (1 / 3, (0, 0, 1, 1), (0, 0, 1, 1)),
        (10, (-3, -3, 3, 3), (-10, -10, 10, 10)),
        (10, (13.4, 52.5, 13.4, 52.5), (10, 50, 20, 60)),  # a place
        (10, (20, 50, 20, 50), (20, 50, 30, 60)),  # a place on a corner
        (10, (180, 90, 180, 90), (-180, 80, -170, 90)),
        (1, (178.3, -18.2, -179.6, -16.1), (178, -19, 181, -16)),
        (1, (178.3, -18.2, 180.4, -16.1), (178, -19, 181, -16)),
        (1, (170.5, 0, 500.5, 1), (170, 0, 501, 1)),  # a box almost around the circle, as regions have
        (10, (-179, -89, 179, 89), GLOBE),
        (10, (175, 0, 172, 10), (-180, 0, 180, 10)),  # wider than the globe
        (0.7, (1, 80, 2, 90), (0.6, 79.4, 2.0, 89.9)),  # 257 pixels from 90 south
    ],
)
def test_covering_widens_bounds_to_whole_pixels_of_the_globe(res: float, bounds: Bounds, widened: Bounds) -> None:
    assert Grid.covering(res, bounds).bounds == pytest.approx(widened, abs=1e-9)


def test_grids_that_cover_unlike_bounds_share_their_pixels() -> None:
    first, second = Grid.covering(0.3, (1, 2, 3, 4)), Grid.covering(0.3, (1.7, 3.3, 9, 9))
    shift = [(second.west - first.west) / 0.3, (second.north - first.north) / 0.3]
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-9)


def test_covering_in_metres_counts_from_the_origin() -> None:
    grid = Grid.covering(1000, (4_321_100, 3_210_900, 4_322_000, 3_211_001), "EPSG:3035")
    assert grid.bounds == (4_321_000, 3_210_000, 4_322_000, 3_212_000)
    assert grid.shape == (2, 1)


@pytest.mark.parametrize(("res", "bounds"), [(0.7, GLOBE), (200, (0, 0, 1, 1))])
def test_covering_the_globe_asks_for_pixels_that_tile_it(res: float, bounds: Bounds) -> None:
    with pytest.raises(GridError, match="does not divide .* Choose a res such as"):
        Grid.covering(res, bounds)


@pytest.mark.parametrize("bounds", [(0, 5, 1, 4), (0, 0, 1, 91), (0, 0, 541, 1)])
def test_covering_what_is_no_part_of_the_world_is_refused(bounds: Bounds) -> None:
    with pytest.raises(GridError, match="within"):
        Grid.covering(1, bounds)


# Projected grids.

EUROPE = (2_500_000, 1_400_000, 7_400_000, 5_500_000)
PLANES = ["EPSG:3035", "EPSG:32633", "ESRI:54009", "EPSG:8857", "EPSG:8859", "EPSG:3857", "EPSG:3413", "EPSG:3031"]


def own_grid(crs: str, across: int = 60) -> Grid:
    """The grid of a reference system's own area, about so many pixels across."""
    fine = Grid.from_bounds(1000, None, crs)
    return Grid.from_bounds(float(1000 * (1 + fine.width // across)), None, crs)


def on_sphere(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def test_a_projected_grid_has_its_pixels_where_rasterio_and_pyproj_put_them() -> None:
    grid = Grid.from_bounds(100_000, EUROPE, "EPSG:3035")
    assert (grid.shape, grid.bounds, grid.unit) == ((41, 49), EUROPE, "metres")
    rows, cols = np.mgrid[:41, :49]
    xs, ys = rasterio.transform.xy(grid.transform, rows.ravel(), cols.ravel())
    lon, lat = pyproj.Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(xs, ys)
    np.testing.assert_allclose(grid.lonlat(), np.column_stack((lon, lat)), rtol=0, atol=1e-9)
    assert (grid.xs()[0], grid.ys()[0]) == (2_550_000, 5_450_000)
    window = Window(3, 4, 5, 6)
    np.testing.assert_array_equal(grid.lonlat(window), grid.lonlat().reshape(41, 49, 2)[4:10, 3:8].reshape(-1, 2))


def test_the_origin_of_europes_projection_is_where_its_definition_says() -> None:
    # EPSG:3035: latitude 52, longitude 10, false easting 4321000, false northing 3210000.
    grid = Grid.from_bounds(2000, (4_320_000, 3_209_000, 4_322_000, 3_211_000), "epsg:3035")
    np.testing.assert_allclose(grid.lonlat(), [[10, 52]], atol=1e-9)
    assert grid.crs == "EPSG:3035"
    rows, cols = grid.positions(np.array([[10.0, 52.0]]))
    assert (rows.tolist(), cols.tolist()) == ([0.5], [0.5])


@pytest.mark.parametrize("crs", PLANES)
def test_every_centre_on_the_globe_is_a_place_on_its_own_pixel(crs: str) -> None:
    grid = own_grid(crs)
    places = grid.lonlat()
    there = ~np.isnan(places).any(axis=1)
    rows, cols = grid.positions(places[there])
    np.testing.assert_allclose(rows, np.repeat(np.arange(grid.height), grid.width)[there] + 0.5, atol=1e-5)
    np.testing.assert_allclose(cols, np.tile(np.arange(grid.width), grid.height)[there] + 0.5, atol=1e-5)
    assert grid.contains(places[there]).all()
    assert (abs(places[there]) <= [180, 90]).all()


@pytest.mark.parametrize("crs", PLANES)
def test_a_reference_system_without_bounds_is_wanted_whole(crs: str) -> None:
    grid = own_grid(crs)
    area = pyproj.CRS.from_user_input(crs).area_of_use
    assert area is not None
    west, south, east, north = area.bounds
    lons = np.linspace(west, east if east > west else east + 360, 200)
    lon, lat = (part.ravel() for part in np.meshgrid(np.where(lons > 180, lons - 360, lons), np.linspace(south, north)))
    assert grid.contains(np.column_stack((lon, lat))).all()
    assert (np.array(grid.bounds) % grid.res == 0).all()


def test_the_globe_on_an_oval_map_is_an_ellipse() -> None:
    grid = Grid.from_bounds(100_000, None, "ESRI:54009")
    a, b = 18_040_095.7, 9_020_047.85  # semi-axes of Mollweide's ellipse: 2 sqrt(2) R and half of it
    x, y = np.meshgrid(grid.xs(), grid.ys())
    inside = (x / a) ** 2 + (y / b) ** 2
    found = ~np.isnan(grid.lonlat()).any(axis=1).reshape(grid.shape)
    clear = abs(inside - 1) > 1e-6
    np.testing.assert_array_equal(found[clear], inside[clear] < 1)
    assert 0.7 < found.mean() < 0.8  # pi / 4
    assert np.isnan(grid.centres([0, grid.height // 2], [0, grid.width // 2])).any(axis=1).tolist() == [True, False]


def test_a_square_map_of_the_world_ends_at_the_antimeridian() -> None:
    grid = Grid.from_bounds(1_000_000, (-22_000_000, -1_000_000, 22_000_000, 1_000_000), "EPSG:3857")
    lons = grid.lonlat()[: grid.width, 0]
    # 180 degrees are pi * 6378137 = 20037508 metres.
    np.testing.assert_allclose(lons, np.where(abs(grid.xs()) < 20_037_508, grid.xs() / 20_037_508.34 * 180, np.nan))


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90.0), ("EPSG:3031", -90.0)])
def test_a_grid_may_hold_a_pole(crs: str, pole: float) -> None:
    grid = Grid.from_bounds(2_000_000, (-3_000_000, -3_000_000, 3_000_000, 3_000_000), crs)
    np.testing.assert_allclose(grid.lonlat()[4, 1], pole, atol=1e-9)
    rows, cols = grid.positions(np.array([(lon, pole) for lon in (-180.0, -45.0, 0.0, 180.0)]))
    np.testing.assert_allclose(np.concatenate((rows, cols)), 1.5, atol=1e-9)
    west, south, east, north = grid.lonlat_bounds
    assert (west, east) == (-180, 180)
    assert pole in (south, north)


def test_places_that_a_projection_cannot_show_are_outside() -> None:
    grid = Grid.from_bounds(1000, None, "EPSG:5514")  # Krovak: far away its formulas give places in Bohemia
    places = np.stack(np.meshgrid(np.arange(-180.0, 180, 2), np.arange(-90.0, 91, 2)), axis=-1).reshape(-1, 2)
    west, south, east, north = grid.lonlat_bounds
    near = (places >= [west, south]).all(axis=1) & (places <= [east, north]).all(axis=1)
    inside = grid.contains(places)
    assert inside.any()
    assert not inside[~near].any()


@pytest.mark.parametrize(
    ("crs", "res", "bounds", "box"),
    [
        ("EPSG:8857", 100_000, None, GLOBE),
        ("EPSG:8859", 100_000, None, GLOBE),
        ("EPSG:3857", 10_000, None, (-180, -85.06, 180, 85.06)),
        ("EPSG:6933", 100_000, (-17_400_000, -7_400_000, 17_400_000, 7_400_000), GLOBE),
        # One pixel of the zone around 15 degrees east, at the equator: 10 km are 0.09 degrees.
        ("EPSG:32633", 10_000, (495_000, 0, 505_000, 10_000), (14.9551, 0, 15.0449, 0.0904)),
        ("EPSG:3460", 10_000, None, (176.6, -20.9, 182, -12.3)),
    ],
)
def test_a_projected_grid_knows_its_box_of_degrees(crs: str, res: float, bounds: Bounds | None, box: Bounds) -> None:
    grid = Grid.from_bounds(res, bounds, crs)
    assert grid.lonlat_bounds == pytest.approx(box, abs=1e-4 if bounds else 0.15)


@pytest.mark.parametrize("crs", PLANES)
def test_the_box_of_degrees_holds_all_centres(crs: str) -> None:
    grid = own_grid(crs)
    west, south, east, north = grid.lonlat_bounds
    lon, lat = grid.lonlat().T
    lon, lat = lon[~np.isnan(lon)], lat[~np.isnan(lat)]
    assert ((lat >= south) & (lat <= north)).all()
    assert ((lon - west) % 360 <= east - west).all()


@pytest.mark.parametrize("crs", [*PLANES, "EPSG:4326"])
def test_places_lie_evenly_by_area_on_the_sphere(crs: str) -> None:
    grid = Grid.from_bounds(5, (-20, 0, 60, 80)) if crs == "EPSG:4326" else own_grid(crs)
    places = grid.places(4000)
    assert 3600 <= len(places) <= 4600
    np.testing.assert_array_equal(places, grid.places(4000))
    assert grid.contains(places).all()
    # Their mean is that of the sphere's points within, drawn by chance by the hundred thousand.
    chance = np.random.default_rng(3).normal(size=(400_000, 3))
    chance /= np.linalg.norm(chance, axis=1, keepdims=True)
    lonlat = np.rad2deg(np.column_stack((np.arctan2(chance[:, 1], chance[:, 0]), np.arcsin(chance[:, 2]))))
    inside = grid.contains(lonlat)
    assert inside.sum() > 1000
    expected, spread = chance[inside].mean(axis=0), chance[inside].std(axis=0) / np.sqrt(inside.sum())
    assert (abs(on_sphere(places).mean(axis=0) - expected) < 5 * spread + 0.002).all()


def test_places_on_a_square_map_of_the_world_crowd_no_pole() -> None:
    lat = Grid.from_bounds(50_000, None, "EPSG:3857").places(5000)[:, 1]
    # Archimedes: the sphere's area north of a latitude goes as the sine.
    edges = np.sin(np.deg2rad([0, 30, 60, 85.06]))
    shares = np.histogram(abs(lat), [0, 30, 60, 85.1])[0] / len(lat)
    np.testing.assert_allclose(shares, np.diff(edges) / edges[-1], atol=0.005)


def test_places_keep_to_latitudes() -> None:
    lat = Grid.from_bounds(50_000, None, "EPSG:8857").places(1000, (-56, 72))[:, 1]
    assert len(lat) > 900
    assert ((lat >= -56) & (lat <= 72)).all()
    assert Grid.from_bounds(1, (*BERLIN[:2], 14.0, 53.3)).places(10, (-60, 0)).shape == (0, 2)


def test_a_single_projected_pixel_is_a_grid() -> None:
    grid = Grid.from_bounds(10_000, (500_000, 5_000_000, 510_000, 5_010_000), "EPSG:32633")
    assert (grid.shape, len(grid.places(20)) > 10) == ((1, 1), True)
    assert grid.contains(grid.lonlat()).all()


def test_a_projected_grid_is_plain_data_and_hashable() -> None:
    grid = Grid.from_bounds(100_000, EUROPE, "EPSG:3035")
    data = json.loads(json.dumps(grid.to_dict()))
    assert data == {"bounds": list(EUROPE), "res": 100_000, "shape": [41, 49], "crs": "EPSG:3035"}
    assert len({grid, Grid.from_bounds(100_000, EUROPE, "epsg:3035")}) == 1
    assert grid != Grid.from_bounds(100_000, EUROPE, "EPSG:3034")


def test_units_are_those_of_the_reference_system() -> None:
    units = {crs: Grid.from_bounds(10_000, None, crs).unit for crs in ("EPSG:3035", "EPSG:2236")}
    assert units == {"EPSG:3035": "metres", "EPSG:2236": "US survey feet"}
    assert Grid.from_bounds(1).unit == "degrees"


def test_pixels_have_about_a_size_in_degrees() -> None:
    assert Grid.from_bounds(0.5).res_degrees == 0.5
    # A nautical mile is a minute; a US survey foot 0.3048 metres.
    assert Grid.from_bounds(1852, None, "EPSG:3035").res_degrees == pytest.approx(1 / 60, rel=0.003)
    assert Grid.from_bounds(6076, None, "EPSG:2236").res_degrees == pytest.approx(1 / 60, rel=0.003)


def test_a_projected_grid_has_no_longitude_a_column() -> None:
    grid = Grid.from_bounds(100_000, EUROPE, "EPSG:3035")
    for axis in (grid.lons, grid.lats):
        with pytest.raises(GridError, match=r"in EPSG:3035 has no longitude a column.*xs\(\) and ys\(\)"):
            axis()
    assert grid.closed is False


@pytest.mark.parametrize(
    ("crs", "reason"),
    [
        ("3035", "no code of a reference system. Give authority and code, such as EPSG:3035"),
        ("WGS 84", "no code of a reference system"),
        ("EPSG:1", "not known to PROJ"),
        ("EPSG:4258", "ETRS89.*in degrees of its own.*EPSG:4326"),
        ("OGC:CRS84", "in degrees of its own.*EPSG:4326"),
        ("EPSG:4978", "Geocentric CRS and no plane map"),
        ("EPSG:5773", "Vertical CRS and no plane map"),
        ("EPSG:7405", "Compound CRS and no plane map"),
        ("IAU_2015:49910", "Mars.*is not on the Earth"),
    ],
)
def test_a_reference_system_that_is_no_map_of_the_globe_is_refused(crs: str, reason: str) -> None:
    with pytest.raises(GridError, match=reason):
        Grid.from_bounds(1000, None, crs)


@pytest.mark.parametrize(
    ("res", "bounds", "reason"),
    [
        (1000, (5, 45, 11, 48), "look like degrees, and EPSG:3035 counts in metres: its own area is about.*metres"),
        (1000, (5e6, 0, 4e6, 1e6), "no box in EPSG:3035.*rise from west to east"),
        (1000, (4e6, 1e6, 5e6, 1e6), "no box in EPSG:3035"),
        (1000, (0, 0, float("nan"), 1e6), "four finite numbers"),
        (0, None, "no size of a pixel. Give metres, such as 1000"),
        (1000, (3e7, 3e7, 3.1e7, 3.1e7), "show no part of the globe in EPSG:3035.*in metres, that do"),
        (700, (4_000_000, 3_000_000, 4_001_000, 3_001_000), r"res=700 does not divide.*Choose a res such as"),
    ],
)
def test_bounds_that_make_no_projected_grid_are_refused(res: float, bounds: Bounds | None, reason: str) -> None:
    with pytest.raises(GridError, match=reason):
        Grid.from_bounds(res, bounds, "EPSG:3035")


def test_a_res_in_metres_that_does_not_tile_is_refused_with_choices_that_do() -> None:
    with pytest.raises(GridError) as error:
        Grid.from_bounds(700, (4_000_000, 3_000_000, 4_060_000, 3_030_000), "EPSG:3035")
    found = choices(str(error.value))
    assert found == [750, 600]
    assert all(60_000 % choice == 30_000 % choice == 0 for choice in found)


def test_a_globe_that_is_a_speck_in_its_grid_is_found() -> None:
    grid = Grid.from_bounds(1e8, (-2e9, -2e9, 2e9, 2e9), "EPSG:8857")
    assert grid.lonlat_bounds == pytest.approx(GLOBE, abs=3)


def test_a_projected_grid_of_no_size_cannot_be_made() -> None:
    with pytest.raises(GridError, match="is no grid on the globe"):
        Grid(west=0.0, north=float("inf"), res=1000.0, width=2, height=2, crs="EPSG:3035")


@pytest.mark.parametrize("res", [1e-300, 1e-8])
def test_more_pixels_than_any_raster_has_are_refused(res: float) -> None:
    for make in (Grid.from_bounds, Grid.covering):
        with pytest.raises(GridError, match=r"makes more than 2,147,483,647 pixels along a side.*Choose a coarser res"):
            make(res, (-180, -90, 180, 90))
        with pytest.raises(GridError, match="makes more than"):
            make(res, (0, 0, 4e6, 4e6), "EPSG:3035")
