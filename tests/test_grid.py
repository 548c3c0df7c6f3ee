"""Pixels are where rasterio says, tile the bounds, and are each counted once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio.transform

from embedfield.errors import GridError
from embedfield.grid import Grid, Window
from embedfield.places import GLOBE

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
