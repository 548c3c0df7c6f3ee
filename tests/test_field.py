"""A field answers at places what its pixels say, reading each block once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyproj
import pytest
import rasterio
import shapely
import xarray
from scipy.ndimage import map_coordinates

from embedfield.card import Card
from embedfield.errors import GridError, PlacesError
from embedfield.field import Field
from embedfield.grid import Grid
from embedfield.models import card as card_of
from embedfield.places import GLOBE
from embedfield.region import Region
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.evaluate import EncodedField
    from embedfield.field import Method
    from embedfield.grid import Bounds

NAN = float("nan")
PACIFIC = (160.0, -30.0, -150.0, 20.0)
EUROPE = (-10.0, 35.0, 40.0, 70.0)
WORLD_FROM_0 = (0.0, -90.0, 360.0, 90.0)
# rioxarray multiplies transforms as affine 2 did.
old_affine = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


class Stored(Field):
    """Pixels in memory that keeps a list of what was read."""

    def __init__(self, pixels: npt.NDArray[np.float32], grid: Grid, blocksize: int, card: Card) -> None:
        self.values, self.grid, self.blocksize, self.card = pixels, grid, blocksize, card
        self.reads: list[Window] = []

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        window = window or self.grid.window
        self.grid.xs(window)  # refuses a window past the edge
        self.reads.append(window)
        return self.values[:, window.rows, window.cols]


def stored(
    pixels: npt.ArrayLike,
    res: float,
    bounds: Bounds | None = GLOBE,
    *,
    blocksize: int = 4,
    periodic: bool = True,
    crs: str = "EPSG:4326",
) -> Stored:
    """A field of pixels (dim, height, width), or (height, width) for one band."""
    values = np.asarray(pixels, dtype=np.float32)
    values = values[None] if values.ndim == 2 else values
    card = Card(name="m", title="", dim=len(values), code="a:B", homepage="", periodic=periodic)
    return Stored(values, Grid.from_bounds(res, bounds, crs), blocksize, card)


def random_field(res: float, bounds: Bounds | None = GLOBE, **options: Any) -> Stored:
    """Three bands of noise, one pixel in ten without a value."""
    rng, grid = np.random.default_rng(7), Grid.from_bounds(res, bounds, options.get("crs", "EPSG:4326"))
    pixels = rng.normal(size=(3, *grid.shape))
    pixels[:, rng.random(grid.shape) < 0.1] = NAN
    return stored(pixels, res, bounds, **options)


def random_places(bounds: Bounds, count: int = 3000) -> npt.NDArray[np.float64]:
    """Places within bounds, of which east may pass 180; some on its sides and corners."""
    west, south, east, north = bounds
    east += 360 * (east < west)
    rng = np.random.default_rng(11)
    share = rng.random((count, 2))
    share[:400] = share[:400].round()  # corners
    share[400:800, 0] = share[400:800, 0].round()  # sides
    lon, lat = west + share[:, 0] * (east - west), south + share[:, 1] * (north - south)
    return np.column_stack((np.where(lon > 180, lon - 360, lon), lat))


def scipy_bilinear(field: Stored, lonlat: npt.NDArray[np.float64], *, wrap: bool) -> npt.NDArray[np.float64]:
    """Means by weight, as scipy interpolates values and, apart, the share of pixels that have one."""
    west, _, _, north = field.grid.bounds
    lon = np.where(lonlat[:, 0] < west, lonlat[:, 0] + 360, lonlat[:, 0])
    places = [(north - lonlat[:, 1]) / field.grid.res - 0.5, (lon - west) / field.grid.res - 0.5]
    pixels = field.values.astype(np.float64)
    if wrap:
        pixels, places[1] = np.pad(pixels, [(0, 0), (0, 0), (1, 1)], mode="wrap"), places[1] + 1

    def interpolate(band: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = map_coordinates(band, places, order=1, mode="nearest")
        return found

    share = interpolate(1.0 - np.isnan(pixels[0]))
    return np.column_stack([interpolate(np.nan_to_num(band)) / np.where(share > 1e-9, share, NAN) for band in pixels])


@pytest.mark.parametrize(
    ("res", "bounds", "periodic"),
    [
        (10, GLOBE, True),
        (10, GLOBE, False),
        (10, WORLD_FROM_0, True),
        (2.5, EUROPE, True),
        (2.5, EUROPE, False),
        (2.5, PACIFIC, True),
    ],
    ids=["closed", "closed, not periodic", "from 0 to 360", "europe", "europe, not periodic", "pacific"],
)
@pytest.mark.parametrize("blocksize", [1, 4, 7, 128])
def test_bilinear_agrees_with_scipy_for_every_blocksize(
    res: float, bounds: Bounds, blocksize: int, *, periodic: bool
) -> None:
    field = random_field(res, bounds, periodic=periodic, blocksize=blocksize)
    places = random_places(bounds)
    expected = scipy_bilinear(field, places, wrap=field.grid.width * res == 360 and periodic)
    np.testing.assert_allclose(field.at(places, "bilinear"), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("res", "bounds"), [(10, GLOBE), (10, WORLD_FROM_0), (2.5, EUROPE), (2.5, PACIFIC)])
@pytest.mark.parametrize("blocksize", [1, 4, 7, 128])
def test_nearest_is_the_pixel_whose_centre_is_nearest(res: float, bounds: Bounds, blocksize: int) -> None:
    field, places = random_field(res, bounds, blocksize=blocksize), random_places(bounds, 1500)
    lons, lats = field.grid.lons(), field.grid.lats()
    around = abs((places[:, :1] - lons + 180) % 360 - 180)
    rows, cols = abs(places[:, 1:] - lats).argmin(axis=1), around.argmin(axis=1)
    single = (abs(places / res % 1 - 0.5) < 0.499).all(axis=1)  # between two pixels, both are as near
    np.testing.assert_array_equal(field.at(places, "nearest")[single], field.values[:, rows, cols].T[single])
    assert single.sum() > 500


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize(
    ("res", "bounds"), [(10, GLOBE), (0.1, (10.1, 50.3, 13.4, 52.9)), (1 / 3, EUROPE), (0.1, (179.1, 0.2, -179.3, 1))]
)
def test_a_pixel_centre_has_its_pixel_bit_for_bit(res: float, bounds: Bounds, method: Method) -> None:
    field = random_field(res, bounds)
    field.values[:, ::3, ::2] = 0  # beside it, the least share of a neighbour shows
    field.values[:, 1::3, 1::2] *= np.float32(1e-20)
    found = field.at(field.grid.lonlat(), method)
    np.testing.assert_array_equal(found, field.values.reshape(3, -1).T)


def test_bilinear_leaves_out_pixels_without_a_value() -> None:
    field = stored([[1.0, 2.0], [3.0, NAN]], 1, (0, 0, 2, 2))
    places = [(1, 1), (0.75, 1.25), (1.25, 0.75), (1.5, 0.5), (1.9, 0.1)]
    # By hand: (1+2+3)/3; (9*1 + 3*2 + 3*3)/15; (1*1 + 3*2 + 3*3)/7; nothing but the empty pixel, twice.
    np.testing.assert_allclose(field.at(places, "bilinear")[:, 0], [2, 1.6, 16 / 7, NAN, NAN], rtol=1e-6)


def test_a_pixel_that_lacks_one_band_has_no_value() -> None:
    field = stored([[[1.0, 3.0]], [[5.0, NAN]]], 1, (0, 0, 2, 1))
    np.testing.assert_array_equal(field.at([(1, 0.5)], "bilinear"), [(1, 5)])


def test_bilinear_crosses_the_antimeridian_of_a_closed_grid() -> None:
    field = stored(np.tile([10.0, 0, 0, 20], (2, 1)), 90)  # centres at -135, -45, 45, 135
    places = [(180, 0), (-180, 0), (157.5, 0), (-157.5, 0), (135, 0)]
    np.testing.assert_allclose(field.at(places, "bilinear")[:, 0], [15, 15, 17.5, 12.5, 20])


def test_bilinear_stays_on_its_side_of_the_antimeridian_where_the_encoder_does() -> None:
    field = stored(np.tile([10.0, 0, 0, 20], (2, 1)), 90, periodic=False)
    places = [(180, 0), (-180, 0), (157.5, 0), (-157.5, 0), (0, 0), (90, 0)]
    np.testing.assert_allclose(field.at(places, "bilinear")[:, 0], [20, 10, 20, 10, 0, 10])


def test_a_grid_past_180_keeps_the_sides_apart_where_the_encoder_does() -> None:
    field = stored([[10.0, 20.0]], 10, (170, 0, -170, 10), periodic=False)  # centres at 175 and -175
    places = [(175, 5), (179, 5), (-179, 5), (-175, 5)]
    np.testing.assert_allclose(field.at(places, "bilinear")[:, 0], [10, 10, 20, 20])


def test_a_world_from_0_meets_itself_at_greenwich_even_where_the_encoder_breaks_at_180() -> None:
    field = stored(np.tile([0.0, 10, 20, 40], (2, 1)), 90, WORLD_FROM_0, periodic=False)  # centres at 45, 135, 225, 315
    places = [(0, 0), (-22.5, 0), (22.5, 0), (179, 0), (-179, 0)]
    np.testing.assert_allclose(field.at(places, "bilinear")[:, 0], [20, 30, 10, 10, 20])


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_a_world_from_0_holds_the_same_values_as_one_from_180_west(method: Method) -> None:
    field = random_field(10)
    turned = stored(np.roll(field.values, 18, axis=2), 10, WORLD_FROM_0)
    places = random_places((-179.9, -90, 179.9, 90))
    places = places[abs(places[:, 0]) > 0.1]
    np.testing.assert_allclose(turned.at(places, method), field.at(places, method), atol=1e-6)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_poles_have_the_values_of_the_outermost_rows(method: Method) -> None:
    field = stored([[1, 2, 3, 4], [5, 6, 7, 8]], 90)
    found = field.at([(-135, 90), (45, 90), (45, -90), (135, -90)], method)
    assert found[:, 0].tolist() == [1, 3, 7, 8]


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_edges_of_a_region_have_the_values_of_the_outermost_pixels(method: Method) -> None:
    # 0.8 - 0.7 is more than one 0.1 in binary; the bounds of the grid are its own all the same.
    field = stored([[1, 2], [3, 4]], 0.1, (0.6, 0.1, 0.8, 0.3))
    assert field.at([(0.6, 0.3), (0.8, 0.3), (0.6, 0.1), (0.8, 0.1)], method)[:, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_a_region_that_begins_at_the_antimeridian_has_a_value_at_180(method: Method) -> None:
    field = stored([[1, 2]], 10, (-180, 0, -160, 10))
    assert field.at([(-180, 5), (180, 5), (-160, 5)], method)[:, 0].tolist() == [1, 1, 2]


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("bounds", [EUROPE, PACIFIC])
def test_a_place_outside_has_no_value_and_the_others_keep_their_order(bounds: Bounds, method: Method) -> None:
    west, south, _, _ = bounds
    field = stored(np.full((2, *Grid.from_bounds(5, bounds).shape), 3), 5, bounds)
    places = [(west + 1, south + 1), (west - 0.01, south + 1), (west + 1, south - 0.01), (100, 0), (west, south)]
    assert np.isnan(field.at(places, method)).all(axis=1).tolist() == [False, True, True, True, False]


def test_a_single_pixel_holds_everywhere_on_it() -> None:
    field = stored([[7]], 1, (3, 4, 4, 5))
    places = [(3, 4), (3.5, 4.5), (3.9, 4.1), (4, 5), (4.1, 5)]
    np.testing.assert_allclose(field.at(places, "bilinear")[:, 0], [7, 7, 7, 7, NAN], rtol=1e-6)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("blocksize", [4, 5, 128])
def test_each_block_that_is_touched_is_read_once_and_no_other(blocksize: int, method: Method) -> None:
    field, places = random_field(10, blocksize=blocksize), random_places((0, 0, 54, 54))
    field.at(np.concatenate((places, places[::-1])), method)
    blocks = [(read.row_off // blocksize, read.col_off // blocksize) for read in field.reads]
    assert all(read.row_off % blocksize == read.col_off % blocksize == 0 for read in field.reads)
    assert all(max(read.width, read.height) <= blocksize for read in field.reads)
    assert len(blocks) == len(set(blocks))
    # Rows 3 to 9 and columns 18 to 23 hold the places; by Greenwich, the centre to its west weighs in too.
    rows, cols = range(3, 10), range(17 if method == "bilinear" else 18, 24)
    assert set(blocks) == {(row // blocksize, col // blocksize) for row in rows for col in cols}


def test_bilinear_at_a_pixel_centre_reads_no_block_that_weighs_nothing() -> None:
    field = random_field(10, blocksize=4)
    field.at([(-145, 55)], "bilinear")  # row 3, column 3: the last of its block
    assert field.reads == [Window(0, 0, 4, 4)]


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_places_outside_read_nothing(method: Method) -> None:
    field = random_field(2.5, EUROPE)
    assert np.isnan(field.at([(100, 0), (100, 50)], method)).all()
    assert field.reads == []


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_no_places_have_no_values(method: Method) -> None:
    found = random_field(10).at(np.empty((0, 2)), method)
    assert (found.shape, found.dtype.name) == ((0, 3), "float32")


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_one_place_has_one_vector(method: Method) -> None:
    field = stored(np.full((2, 18, 36), 5), 10)
    found = field.at([(12.3, 45.6)], method)
    assert (found.tolist(), found.dtype.name) == ([[5, 5]], "float32")


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_many_places_each_have_the_value_that_they_have_alone(method: Method) -> None:
    field, places = random_field(1, blocksize=32), random_places(GLOBE, 100_000)
    found = field.at(places, method)
    some = np.arange(0, len(places), 9973)
    alone = np.concatenate([field.at(places[[place]], method) for place in some])
    np.testing.assert_array_equal(found[some], alone)


def test_nearest_is_what_a_stored_field_answers_unasked() -> None:
    field, places = random_field(10), random_places(GLOBE, 100)
    np.testing.assert_array_equal(field.at(places), field.at(places, "nearest"))


def test_places_are_checked_before_anything_is_read() -> None:
    field = random_field(10)
    with pytest.raises(PlacesError, match=r"Place 1.*latitude outside"):
        field.at([(0, 0), (0, 91)])
    assert field.reads == []


def test_an_unknown_method_is_refused_with_the_choices() -> None:
    with pytest.raises(PlacesError, match="method='cubic'.*Choose from: nearest, bilinear"):
        random_field(10).at([(0, 0)], "cubic")  # type: ignore[arg-type]  # which the command line cannot see


def test_exact_values_of_a_stored_field_are_refused_with_the_way_to_them() -> None:
    with pytest.raises(PlacesError, match="'exact' needs the encoder: name the model"):
        random_field(10).at([(0, 0)], "exact")


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("xyz", "xyz_000", "xyz_002"),
        ("geoclip", "geoclip_000", "geoclip_511"),
        ("sh-l40", "sh-l40_0000", "sh-l40_1599"),
    ],
)
def test_bands_are_named_with_as_many_digits_as_the_last_needs(name: str, first: str, last: str) -> None:
    field = stored([[1]], 1, (0, 0, 1, 1))
    field.card = card_of(name)
    assert (field.band_names[0], field.band_names[-1]) == (first, last)
    assert field.band_names == sorted(field.band_names)


def test_a_field_without_coarser_levels_says_so() -> None:
    field = random_field(10)
    assert field.overviews == {}
    with pytest.raises(GridError, match="factor=2, all of it, is no part of this field: it has no coarser levels"):
        field.read_overview(2)


# An encoded field.


def test_an_encoded_field_has_unit_vectors_at_hand_worked_places(make_field: Callable[..., EncodedField]) -> None:
    places = [(0, 0), (90, 0), (180, 0), (-90, 0), (270, 0), (33, 90), (33, -90), (0, 60)]
    half = np.sqrt(0.75)
    vectors = [(1, 0, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1), (0.5, 0, half)]
    np.testing.assert_allclose(make_field().at(places), vectors, atol=1e-7)


@pytest.mark.parametrize("bounds", [GLOBE, WORLD_FROM_0, PACIFIC], ids=["globe", "from 0 to 360", "pacific"])
def test_an_encoded_field_has_at_pixel_centres_what_it_has_there_exactly(
    make_field: Callable[..., EncodedField], bounds: Bounds
) -> None:
    field = make_field(10, bounds)
    pixels, places = field.read(), field.grid.lonlat()
    assert (pixels.dtype.name, pixels.shape) == ("float32", (3, *field.grid.shape))
    lon, lat = np.deg2rad(places.T)
    xyz = np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    np.testing.assert_allclose(pixels.reshape(3, -1), xyz, atol=1e-7)
    np.testing.assert_allclose(field.at(places, "exact").T, xyz, atol=1e-7)
    np.testing.assert_array_equal(field.at(places, "nearest").T, pixels.reshape(3, -1))


@pytest.mark.parametrize("bounds", [(100, -10, 90, 10), (-10, -10, 340, 10)])
def test_a_field_almost_around_the_world_has_a_value_at_all_its_centres(
    make_field: Callable[..., EncodedField], bounds: Bounds
) -> None:
    field = make_field(10, bounds)
    np.testing.assert_array_equal(field.at(field.grid.lonlat(), "nearest").T, field.read().reshape(3, -1))


def test_windows_of_an_encoded_field_are_parts_of_the_whole(make_field: Callable[..., EncodedField]) -> None:
    field = make_field(10, PACIFIC)
    whole = field.read()
    for window in field.grid.window.tiles(2, 3):
        np.testing.assert_allclose(field.read(window), whole[:, window.rows, window.cols], atol=1e-7)


def test_an_encoded_field_is_exact_unasked_and_off_its_grid(make_field: Callable[..., EncodedField]) -> None:
    field = make_field(10, (-10, 30, 40, 70))
    np.testing.assert_allclose(field.at([(90, 0)]), [(0, 1, 0)], atol=1e-7)
    assert np.isnan(field.at([(90, 0)], "nearest")).all()


# Single pixels and places.


@pytest.mark.parametrize("blocksize", [1, 4, 7, 128])
def test_single_pixels_are_those_of_the_field_and_each_block_is_read_once(blocksize: int) -> None:
    field = random_field(10, blocksize=blocksize)
    rows, cols = np.divmod(np.random.default_rng(2).integers(0, 18 * 36, 1000), 36)
    found = field.pixels(rows, cols)
    np.testing.assert_array_equal(found, field.values[:, rows, cols].T)
    blocks = set(zip(rows // blocksize, cols // blocksize, strict=True))
    assert (found.dtype.name, len(field.reads)) == ("float32", len(blocks))


def test_no_pixels_have_no_values_and_one_off_the_grid_is_refused() -> None:
    field = random_field(10)
    assert field.pixels([], []).shape == (0, 3)
    with pytest.raises(GridError, match="Row 18, column 0 is no pixel of a grid of 36 x 18"):
        field.pixels([18], [0])


def test_an_encoded_field_computes_the_pixels_that_are_asked_and_no_others(
    make_field: Callable[..., EncodedField], monkeypatch: pytest.MonkeyPatch
) -> None:
    field = make_field(1, PACIFIC)
    whole = field.read()
    asked: list[int] = []
    encode = field.evaluator.encode

    def count(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
        asked.append(len(lonlat))
        return encode(lonlat)

    monkeypatch.setattr(field.evaluator, "encode", count)
    rows, cols = np.array([3, 40, 3, 0]), np.array([7, 29, 7, 49])
    np.testing.assert_allclose(field.pixels(rows, cols), whole[:, rows, cols].T, atol=1e-7)
    field.at([(-179.9, 0.2), (170.3, 4.4)], "bilinear")
    assert asked == [3, 8]  # what is asked twice is computed once


@pytest.mark.parametrize("bounds", [GLOBE, EUROPE, PACIFIC])
def test_places_of_a_field_lie_evenly_on_it(bounds: Bounds) -> None:
    field = random_field(2.5, bounds)
    places = field.places(2000)
    assert len(places) == 2000
    assert field.grid.contains(places).all()
    # By area: the sine of latitude is spread evenly.
    _, south, _, north = np.sin(np.deg2rad(field.grid.bounds))
    heights = (np.sin(np.deg2rad(places[:, 1])) - south) / (north - south)
    np.testing.assert_allclose(np.histogram(heights, 10, (0, 1))[0], 200, atol=2)


def test_places_of_a_field_keep_to_the_latitudes_of_its_encoder() -> None:
    field = random_field(10)
    field.card = Card(name="m", title="", dim=3, code="a:B", homepage="", latitudes=(-60, 75))
    lat = field.places(500)[:, 1]
    assert len(lat) == 500
    assert ((lat >= -60) & (lat <= 75)).all()
    assert len(random_field(1, (0, 80, 10, 90)).places(9)) == 9
    field.grid = Grid.from_bounds(1, (0, 80, 10, 90))
    assert field.places(9).shape == (0, 2)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:8857", "EPSG:3035"])
def test_places_of_a_masked_field_lie_on_its_pixels(crs: str) -> None:
    field = random_field(1, EUROPE) if crs == "EPSG:4326" else random_field(50_000, None, crs=crs)
    shapes = [shapely.Point(10, 50).buffer(6), shapely.box(20, 40, 23, 60)]
    field.region = Region.from_geometries(shapes, "EPSG:4326")
    places = field.places(3000)
    assert 2700 <= len(places) <= 3300
    rows, cols = (np.floor(part).astype(int) for part in field.grid.positions(places))
    assert field.region.mask(field.grid)[rows, cols].all()
    # A degree of longitude is cos(lat) as wide; the two planes keep areas. Both means agree.
    mask = field.region.mask(field.grid).ravel()
    centres = field.grid.lonlat()[mask]
    weight = np.cos(np.deg2rad(centres[:, 1])) if crs == "EPSG:4326" else np.ones(len(centres))
    np.testing.assert_allclose(places.mean(axis=0), np.average(centres, axis=0, weights=weight), atol=0.2)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:8857"])
def test_a_region_too_small_to_be_found_by_chance_has_its_pixels(crs: str) -> None:
    field = random_field(0.5) if crs == "EPSG:4326" else random_field(50_000, None, crs=crs)
    field.region = Region.from_geometries([shapely.Point(-60.1, 2.3), shapely.Point(115.2, -30.3)], "EPSG:4326")
    places = field.places(4)
    assert len(places) == 2
    rows, cols = (np.floor(part).astype(int) for part in field.grid.positions(places))
    assert field.region.contains(field.grid, rows, cols).all()


# Projected fields.

SQUARE = (2_500_000.0, 1_400_000.0, 7_400_000.0, 5_500_000.0)


@pytest.mark.parametrize("blocksize", [4, 7, 128])
def test_a_projected_field_answers_where_pyproj_and_scipy_say(blocksize: int) -> None:
    field = random_field(100_000, SQUARE, blocksize=blocksize, crs="EPSG:3035")
    rng = np.random.default_rng(5)
    x, y = rng.uniform(SQUARE[:2], SQUARE[2:], (2000, 2)).T
    lonlat = np.column_stack(pyproj.Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(x, y))
    rows, cols = rasterio.transform.rowcol(field.grid.transform, x, y)
    np.testing.assert_array_equal(field.at(lonlat, "nearest"), field.values[:, rows, cols].T)
    at = [(SQUARE[3] - y) / 100_000 - 0.5, (x - SQUARE[0]) / 100_000 - 0.5]
    share = map_coordinates(1.0 - np.isnan(field.values[0]), at, order=1, mode="nearest")
    for band, found in zip(np.nan_to_num(field.values), field.at(lonlat, "bilinear").T, strict=True):
        expected = map_coordinates(band.astype(np.float64), at, order=1, mode="nearest") / np.where(
            share > 1e-9, share, NAN
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_places_off_a_projected_grid_have_no_value(method: Method) -> None:
    field = random_field(100_000, SQUARE, crs="EPSG:3035")
    field.values[:] = 1
    found = field.at([(10, 50), (-60, 0), (-170, -52), (10, 90), (12, 50)], method)
    assert np.isnan(found).any(axis=1).tolist() == [False, True, True, True, False]


def test_a_pixel_off_the_globe_is_left_out_of_its_neighbours() -> None:
    field = random_field(2_000_000, None, crs="EPSG:8857")
    there = ~np.isnan(field.grid.lonlat()[:, 0]).reshape(field.grid.shape)
    field.values = np.where(there, np.float32(7), np.float32(NAN))[None].repeat(3, axis=0)
    places = np.column_stack((np.full(90, 179.9), np.linspace(-89, 89, 90)))
    found = field.at(places, "bilinear")
    np.testing.assert_allclose(found[~np.isnan(found)], 7, rtol=1e-6)
    assert np.isnan(found).any(axis=1).mean() < 0.5


def test_around_a_pole_an_encoder_that_is_not_periodic_keeps_the_sides_apart() -> None:
    # Around the north pole, 180 degrees point away from Greenwich, up and to the right of Greenland.
    half = 1_000_000.0
    sides = Grid.from_bounds(half, (-1.7 * half, -2 * half, 2.3 * half, 2 * half), "EPSG:3413")
    east = (sides.lonlat()[:, 0] > 0).reshape(sides.shape)
    fields = [
        stored(np.where(east, 100.0, 0.0), half, sides.bounds, crs="EPSG:3413", periodic=periodic)
        for periodic in (True, False)
    ]
    places = [(179.9, 85), (-179.9, 85), (179.9, 80), (-179.9, 80)]
    mixed, apart = (field.at(places, "bilinear")[:, 0] for field in fields)
    assert ((mixed > 10) & (mixed < 90)).all()
    assert apart.tolist() == [100, 0, 100, 0]


def test_a_place_on_the_antimeridian_has_the_value_of_the_only_side_there_is() -> None:
    for bounds, crs, res in (
        ((-180, 0, -160, 10), "EPSG:4326", 10),
        ((400_000, 0, 900_000, 500_000), "EPSG:32660", 5e5),
    ):
        field = stored(np.full(Grid.from_bounds(res, bounds, crs).shape, 4.0), res, bounds, crs=crs, periodic=False)
        assert field.at([(180, 2), (-180, 2)], "bilinear")[:, 0].tolist() == [4, 4]


# As xarray.


def test_a_lazy_array_has_the_dimensions_coordinates_and_names_of_the_field() -> None:
    field = random_field(2.5, PACIFIC)
    array = field.to_xarray()
    assert (array.dims, array.shape, array.dtype.name) == (("band", "y", "x"), field.values.shape, "float32")
    assert array.band.to_numpy().tolist() == ["m_000", "m_001", "m_002"]
    np.testing.assert_allclose(array.x, np.arange(161.25, 210, 2.5))
    np.testing.assert_allclose(array.y, np.arange(18.75, -30, -2.5))
    assert array.attrs["model"] == "m"


@old_affine
@pytest.mark.parametrize(("res", "bounds"), [(10, GLOBE), (2.5, EUROPE), (1, (3, 4, 4, 5)), (1 / 3, PACIFIC)])
def test_a_lazy_array_is_where_the_grid_is(res: float, bounds: Bounds) -> None:
    array = random_field(res, bounds).to_xarray()
    west, south, east, north = bounds
    assert array.rio.crs.to_epsg() == 4326
    assert array.rio.bounds() == pytest.approx((west, south, east + 360 * (east < west), north))
    assert array.rio.transform().almost_equals(Grid.from_bounds(res, bounds).transform, 1e-9)


def test_a_lazy_array_reads_nothing_until_it_is_computed_and_then_only_what_is_asked() -> None:
    field = random_field(10, blocksize=4)
    part = field.to_xarray().isel(y=slice(4, 7), x=slice(8, 12))
    assert field.reads == []
    np.testing.assert_array_equal(part, field.values[:, 4:7, 8:12])
    assert len(field.reads) == 1


PICKS: dict[str, dict[str, Any]] = {
    "all": {},
    "across blocks": {"y": slice(3, 9), "x": slice(2, 30)},
    "every other": {"y": slice(1, None, 2), "x": slice(None, None, 3)},
    "backwards": {"y": slice(None, None, -1)},
    "backwards by two": {"y": slice(None, None, -2), "x": slice(20, 3, -5)},
    "some bands": {"band": slice(1, None)},
    "one band": {"band": 1},
    "one column": {"x": 5},
    "the last row": {"y": -1},
    "one pixel": {"y": 3, "x": 4},
    "one value": {"band": 2, "y": 3, "x": 4},
    "a list": {"x": [1, 30, 9], "band": [2, 0]},
    "no columns": {"x": slice(0, 0)},
}


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS.keys())
def test_any_selection_of_a_lazy_array_is_that_of_the_pixels(pick: dict[str, Any]) -> None:
    field = random_field(10, blocksize=4)
    expected = xarray.DataArray(field.values, dims=("band", "y", "x")).isel(pick)
    found = field.to_xarray().isel(pick).compute()
    np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy())


def test_a_lazy_array_finds_the_nearest_pixels_of_places() -> None:
    field = random_field(10, blocksize=4)
    places = random_places((-170, -80, 170, 80), 900)[800:]
    x, y = (xarray.DataArray(part, dims="place") for part in places.T)
    found = field.to_xarray().sel(x=x, y=y, method="nearest").transpose("place", "band").compute()
    np.testing.assert_array_equal(found.to_numpy(), field.at(places, "nearest"))


def test_a_lazy_array_reads_from_one_thread_at_a_time() -> None:
    field = random_field(10, blocksize=4)
    array, inside, crowds = field.to_xarray(), threading.Semaphore(1), []
    read = field.read

    def slow_read(window: Window | None = None) -> npt.NDArray[np.float32]:
        alone = inside.acquire(blocking=False)
        crowds.append(not alone)
        time.sleep(0.002)
        if alone:
            inside.release()
        return read(window)

    field.read = slow_read  # type: ignore[method-assign]
    array.compute(scheduler="threads", num_workers=4)
    assert not any(crowds), "an Evaluator is safe to call from one thread at a time"


@old_affine
def test_a_projected_lazy_array_has_its_reference_system_and_coordinates_in_metres() -> None:
    field = random_field(100_000, SQUARE, crs="EPSG:3035")
    array = field.to_xarray()
    assert array.rio.crs.to_epsg() == 3035
    assert array.rio.bounds() == SQUARE
    assert array.rio.transform().almost_equals(field.grid.transform, 1e-9)
    assert (array.x.attrs["standard_name"], array.x.attrs["units"]) == ("projection_x_coordinate", "metre")
    assert (array.x.to_numpy()[0], array.y.to_numpy()[0]) == (2_550_000, 5_450_000)
    assert random_field(10).to_xarray().x.attrs["standard_name"] == "longitude"
    np.testing.assert_array_equal(array.sel(x=2_550_000, y=5_450_000), field.values[:, 0, 0])
