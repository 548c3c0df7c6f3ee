"""COG: rasterio, rioxarray, rio-cogeo and hand-worked numbers are the truth."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rioxarray
import shapely
import xarray as xr
from fields import ArrayField, Breaking, bumpy, listing
from rasterio.env import get_gdal_config
from rasterio.errors import RasterioIOError
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterioWindow
from rio_cogeo.cogeo import cog_validate

from embedfield.errors import EmbedfieldError, GridError, OutputExistsError
from embedfield.formats import cog, open_field, packing, stored, tiff, write_field
from embedfield.grid import Grid
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from embedfield.evaluate import EncodedField
    from embedfield.formats.packing import Dtype

DIM, HEIGHT, WIDTH = 3, 300, 257
every_dtype = pytest.mark.parametrize("dtype", ["uint8", "float32"])
# Height and width of a field, and of each of its overviews, which end when both sides are within 128.
SHAPES = {
    (1, 1): [],
    (1, 300): [(1, 150), (1, 75)],
    (128, 128): [],
    (129, 128): [(65, 64)],
    (130, 127): [(65, 64)],
    (256, 384): [(128, 192), (64, 96)],
    (300, 257): [(150, 129), (75, 65)],
}


@pytest.fixture(scope="module")
def values() -> npt.NDArray[np.float32]:
    """Return what most tests write."""
    return bumpy(DIM, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def single(values: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one COG."""
    return write_field(ArrayField(values), tmp_path_factory.mktemp("single") / "field.tif").disk_path


@pytest.fixture(scope="module")
def tiled(values: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the VRT of nine tiles of the same field, for which a memory of 128 x 128 pixels was enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "BUDGET", 128 * 128 * DIM)
        return write_field(ArrayField(values), tmp_path_factory.mktemp("tiled") / "field.tif").disk_path


def decoded(dataset: Any, window: RasterioWindow | None = None, codes: Any = None) -> npt.NDArray[np.float64]:
    """Return codes * scale + offset, as any reader of GeoTIFF would; those of the dataset unless others are given."""
    codes = dataset.read(window=window) if codes is None else codes
    scale, offset = (np.array(numbers).reshape(-1, 1, 1) for numbers in (dataset.scales, dataset.offsets))
    missing = np.isnan(codes) if np.isnan(dataset.nodata) else codes == dataset.nodata
    return np.where(missing, np.nan, codes * scale + offset)


def quad_means(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return means of 2 x 2 pixels that leave out NaN and what lies past the edge."""
    dim, height, width = pixels.shape
    even = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2)), constant_values=np.nan)
    quads = even.reshape(dim, -(-height // 2), 2, -(-width // 2), 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4)
    means = [np.mean(quad[~np.isnan(quad)]) if not np.isnan(quad).all() else np.nan for quad in quads]
    return np.reshape(means, (dim, -(-height // 2), -(-width // 2)))


def test_the_file_says_where_it_is_and_what_its_numbers_mean(single: Path) -> None:
    with rasterio.open(single) as dataset:
        assert dataset.crs.to_epsg() == 4326
        assert tuple(dataset.transform)[:6] == (0.1, 0, -10, 0, -0.1, 50)
        assert dataset.shape == (HEIGHT, WIDTH)
        assert dataset.descriptions == ("array_000", "array_001", "array_002")
        assert dataset.dtypes == ("uint8",) * DIM
        assert dataset.nodatavals == (0,) * DIM
        assert dataset.tags()["AREA_OR_POINT"] == "Area"
        # Bands of ranges 1, 10 and 100.
        assert dataset.scales[0] < dataset.scales[1] / 8 < dataset.scales[2] / 64


@every_dtype
def test_the_layout_is_what_a_reader_over_the_network_wants(tmp_path: Path, dtype: Dtype) -> None:
    with rasterio.open(
        write_field(ArrayField(bumpy(2, 300, 140)), tmp_path / "field.tif", dtype=dtype).disk_path
    ) as found:
        structure = found.tags(ns="IMAGE_STRUCTURE")
        assert found.block_shapes == [(128, 128)] * 2
    assert {"LAYOUT": "COG", "COMPRESSION": "ZSTD", "INTERLEAVE": "TILE"}.items() <= structure.items()
    assert structure["PREDICTOR"] == {"uint8": "2", "float32": "3"}[dtype]


@every_dtype
@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize(("shape", "overviews"), SHAPES.items())
def test_any_shape_is_a_valid_cog_with_the_overviews_it_needs(
    tmp_path: Path, shape: tuple[int, int], overviews: list[tuple[int, int]], dim: int, dtype: Dtype
) -> None:
    values = np.random.default_rng(1).normal(size=(dim, *shape)).astype(np.float32)
    with write_field(ArrayField(values), tmp_path / "field.tif", dtype=dtype) as field:
        found = field.read()
    assert listing(tmp_path) == ["field.tif"]
    assert cog_validate(field.disk_path, strict=True) == (True, [], [])
    with rasterio.open(field.disk_path) as dataset:
        np.testing.assert_array_equal(found, decoded(dataset))
        assert len(dataset.overviews(1)) == len(overviews)
    for level, size in enumerate(overviews):
        with rasterio.open(field.disk_path, overview_level=level) as small:
            assert small.shape == size


def test_read_gives_codes_times_scale_plus_offset_to_the_last_bit(
    single: Path, values: npt.NDArray[np.float32]
) -> None:
    with rasterio.open(single) as dataset, open_field(single) as field:
        found = field.read()
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, decoded(dataset))
        half_steps = np.array(dataset.scales).reshape(-1, 1, 1) / 2
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    # A few values beyond the range of the sample saturate; all others are within half a step.
    beyond = abs(found - values) > half_steps * (1 + 1e-3)
    assert beyond.sum() <= field.saturated < 0.001 * values.size


# rioxarray has one attribute for the scale of all bands and says so; and affine means to retire its `*`.
@pytest.mark.filterwarnings("ignore:(Scales|Offsets) differ across bands", "ignore:Use .@. matmul")
@pytest.mark.parametrize("dim", [1, DIM])
@every_dtype
def test_rioxarray_decodes_the_same_values(
    tmp_path: Path, values: npt.NDArray[np.float32], dim: int, dtype: Dtype
) -> None:
    field = write_field(ArrayField(values[:dim]), tmp_path / "field.tif", dtype=dtype)
    array = rioxarray.open_rasterio(field.disk_path, mask_and_scale=True)
    assert isinstance(array, xr.DataArray)
    with array:
        np.testing.assert_array_equal(array, field.read())
        assert array.rio.crs.to_epsg() == 4326
        np.testing.assert_allclose(array.x, -9.95 + 0.1 * np.arange(WIDTH), rtol=0, atol=1e-9)
        np.testing.assert_allclose(array.y, 49.95 - 0.1 * np.arange(HEIGHT), rtol=0, atol=1e-9)
        np.testing.assert_array_equal(np.isnan(array), np.isnan(values[:dim]))


def test_float32_is_stored_bit_for_bit(tmp_path: Path, values: npt.NDArray[np.float32]) -> None:
    odd = values.copy()
    odd[0, 100, :4] = -0.0, 1e-45, 3.4e38, -1e-30
    with write_field(ArrayField(odd), tmp_path / "field.tif", dtype="float32") as field:
        assert field.read().view(np.uint32).tolist() == odd.view(np.uint32).tolist()
        assert field.saturated == 0
    with rasterio.open(field.disk_path) as dataset:
        assert np.isnan(dataset.nodatavals).all()
        assert (dataset.scales, dataset.offsets) == ((1,) * DIM, (0,) * DIM)
        assert dataset.read().view(np.uint32).tolist() == odd.view(np.uint32).tolist()


def test_an_overview_is_the_mean_worked_out_by_hand(tmp_path: Path) -> None:
    # With the range 1 to 255 the codes are the values. An odd number of rows and of columns.
    values = np.full((1, 129, 125), 7.0)
    values[0, :2, :6] = [[1, 2, 1, 2, np.nan, np.nan], [3, np.nan, 2, 2, np.nan, 255]]
    values[0, 2:4, :2] = np.nan
    values[0, :2, -1] = 10, 12
    values[0, -1, :2] = 20, 22
    values[0, -1, -1] = 99
    path = write_field(ArrayField(values), tmp_path / "field.tif").disk_path
    with rasterio.open(path) as full, rasterio.open(path, overview_level=0) as small:
        assert (full.scales, full.offsets) == ((1,), (0,))
        means = small.read(1)
    assert means.shape == (65, 63)
    # (1 + 2 + 3) / 3; (1 + 2 + 2 + 2) / 4 rounded; one pixel alone; none at all; edges; the corner.
    assert means[0, :3].tolist() == [2, 2, 255]
    assert means[1, 0] == 0
    assert (means[0, -1], means[-1, 0], means[-1, -1]) == (11, 21, 99)
    assert means[5, 5] == 7


@every_dtype
def test_each_overview_is_the_mean_of_the_level_below(
    tmp_path: Path, values: npt.NDArray[np.float32], dtype: Dtype
) -> None:
    values = values.copy()
    values[:, np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.3] = np.nan
    path = write_field(ArrayField(values), tmp_path / "field.tif", dtype=dtype).disk_path
    levels = []
    with rasterio.open(path) as full:
        levels.append(decoded(full))
        for level in range(2):
            # GDAL tells scale and offset of the full resolution alone.
            with rasterio.open(path, overview_level=level) as small:
                levels.append(decoded(full, codes=small.read()))
        steps = np.array(full.scales).reshape(-1, 1, 1)
    for below, found in pairwise(levels):
        truth = quad_means(below)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
        tolerance = steps / 2 * (1 + 1e-9) if dtype == "uint8" else abs(truth) * 1e-5 + 1e-5
        assert (np.nan_to_num(abs(found - truth)) <= np.nan_to_num(tolerance)).all()


@every_dtype
def test_a_small_picture_is_made_from_an_overview_and_keeps_the_hole(tmp_path: Path, dtype: Dtype) -> None:
    values = np.random.default_rng(1).uniform(size=(1, 256, 256)).astype(np.float32)
    values[:, :64, :64] = np.nan
    path = write_field(ArrayField(values), tmp_path / "field.tif", dtype=dtype).disk_path
    with rasterio.open(path) as full, rasterio.open(path, overview_level=0) as small:
        np.testing.assert_array_equal(full.read(out_shape=(128, 128)), small.read())
        assert not full.read_masks(1, out_shape=(128, 128))[:32, :32].any()


@pytest.mark.parametrize("budget", [2**29, 256 * 256 * DIM])
@every_dtype
def test_a_coarser_level_is_read_as_gdal_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Dtype, budget: int
) -> None:
    values = bumpy(DIM, 421, 530)
    single = write_field(ArrayField(values), tmp_path / "single.tif", dtype=dtype).disk_path
    monkeypatch.setattr(cog, "BUDGET", budget * np.dtype(dtype).itemsize)
    window = Window(100, 37, 165, 174)
    with write_field(ArrayField(values), tmp_path / "field.tif", dtype=dtype) as field, rasterio.open(single) as full:
        levels = {2: (211, 265)} if field.disk_path.suffix == ".vrt" else {2: (211, 265), 4: (106, 133), 8: (53, 67)}
        assert field.overviews == levels
        for factor, shape in levels.items():
            with rasterio.open(single, overview_level=factor.bit_length() - 2) as small:
                truth = decoded(full, codes=small.read())
            found = field.read_overview(factor)
            assert found.shape == (DIM, *shape)
            np.testing.assert_array_equal(found, truth)
        np.testing.assert_array_equal(
            field.read_overview(2, window), field.read_overview(2)[:, window.rows, window.cols]
        )


def test_a_file_without_coarser_levels_has_none(single: Path, tiled: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tif"
    rasterio.shutil.copy(single, whole, driver="GTiff", compress="zstd")
    with open_field(whole) as field, open_field(tiled) as tiles:
        assert field.overviews == tiles.overviews == {}
        with pytest.raises(GridError, match=r"factor=2 is no coarser level of .*whole\.tif\. It has: none"):
            field.read_overview(2)


def test_a_level_or_a_window_that_is_not_there_is_refused(single: Path) -> None:
    with open_field(single) as field:
        with pytest.raises(GridError, match=r"factor=3 is no coarser level of .*\. It has: 2, 4"):
            field.read_overview(3)
        with pytest.raises(GridError, match="passes the edge of a level of 129 x 150 pixels"):
            field.read_overview(2, Window(129, 0, 1, 1))


@pytest.mark.parametrize(("west", "res", "width"), [(170.0, 0.05, 400), (-180.0, 1 / 30, 300), (0.1, 0.05, 200)])
@pytest.mark.parametrize("budget", [2**29, 128 * 128])
def test_the_grid_comes_back_exactly(tmp_path: Path, west: float, res: float, width: int, budget: int) -> None:
    grid = Grid(west=west, north=20.1, res=res, width=width, height=100)
    values = np.random.default_rng(1).random((1, 100, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "BUDGET", budget)
        path = write_field(ArrayField(values, grid), tmp_path / "field.tif").disk_path
    assert path.suffix == (".vrt" if budget < 2**29 else ".tif")
    assert open_field(path).grid == grid
    with rasterio.open(path) as dataset:
        assert tuple(dataset.transform)[:6] == (res, 0, west, 0, -res, 20.1)


def test_a_field_across_the_antimeridian_runs_past_180(tmp_path: Path, make_field: Callable[..., EncodedField]) -> None:
    computed = make_field(0.5, (170, -10, -170, 10))
    with write_field(computed, tmp_path / "field.tif") as field:
        np.testing.assert_allclose(field.read(), computed.read(), rtol=0, atol=field.packing.max_error.max() * 1.001)
    with rasterio.open(field.disk_path) as dataset:
        assert dataset.bounds == pytest.approx((170, -10, 190, 10))
        # x and y of the centre of a pixel at 179.75 E, 0.25 N and of its neighbour at 179.75 W.
        for col, lon in ((19, 179.75), (20, -179.75)):
            pixel = decoded(dataset, RasterioWindow(col, 19, 1, 1)).ravel()
            east, north = np.deg2rad([lon, 0.25])
            truth = [np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)]
            assert pixel == pytest.approx(truth, abs=field.packing.max_error.max() * 1.001)


def test_tiles_hold_the_same_values_as_one_file(single: Path, tiled: Path) -> None:
    with open_field(single) as one, open_field(tiled) as many:
        assert many.disk_path == tiled
        assert tiled.suffix == ".vrt"
        np.testing.assert_array_equal(many.read(), one.read())
        assert many.saturated == one.saturated
        assert (many.grid, many.card) == (one.grid, one.card)


def test_tiles_open_as_one_raster_without_us(single: Path, tiled: Path) -> None:
    with rasterio.open(single) as one, rasterio.open(tiled) as many:
        assert many.descriptions == one.descriptions
        assert (many.scales, many.offsets, many.nodatavals) == (one.scales, one.offsets, one.nodatavals)
        assert (many.crs, many.transform, many.shape) == (one.crs, one.transform, one.shape)
        np.testing.assert_array_equal(many.read(), one.read())


def test_each_tile_is_a_valid_cog_at_its_own_place(tiled: Path, single: Path) -> None:
    corners = [(row, col) for row in (0, 128, 256) for col in (0, 128, 256)]
    names = [f"r{row:06d}c{col:06d}.tif" for row, col in corners]
    assert listing(tiled.parent) == sorted(["field.vrt", "field.tiles", *(f"field.tiles/{name}" for name in names)])
    for (row, col), name in zip(corners, names, strict=True):
        path = tiled.parent / "field.tiles" / name
        assert cog_validate(path, strict=True) == (True, [], [])
        with rasterio.open(path) as tile, rasterio.open(single) as whole:
            assert tile.bounds.left == pytest.approx(-10 + 0.1 * col)
            assert tile.bounds.top == pytest.approx(50 - 0.1 * row)
            window = RasterioWindow(col, row, tile.width, tile.height)
            np.testing.assert_array_equal(tile.read(), whole.read(window=window))
            assert tile.descriptions == whole.descriptions


def test_tiles_are_as_large_as_memory_allows_and_no_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 2 bands of 4 bytes: 256 x 256 pixels are 512 KiB. One byte less, and the side is the next power of two.
    field = ArrayField(bumpy(2, 300, 300))
    for budget, side in ((2**19, 256), (2**19 - 1, 128)):
        monkeypatch.setattr(cog, "BUDGET", budget)
        path = write_field(field, tmp_path / f"side{side}.tif", dtype="float32").disk_path
        with rasterio.open(path.parent / f"side{side}.tiles" / "r000000c000000.tif") as tile:
            assert tile.shape == (side, side)


@pytest.mark.parametrize("kind", ["single", "tiled"])
@pytest.mark.parametrize("corner", [(0, 0, 1, 1), (100, 120, 60, 150), (0, 127, 257, 2), (256, 299, 1, 1)])
def test_a_window_is_that_part_of_the_whole(
    kind: str, corner: tuple[int, int, int, int], request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    window = Window(*corner)
    with open_field(path) as field, rasterio.open(path) as dataset:
        found = field.read(window)
        np.testing.assert_array_equal(found, field.read()[:, window.rows, window.cols])
        np.testing.assert_array_equal(found, decoded(dataset, RasterioWindow(*corner)))


@pytest.mark.parametrize("kind", ["single", "tiled"])
def test_a_window_past_the_edge_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    with (
        open_field(request.getfixturevalue(kind)) as field,
        pytest.raises(GridError, match=r"passes the edge of a grid of 257 x 300"),
    ):
        field.read(Window(250, 0, 8, 1))


def test_tiles_can_be_moved_with_their_vrt(tiled: Path, single: Path, tmp_path: Path) -> None:
    shutil.copytree(tiled.parent, tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "second")
    with open_field(tmp_path / "second" / "field.vrt") as moved, open_field(single) as one:
        np.testing.assert_array_equal(moved.read(), one.read())


@pytest.mark.parametrize("budget", [2**29, 256 * 256 * DIM])
def test_threads_read_one_field_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(cog, "BUDGET", budget)
    path = write_field(ArrayField(bumpy(DIM, 600, 600)), tmp_path / "field.tif").disk_path
    windows = [Window(col, row, 60, 60) for row in range(0, 540, 35) for col in range(0, 540, 35)]
    # A cache of 1 MB: blocks are thrown out and decoded anew all the time, as in a large field.
    with rasterio.Env(GDAL_CACHEMAX=1), open_field(path) as field, ThreadPoolExecutor(8) as pool:
        whole = field.read()
        for window, found in zip(windows, pool.map(field.read, windows), strict=True):
            np.testing.assert_array_equal(found, whole[:, window.rows, window.cols])


@pytest.mark.parametrize("held", [1, 2 * 128 * 128 * DIM, 2**24])
@pytest.mark.parametrize("kind", ["single", "tiled"])
def test_single_pixels_are_those_of_the_whole_however_many_blocks_are_read_at_a_time(
    kind: str, held: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(stored, "HELD", held)
    rows, cols = np.random.default_rng(5).integers(0, (HEIGHT, WIDTH), (2000, 2)).T
    with open_field(request.getfixturevalue(kind)) as field:
        np.testing.assert_array_equal(field.pixels(rows, cols), field.read()[:, rows, cols].T)


@pytest.mark.parametrize("held", [1, 2 * 128 * 128 * DIM, 2**24])
def test_means_of_pixels_in_several_blocks_are_added_in_one_order(
    single: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(stored, "HELD", held)
    west, south, east, north = -10, 20, 15.7, 50
    places = np.random.default_rng(6).uniform((west, south), (east, north), (5000, 2))
    with open_field(single) as field:
        # As a field in memory adds them: block by block.
        whole = ArrayField(field.read(), field.grid)
        np.testing.assert_array_equal(field.at(places, "bilinear"), whole.at(places, "bilinear"))


def test_blocks_side_by_side_are_read_together_and_no_other(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Window] = []
    with open_field(single) as field:
        read = field._codes

        def noted(window: Window) -> npt.NDArray[Any]:
            reads.append(window)
            codes: npt.NDArray[Any] = read(window)
            return codes

        monkeypatch.setattr(field, "_codes", noted)
        field.pixels([0, 5, 130, 299, 299], [0, 130, 140, 3, 256])
    assert sorted(reads, key=lambda read: (read.row_off, read.col_off)) == [
        Window(0, 0, 256, 128), Window(128, 128, 128, 128), Window(0, 256, 128, 44), Window(256, 256, 1, 44),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["single", "tiled"])
def test_a_pickled_field_opens_its_file_again(kind: str, request: pytest.FixtureRequest) -> None:
    with open_field(request.getfixturevalue(kind)) as field:
        packet = pickle.dumps(field)
        whole = field.read()
    with pickle.loads(packet) as again:  # noqa: S301  our own bytes
        np.testing.assert_array_equal(again.read(), whole)
        assert (again.disk_path, again.grid, again.card) == (field.disk_path, field.grid, field.card)


def test_a_closed_field_reads_no_more(single: Path) -> None:
    with open_field(single) as first:
        first.read(Window(0, 0, 1, 1))
        first.read_overview(2)
    second = open_field(single)
    second.close()
    for field in (first, second):
        with pytest.raises((RasterioIOError, EmbedfieldError), match="closed"):
            field.read(Window(0, 0, 1, 1))
        with pytest.raises(EmbedfieldError, match="closed"):
            field.read_overview(2)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("budget", [2**29, 128 * 128 * DIM])
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: npt.NDArray[np.float32],
    budget: int,
    error: type[BaseException],
) -> None:
    monkeypatch.setattr(cog, "BUDGET", budget)
    # Strips of 20 rows or so.
    monkeypatch.setattr(packing, "STRIP", 4 * DIM * WIDTH * 20)
    field = Breaking(values, error, rows=150)
    done: list[int] = []
    with pytest.raises(error, match="in the middle"):
        write_field(field, tmp_path / "field.tif", progress=done.append)
    assert field.broke
    assert sum(done) > 100 * 128
    assert listing(tmp_path) == []


@pytest.mark.parametrize(("budget", "good"), [(2**29, 0), (128 * 128 * DIM, 0), (128 * 128 * DIM, 4)])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: npt.NDArray[np.float32], budget: int, good: int
) -> None:
    monkeypatch.setattr(cog, "BUDGET", budget)
    write, written = tiff.write_tiff, list[Path]()

    def filling(path: Path, *told: Any) -> None:
        write(path, *told)
        written.append(path)
        if len(written) > good:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError("no space left")

    monkeypatch.setattr(cog, "write_tiff", filling)
    with pytest.raises(OSError, match="no space left"):
        write_field(ArrayField(values), tmp_path / "field.tif")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["field.tif", "field.vrt", "field.tiles"])
def test_what_stands_there_is_neither_overwritten_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: npt.NDArray[np.float32], name: str
) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128 * DIM)
    (tmp_path / name).mkdir()
    (tmp_path / name / "kept").write_text("mine")
    with pytest.raises(OutputExistsError, match=rf"{name} exists"):
        write_field(ArrayField(values), tmp_path / "field.tif")
    assert listing(tmp_path) == [name, f"{name}/kept"]


def test_the_leftover_of_a_killed_write_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".field.tif.part").mkdir()
    (tmp_path / ".field.tif.part" / "field.tif").write_bytes(b"half a file")
    write_field(ArrayField(bumpy(1, 20, 30)), tmp_path / "field.tif").close()
    assert listing(tmp_path) == ["field.tif"]
    assert cog_validate(tmp_path / "field.tif", strict=True)[0]


def test_gdal_keeps_blocks_of_megabytes_and_burns_masks_as_before_a_field_was_read(tmp_path: Path) -> None:
    triangle = shapely.Polygon([(-61.3, -20.7), (44.9, 3.1), (-10.2, 52.6)])
    mask = burnt(triangle)
    write_field(ArrayField(np.ones((DIM, 300, 300))), tmp_path / "field.tif").close()
    with cog.CogField(tmp_path / "field.tif") as field, field._env():
        assert get_gdal_config("GDAL_CACHEMAX") == 64 * 2**20
        field.read()
        np.testing.assert_array_equal(burnt(triangle), mask)
    np.testing.assert_array_equal(burnt(triangle), mask)


def burnt(shape: shapely.Polygon) -> Any:
    """Return what GDAL burns of a shape in degrees, where it is told to take all that it touches."""
    return rasterize([shape], (720, 1440), transform=from_origin(-180, 90, 0.25, 0.25), all_touched=True)
