"""Shapes laid over a grid cover of it what geometry says: areas and lengths on the sphere, pixel by pixel."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import shapely
from geometries import objects
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely import LineString, MultiLineString, MultiPoint, MultiPolygon, Point, Polygon, box

from embedfield.cells import cells_under
from embedfield.grid import Grid
from embedfield.overlay import Cover, Overlay
from embedfield.shapes import shapes_on
from embedfield.window import Window

# Such edges are told apart by where they are cut.
pytestmark = pytest.mark.filterwarnings("ignore:A shape has an edge:embedfield.errors.EmbedfieldWarning")

RADIUS = 6_371_008.8
# Areas and lengths of so many pixels are not told apart.
DUST = 1e-9
EUROPE = Grid(west=4_000_000, north=3_000_000, res=10_000, width=60, height=50, crs="EPSG:3035")


def laid(shapes: Any, grid: Grid, side: int = 64) -> Cover:
    """Lay shapes over a grid, and return all that they cover of it, by shape, row and column."""
    overlay = Overlay(objects(shapes), grid)
    covers = [overlay.cover(window, members) for window, members in overlay.windows(side)]
    if not covers:
        nothing = np.empty(0, dtype=np.int64)
        return Cover(nothing, nothing, nothing, np.empty(0), np.empty(0))
    shape, row, col, share, weight = (np.concatenate(parts) for parts in zip(*covers, strict=True))
    order = np.lexsort((col, row, shape))
    return Cover(shape[order], row[order], col[order], share[order], weight[order])


def sphere_area(shape: Any) -> float:
    """Return the area of a polygon with edges straight in longitude and latitude on the unit sphere.

    By Green's theorem it is the integral of -sin(lat) d(lon) along the rings, of which each edge's part is known.
    """
    total = 0.0
    parts = shapely.get_parts(shapely.get_parts(shapely.orient_polygons(shape)))
    for polygon in parts[shapely.get_dimensions(parts) == 2]:
        for ring in (polygon.exterior, *polygon.interiors):
            lon, lat = np.deg2rad(shapely.get_coordinates(ring)).T
            step, rise = np.diff(lon), np.diff(lat)
            # The mean of a sine over an interval: sin of the middle × sinc of half its width.
            mean = np.sin((lat[1:] + lat[:-1]) / 2) * np.sinc(rise / 2 / np.pi)
            total -= float(step @ mean)
    return total


def sphere_length(line: Any, steps: int = 4000) -> float:
    """Return the length of a line, straight in longitude and latitude, on the unit sphere: chords, many of them."""
    total = 0.0
    for part in shapely.get_parts(line):
        fine = part.segmentize(part.length / steps) if part.length else part
        lon, lat = np.deg2rad(shapely.get_coordinates(fine)).T
        xyz = np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
        total += float(np.sqrt((np.diff(xyz, axis=1) ** 2).sum(axis=0)).sum())
    return total


def rounding(cover: Cover, grid: Grid) -> float:
    """Return by how much areas may be off, for a part of a pixel has its mean width, wherever in it the part lies."""
    edges = np.deg2rad(grid.north - np.array([cover.row, cover.row + 1]) * grid.res)
    straddles = edges[0] * edges[1] < 0
    widest = np.where(straddles, 1.0, np.cos(edges).max(axis=0))
    part = np.minimum(cover.share, 1 - cover.share)
    pixel = np.deg2rad(grid.res) ** 2
    return float((part * (widest - np.cos(edges).min(axis=0)) * pixel).sum() + DUST * cover.weight.sum())


def pixel_box(grid: Grid, row: int, col: int, turn: float = 0.0) -> Any:
    """Return the outline of a pixel."""
    left, top = grid.west + col * grid.res - turn, grid.north - row * grid.res
    return box(left, top - grid.res, left + grid.res, top)


def extent(grid: Grid) -> Any:
    """Return the outline of a grid over longitude and latitude within [-180, 180]: two boxes if it passes 180."""
    west, south, east, north = grid.bounds
    if east <= 180:
        return box(west, south, east, north)
    return MultiPolygon([box(west, south, 180, north), box(-180, south, east - 360, north)])


def check_sound(cover: Cover, grid: Grid) -> None:
    """Check what holds of every cover."""
    assert ((cover.share > 0) & (cover.share <= 1)).all()
    assert (cover.weight >= 0).all()
    assert ((cover.row >= 0) & (cover.row < grid.height) & (cover.col >= 0) & (cover.col < grid.width)).all()


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Grids over longitude and latitude: small, tiny, closed, across the antimeridian, at the poles."""
    kind = draw(st.sampled_from(["closed", "turned", "any", "across", "pixel", "pole"]))
    res = draw(st.sampled_from([30.0, 15.0, 10.0, 7.5, 4.0, 2.5]))
    if kind in ("closed", "turned"):
        west = -180.0 if kind == "closed" else -180 + res * draw(st.integers(1, int(360 / res) - 1))
        return Grid(west=west, north=90.0, res=res, width=round(360 / res), height=int(180 / res))
    if kind == "pixel":
        west, north = draw(st.integers(-1800, 1799)) / 10, draw(st.integers(-600, 900)) / 10
        return Grid(west=west, north=north, res=res, width=1, height=1)
    west = draw(st.integers(1500, 1799)) / 10 if kind == "across" else draw(st.integers(-1800, 1799)) / 10
    north = 90.0 if kind == "pole" else draw(st.integers(-500, 900)) / 10
    width = draw(st.integers(1, int(200 / res)))
    return Grid(west=west, north=north, res=res, width=width, height=draw(st.integers(1, int((north + 90) / res))))


# Not finer than 0.1 mm: of what is nearly on a line GEOS says now this, now that.
LON, LAT = (st.floats(-bound, bound).map(lambda degrees: round(degrees, 9)) for bound in (180, 90))
PLACES = st.tuples(LON, LAT)


@st.composite
def polygons(draw: st.DrawFn) -> Any:
    """Polygons: boxes, also of whole degrees, hulls, rings with holes, several parts, slivers and small ones."""
    kind = draw(st.sampled_from(["box", "degrees", "hull", "hole", "parts", "sliver", "small"]))
    if kind in ("box", "degrees", "hole", "parts"):
        numbers = (st.integers(-180, 180), st.integers(-90, 90)) if kind == "degrees" else (LON, LAT)
        lons = sorted(draw(st.lists(numbers[0], min_size=4, max_size=4, unique=True)))
        lats = sorted(draw(st.lists(numbers[1], min_size=4, max_size=4, unique=True)))
        whole, inner = box(lons[0], lats[0], lons[3], lats[3]), box(lons[1], lats[1], lons[2], lats[2])
        if kind == "parts":
            found = MultiPolygon([box(lons[0], lats[0], lons[1], lats[1]), box(lons[2], lats[0], lons[3], lats[3])])
        else:
            found = whole.difference(inner) if kind == "hole" else whole
    elif kind == "hull":
        found = MultiPoint(draw(st.lists(PLACES, min_size=3, max_size=8))).convex_hull
    else:
        lon, lat = draw(st.floats(-179, 179)), draw(st.floats(-89, 89))
        width, height = (1e-7, 1.0) if kind == "sliver" else (draw(st.floats(1e-4, 1e-2)),) * 2
        found = box(lon, lat - height / 2, lon + width, lat + height / 2)
    areas = st.just(found).filter(lambda shape: shape.geom_type.endswith("Polygon") and shape.is_valid)
    return draw(areas.filter(lambda shape: shape.area > 1e-9))


# Polygons. ----------------------------------------------------------------------------------------------------------


@given(grids(), st.lists(polygons(), min_size=1, max_size=4), st.sampled_from([1, 3, 8, 100]))
@settings(max_examples=300, deadline=None)
def test_the_weights_of_a_polygons_pixels_add_up_to_its_area_on_the_sphere(
    grid: Grid, shapes: list[Any], side: int
) -> None:
    cover = laid(shapes, grid, side)
    check_sound(cover, grid)
    for number, shape in enumerate(shapes):
        own = cover.chosen(cover.shape == number)
        inside = shapely.intersection(shape, extent(grid))
        wanted = sphere_area(inside) if inside.area else 0.0
        # Beside the discretisation: GEOS cuts at the extent with its own rounding.
        assert own.weight.sum() == pytest.approx(wanted, rel=1e-9, abs=rounding(own, grid) + 1e-12)
        pixels = own.row * grid.width + own.col
        assert len(np.unique(pixels)) == len(pixels)


@given(grids(), polygons())
@settings(max_examples=100, deadline=None)
def test_the_share_of_each_pixel_is_what_shapely_says(grid: Grid, shape: Any) -> None:
    cover = laid(shape, grid)
    rows, cols = np.divmod(np.arange(grid.width * grid.height), grid.width)
    wanted = np.zeros(len(rows))
    for turn in (0.0, 360.0):
        boxes = [pixel_box(grid, row, col, turn) for row, col in zip(rows, cols, strict=True)]
        wanted += shapely.area(shapely.intersection(shape, boxes)) / grid.res**2
    found = np.zeros(len(rows))
    found[cover.row * grid.width + cover.col] = cover.share
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@given(grids(), st.lists(polygons(), min_size=1, max_size=5), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_the_side_of_windows_changes_nothing(grid: Grid, shapes: list[Any], side: int) -> None:
    whole, parts = laid(shapes, grid, 4096), laid(shapes, grid, side)
    for shape in range(len(shapes)):
        one, other = (
            {
                (row, col): share
                for own, row, col, share in zip(cover.shape, cover.row, cover.col, cover.share, strict=True)
                if own == shape and share > DUST
            }
            for cover in (whole, parts)
        )
        assert set(one) <= {*zip(parts.row, parts.col, strict=True)}
        assert set(other) <= {*zip(whole.row, whole.col, strict=True)}
        both = sorted(set(one) & set(other))
        np.testing.assert_allclose([one[key] for key in both], [other[key] for key in both], rtol=0, atol=DUST)
    np.testing.assert_allclose(whole.weight.sum(), parts.weight.sum(), rtol=1e-6, atol=1e-12)


def test_a_polygon_with_edges_on_the_edges_of_pixels_covers_those_between_them() -> None:
    # Tenths of degrees have no exact binary form.
    grid = Grid(west=5.3, north=47.9, res=0.1, width=40, height=30)
    cover = laid(box(5.6, 46.7, 6.1, 47.3), grid)
    assert cover.share.tolist() == [1.0] * 30
    assert sorted(set(cover.row.tolist())) == list(range(6, 12))
    assert sorted(set(cover.col.tolist())) == list(range(3, 8))


def test_the_world_covers_every_pixel_of_the_world() -> None:
    for west in (-180.0, -90.0, 170.0):
        grid = Grid(west=west, north=90.0, res=10.0, width=36, height=18)
        cover = laid(box(-180, -90, 180, 90), grid, 7)
        assert cover.share.tolist() == [1.0] * (36 * 18)
        assert cover.weight.sum() == pytest.approx(4 * np.pi, rel=1e-12)


def test_a_polygon_across_the_antimeridian_covers_both_sides_of_it() -> None:
    (shape,) = shapes_on([Polygon([(179, 0), (-179, 0), (-179, 10), (179, 10)])], "EPSG:4326").geometries
    wanted = np.deg2rad(2) * np.sin(np.deg2rad(10))
    closed, turned, across = (
        Grid(west=-180, north=90, res=1, width=360, height=180),
        Grid(west=-30, north=90, res=1, width=360, height=180),
        Grid(west=170, north=20, res=1, width=20, height=40),
    )
    for grid, cols in ((closed, [0, 359]), (turned, [209, 210]), (across, [9, 10])):
        cover = laid(shape, grid)
        assert sorted(set(cover.col.tolist())) == cols
        assert cover.weight.sum() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("pole", [90, -90])
def test_a_circle_around_a_pole_covers_its_cap(pole: int) -> None:
    found = shapes_on([Point(12, pole * 0.99)], "EPSG:4326", buffer=1_500_000.0)
    wanted = 2 * np.pi * (1 - np.cos(1_500_000 / RADIUS))
    for west in (-180.0, -40.0):
        grid = Grid(west=west, north=90, res=0.5, width=720, height=360)
        cover = laid(found.geometries, grid)
        check_sound(cover, grid)
        assert cover.weight.sum() == pytest.approx(wanted, rel=2e-3)
        assert len(set(cover.col[cover.row == (0 if pole > 0 else 359)].tolist())) == 720


def test_a_polygon_of_a_projected_grid_weighs_its_area_in_its_plane() -> None:
    shape = Point(4_250_000, 2_750_000).buffer(123_456)
    cover = laid(shape, EUROPE)
    assert cover.weight.sum() == pytest.approx(shape.area / EUROPE.res**2, rel=DUST)
    assert cover.weight.tolist() == cover.share.tolist()


# Lines. -------------------------------------------------------------------------------------------------------------


@given(grids(), st.lists(PLACES, min_size=2, max_size=6), st.sampled_from([1, 5, 100]))
@settings(max_examples=200, deadline=None)
def test_the_weights_of_a_lines_pixels_add_up_to_its_length_on_the_sphere(
    grid: Grid, places: list[tuple[float, float]], side: int
) -> None:
    line = LineString(places)
    assume(line.length)
    cover = laid(line, grid, side)
    check_sound(cover, grid)
    frame = extent(grid)
    inside = shapely.intersection(line.segmentize(0.5), frame)
    parts = [part for part in shapely.get_parts(inside) if part.geom_type == "LineString"]
    # What runs along a side of the grid may be counted or not, if dust decides.
    rim = shapely.length(shapely.intersection(line, frame.boundary.buffer(1e-7)))
    wanted = sum(sphere_length(part, 200) for part in parts)
    # GEOS counts what goes forth and back once.
    if LineString(places).is_simple and not rim:
        # Pieces are as long as at their middle: over 30 degrees that is up to 3 % more.
        assert cover.weight.sum() == pytest.approx(wanted, rel=np.deg2rad(grid.res) ** 2 / 6, abs=1e-9)


def test_the_length_of_a_line_in_each_pixel_is_what_shapely_says() -> None:
    generator = np.random.default_rng(5)
    lines = [LineString(generator.uniform((0, 0), (20, 10), (5, 2))) for _ in range(20)]
    lines.append(MultiLineString([[(1, 1), (7, 3)], [(3, 9.5), (3.2, 0.1), (30, 5)]]))
    grid = Grid(west=0, north=10, res=0.5, width=40, height=20)
    cover = laid(lines, grid, 8)
    for number, line in enumerate(lines):
        own = cover.chosen(cover.shape == number)
        found = np.zeros(grid.shape)
        found[own.row, own.col] = own.weight
        for row, col in np.ndindex(*grid.shape):
            piece = shapely.intersection(line, pixel_box(grid, row, col))
            assert found[row, col] == pytest.approx(sphere_length(piece, 50), rel=1e-5, abs=1e-9)


def test_a_projected_lines_pixels_hold_its_length_in_the_plane() -> None:
    line = LineString([(4_010_000, 2_990_000), (4_333_333, 2_666_666), (4_590_000, 2_510_000)])
    cover = laid(line, EUROPE, 16)
    assert cover.weight.sum() == pytest.approx(line.length / EUROPE.res, rel=1e-12)


GRID = Grid(west=0, north=10, res=1, width=10, height=10)


@pytest.mark.parametrize(
    ("line", "pixels"),
    [
        # Along an edge between pixels: the one to the east, or to the south.
        ([(3, 8.5), (3, 7.5)], [(1, 3), (2, 3)]),
        ([(3.5, 8), (4.5, 8)], [(2, 3), (2, 4)]),
        # Along the outer edges: the pixels that have them.
        ([(0, 8.9), (0, 8.1)], [(1, 0)]),
        ([(10, 8.9), (10, 8.1)], [(1, 9)]),
        ([(3.1, 10), (3.9, 10)], [(0, 3)]),
        ([(3.1, 0), (3.9, 0)], [(9, 3)]),
        # Through corners: no more than touches the pixels aside.
        ([(2, 2), (5, 5)], [(5, 4), (6, 3), (7, 2)]),
        ([(0.3, 0.3), (9.7, 9.7)], [(row, 9 - row) for row in range(10)]),
        ([(0.1, 1.2), (2.4, 5.8)], [(4, 2), (5, 1), (6, 1), (7, 0), (8, 0)]),
        # Short ones.
        ([(3.25, 3.25), (3.25, 3.25 + 1e-7)], [(6, 3)]),
    ],
)
def test_a_line_lies_in_one_pixel_at_a_time(line: list[tuple[float, float]], pixels: list[tuple[int, int]]) -> None:
    cover = laid(LineString(line), GRID)
    assert [*zip(cover.row.tolist(), cover.col.tolist(), strict=True)] == pixels
    assert cover.weight.sum() == pytest.approx(sphere_length(LineString(line)), rel=1e-4)
    assert cover.share.tolist() == [1.0] * len(pixels)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 97), st.integers(1, 97))
@settings(deadline=None)
def test_a_line_through_corners_of_pixels_does_not_lie_in_those_aside(
    row: int, col: int, across: int, down: int
) -> None:
    grid = Grid(west=0, north=40, res=0.3, width=400, height=130)
    start = np.array([0.3 * col, 40 - 0.3 * row])
    line = LineString([start, start + np.array([across, -down]) * 0.3])
    cover = laid(line, grid)
    shares = [
        shapely.length(shapely.intersection(line, pixel_box(grid, one, other)))
        for one, other in zip(cover.row, cover.col, strict=True)
    ]
    assert min(shares) > 1e-6
    assert len(cover.row) == across + down - np.gcd(across, down)


@pytest.mark.parametrize("west", [-180.0, -170.0, 10.0])
def test_a_line_where_a_closed_grid_meets_itself_is_counted_once(west: float) -> None:
    grid = Grid(west=west, north=90, res=10, width=36, height=18)
    for lon in {west, -180.0, 180.0}:
        cover = laid(LineString([(lon, 1), (lon, 9)]), grid)
        assert cover.weight.tolist() == [pytest.approx(np.deg2rad(8))]


# Points. ------------------------------------------------------------------------------------------------------------


@given(grids(), st.lists(PLACES, min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_points_lie_in_the_pixels_that_the_grid_says(grid: Grid, places: list[tuple[float, float]]) -> None:
    lonlat = np.array(places)
    cover = laid(shapely.points(lonlat), grid, 8)
    inside = np.flatnonzero(grid.contains(lonlat))
    assert cover.shape.tolist() == inside.tolist()
    rows, cols = grid.positions(lonlat[inside])
    # Positions are freed of dust from farther away.
    assert (abs(cover.row + 0.5 - rows) <= 0.5 + 1e-5).all()
    assert (abs(cover.col + 0.5 - cols) <= 0.5 + 1e-5).all()
    assert cover.weight.tolist() == [1.0] * len(inside)


def test_several_points_count_one_each() -> None:
    cover = laid(MultiPoint([(1.5, 1.5), (1.6, 1.4), (3.5, 3.5), (99, 3)]), GRID)
    pixels = [*zip(cover.row.tolist(), cover.col.tolist(), strict=True)]
    assert pixels == [(6, 3), (8, 1), (8, 1)]
    assert (cover.weight.tolist(), cover.share.tolist()) == ([1.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("place", "pixel"),
    [((0, 10), (0, 0)), ((10, 10), (0, 9)), ((10, 0), (9, 9)), ((0, 0), (9, 0)), ((3, 4), (6, 3)), ((10, 4), (6, 9))],
)
def test_points_on_outer_edges_lie_in_the_last_pixels(place: tuple[float, float], pixel: tuple[int, int]) -> None:
    cover = laid(Point(place), GRID)
    assert [*zip(cover.row.tolist(), cover.col.tolist(), strict=True)] == [pixel]


@pytest.mark.parametrize(("west", "width"), [(-180.0, 10), (170.0, 10), (170.0, 20), (-180.0, 360), (-170.0, 360)])
def test_the_antimeridian_is_one_place_by_either_name(west: float, width: int) -> None:
    grid = Grid(west=west, north=10, res=1, width=width, height=10)
    for lon in (-180.0, 180.0):
        for shape in (Point(lon, 5.5), LineString([(lon, 5.1), (lon, 5.9)])):
            cover = laid(shape, grid)
            assert len(cover.shape) == 1, (shape, cover)


# Nothing, and all kinds together. -----------------------------------------------------------------------------------


def test_nothing_covers_nothing() -> None:
    for shapes in ([], [None], [None, box(50, 50, 60, 60), None]):
        overlay = Overlay(objects(shapes), GRID)
        assert [*overlay.windows(4)] == []
        assert len(overlay.beyond) == len(shapes)


def test_kinds_of_shapes_may_be_mixed() -> None:
    shapes = [box(1, 1, 3, 2), None, LineString([(0.5, 0.5), (5.5, 0.5)]), Point(7.5, 7.5), MultiPoint([(1.5, 1.5)])]
    cover = laid(shapes, GRID)
    assert np.bincount(cover.shape, minlength=5).tolist() == [2, 0, 6, 1, 1]
    for number, shape in enumerate(shapes):
        alone = laid([shape], GRID)
        np.testing.assert_array_equal(cover.weight[cover.shape == number], alone.weight)


@given(grids(), st.one_of(polygons(), st.lists(PLACES, min_size=1, max_size=9).map(MultiPoint)))
@settings(max_examples=200, deadline=None)
def test_what_lies_beyond_a_grid_is_the_rest(grid: Grid, shape: Any) -> None:
    overlay = Overlay(objects(shape), grid)
    if shape.geom_type == "MultiPoint":
        lonlat = shapely.get_coordinates(shape)
        wanted = float((~grid.contains(lonlat)).sum())
    else:
        outside = shapely.difference(shape, extent(grid))
        wanted = sphere_area(outside) if outside.area > 1e-9 else 0.0
    assert overlay.beyond[0] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_what_lies_beyond_is_measured_on_the_sphere() -> None:
    grid = Grid(west=0, north=10, res=0.25, width=40, height=40)
    shapes = [
        box(5, 5, 15, 15), box(1, 1, 2, 2), box(-10, 2, -5, 4), LineString([(5, 0), (15, 0)]),
        LineString([(0, 5), (9, 5)]),
        MultiPoint([(5, 5), (50, 50), (60, 60)]), None, Point(5, 5),
    ]  # fmt: skip
    whole, inside, off = (sphere_area(box(*part)) for part in ((5, 5, 15, 15), (5, 5, 10, 10), (-10, 2, -5, 4)))
    wanted = [whole - inside, 0, off, np.deg2rad(5), 0, 2, 0, 0]
    np.testing.assert_allclose(Overlay(objects(shapes), grid).beyond, wanted, rtol=1e-5, atol=1e-15)


def test_a_hole_along_the_edge_of_a_window_takes_nothing_of_it() -> None:
    # At such a polygon exactextract 0.3 ends the process.
    polygon = Polygon([(-1, -5), (5, -5), (5, 5), (-1, 5)], [[(1, 0), (3, 0), (3, 2), (1, 2)]])
    found = cells_under(np.array([polygon]), Window(0, 0, 4, 4))
    assert found.share.tolist() == [1.0] * 16
    assert sorted(zip(found.row.tolist(), found.col.tolist(), strict=True)) == list(product(range(4), range(4)))
