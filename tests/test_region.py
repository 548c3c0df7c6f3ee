"""A region is the pixels that its file's shapes touch, whatever the grid and the reference systems."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import pytest
import rasterio.features
import shapely
from shapely import LineString, MultiPolygon, Point, Polygon, box

from embedfield.errors import GridError, PlacesError
from embedfield.grid import Grid
from embedfield.places import GLOBE
from embedfield.region import Region
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedfield.grid import Bounds

Mask = npt.NDArray[np.bool_]

# Shapes that are no boxes along the pixels, two of them across the antimeridian, one at a pole.
ISLANDS = [
    Polygon([(-20.3, -35.1), (50.7, -33.2), (33.3, 37.7), (-17.9, 32.2), (5.1, 4.9)]),
    shapely.transform(Point(-100.2, 40.7).buffer(15.3), lambda xy: xy.round(5)),
    Polygon([(3.3, 50.2), (30.1, 71.9), (-9.7, 60.3)], [[(5, 58), (12, 60), (10, 63)]]),
    Polygon([(166.3, -47.1), (178.7, -37.3), (172.2, -34.2)]),
]
CAP = Polygon([(-180, -90), (-180, -80), (-90, -66), (0, -70), (90, -65), (180, -80), (180, -90)])
PLANES = ["EPSG:3035", "EPSG:8857", "ESRI:54009", "EPSG:3857", "EPSG:3031", "EPSG:3413", "EPSG:32633"]


def region(*shapes: Any, crs: str = "EPSG:4326") -> Region:
    return Region.from_geometries(shapes, crs)


def own_grid(crs: str, across: int = 80) -> Grid:
    """The grid of a reference system's own area, about so many pixels across."""
    fine = Grid.from_bounds(1000, None, crs)
    return Grid.from_bounds(1000 * (1 + max(fine.shape) // across), None, crs)


def moved(shape: shapely.Geometry, source: str, target: str) -> shapely.Geometry:
    """A shape in another reference system, its edges in many short pieces."""
    transform = pyproj.Transformer.from_crs(source, target, always_xy=True).transform
    length = 0.02 if source == "EPSG:4326" else 2000.0
    return shapely.transform(
        shapely.segmentize(shape, length), lambda xy: np.column_stack(transform(xy[:, 0], xy[:, 1]))
    )


def by_rasterio(shapes: Sequence[shapely.Geometry], grid: Grid) -> Mask:
    """The pixels that shapes in a grid's own plane touch, as rasterio says."""
    found = rasterio.features.geometry_mask(shapes, grid.shape, grid.transform, all_touched=True, invert=True)
    assert found.any()
    return np.asarray(found, dtype=bool)


# Masks.


@pytest.mark.parametrize(
    ("res", "bounds"), [(1, GLOBE), (5, GLOBE), (0.25, (-15, 30, 35, 75)), (0.1, (170, -40, 180, -30)), (10, GLOBE)]
)
def test_a_mask_in_degrees_is_rasterios(res: float, bounds: Bounds) -> None:
    grid = Grid.from_bounds(res, bounds)
    np.testing.assert_array_equal(region(*ISLANDS).mask(grid), by_rasterio(ISLANDS, grid))


def test_a_mask_in_the_regions_own_plane_is_rasterios() -> None:
    shapes = [
        Point(4.3013e6, 3.2107e6).buffer(7e5),
        Polygon([(3.0123e6, 2.0456e6), (3.3178e6, 2.1734e6), (2.9391e6, 3.3027e6)]),
    ]
    grid = Grid.from_bounds(25_000, (2_500_000, 1_400_000, 7_400_000, 5_500_000), "EPSG:3035")
    np.testing.assert_array_equal(region(*shapes, crs="EPSG:3035").mask(grid), by_rasterio(shapes, grid))


@pytest.mark.parametrize("crs", ["EPSG:3035", "EPSG:32633", "EPSG:3857"])
def test_a_mask_in_another_plane_is_rasterios_of_the_shapes_moved_there(crs: str) -> None:
    shapes = [shape for shape in ISLANDS[2:] if crs == "EPSG:3857"] or [ISLANDS[2]]
    grid = own_grid(crs, 200)
    found, expected = region(*shapes).mask(grid), by_rasterio([moved(s, "EPSG:4326", crs) for s in shapes], grid)
    # An edge is drawn within a fiftieth of a pixel of its course: a corner may be cut or not.
    assert np.count_nonzero(found != expected) <= 0.005 * np.count_nonzero(expected) + 1


def test_shapes_in_metres_are_masked_on_degrees() -> None:
    square = box(3_000_000, 2_000_000, 5_500_000, 4_500_000)
    grid = Grid.from_bounds(0.25, (-20, 30, 40, 70))
    found = region(square, crs="EPSG:3035").mask(grid)
    expected = by_rasterio([moved(square, "EPSG:3035", "EPSG:4326")], grid)
    assert np.count_nonzero(found != expected) <= 0.005 * np.count_nonzero(expected)


def test_straight_edges_stay_where_they_were_in_their_own_reference_system() -> None:
    # The parallel of 60 north bends in Europe's projection: its middle lies north of the chord by hundreds of km.
    grid = Grid.covering(5000, (2_500_000, 3_500_000, 7_000_000, 5_500_000), "EPSG:3035")
    found = region(box(-20, 60, 40, 65)).mask(grid).any(axis=0)
    rows, cols = (np.floor(part).astype(int) for part in grid.positions(np.array([(10.0, 60.001), (10.0, 59.9)])))
    mask = region(box(-20, 60, 40, 65)).mask(grid)
    assert mask[rows, cols].tolist() == [True, False]
    assert found[cols[0]]


@pytest.mark.parametrize("crs", PLANES)
def test_every_pixel_whose_centre_is_inside_is_masked_and_none_far_away(crs: str) -> None:
    grid, shapes = own_grid(crs), [*ISLANDS, CAP]
    mask = region(*shapes).mask(grid).ravel()
    places = grid.lonlat()
    there = ~np.isnan(places).any(axis=1)
    inside = shapely.intersects_xy(shapely.union_all(shapes), places[there])
    assert mask[there][inside].all()
    # A masked pixel without its centre inside is crossed by an edge: a place inside lies within it.
    rows, cols = np.divmod(np.flatnonzero(there)[mask[there] & ~inside], grid.width)
    lattice = np.linspace(0.02, 0.98, 13)
    touched = np.zeros(len(rows), dtype=bool)
    for down in lattice:
        for right in lattice:
            sub = grid.places_at(rows + down, cols + right)
            touched |= shapely.intersects_xy(shapely.union_all(shapes), np.nan_to_num(sub, nan=1e3))
    assert (~touched).mean() < 0.2
    assert inside.any() or mask.any()


@pytest.mark.parametrize(
    ("crs", "res", "bounds"),
    [
        ("EPSG:4326", 1, GLOBE),
        ("EPSG:4326", 1, (0, -90, 360, 90)),
        ("EPSG:8857", 200_000, None),
        ("EPSG:3031", 100_000, None),
    ],
)
def test_windows_and_single_pixels_say_what_the_whole_says(crs: str, res: float, bounds: Bounds | None) -> None:
    grid, area = Grid.from_bounds(res, bounds, crs), region(*ISLANDS, CAP, Point(7, 7), LineString([(0, 0), (90, 30)]))
    whole, pieces = area.mask(grid), np.zeros(grid.shape, dtype=bool)
    for window in grid.window.tiles(29, 37):
        pieces[window.rows, window.cols] = area.mask(grid, window)
    np.testing.assert_array_equal(pieces, whole)
    rows, cols = np.divmod(np.random.default_rng(1).integers(0, whole.size, 2000), grid.width)
    np.testing.assert_array_equal(area.contains(grid, rows, cols), whole[rows, cols])


def test_boxes_along_the_pixels_touch_no_neighbours() -> None:
    for res, area in ((0.1, (0.3, 0.1, 0.7, 0.6)), (1 / 3, (-1 / 3, 0, 1, 2)), (0.05, (10.15, 50.35, 11.05, 51.2))):
        grid = Grid.covering(res, (area[0] - 2, area[1] - 2, area[2] + 2, area[3] + 2))
        width, height = round((area[2] - area[0]) / res), round((area[3] - area[1]) / res)
        assert np.count_nonzero(region(box(*area)).mask(grid)) == width * height


@pytest.mark.parametrize(
    ("place", "pixel"),
    [
        ((0.5, 0.5), (8, 18)),
        ((-180, 90), (0, 0)),
        ((180, -90), (17, 35)),  # the outer edges belong to the last pixels, as for places that are sampled
        ((180, 5), (8, 35)),
    ],
)
def test_a_place_is_the_pixel_that_it_lies_in(place: tuple[float, float], pixel: tuple[int, int]) -> None:
    grid = Grid.from_bounds(10)
    assert np.argwhere(region(Point(place)).mask(grid)).tolist() == [list(pixel)]


def test_a_line_is_all_pixels_that_it_crosses() -> None:
    mask = region(LineString([(-174, 3), (-126, 3)])).mask(Grid.from_bounds(10))
    assert np.argwhere(mask).tolist() == [[8, col] for col in range(6)]


def test_an_island_smaller_than_a_pixel_is_a_pixel() -> None:
    island = region(Point(10.77, 59.91).buffer(0.01))
    for grid in (Grid.from_bounds(10), Grid.from_bounds(100_000, None, "EPSG:3035"), own_grid("EPSG:8857")):
        mask = island.mask(grid)
        rows, cols = (int(part[0]) for part in grid.positions(np.array([[10.77, 59.91]])))
        assert np.argwhere(mask).tolist() == [[rows, cols]]


def test_a_hole_stays_open() -> None:
    grid = Grid.from_bounds(1)
    ring = Polygon(box(-20, -20, 20, 20).exterior, [box(-10, -10, 10, 10).exterior])
    assert np.count_nonzero(region(ring).mask(grid)) == 40 * 40 - 20 * 20
    rows, cols = grid.positions(np.array([[0.5, 0.5], [15.5, 0.5]]))
    assert region(ring).contains(grid, np.floor(rows), np.floor(cols)).tolist() == [False, True]


def test_shapes_that_overlap_are_one_area() -> None:
    grid = Grid.from_bounds(100_000, None, "EPSG:3035")
    both = region(box(0, 40, 20, 60), box(10, 50, 30, 65)).mask(grid)
    each = [region(box(*area)).mask(grid) for area in ((0, 40, 20, 60), (10, 50, 30, 65))]
    np.testing.assert_array_equal(both, each[0] | each[1])


# The antimeridian and the poles.


@pytest.mark.parametrize(
    "shape",
    [
        box(170, -20, 190, -10),
        box(-190, -20, -170, -10),
        MultiPolygon([box(170, -20, 180, -10), box(-180, -20, -170, -10)]),
    ],
    ids=["past 180", "past -180", "two halves"],
)
@pytest.mark.parametrize(
    ("res", "bounds"), [(1, GLOBE), (1, (0, -90, 360, 90)), (1, (150, -40, -150, 0)), (1, (-190 + 360, -20, 190, -10))]
)
def test_an_area_across_the_antimeridian_is_whole_on_every_grid(
    shape: shapely.Geometry, res: float, bounds: Bounds
) -> None:
    grid = Grid.from_bounds(res, bounds)
    lons, lats = (part.ravel() for part in np.meshgrid(grid.lons(), grid.lats()))
    expected = ((lons % 360 > 170) & (lons % 360 < 190) & (lats > -20) & (lats < -10)).reshape(grid.shape)
    np.testing.assert_array_equal(region(shape).mask(grid), expected)


def test_an_area_in_metres_across_the_antimeridian_is_whole_in_degrees() -> None:
    # EPSG:3832 is Mercator around 150 east: 20 degrees either side of 180 are 2226390 metres from 5565975 - 2226390.
    area = region(box(3_339_585 - 2_226_390, -1_000_000, 3_339_585 + 2_226_390, 1_000_000), crs="EPSG:3832")
    assert area.bounds() == pytest.approx((160, -9.0, 200, 9.0), abs=0.05)
    mask = area.mask(Grid.from_bounds(1))
    cols = np.flatnonzero(mask.any(axis=0))
    assert set(range(342, 360)) | set(range(18)) <= set(cols) <= set(range(339, 360)) | set(range(21))
    assert np.count_nonzero(mask) == mask.any(axis=0).sum() * mask.any(axis=1).sum()


def test_a_polar_cap_is_whole_on_both_kinds_of_grid() -> None:
    world, south = Grid.from_bounds(1), Grid.from_bounds(50_000, None, "EPSG:3031")
    on_degrees = region(CAP).mask(world)
    assert on_degrees[170:].all()  # south of 80
    assert not on_degrees[:155].any()
    mask = region(CAP).mask(south)
    lat = south.lonlat()[:, 1].reshape(south.shape)
    assert mask[lat < -80].all()
    assert not mask[lat > -64].any()


def test_a_disc_around_a_pole_in_its_own_plane_is_whole_in_degrees() -> None:
    disc = region(Point(0, 0).buffer(2_000_000, 256), crs="EPSG:3031")
    west, south, east, north = disc.bounds()
    assert (west, south, east) == (-180, -90, 180)
    rim = pyproj.Transformer.from_crs("EPSG:3031", "EPSG:4326", always_xy=True).transform(0, 2_000_000)[1]
    assert north == pytest.approx(rim, abs=1e-3)
    mask = disc.mask(Grid.from_bounds(0.5))
    assert mask.all(axis=1).tolist() == [row >= (90 - rim) // 0.5 for row in range(360)]
    assert mask.any(axis=1).tolist() == mask.all(axis=1).tolist()


def test_a_map_that_is_cut_open_elsewhere_has_no_streaks() -> None:
    # Equal Earth around 150 east is cut at 30 west, through Greenland.
    greenland = region(box(-50, 65, -20, 80))
    grid = Grid.from_bounds(100_000, None, "EPSG:8859")
    mask = greenland.mask(grid)
    cols = np.flatnonzero(mask.any(axis=0))
    assert 0 < len(cols) < grid.width // 5
    assert (np.diff(cols) > 1).sum() == 1  # a piece at either end


# Bounds.


@pytest.mark.parametrize(
    ("shapes", "bounds"),
    [
        ([box(-10, 35, 40, 70)], (-10, 35, 40, 70)),
        ([box(177, -19, 180, -16), box(-180, -18, -178, -15)], (177, -19, 182, -15)),
        ([box(177, -19, 182, -16)], (177, -19, 182, -16)),
        ([box(-182, -19, -177, -16)], (178, -19, 183, -16)),
        ([box(177, -19, 179, -16), box(-179, -18, -178, -15)], (177, -19, 182, -15)),  # nothing at 180 itself
        ([box(-180, 60, -170, 70)], (-180, 60, -170, 70)),
        ([box(170, 60, 180, 70)], (170, 60, 180, 70)),
        ([box(-180, -90, 180, 90)], GLOBE),
        ([CAP], (-180, -90, 180, -65)),
        ([Point(13, 52)], (13, 52, 13, 52)),
        ([Point(179, 1), Point(-179, 2)], (179, 1, 181, 2)),
        ([box(20, 0, 179, 1), box(-179, 0, -60, 1)], (20, 0, 300, 1)),
        ([LineString([(0, 0), (10, 5)])], (0, 0, 10, 5)),
    ],
)
def test_bounds_are_the_narrowest_around_the_globe(shapes: list[shapely.Geometry], bounds: Bounds) -> None:
    found = region(*shapes).bounds()
    assert found == pytest.approx(bounds)
    assert region(*shapes).mask(Grid.covering(0.5, found)).any()


def test_bounds_in_a_plane_are_those_of_the_curved_edges() -> None:
    # By pyproj: the box of parallels and meridians bulges north of its corners.
    west, south, east, north = region(box(-10, 40, 30, 60)).bounds("EPSG:3035")
    expected = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform_bounds(
        -10, 40, 30, 60, densify_pts=2000
    )
    np.testing.assert_allclose((west, south, east, north), expected, atol=5)
    square = box(3e6, 2e6, 4e6, 2.5e6)
    assert region(square, crs="EPSG:3035").bounds("EPSG:3035") == (3e6, 2e6, 4e6, 2.5e6)


def test_bounds_where_nothing_can_be_shown_are_refused() -> None:
    with pytest.raises(GridError, match="crs='EPSG:32633' can show nothing of region"):
        region(box(104.9, -1, 105.1, 1)).bounds("EPSG:32633")


@pytest.mark.parametrize("crs", ["EPSG:3035", "EPSG:8857", "EPSG:3857"])
def test_a_grid_that_covers_the_bounds_holds_the_whole_region(crs: str) -> None:
    area = region(ISLANDS[2], Point(4, 45))
    wide = own_grid(crs, 300)
    tight = Grid.covering(wide.res, area.bounds(crs), crs)
    assert np.count_nonzero(area.mask(tight)) == np.count_nonzero(area.mask(wide))
    mask = area.mask(tight)
    assert mask.any(axis=0)[[0, -1]].all()
    assert mask.any(axis=1)[[0, -1]].all()


# Reading.


def written(path: Path, *shapes: shapely.Geometry | None, crs: str | None = "EPSG:4326", **options: Any) -> Path:
    frame = geopandas.GeoDataFrame({"name": ["x"] * len(shapes)}, geometry=list(shapes), crs=crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb", ".parquet"])
def test_a_file_of_any_kind_is_the_same_region(tmp_path: Path, suffix: str) -> None:
    found = Region.read(written(tmp_path / f"islands{suffix}", *ISLANDS))
    assert found == Region.from_geometries(ISLANDS, "EPSG:4326", "islands")
    assert (found.name, found.crs, len(found.sha256)) == ("islands", "EPSG:4326", 64)


def test_a_digest_is_of_the_geometry_and_not_of_how_it_was_written() -> None:
    shapes = [box(0, 0, 1, 1), box(5, 5, 6, 7)]
    turned = [Polygon([(6, 7), (5, 7), (5, 5), (6, 5)]), Polygon([(1, 1), (0, 1), (0, 0), (1, 0)])]
    assert region(*shapes).sha256 == region(*turned).sha256 == region(MultiPolygon(shapes), *shapes, None).sha256
    assert region(*shapes).sha256 == "305f14d403a0bdb87caac3b74744d19318581f6890a89b51bd02e953e424d2a0"
    assert region(*shapes).sha256 != region(box(0, 0, 1, 1)).sha256
    square = box(4e6, 3e6, 5e6, 4e6)
    assert region(square, crs="EPSG:3035").sha256 != region(square, crs="EPSG:3034").sha256


def test_a_layer_is_named_where_a_file_has_several(tmp_path: Path) -> None:
    path = written(tmp_path / "many.gpkg", box(0, 0, 1, 1), layer="here")
    written(path, box(50, 50, 51, 51), layer="there")
    found = Region.read(path, layer="there")
    assert (found.name, found.bounds()) == ("there", (50, 50, 51, 51))
    with pytest.raises(PlacesError, match="has several layers: here, there. Name one"):
        Region.read(path)
    with pytest.raises(PlacesError, match="has no layer 'nowhere'. Choose from: here, there"):
        Region.read(path, layer="nowhere")


def test_shapes_that_cross_themselves_are_mended() -> None:
    bow = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    found = region(bow).mask(Grid.from_bounds(1, (0, 0, 10, 10)))
    # Two triangles that meet in the middle: a quarter to the left, a quarter to the right, and pixels that edges cross.
    assert found[:, 0].all()
    assert found[:, -1].all()
    assert not found[0, 4:6].any()


def test_heights_and_empty_shapes_are_left_out(tmp_path: Path) -> None:
    solid = Polygon([(0, 0, 5), (1, 0, 5), (1, 1, 5)])
    found = Region.read(written(tmp_path / "mixed.gpkg", solid, Polygon(), None))
    assert found.sha256 == region(Polygon([(0, 0), (1, 0), (1, 1)])).sha256


def test_degrees_of_another_datum_and_meridian_are_moved() -> None:
    # EPSG:4807 counts grads from Paris, 2.337229 degrees east of Greenwich; its datum lies 200 metres off.
    area = region(box(0, 50, 10, 60), crs="EPSG:4807")
    assert area.bounds() == pytest.approx((2.337, 45, 11.337, 54), abs=0.005)
    across = region(box(195, 0, 205, 10), crs="EPSG:4807")
    assert across.bounds() == pytest.approx((177.837, 0, 186.837, 9), abs=0.005)


def test_a_reference_system_without_a_code_is_kept_in_words() -> None:
    words = "+proj=laea +lat_0=10 +lon_0=100 +datum=WGS84"
    area = region(Point(0, 0).buffer(500_000), crs=words)
    assert area.crs.startswith("PROJCRS")
    assert area.bounds() == pytest.approx((95.4, 5.5, 104.6, 14.5), abs=0.1)


def test_a_region_survives_pickling() -> None:
    area = region(*ISLANDS)
    again = pickle.loads(pickle.dumps(area))  # noqa: S301  our own bytes
    assert (again, hash(again)) == (area, hash(area))
    grid = Grid.from_bounds(5)
    np.testing.assert_array_equal(again.mask(grid), area.mask(grid))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlacesError, match="nothing.gpkg does not exist"):
        Region.read(tmp_path / "nothing.gpkg")


def test_a_file_that_is_no_vector_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.gpkg"
    path.write_text("no geometry here")
    with pytest.raises(PlacesError, match=r"text.gpkg cannot be read.*Is it a vector file"):
        Region.read(path)
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(PlacesError, match="has no geometries"):
        Region.read(table)


@pytest.mark.parametrize("shapes", [(), (None,), (Polygon(), None)])
def test_a_file_that_draws_nothing_is_refused(tmp_path: Path, shapes: tuple[Any, ...]) -> None:
    with pytest.raises(PlacesError, match=r"empty.gpkg draws nothing: no feature has a geometry"):
        Region.read(written(tmp_path / "empty.gpkg", *shapes))


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_file_without_a_reference_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlacesError, match=r"does not say its reference system. Set it, as with 'ogr2ogr -a_srs"):
        Region.read(written(tmp_path / "islands.shp", *ISLANDS, crs=None))


@pytest.mark.parametrize(
    ("shape", "crs", "why"),
    [
        (box(4e6, 3e6, 5e6, 4e6), "EPSG:4326", "coordinates out of range: x from 4e\\+06.*Is that its reference"),
        (box(0, 80, 10, 100), "EPSG:4326", "y from 80 to 100"),
        (Point(float("inf"), 0), "EPSG:4326", "coordinates that are not finite. Remove"),
        (box(9e7, 9e7, 9.1e7, 9.1e7), "EPSG:8857", "lies outside of what its reference system"),
        (Point(0, 0), "EPSG:4978", "has the reference system WGS 84, a Geocentric CRS and no map"),
        (Point(0, 0), "IAU_2015:49910", "not on the globe: Mars"),
        (Point(0, 0), "EPSG:1", "not on the globe"),
    ],
)
def test_what_lies_nowhere_on_the_globe_is_refused(shape: shapely.Geometry, crs: str, why: str) -> None:
    with pytest.raises(PlacesError, match=why):
        region(shape, crs=crs)


def test_a_window_past_the_edge_is_refused() -> None:
    with pytest.raises(GridError, match="passes the edge of a grid of 36 x 18"):
        region(*ISLANDS).mask(Grid.from_bounds(10), Window(30, 0, 7, 1))


def test_the_first_pixels_of_a_region_are_some_that_it_touches() -> None:
    grid, area = Grid.from_bounds(0.05), region(Point(12.34, 45.67), Point(-70.1, -33.3))
    rows, cols = area.some_pixels(grid, 10)
    assert area.contains(grid, rows, cols).tolist() == [True, True]
    assert len(area.some_pixels(grid, 1)[0]) == 1
    assert len(area.some_pixels(Grid.from_bounds(1, (0, 0, 1, 1)), 5)[0]) == 0
