"""Region: an area to which a field is confined, read from a vector file."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import shapely
from affine import Affine

from embedfield.errors import GridError, PlacesError
from embedfield.grid import snapped
from embedfield.projection import DEGREES, plane_of, projection
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    import pyproj

    from embedfield.grid import Bounds, Grid

    Pixels = npt.NDArray[np.int64]

# Metres of an edge that are looked at together, before it is known how it bends in another reference system.
STRETCH = 100_000.0
# The same where only the bounds are wanted.
SHORT_STRETCH = 10_000.0
# Pixels by which an edge may be drawn beside its course.
BEND = 0.02
# How often an edge is halved. What is not straight then is where a map is cut open.
HALVINGS = 28
# How often at least, whatever becomes of them.
PATIENCE = 10
# Pixels, a side, of the squares that are drawn at a time.
SQUARE = 512
# The same of those whose edges are kept together.
BUNDLE = 256
# Corners of a shape that is worth being cut to a window before it is drawn.
LARGE = 1000
QUARTERS = ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
POLES = np.array([(0.0, 90.0), (0.0, -90.0)])


@dataclass(frozen=True)
class Region:
    """Polygons, lines and points in one reference system.

    Make one with `read` or `from_geometries`. Edges are straight in the
    reference system that they came in; what its plane cannot show, as beyond
    the sides of a map of the world, is left out.
    """

    name: str
    """What it is called: the name of its file, without suffix, or of its layer."""
    sha256: str
    """Digest of its geometry and reference system."""
    crs: str = field(repr=False)
    """Its reference system: an authority's code, or WKT."""
    parts: tuple[shapely.Geometry, ...] = field(repr=False, compare=False)
    """Polygons, lines and points, none of them empty or multiple; longitudes within [-180, 180]."""

    @classmethod
    def read(cls, path: str | Path, layer: str | None = None) -> Self:
        """Return the region that a vector file draws: all its features together.

        Args:
            path: Any vector file that pyogrio reads, or GeoParquet; polygons,
                lines or points.
            layer: Name of a layer, where the file has several.

        Raises:
            PlacesError: If the file is missing, cannot be read, says no
                reference system, or draws nothing on the globe.
        """
        path = Path(path)
        if not path.exists():
            raise PlacesError(f"{path} does not exist. Give a vector file, such as a GeoPackage or GeoJSON.")
        geometries, crs = _features(path, layer)
        if crs is None:
            raise PlacesError(
                f"{path} does not say its reference system. Set it, as with 'ogr2ogr -a_srs EPSG:4326 OUT {path.name}'."
            )
        name = layer or path.name.split(".")[0] or path.name
        return cls.from_geometries(geometries, crs, name, source=str(path))

    @classmethod
    def from_geometries(
        cls, geometries: Iterable[Any], crs: str | pyproj.CRS, name: str = "region", *, source: str | None = None
    ) -> Self:
        """Return the region of geometries, all together.

        Args:
            geometries: Of shapely, or a GeoSeries; what is empty is left out.
            crs: Their reference system, as pyproj takes it; x is longitude or
                easting, whatever the order of its axes.
            name: What to call it.
            source: Where they came from, for messages; None for the name.

        Raises:
            PlacesError: If nothing is left, or a coordinate is not on the globe.
        """
        source = source or name
        code, plane = plane_of(crs, source)
        flat = shapely.force_2d(np.array(list(geometries), dtype=object))
        if not np.isfinite(shapely.get_coordinates(flat)).all():
            raise PlacesError(f"{source} has coordinates that are not finite. Remove such features.")
        parts = _parts(flat)
        if not len(parts):
            raise PlacesError(f"{source} draws nothing: no feature has a geometry. Give one that does.")
        if plane.crs.is_geographic:
            parts = _around(parts, 2 * np.pi / plane.crs.axis_info[0].unit_conversion_factor, source)
        held = sorted({part.wkb for part in shapely.normalize(parts)})
        digest = hashlib.sha256(code.encode() + b"".join(held)).hexdigest()
        region = cls(name=name, sha256=digest, crs=code, parts=tuple(shapely.from_wkb(held)))
        if code != DEGREES and not len(_outline(region)):
            raise PlacesError(
                f"{source} lies outside of what its reference system, {plane.crs.name}, can show. Is it the right one?"
            )
        return region

    def bounds(self, crs: str = DEGREES) -> Bounds:
        """Return the smallest box around it: west, south, east, north in units of a reference system.

        In EPSG:4326 the narrowest around the circle of longitudes: across the
        antimeridian, where east passes 180, if that is the shorter way.

        Args:
            crs: EPSG:4326, or a projected one.

        Raises:
            GridError: If the reference system can show none of it.
        """
        if crs == DEGREES:
            return _narrowest(self)
        if crs == self.crs:
            xy = shapely.bounds(np.array(self.parts)).reshape(-1, 2)
        else:
            xy = projection(crs).forward(_outline(self).reshape(-1, 2))
            xy = xy[~np.isnan(xy).any(axis=1)]
            if not len(xy):
                raise GridError(f"crs={crs!r} can show nothing of {self.name}. Choose another one.")
        low, high = xy.min(axis=0), xy.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def mask(self, grid: Grid, window: Window | None = None) -> npt.NDArray[np.bool_]:
        """Return which pixels the region touches: coasts and small islands stay whole.

        Args:
            grid: Where the pixels are.
            window: Part of the grid; the whole of it if None.

        Returns:
            (height, width); memory is bounded by the window.

        Raises:
            GridError: If the window passes the edge of the grid.
        """
        window = grid.checked(window)
        touched = _burnt(self, grid, window)
        if grid.crs != self.crs:
            # Edges alone were drawn: a pixel that none crosses is inside if its centre is.
            for tile in Window(0, 0, window.width, window.height).tiles(256, 256):
                part = touched[tile.rows, tile.cols]
                rows, cols = np.nonzero(~part)
                inside = _inside(self, grid, rows + window.row_off + tile.row_off, cols + window.col_off + tile.col_off)
                part[rows, cols] = inside
        return touched

    def holds(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which places, degrees (N, 2), lie in a polygon of the region, (N,); NaN lies in none."""
        xy = lonlat if self.crs == DEGREES else projection(self.crs).forward(lonlat)
        held = np.zeros(len(xy), dtype=bool)
        if np.isnan(xy).all():
            return held
        tree, polygons = _polygons(self)
        frame = shapely.box(*np.nanmin(xy, axis=0), *np.nanmax(xy, axis=0))
        for polygon in polygons[tree.query(frame)]:
            west, south, east, north = polygon.bounds
            near = ~held & (xy[:, 0] >= west) & (xy[:, 0] <= east) & (xy[:, 1] >= south) & (xy[:, 1] <= north)
            held[near] = shapely.intersects_xy(polygon, xy[near, 0], xy[near, 1])
        return held

    def contains(self, grid: Grid, rows: npt.ArrayLike, cols: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which single pixels the region touches, (N,): what `mask` says of them.

        Args:
            grid: Where the pixels are.
            rows: Rows, (N,), whole numbers.
            cols: Columns, (N,), whole numbers.

        Raises:
            GridError: If a pixel is not on the grid.
        """
        rows, cols = grid.checked_pixels(rows, cols)
        touched = np.zeros(len(rows), dtype=bool)
        across = -(-grid.width // SQUARE)
        number = rows // SQUARE * across + cols // SQUARE
        order = np.argsort(number, kind="stable")
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        for members in np.split(order, starts[1:]) if len(order) else ():
            down, right = divmod(int(number[members[0]]), across)
            square = _square(self, grid, down, right)
            touched[members] = square[rows[members] - down * SQUARE, cols[members] - right * SQUARE]
        if grid.crs != self.crs:
            left = np.flatnonzero(~touched)
            touched[left] = _inside(self, grid, rows[left], cols[left])
        return touched

    def some_pixels(self, grid: Grid, count: int) -> tuple[Pixels, Pixels]:
        """Return rows and columns of the first pixels, at most so many, that its edges, lines or points touch."""
        found, held = [], 0
        for tile in grid.window.tiles(SQUARE, SQUARE):
            found.append(np.argwhere(_burnt(self, grid, tile)) + np.array([tile.row_off, tile.col_off]))
            held += len(found[-1])
            if held >= count:
                break
        rows, cols = np.concatenate(found)[:count].T
        return rows, cols


def _features(path: Path, layer: str | None) -> tuple[Any, pyproj.CRS | None]:
    """Return the geometries of a file and their reference system.

    Raises:
        PlacesError: If it cannot be read.
    """
    import geopandas
    import pyogrio

    try:
        if path.suffix.lower() == ".parquet":
            table = geopandas.read_parquet(path)
        else:
            _check_layer(path, layer, [str(name) for name in pyogrio.list_layers(path)[:, 0]])
            table = pyogrio.read_dataframe(path, layer=layer, columns=[])
    except PlacesError:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        raise PlacesError(f"{path} cannot be read: {str(error).splitlines()[0]}. Is it a vector file?") from error
    if not isinstance(table, geopandas.GeoDataFrame):
        raise PlacesError(f"{path} has no geometries. Give a file of polygons, lines or points.")
    return table.geometry.array, table.crs


def _check_layer(path: Path, layer: str | None, layers: list[str]) -> None:
    if layer is None and len(layers) > 1:
        raise PlacesError(f"{path} has several layers: {', '.join(layers)}. Name one with --layer.")
    if layer is not None and layer not in layers:
        raise PlacesError(f"{path} has no layer {layer!r}. Choose from: {', '.join(layers)}.")


def _parts(geometries: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return valid polygons, lines and points, none multiple or empty, of which geometries consist."""
    parts = geometries[~(shapely.is_missing(geometries) | shapely.is_empty(geometries))]
    wrong = ~shapely.is_valid(parts)
    parts[wrong] = shapely.make_valid(parts[wrong])
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():
        parts = shapely.get_parts(parts)
    found: npt.NDArray[Any] = parts[~shapely.is_empty(parts)]
    return found


def _around(parts: npt.NDArray[Any], turn: float, source: str) -> npt.NDArray[Any]:
    """Return parts in degrees with longitudes within half a turn of 0: what lies beyond is cut and turned.

    Raises:
        PlacesError: If a coordinate is no place on the globe.
    """
    west, south, east, north = shapely.bounds(parts).T
    half, quarter = turn / 2, turn / 4
    if not (west.min() >= -3 * half and east.max() <= 3 * half and max(-south.min(), north.max()) <= quarter):
        raise PlacesError(
            f"{source} has coordinates out of range: x from {west.min():g} to {east.max():g}, y from "
            f"{south.min():g} to {north.max():g}, in degrees. Is that its reference system?"
        )
    beyond = (west < -half) | (east > half)
    found, dimensions = [parts[~beyond]], shapely.get_dimensions(parts[beyond])
    for shift in (-turn, 0.0, turn):
        moved = shapely.transform(parts[beyond], functools.partial(np.add, (shift, 0.0)))
        cut = shapely.intersection(moved, shapely.box(-half, -quarter, half, quarter))
        pieces, origins = shapely.get_parts(cut, return_index=True)
        # What only touches the cut leaves a line or a point there.
        found.append(pieces[shapely.get_dimensions(pieces) == dimensions[origins]])
    return _parts(np.concatenate(found))


def _edges(parts: npt.NDArray[Any], longest: float) -> npt.NDArray[np.float64]:
    """Return both ends (x, y) of the edges of polygons and lines, (N, 2, 2), none longer than said."""
    polygons = shapely.get_dimensions(parts) == 2
    lines = np.concatenate((shapely.get_parts(shapely.boundary(parts[polygons])), parts[~polygons]))
    xy, line = shapely.get_coordinates(shapely.segmentize(lines, longest), return_index=True)
    found: npt.NDArray[np.float64] = np.stack((xy[:-1], xy[1:]), axis=1)[line[1:] == line[:-1]]
    return found


def _split(region: Region) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return the polygons and lines of a region, and its points (x, y), (N, 2)."""
    parts = np.array(region.parts)
    points = shapely.get_dimensions(parts) == 0
    return parts[~points], shapely.get_coordinates(parts[points])


def _on_globe(region: Region, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return places of the region's plane in degrees, (N, 2); NaN where they are not on the globe."""
    return xy if region.crs == DEGREES else projection(region.crs).inverse(xy)


@functools.lru_cache(maxsize=8)
def _outline(region: Region) -> npt.NDArray[np.float64]:
    """Return both ends of short stretches of all edges and lines, points twice: degrees, (N, 2, 2)."""
    shapes, points = _split(region)
    edges = _edges(shapes, SHORT_STRETCH / projection(region.crs).metres)
    both = np.concatenate((edges, np.stack((points, points), axis=1)))
    lonlat = _on_globe(region, both.reshape(-1, 2)).reshape(-1, 2, 2)
    return lonlat[~np.isnan(lonlat).any(axis=(1, 2))]


def _narrowest(region: Region) -> Bounds:
    """Return the narrowest box around a region on the globe."""
    if region.crs == DEGREES:
        west, south, east, north = shapely.bounds(np.array(region.parts)).T
        lats = np.concatenate((south, north))
        return _box(west, east - west, lats)
    outline = _outline(region)
    lats = outline[:, :, 1].ravel()
    held = POLES[region.holds(POLES)]
    if len(held):
        return _box(np.array([-180.0]), np.array([360.0]), np.concatenate((lats, held[:, 1])))
    # From one end to the other it goes the shorter way around.
    steps = np.diff(outline[:, :, 0], axis=1)[:, 0]
    steps -= 360 * np.rint(steps / 360)
    return _box(outline[:, 0, 0] + np.minimum(steps, 0), abs(steps), lats)


def _box(starts: npt.NDArray[np.float64], widths: npt.NDArray[np.float64], lats: npt.NDArray[np.float64]) -> Bounds:
    """Return the narrowest box around arcs of the circle of longitudes, and latitudes."""
    south, north = float(lats.min()), float(lats.max())
    order = np.argsort((starts + 180) % 360)
    # Three times around, so that each gap of the middle round has its neighbours.
    first = np.concatenate([(starts[order] + 180) % 360 + turn for turn in (-540.0, -180.0, 180.0)])
    last = np.maximum.accumulate(first + np.tile(widths[order], 3))
    gaps = np.where((last[:-1] >= -180) & (last[:-1] < 180), first[1:] - last[:-1], 0.0)
    widest = int(gaps.argmax())
    if gaps[widest] < 1e-9:
        return -180.0, south, 180.0, north
    west, east = float(first[widest + 1]), float(last[widest])
    west -= 360 * (west >= 180)
    return west, south, east + 360 * (east < west), north


@functools.lru_cache(maxsize=8)
def _drawn(region: Region, grid: Grid) -> tuple[shapely.STRtree, npt.NDArray[Any]]:
    """Return what is to be burnt, in pixels of a grid, x from its left and y from its top.

    Whole polygons where the grid is in the region's reference system: edges
    are straight in both. Elsewhere only edges, straight piece by piece.
    """
    shapes, points = _split(region)
    rows, cols = grid.positions(_on_globe(region, points))
    # As for places that are sampled, the outer edges belong to the last pixels.
    dots = np.column_stack((cols - 0.5 * (cols == grid.width), rows - 0.5 * (rows == grid.height)))
    burnt = [shapely.points(dots[~np.isnan(dots).any(axis=1)])]
    if grid.crs == region.crs:
        past = grid.geographic and grid.bounds[2] > 180
        turns = (0.0, 360.0) if past else (0.0,)
        burnt += [shapely.transform(shapes, functools.partial(_in_pixels, grid, turn)) for turn in turns]
    else:
        burnt.append(_straightened(region, grid, _edges(shapes, STRETCH / projection(region.crs).metres)))
    found = np.concatenate(burnt)
    return shapely.STRtree(found), found


def _in_pixels(grid: Grid, turn: float, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (column, row) of places in the grid's plane, fractional, (N, 2)."""
    return snapped(np.column_stack(((xy[:, 0] + turn - grid.west) / grid.res, (grid.north - xy[:, 1]) / grid.res)))


def _straightened(region: Region, grid: Grid, edges: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return edges of a region (N, 2, 2) in pixels of a grid, as lines in bundles.

    An edge is halved until its halves are straight there. One that never
    becomes so passes where the map is cut open, as at the antimeridian.
    """

    def place(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(grid.positions(_on_globe(region, xy))[::-1])

    ends = np.stack((place(edges[:, 0]), place(edges[:, 1])), axis=1)
    drawn = [np.empty((0, 2, 2))]
    for halving in range(HALVINGS):
        middle = edges.mean(axis=1)
        found = place(middle)
        bend = abs(found - ends.mean(axis=1)).max(axis=1, initial=0.0)
        near = _near(np.concatenate((ends, found[:, None]), axis=1), grid)
        straight = bend <= BEND
        drawn.append(ends[near & straight])
        left = near & ~straight
        if halving > PATIENCE:
            # Where the map ends, one end of an edge is beyond it; what else comes and goes is rounding.
            beyond = np.isnan(ends).any(axis=2)
            left &= np.where(beyond.any(axis=1), ~beyond.all(axis=1), ~np.isnan(found).any(axis=1))
        if not left.any():
            break
        edges = np.concatenate([np.stack((edges[left, end], middle[left]), axis=1) for end in (0, 1)])
        ends = np.concatenate([np.stack((ends[left, end], found[left]), axis=1) for end in (0, 1)])
    return _bundled(np.concatenate(drawn))


def _near(points: npt.NDArray[np.float64], grid: Grid) -> npt.NDArray[np.bool_]:
    """Return which courses, known at a few points each (N, k, 2) in pixels, may touch a grid; (N,)."""
    lost = np.isnan(points).any(axis=(1, 2))
    low, high = points[~lost].min(axis=1), points[~lost].max(axis=1)
    # It may bend beyond its points, though hardly by as much as they are apart.
    room = high - low + 1
    near = lost & ~np.isnan(points).all(axis=(1, 2))
    near[~lost] = ((high + room >= 0) & (low - room <= [grid.width, grid.height])).all(axis=1)
    return near


def _bundled(lines: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return lines (N, 2, 2) bundled by where they lie: one geometry for each square of pixels."""
    squares = np.floor(lines.mean(axis=1) / BUNDLE).astype(np.int64)
    _, bundle = np.unique(squares, axis=0, return_inverse=True)
    order = np.argsort(bundle, kind="stable")
    found: npt.NDArray[Any] = shapely.multilinestrings(shapely.linestrings(lines[order]), indices=bundle[order])
    return found


def _burnt(region: Region, grid: Grid, window: Window) -> npt.NDArray[np.bool_]:
    """Return which pixels (height, width) of a window are touched by what `_drawn` returns."""
    touched = np.empty((window.height, window.width), dtype=bool)
    for down in range(window.row_off // SQUARE, (window.rows.stop - 1) // SQUARE + 1):
        for right in range(window.col_off // SQUARE, (window.cols.stop - 1) // SQUARE + 1):
            square, top, left = _square(region, grid, down, right), down * SQUARE, right * SQUARE
            rows = slice(max(window.row_off, top), min(window.rows.stop, top + SQUARE))
            cols = slice(max(window.col_off, left), min(window.cols.stop, left + SQUARE))
            touched[
                rows.start - window.row_off : rows.stop - window.row_off,
                cols.start - window.col_off : cols.stop - window.col_off,
            ] = square[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    return touched


@functools.lru_cache(maxsize=64)
def _square(region: Region, grid: Grid, down: int, right: int) -> npt.NDArray[np.bool_]:
    """Return which pixels of one of the squares that a grid consists of are touched by what `_drawn` returns.

    An edge through a pixel's corner may or may not touch it, by GDAL's
    rounding, which depends on where drawing starts: so that a pixel is the same
    in every window, it is drawn in its own square.
    """
    import rasterio.features

    tree, shapes = _drawn(region, grid)
    top, left = down * SQUARE, right * SQUARE
    height, width = min(SQUARE, grid.height - top), min(SQUARE, grid.width - left)
    frame = shapely.box(left - 2, top - 2, left + width + 2, top + height + 2)
    found = shapes[tree.query(frame, predicate="intersects")]
    large = shapely.get_num_coordinates(found) > LARGE
    found[large] = shapely.clip_by_rect(found[large], *frame.bounds)
    moved = shapely.transform(found[~shapely.is_empty(found)], functools.partial(np.add, (-left, -top)))
    if not len(moved):
        return np.zeros((height, width), dtype=bool)
    burnt = rasterio.features.rasterize(
        moved.tolist(), (height, width), transform=Affine.identity(), all_touched=True, dtype=np.uint8
    )
    touched: npt.NDArray[np.bool_] = burnt.astype(bool)
    return touched


def _inside(region: Region, grid: Grid, rows: Pixels, cols: Pixels) -> npt.NDArray[np.bool_]:
    """Return which pixels have their centre in a polygon of the region, (N,)."""
    centres = grid.centres(rows, cols)
    held = region.holds(centres)
    # At the edge of a round map a pixel may be on the globe although its centre is not.
    off = np.flatnonzero(np.isnan(centres[:, 0]))
    for down, right in QUARTERS if len(off) else ():
        held[off] |= region.holds(grid.places_at(rows[off] + down, cols[off] + right))
    return held


@functools.lru_cache(maxsize=8)
def _polygons(region: Region) -> tuple[shapely.STRtree, npt.NDArray[Any]]:
    """Return the polygons of a region, prepared to be asked many times."""
    shapes, _ = _split(region)
    polygons = shapes[shapely.get_dimensions(shapes) == 2]
    shapely.prepare(polygons)
    return shapely.STRtree(polygons), polygons
