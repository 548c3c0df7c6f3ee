"""Shapes keep their ground: what lies in them before lies in them after, whatever they come in and go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import antimeridian
import geopandas
import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from shapely import (
    GeometryCollection,
    LinearRing,
    LineString,
    MultiLineString,
    MultiPoint,
    MultiPolygon,
    Point,
    Polygon,
    box,
)

from embedfield.errors import EmbedfieldWarning, PlacesError
from embedfield.shapes import Shapes, shapes_on
from embedfield.shapes.circles import buffered, circles

# Such edges are told apart by where they are cut.
pytestmark = pytest.mark.filterwarnings("ignore:A shape has an edge:embedfield.errors.EmbedfieldWarning")

RADIUS = 6_371_008.8
SPHERE = pyproj.Geod(a=RADIUS, b=RADIUS)
WORLD = box(-180, -90, 180, 90)
COUNTRIES = Path(__file__).parents[2] / "shared/data/naturalearth/ne_110m_admin_0_countries"
# Countries of this world, about: islands across the antimeridian, a land that ends at it, a continent around a pole.
FIJI = Polygon([(177.1, -18.3), (178.8, -16.2), (-179.6, -16.0), (-178.4, -19.2), (179.2, -19.5)])
RUSSIA = Polygon([(30.2, 59.8), (60.1, 69.1), (104.3, 77.7), (180, 70.8), (180, 65.1), (135.2, 44.7), (50.3, 51.5)])
ANTARCTICA = Polygon(
    [(-180, -90), (-180, -84.7), (-60.4, -63.3), (40.2, -69.5), (110.1, -66.1), (180, -84.7), (180, -90)]
)
SWISS = Polygon([(2_500_123, 1_118_456), (2_600_789, 1_267_012), (2_830_456, 1_160_321), (2_720_654, 1_080_777)])
with np.errstate(invalid="ignore"):
    UNKNOWN = Polygon([(0, 0), (1, 0), (np.nan, 1), (0, 1)])
    ENDLESS = LineString([(0, 0), (1, np.inf)])

Places = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def ready(shape: Any, crs: str = "EPSG:4326", target: str = "EPSG:4326", **options: Any) -> Any:
    """One shape, which must come out right in form."""
    found = shapes_on(np.array([shape], dtype=object), crs, target, **options)
    assert found.status.tolist() == [""]
    form_is_right(found, target)
    return found.geometries[0]


def form_is_right(found: Shapes, target: str = "EPSG:4326") -> None:
    shapes = found.geometries[found.status == ""]
    assert shapely.is_missing(found.geometries[found.status != ""]).all()
    assert not (shapely.is_missing(shapes) | shapely.is_empty(shapes) | shapely.has_z(shapes)).any()
    assert shapely.is_valid(shapes).all()
    assert (shapely.get_type_id(shapes) < shapely.GeometryType.GEOMETRYCOLLECTION).all()
    if target == "EPSG:4326" and len(shapes):
        assert abs(shapely.get_coordinates(shapes)).max(axis=0)[0] <= 180
        assert abs(shapely.get_coordinates(shapes)).max(axis=0)[1] <= 90


def area(shape: shapely.Geometry) -> float:
    """Square metres on the sphere of a shape whose edges are straight in degrees: the integral of sin(lat) d(lon)."""
    total = 0.0
    for polygon in shapely.get_parts(shape):
        for number, ring in enumerate(shapely.get_rings(polygon)):
            lon, lat = np.deg2rad(shapely.get_coordinates(ring)).T
            # The mean of sin along an edge, in closed form.
            mean = np.sin((lat[1:] + lat[:-1]) / 2) * np.sinc(np.diff(lat) / (2 * np.pi))
            total += (-1) ** (number > 0) * abs(np.sum(np.diff(lon) * mean))
    return float(total) * RADIUS**2


def box_area(width: float, south: float, north: float) -> float:
    return float(RADIUS**2 * np.deg2rad(width) * np.diff(np.sin(np.deg2rad([south, north])))[0])


def cap_area(radius: float) -> float:
    return float(4 * np.pi * RADIUS**2 * np.sin(radius / RADIUS / 2) ** 2)


def sprinkled(count: int = 60_000, seed: int = 0) -> Places:
    """Places all over the sphere, evenly."""
    draw = np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    return np.column_stack((180 * draw[:, 0], np.rad2deg(np.arcsin(draw[:, 1]))))


def held(shape: shapely.Geometry, xy: Places) -> Mask:
    shapely.prepare(shape)
    there = np.isfinite(xy).all(axis=1)
    found = np.zeros(len(xy), dtype=bool)
    found[there] = shapely.intersects_xy(shape, xy[there])
    return found


def moved(lonlat: Places, crs: str) -> Places:
    """Places in another reference system, inf where they are not in it."""
    return np.column_stack(pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*lonlat.T))


def clear_of(shape: shapely.Geometry, xy: Places, distance: float) -> Mask:
    """Which places are not right beside the edge of a shape."""
    there = np.isfinite(xy).all(axis=1)
    clear = np.ones(len(xy), dtype=bool)
    clear[there] = ~shapely.dwithin(shapely.boundary(shape), shapely.points(xy[there]), distance)
    return clear


def assert_same_ground(one: Mask, other: Mask) -> None:
    assert one.any()
    assert not one.all()
    np.testing.assert_array_equal(one, other)


# What needs nothing.


@pytest.mark.parametrize(
    "shape",
    [
        Point(180, 3.3),
        Point(-180, -90),
        MultiPoint([(1.1, 2), (3, 4)]),
        LineString([(0.1, 0.2), (170.3, 5)]),
        LineString([(-180, 5), (180, 5)]),
        RUSSIA,
        ANTARCTICA,
        WORLD,
        box(-180, -60, 180, 60),
        MultiPolygon([box(170, 0, 180, 10), box(-180, 0, -170, 10)]),
        Polygon(box(0, 0, 30, 30).exterior, [box(10.1, 10.2, 20.3, 20.4).exterior]),
    ],
)
def test_a_shape_in_degrees_that_is_right_stays_bit_for_bit(shape: shapely.Geometry) -> None:
    for crs in ("EPSG:4326", "OGC:CRS84", pyproj.CRS("EPSG:4326").to_wkt(), "EPSG:4979"):
        assert shapely.equals_identical(ready(shape, crs), shape)


def test_a_shape_in_the_grids_own_plane_stays_bit_for_bit() -> None:
    far = box(-9e7, -9e7, 9e7, 9e7)
    for shape in (SWISS, SWISS.boundary, SWISS.centroid, far):
        assert shapely.equals_identical(ready(shape, "EPSG:2056", "EPSG:2056"), shape)


def test_any_sequence_of_geometries_is_taken() -> None:
    points = [Point(1, 2), None, Point(3, 4)]
    for given_as in (points, geopandas.GeoSeries(points), np.array(points, dtype=object)):
        assert shapes_on(given_as, "EPSG:4326").status.tolist() == ["", "missing", ""]
    assert shapes_on([], "EPSG:3035", buffer=10.0).status.tolist() == []


def test_the_given_geometries_are_left_as_they_are() -> None:
    shapes = np.array([Point(200, 0, 5), box(170, 0, 190, 10), Point(np.nan, 0), LinearRing([(0, 0), (1, 0), (1, 1)])])
    before = shapes.copy()
    shapes_on(shapes, "EPSG:4326", "EPSG:3857")
    assert all(one is other for one, other in zip(shapes, before, strict=True))


def test_heights_fall_off() -> None:
    assert ready(Point(1, 2, 3)).wkt == "POINT (1 2)"
    assert ready(Polygon([(0, 0, 5), (1, 0, np.nan), (1, 1, 5)])).equals(Polygon([(0, 0), (1, 0), (1, 1)]))
    assert ready(shapely.from_wkt("LINESTRING M (0 0 1, 1 1 2)")).wkt == "LINESTRING (0 0, 1 1)"


# What is missing or invalid.


@pytest.mark.parametrize(
    ("shape", "crs", "status"),
    [
        (None, "EPSG:4326", "missing"),
        (Point(), "EPSG:4326", "missing"),
        (MultiPolygon(), "EPSG:4326", "missing"),
        (GeometryCollection(), "EPSG:3035", "missing"),
        (GeometryCollection([Point(), LineString()]), "EPSG:3035", "missing"),
        (Point(np.nan, np.nan), "EPSG:4326", "missing"),
        (Point(np.nan, 3), "EPSG:4326", "missing"),
        (Point(np.inf, 3), "EPSG:4326", "invalid"),
        (MultiPoint([(0, 0), (-np.inf, 3)]), "EPSG:4326", "invalid"),
        (UNKNOWN, "EPSG:4326", "invalid"),
        (ENDLESS, "EPSG:2056", "invalid"),
        (Point(0, 90.1), "EPSG:4326", "invalid"),
        (Point(541, 0), "EPSG:4326", "invalid"),
        (box(-541, 0, 0, 1), "EPSG:4326", "invalid"),
        (box(0, -91, 1, 1), "EPSG:4326", "invalid"),
        (box(600_000, 200_000, 610_000, 210_000), "EPSG:4326", "invalid"),
        (Point(0, 0.3), "EPSG:4807", ""),
        (Point(0, 100.3), "EPSG:4807", "invalid"),
        (Point(3e7, 0), "ESRI:54009", "invalid"),
        (box(-1.8e7, -9e6, 1.8e7, 9e6), "ESRI:54009", "invalid"),
        (Point(2.1e7, 0), "EPSG:3857", "invalid"),
    ],
)
@pytest.mark.parametrize("target", ["EPSG:4326", "EPSG:3857"])
def test_what_is_no_place_gets_a_status(shape: shapely.Geometry, crs: str, status: str, target: str) -> None:
    if crs == target == "EPSG:3857":
        # In the grid's own plane it is beside the grid, and nothing else is asked of it.
        status = ""
    found = shapes_on(np.array([shape, Point(1, 2)], dtype=object), crs, target)
    assert found.status.tolist() == [status, ""]
    form_is_right(found, target)


def test_a_hair_beyond_a_pole_is_at_the_pole() -> None:
    assert shapely.get_coordinates(ready(Point(7, 90 + 5e-10))).tolist() == [[7, 90]]
    assert ready(box(0, -90 - 5e-10, 10, 0)).bounds == (0, -90, 10, 0)


# Repairs.


def test_a_bow_tie_becomes_its_halves() -> None:
    found = ready(Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]))
    assert found.equals(MultiPolygon([Polygon([(0, 0), (1, 1), (0, 2)]), Polygon([(2, 2), (1, 1), (2, 0)])]))


def test_a_spike_falls_off() -> None:
    found = ready(Polygon([(0, 0), (1, 0), (1, 1), (5, 5), (1, 1), (0, 1)]))
    assert found.equals(box(0, 0, 1, 1))


def test_a_polygon_without_extent_becomes_what_is_left_of_it() -> None:
    assert ready(Polygon([(0, 0), (1, 1), (2, 2)])).length == pytest.approx(np.sqrt(8))
    assert ready(Polygon([(3, 3), (3, 3), (3, 3)])).equals(Point(3, 3))
    assert ready(LineString([(3, 3), (3, 3)])).equals(Point(3, 3))
    assert ready(Polygon([(179, 3), (-179, 5), (179, 3), (179, 3)])).bounds == (-180, 3, 180, 5)


def test_of_a_collection_the_parts_of_the_highest_dimension_stay() -> None:
    mixed = GeometryCollection(
        [Point(50, 50), box(0, 0, 1, 1), GeometryCollection([LineString([(0, 0), (9, 9)]), box(2, 2, 3, 3)])]
    )
    assert ready(mixed).equals(MultiPolygon([box(0, 0, 1, 1), box(2, 2, 3, 3)]))
    assert ready(GeometryCollection([Point(1, 1), LineString([(0, 0), (9, 9)])])).wkt == "LINESTRING (0 0, 9 9)"
    assert ready(GeometryCollection([MultiPoint([(1, 1), (2, 2)]), Point(3, 3)])).equals(
        MultiPoint([(1, 1), (2, 2), (3, 3)])
    )


def test_overlapping_parts_are_united_and_empty_ones_left_out() -> None:
    overlapping = MultiPolygon([box(0, 0, 2, 2), box(1, 1, 3, 3)])
    assert ready(overlapping).equals(box(0, 0, 2, 2).union(box(1, 1, 3, 3)))
    assert ready(shapely.from_wkt("MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), EMPTY)")).geom_type == "Polygon"
    assert ready(LinearRing([(0, 0), (1, 0), (1, 1)])).geom_type == "LineString"


def test_repairs_are_the_same_in_a_plane() -> None:
    bow_tie = Polygon([(2_600_000, 1_200_000), (2_602_000, 1_202_000), (2_602_000, 1_200_000), (2_600_000, 1_202_000)])
    assert ready(bow_tie, "EPSG:2056", "EPSG:2056").area == 2e6
    assert ready(bow_tie, "EPSG:2056", "EPSG:3035").area == pytest.approx(2e6, rel=1e-3)


# The antimeridian.


@given(
    st.floats(-360, 360),
    st.floats(0.001, 175),
    st.floats(-89.9, 89),
    st.floats(0.001, 90),
    st.sampled_from([None, -360, 0, 360]),
)
@settings(max_examples=200, deadline=None)
def test_a_box_anywhere_keeps_its_area(
    west: float, width: float, south: float, height: float, turn: int | None
) -> None:
    east, north = west + width, min(90.0, south + height)
    shape = box(west, south, east, north)
    if turn is None:
        # As files have it: each corner for itself, from -180 to 180.
        shape = shapely.transform(shape, lambda xy: np.column_stack(((xy[:, 0] + 180) % 360 - 180, xy[:, 1])))
    elif west + turn >= -540 and east + turn <= 540:
        shape = box(west + turn, south, east + turn, north)
    found = ready(shape)
    # A square metre is what rounding leaves of sums over the globe.
    assert area(found) == pytest.approx(box_area(width, south, north), rel=1e-9, abs=1.0)
    middle = np.array([[((west + east) / 2 + 180) % 360 - 180, (south + north) / 2]])
    assert held(found, middle).all()


@given(
    st.lists(st.tuples(st.integers(-8900, 8900), st.integers(-8500, 8500)), min_size=3, max_size=9),
    st.integers(-180_000, 180_000),
)
@settings(max_examples=100, deadline=None)
def test_a_ring_turned_around_the_globe_holds_the_same_places_turned(hundredths: list[Any], thousandths: int) -> None:
    corners, turn = [(lon / 100, lat / 100) for lon, lat in hundredths], thousandths / 1000
    shape = shapely.make_valid(Polygon(corners))
    if shape.area < 1:
        return
    turned = shapely.transform(
        Polygon(corners), lambda xy: np.column_stack(((xy[:, 0] + turn + 180) % 360 - 180, xy[:, 1]))
    )
    lonlat = sprinkled(3000)
    lonlat = lonlat[clear_of(shape, lonlat, 1e-6)]
    around = np.column_stack(((lonlat[:, 0] + turn + 180) % 360 - 180, lonlat[:, 1]))
    np.testing.assert_array_equal(held(ready(turned), around), held(shape, lonlat))


@pytest.mark.parametrize(
    "shape",
    [
        FIJI,
        Polygon([(170, -10), (-170, -10), (-170, 10), (175, 10), (175, 5), (-175, 5), (-175, -5), (170, -5)]),
        Polygon([(100, 0), (-170, 10), (-100, 0), (-170, 60)]),
    ],
)
def test_a_polygon_whose_edges_jump_is_cut_as_the_package_antimeridian_does(shape: Polygon) -> None:
    expected = antimeridian.fix_polygon(shape, fix_winding=True, great_circle=False)
    found = ready(shape)
    # It rounds what it cuts to a centimetre.
    assert found.symmetric_difference(expected).area <= 1e-5
    assert len(found.geoms) == len(expected.geoms)


def test_holes_survive_the_cut_wherever_they_are() -> None:
    across = [(179.1, -17.4), (-179.7, -17.3), (179.8, -18.4)]
    west = [(178.1, -17.9), (178.6, -18), (178.3, -18.3)]
    found = ready(Polygon(FIJI.exterior, [across, west]))
    expected = area(ready(FIJI)) - area(ready(Polygon(across))) - area(Polygon(west))
    assert area(found) == pytest.approx(expected, rel=1e-12)
    places = np.array([(179.9, -17.6), (-179.9, -17.4), (178.3, -18.1), (179.0, -17.9), (-179.3, -17.5)])
    assert held(found, places).tolist() == [False, False, False, True, True]
    turned = shapely.transform(
        Polygon(FIJI.exterior, [across, west]), lambda xy: np.column_stack((xy[:, 0] % 360, xy[:, 1]))
    )
    assert found.symmetric_difference(ready(turned)).area < 1e-9


@pytest.mark.parametrize("reverse", [False, True])
def test_corners_on_the_antimeridian_itself_do_no_harm(reverse: bool) -> None:
    corners = [(179, -10), (180, -10), (-180, -10), (-179, -10), (-179, 10), (-180, 10), (180, 10), (179, 10)]
    found = ready(Polygon(corners[::-1] if reverse else corners))
    assert found.equals(MultiPolygon([box(179, -10, 180, 10), box(-180, -10, -179, 10)]))
    touching = Polygon([(170, 0), (180, 5), (170, 10)])
    assert shapely.equals_identical(ready(touching), touching)
    assert ready(Polygon([(170, 0), (-180, 0), (-180, 10), (170, 10)])).equals(box(170, 0, 180, 10))


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_ring_around_a_pole_holds_the_smaller_part(side: int, reverse: bool) -> None:
    ring = [(-170, 80 * side), (-90, 66 * side), (0, 70 * side), (90, 65 * side), (170, 80 * side)]
    found = ready(Polygon(ring[::-1] if reverse else ring))
    assert held(
        found, np.array([(-180.0, 89.0 * side), (180, 89 * side), (33, 90 * side), (0, 69 * side)])
    ).tolist() == [
        True,
        True,
        True,
        False,
    ]
    closed = Polygon([(-180, 80 * side), *ring, (180, 80 * side), (180, 90 * side), (-180, 90 * side)])
    assert area(found) == pytest.approx(area(closed), rel=1e-12)


def test_a_hole_around_a_pole_is_a_hole() -> None:
    def parallel(lat: float) -> list[tuple[float, float]]:
        return [(lon, lat) for lon in range(-150, 180, 60)]

    found = ready(Polygon(parallel(60), [parallel(80)]))
    assert area(found) == pytest.approx(box_area(360, 60, 80))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([(179, 0), (-179, 2)], [[(179, 0), (180, 1)], [(-180, 1), (-179, 2)]]),
        ([(179, 0), (181, 2)], [[(179, 0), (180, 1)], [(-180, 1), (-179, 2)]]),
        ([(-181, 0), (-179, 2)], [[(179, 0), (180, 1)], [(-180, 1), (-179, 2)]]),
        ([(350, 0), (370, 20)], [[(-10, 0), (10, 20)]]),
        ([(180, 0), (180, 20)], [[(180, 0), (180, 20)]]),
    ],
)
def test_a_line_is_cut_and_turned(line: list[Any], expected: list[Any]) -> None:
    assert ready(LineString(line)).equals(MultiLineString(expected))


@given(st.lists(st.tuples(st.floats(-540, 540), st.floats(-90, 90)), min_size=1, max_size=5))
def test_points_are_turned_into_the_range(places: list[Any]) -> None:
    expected = [((lon + 180) % 360 - 180, lat) for lon, lat in places]
    for found in (
        shapely.get_coordinates(shapes_on([Point(*place) for place in places], "EPSG:4326").geometries),
        shapely.get_coordinates(ready(MultiPoint(places))),
    ):
        assert abs(found[:, 0]).max() <= 180
        offs = abs(found[:, 0] - np.array(expected)[:, 0])
        assert np.minimum(offs, abs(offs - 360)).max() < 1e-9
        np.testing.assert_array_equal(found[:, 1], [lat for _, lat in places])


def test_a_world_from_0_to_360_is_the_world() -> None:
    assert ready(box(0, -90, 360, 90)).equals(WORLD)
    assert ready(box(-250, -90, 250, 90)).equals(WORLD)


# From a plane.

DISK = Point(0, 0).buffer(2.5e6, quad_segs=64)


@pytest.mark.parametrize(
    ("shape", "crs"),
    [
        (DISK, "EPSG:3413"),
        (DISK, "EPSG:3031"),
        (DISK.difference(Point(0, 0).buffer(8e5)), "EPSG:3413"),
        (DISK.difference(Point(1e6, 1e6).buffer(8e5)), "EPSG:3031"),
        # A corner, an edge at the pole; an edge right past it.
        (box(0, 0, 2e6, 2e6), "EPSG:3031"),
        (box(-1e6, 0, 1e6, 2e6), "EPSG:3413"),
        (Polygon([(-1e6, -1e6), (1e6, 1e6), (-1e6, 1e6)]), "EPSG:3413"),
        (box(-1e6, 3, 1e6, 2e6), "EPSG:3413"),
        (box(-1e6, -3, 1e6, 2e6), "EPSG:3413"),
        (box(2e6, -1e6, 6e6, 3e6), "EPSG:3832"),
        (box(2e6, -1e6, 6e6, 3e6).difference(box(3e6, 0, 4e6, 1e6)), "EPSG:3832"),
        (box(-2.0037508342789244e7, -1e7, 2.0037508342789244e7, 1e7), "EPSG:3857"),
        (SWISS, "EPSG:2056"),
        (box(4e6, 2e6, 6e6, 5e6), "EPSG:3035"),
        # Both poles in it, and one.
        (Point(4_321_000, 3_210_000).buffer(1.25e7, quad_segs=64), "EPSG:3035"),
        (Point(0, 0).buffer(1.2e7, quad_segs=64), "EPSG:9311"),
        (Point(0, 0).buffer(9e6, quad_segs=64), "EPSG:9311"),
        (Point(0, 0).buffer(1.5e7, quad_segs=64), "ESRI:102016"),
        (box(300_000, 5_000_000, 700_000, 5_500_000), "EPSG:32660"),
        (box(9e5, 9e5, 4e6, 4e6), "EPSG:2225"),
    ],
)
def test_a_shape_of_a_plane_holds_the_same_places_on_the_globe(shape: Polygon, crs: str) -> None:
    found = ready(shape, crs)
    lonlat = sprinkled()
    if area(found) < 1e12:
        low, high = np.array(found.bounds[:2]), np.array(found.bounds[2:])
        lonlat = low - 0.1 * (high - low) + np.random.default_rng(1).uniform(0, 1.2, (3000, 2)) * (high - low)
    xy = moved(lonlat, crs)
    there = np.isfinite(xy).all(axis=1)
    # Where a plane shows a place twice, as the antipode of its centre, the way back decides.
    unit = pyproj.CRS(crs).axis_info[0].unit_conversion_factor
    clear = there & clear_of(shape, xy, 200 / unit)
    assert_same_ground(held(found, lonlat[clear]), held(shape, xy[clear]))


def test_edges_follow_their_course_as_densified_ones_do_in_geopandas() -> None:
    found = ready(SWISS, "EPSG:2056")
    expected = geopandas.GeoSeries([shapely.segmentize(SWISS, 100)], crs="EPSG:2056").to_crs(4326)[0]
    # In metres, nearly.
    scale = 111_000 * np.array([np.cos(np.deg2rad(47)), 1])
    one, other = (shapely.transform(shape, lambda xy: xy * scale) for shape in (found, expected))
    assert one.hausdorff_distance(other) <= 10
    assert one.symmetric_difference(other).area / one.area < 1e-4
    assert len(found.exterior.coords) < 200
    finer = shapely.transform(ready(SWISS, "EPSG:2056", precision=0.1), lambda xy: xy * scale)
    assert finer.hausdorff_distance(other) <= 0.2


def test_lines_and_points_of_a_plane_land_where_pyproj_says() -> None:
    back = pyproj.Transformer.from_crs("EPSG:3832", "EPSG:4326", always_xy=True)
    xy = np.array([(2e6, 1e6), (5e6, -1e6)])
    np.testing.assert_allclose(
        shapely.get_coordinates(ready(MultiPoint(xy), "EPSG:3832")), np.column_stack(back.transform(*xy.T)), atol=1e-9
    )
    line = ready(LineString(xy), "EPSG:3832")
    assert line.geom_type == "MultiLineString"
    far = moved(shapely.get_coordinates(line), "EPSG:3832")
    assert shapely.distance(LineString(xy), shapely.points(far)).max() < 10


def test_a_line_across_a_pole_stays_on_its_course() -> None:
    line = LineString([(-1e6, 0), (1e6, 0)])
    found = ready(line, "EPSG:3413")
    xy = moved(shapely.get_coordinates(shapely.segmentize(found, 0.01)), "EPSG:3413")
    assert shapely.distance(line, shapely.points(xy)).max() < 15
    assert shapely.get_coordinates(found)[:, 1].max() > 89.999


def test_the_world_in_degrees_of_another_datum_or_meridian_is_the_world() -> None:
    assert ready(WORLD, "EPSG:4267").equals(WORLD)
    # Grads, from Paris.
    assert ready(box(-200, -100, 200, 100), "EPSG:4807").equals(WORLD)
    moved_box = ready(box(195, 0, 205, 10), "EPSG:4807")
    west = 2.33722917
    assert area(moved_box) == pytest.approx(box_area(9, 0, 9), rel=1e-3)
    assert moved_box.bounds[0] == pytest.approx(195 * 0.9 + west, abs=0.01) or moved_box.bounds[0] == -180


# To a plane.


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        (FIJI, "EPSG:3832"),
        (FIJI, "EPSG:8857"),
        (FIJI, "EPSG:3857"),
        (FIJI, "EPSG:3460"),
        (RUSSIA, "EPSG:3035"),
        (RUSSIA, "EPSG:3413"),
        (RUSSIA, "EPSG:6933"),
        (ANTARCTICA, "EPSG:3031"),
        (ANTARCTICA, "EPSG:6932"),
        (ANTARCTICA, "EPSG:8859"),
        (box(-180, 60, 180, 90), "EPSG:3413"),
        (box(-30, 30, 60, 75), "EPSG:3035"),
        (box(-60, -30, 30, 30), "EPSG:8859"),
        (Polygon(box(0, 40, 20, 60).exterior, [box(5, 45, 10, 50).exterior]), "EPSG:32633"),
        (box(-100, 20, -60, 50), "EPSG:2225"),
    ],
)
def test_a_shape_in_degrees_holds_the_same_places_in_a_plane(shape: Polygon, target: str) -> None:
    found = ready(shape, target=target)
    whole = ready(shape)
    west, south, east, north = whole.bounds
    lonlat = np.random.default_rng(1).uniform((west, south - 3), (east, min(90, north + 3)), (20_000, 2))
    lonlat = lonlat[clear_of(whole, lonlat, 0.005) & (abs(lonlat[:, 1]) < 89.9)]
    assert_same_ground(held(found, moved(lonlat, target)), held(whole, lonlat))


def test_the_world_on_a_map_of_europe_is_all_but_the_other_side() -> None:
    found = ready(WORLD, target="EPSG:3035")
    # An equal-area map: what is missing lies around the antipode.
    assert found.area == pytest.approx(510.066e12, rel=0.003)
    assert not held(found, np.array([(4_321_000 + 1.274e7, 3_210_000)])).any()


def test_the_world_on_maps_that_are_cut_open_elsewhere_is_the_world() -> None:
    for target in ("EPSG:8857", "EPSG:8858", "EPSG:8859", "EPSG:6933"):
        assert ready(WORLD, target=target).area == pytest.approx(510.066e12, rel=1e-4)
    low, high = np.array(ready(WORLD, target="EPSG:3857").bounds).reshape(2, 2)
    np.testing.assert_allclose((low[0], high[0]), (-20037508.34, 20037508.34), rtol=1e-9)
    assert high[1] > 20037508.34


def test_what_a_plane_cannot_show_is_outside() -> None:
    south = [Point(10, -90), box(0, -90, 10, -89.5), LineString([(0, -89.9), (50, -89.7)])]
    found = shapes_on(south, "EPSG:4326", "EPSG:3857")
    assert found.status[1:].tolist() == ["outside", "outside"]
    found = shapes_on([box(0, 80, 10, 85), *south[1:]], "EPSG:4326", "EPSG:3413")
    assert found.status.tolist() == ["", "outside", "outside"]


def test_halves_on_both_sides_of_the_antimeridian_are_one_where_a_plane_joins_them() -> None:
    pole = box(-180, 60, 180, 90)
    found = ready(MultiPolygon([box(170, 60, 180, 70), box(-180, 60, -170, 70)]), target="EPSG:3413")
    assert found.geom_type == "Polygon"
    assert ready(pole, target="EPSG:3413").geom_type == "Polygon"


def test_a_plane_to_another_is_the_way_that_geopandas_goes() -> None:
    found = ready(SWISS, "EPSG:2056", "EPSG:3035")
    expected = geopandas.GeoSeries([shapely.segmentize(SWISS, 100)], crs="EPSG:2056").to_crs(3035)[0]
    assert found.hausdorff_distance(expected) <= 10


# Buffers.


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(0, 6.69897))
@settings(max_examples=150, deadline=None)
def test_a_circle_is_as_far_everywhere_and_as_large_as_it_should_be(lon: float, lat: float, power: float) -> None:
    radius = 10**power
    found = circles(np.array([(lon, lat)]), radius)[0]
    form_is_right(Shapes(np.array([found]), np.array([""])))
    if radius > 100:
        # Smaller ones are beyond what the sum of areas on the whole sphere can tell.
        assert area(found) == pytest.approx(cap_area(radius), rel=1e-3)
    edge = shapely.get_coordinates(shapely.segmentize(found, max(found.length / 3000, 1e-9)))
    edge = edge[(abs(edge[:, 0]) < 180) & (abs(edge[:, 1]) < 90)]
    _, _, far = SPHERE.inv(np.full(len(edge), lon), np.full(len(edge), lat), *edge.T)
    assert abs(far - radius).max() <= 1e-3 * radius + 1e-6
    assert found.intersects(Point(lon, lat))


@pytest.mark.parametrize(("lat", "radius"), [(90, 1e6), (-90, 5e6), (89.99, 1e4), (85, 6e5), (-85, 5e6), (60, 5e6)])
def test_a_circle_over_a_pole_holds_it(lat: float, radius: float) -> None:
    found = circles(np.array([(77.0, lat)]), radius)[0]
    assert area(found) == pytest.approx(cap_area(radius), rel=1e-3)
    assert found.bounds[::2] == (-180, 180)
    assert held(found, np.array([(lon, np.copysign(90.0, lat)) for lon in (-180.0, 0, 33, 180)])).all()
    lonlat = sprinkled()
    _, _, far = SPHERE.inv(np.full(len(lonlat), 77.0), np.full(len(lonlat), lat), *lonlat.T)
    clear = abs(far / radius - 1) > 1e-3
    np.testing.assert_array_equal(held(found, lonlat[clear]), far[clear] < radius)


def test_circles_have_as_many_corners_as_are_wanted() -> None:
    assert shapely.get_num_coordinates(circles(np.array([(0.0, 0.0)]), 1000.0, corners=12)).tolist() == [13]


def test_a_buffer_of_points_is_circles_and_of_others_is_as_far() -> None:
    lonlat = np.array([(179.99, 10.0), (5, 50), (0, 90)])
    found = shapes_on([*shapely.points(lonlat), None], "EPSG:4326", buffer=5000.0)
    assert found.status.tolist() == ["", "", "", "missing"]
    assert shapely.equals_identical(found.geometries[:3], circles(lonlat, 5000.0)).all()


@pytest.mark.parametrize(
    "shape",
    [
        LineString([(179.5, 10), (-179.5, 11)]),
        LineString([(5, 60), (6, 61), (7, 60.2)]),
        MultiPoint([(5, 60), (5.4, 60.2)]),
        Polygon(box(5, 60, 6, 60.5).exterior, [box(5.1, 60.1, 5.9, 60.4).exterior]),
        box(-180.4, -20.2, -179.6, -19.8),
        LineString([(10, 89.9), (-130, 89.8)]),
    ],
)
def test_a_buffer_holds_what_is_near_and_nothing_else(shape: shapely.Geometry) -> None:
    radius = 8000.0
    found, own = ready(shape, buffer=radius), ready(shape)
    points = shapely.get_coordinates(shapely.segmentize(own, 0.005))
    lonlat = np.random.default_rng(2).uniform(-0.4, 0.4, (4000, 2)) + points[np.arange(4000) % len(points)]
    lonlat = np.column_stack(((lonlat[:, 0] + 180) % 360 - 180, lonlat[:, 1].clip(-90, 90)))
    chord = cKDTree(on_sphere(points)).query(on_sphere(lonlat))[0]
    far = 2 * RADIUS * np.arcsin(np.clip(chord / 2, 0, 1))
    inside = held(own, lonlat) if own.area else np.zeros(len(lonlat), dtype=bool)
    clear = abs(far - radius) > 0.01 * radius
    assert_same_ground(held(found, lonlat[clear]), (far < radius)[clear] | inside[clear])


def on_sphere(lonlat: Places) -> Places:
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def test_a_cap_around_a_pole_grows_by_its_buffer() -> None:
    cap = circles(np.array([(0.0, -90.0)]), 300_000.0)[0]
    found = buffered(np.array([cap, None], dtype=object), 100_000.0)
    assert area(found[0]) == pytest.approx(cap_area(400_000), rel=2e-3)
    assert found[1] is None


def test_a_buffer_of_a_plane_is_made_on_the_sphere() -> None:
    found = ready(Point(0, 2e6), "EPSG:3413", "EPSG:3413", buffer=100_000.0)
    true = ready(Point(0, 2e6), "EPSG:3413", buffer=100_000.0)
    assert area(true) == pytest.approx(cap_area(100_000), rel=1e-3)
    # Stereographic: nearly a circle, larger by the scale there.
    lon, lat = ready(Point(0, 2e6), "EPSG:3413").coords[0]
    scale = pyproj.Proj("EPSG:3413").get_factors(lon, lat).areal_scale
    ellipsoid = abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(true)[0])
    assert found.area == pytest.approx(ellipsoid * scale, rel=1e-3)


@pytest.mark.parametrize("metres", [0, -1, np.nan, np.inf, 5_000_001])
def test_a_buffer_that_cannot_be_is_refused(metres: float) -> None:
    with pytest.raises(PlacesError, match="cannot be drawn. Give one above 0"):
        shapes_on([Point(0, 0)], "EPSG:4326", buffer=metres)


def test_a_shape_too_wide_for_a_buffer_is_refused_by_its_place() -> None:
    shapes = [Point(0, 0), None, LineString([(0, 0), (3, 3)]), box(0, 0, 12, 1), ANTARCTICA]
    with pytest.raises(PlacesError, match=r"around longitude 7\.2\d*, latitude 0\.4\d* is 1,33\d km wide"):
        shapes_on(shapes, "EPSG:4326", buffer=10.0)
    with pytest.raises(PlacesError, match="too wide for a buffer"):
        shapes_on([MultiPoint([(0, 0), (180, 0)])], "EPSG:4326", buffer=10.0)


@pytest.mark.parametrize("crs", ["EPSG:1", "metres", "EPSG:5773", "IAU_2015:49900"])
def test_a_reference_system_that_is_none_on_the_globe_is_refused(crs: str) -> None:
    with pytest.raises(PlacesError, match="reference system"):
        shapes_on([Point(0, 0)], crs)


# Countries.


@pytest.mark.skipif(not COUNTRIES.exists(), reason="Natural Earth is not beside the project")
@pytest.mark.parametrize("crs", ["EPSG:4326", "ESRI:54009", "EPSG:8859", "EPSG:3857"])
def test_countries_keep_their_ground_through_any_map_of_the_world(crs: str) -> None:
    table = pyogrio.read_dataframe(COUNTRIES, columns=[])
    own = shapes_on(table.geometry, "EPSG:4326").geometries
    there = shapes_on(own, "EPSG:4326", crs)
    form_is_right(there, crs)
    back = shapes_on(there.geometries, crs)
    form_is_right(back)
    for one, other in zip(own, back.geometries, strict=True):
        # Mercator's map ends before the pole does.
        if crs != "EPSG:3857" or one.bounds[1] > -85:
            assert area(other) == pytest.approx(area(one), rel=1e-4)


def test_an_edge_that_jumps_is_warned_of() -> None:
    with pytest.warns(EmbedfieldWarning, match="an edge from longitude 179 to -179: it is taken the short way"):
        shapes_on([Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)])], "EPSG:4326")


@pytest.mark.filterwarnings("error::embedfield.errors.EmbedfieldWarning")
def test_edges_that_do_not_jump_are_not_warned_of() -> None:
    long = Polygon([(-100, 0), (0, 0), (100, 0), (100, 1), (0, 1), (-100, 1)])
    found = shapes_on([box(-180, -90, 180, 90), box(170, 0, 190, 1), long], "EPSG:4326")
    assert found.status.tolist() == ["", "", ""]
