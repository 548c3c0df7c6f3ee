"""Zarr: xarray, rioxarray and zarr-python, used plainly, are the truth."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rioxarray  # noqa: F401  registers the .rio accessor
import xarray as xr
import zarr
from fields import ArrayField, Breaking, bumpy, listing

from embedfield.errors import FormatError, GridError, OutputExistsError
from embedfield.formats import geozarr, open_field, packing, write_field
from embedfield.grid import Grid
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.evaluate import EncodedField
    from embedfield.formats.packing import Dtype

DIM, HEIGHT, WIDTH = 3, 300, 257
every_dtype = pytest.mark.parametrize("dtype", ["uint8", "float32"])
# Height and width of a field, and of its shards: whole chunks of 32, at most 256.
SHAPES = {
    (1, 1): (32, 32),
    (1, 257): (32, 256),
    (5, 31): (32, 32),
    (32, 33): (32, 64),
    (256, 256): (256, 256),
    (300, 100): (256, 128),
}
# affine means to retire its `*`, which rioxarray uses.
affine_warns = pytest.mark.filterwarnings("ignore:Use .@. matmul")


@pytest.fixture(scope="module")
def values() -> npt.NDArray[np.float32]:
    """Return what most tests write."""
    return bumpy(DIM, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def stored(values: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a group of uint8."""
    return write_field(ArrayField(values), tmp_path_factory.mktemp("stored") / "field.zarr").disk_path


def array_of(path: Path, name: str = "embedding") -> zarr.Array[Any]:
    """Return an array of a group as zarr-python opens it."""
    found = zarr.open_group(path, mode="r")[name]
    assert isinstance(found, zarr.Array)
    return found


def attributes_of(path: Path) -> dict[str, Any]:
    """Return the attributes of a group."""
    return dict(zarr.open_group(path, mode="r").attrs)


def test_xarray_opens_it_plainly_and_decodes_it_in_one_line(stored: Path, values: npt.NDArray[np.float32]) -> None:
    with xr.open_zarr(stored) as ds, open_field(stored) as field:
        decoded = ds.embedding * ds.scale + ds.offset
        assert decoded.dtype == np.float32
        assert decoded.dims == ("band", "y", "x")
        np.testing.assert_array_equal(decoded, field.read())
        np.testing.assert_array_equal(np.isnan(decoded), np.isnan(values))
        # A few values beyond the range of the sample saturate; all others are within half a step.
        beyond = abs(decoded.values - values) > ds.scale.values[:, None, None] / 2 * (1 + 1e-3)
        assert beyond.sum() <= field.saturated < 0.001 * values.size


@every_dtype
@pytest.mark.parametrize(("shape", "shard"), SHAPES.items())
def test_any_shape_comes_back_whole(
    tmp_path: Path, shape: tuple[int, int], shard: tuple[int, int], dtype: Dtype
) -> None:
    values = np.random.default_rng(1).uniform(size=(2, *shape)).astype(np.float32)
    values[:, 1:4, 2:9] = np.nan
    with write_field(ArrayField(values), tmp_path / "field.zarr", dtype=dtype) as field:
        found = field.read()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    assert np.nanmax(abs(found - values)) <= field.packing.max_error.max() * 1.001
    assert array_of(field.disk_path).shape == (2, *shape)
    assert array_of(field.disk_path).shards == (2, *shard)
    with xr.open_zarr(field.disk_path) as ds:
        np.testing.assert_array_equal(ds.embedding * ds.scale + ds.offset, found)


def test_coordinates_are_the_centres_of_pixels(stored: Path) -> None:
    with xr.open_zarr(stored) as ds:
        np.testing.assert_allclose(ds.x, -9.95 + 0.1 * np.arange(WIDTH), rtol=0, atol=1e-9)
        np.testing.assert_allclose(ds.y, 49.95 - 0.1 * np.arange(HEIGHT), rtol=0, atol=1e-9)
        assert ds.band.values.tolist() == [0, 1, 2]
        assert ds.x.attrs["standard_name"] == "longitude"
        assert ds.y.attrs["standard_name"] == "latitude"
        # A pixel is found by its place, as anyone would.
        nearest = ds.embedding.sel(x=0.04, y=39.96, method="nearest")
        np.testing.assert_array_equal(nearest, ds.embedding[:, 100, 100])


@affine_warns
def test_rioxarray_knows_where_it_is(stored: Path) -> None:
    with xr.open_zarr(stored, decode_coords="all") as ds:
        assert set(ds.data_vars) == {"embedding", "scale", "offset"}
        assert ds.embedding.rio.crs.to_epsg() == 4326
        assert tuple(ds.embedding.rio.transform())[:6] == pytest.approx((0.1, 0, -10, 0, -0.1, 50))
        assert ds.embedding.rio.bounds() == pytest.approx((-10, 20, 15.7, 50))


def test_arrays_are_laid_out_for_points_and_for_few_files(stored: Path) -> None:
    embedding = array_of(stored)
    assert embedding.metadata.zarr_format == 3
    assert embedding.metadata.dimension_names == ("band", "y", "x")
    assert embedding.dtype == np.uint8
    assert embedding.chunks == (DIM, 32, 32)
    assert embedding.shards == (DIM, 256, 256)
    assert embedding.fill_value == 0
    # 300 x 257 pixels are 2 x 2 shards, a file each.
    assert (
        len([name for name in listing(stored / "embedding" / "c") if (stored / "embedding" / "c" / name).is_file()])
        == 4
    )
    assert len([path for path in stored.rglob("*") if path.is_file()]) <= 32


def test_codecs_are_those_of_the_zarr_specification(tmp_path: Path, stored: Path) -> None:
    known = {"bytes", "zstd", "blosc", "crc32c"}
    floats = write_field(ArrayField(bumpy(1, 40, 40)), tmp_path / "field.zarr", dtype="float32").disk_path
    for path in (stored, floats):
        text = json.loads((path / "embedding" / "zarr.json").read_text())
        (sharding,) = text["codecs"]
        assert sharding["name"] == "sharding_indexed"
        inner = {codec["name"] for codec in sharding["configuration"]["codecs"]}
        assert inner < known
        assert inner & {"zstd", "blosc"}


def test_float32_is_stored_bit_for_bit(tmp_path: Path, values: npt.NDArray[np.float32]) -> None:
    odd = values.copy()
    odd[0, 100, :4] = -0.0, 1e-45, 3.4e38, -1e-30
    # Whole chunks of nothing, of zero and of negative zero.
    odd[:, 128:160, 0:32], odd[:, 128:160, 32:64], odd[:, 128:160, 64:96] = np.nan, 0.0, -0.0
    with write_field(ArrayField(odd), tmp_path / "field.zarr", dtype="float32") as field:
        assert field.read().view(np.uint32).tolist() == odd.view(np.uint32).tolist()
    assert np.isnan(array_of(field.disk_path).fill_value)
    with xr.open_zarr(field.disk_path) as ds:
        np.testing.assert_array_equal(ds.embedding, odd)
        np.testing.assert_array_equal(ds.embedding * ds.scale + ds.offset, odd)


@every_dtype
def test_shards_without_a_value_read_as_nodata(tmp_path: Path, dtype: Dtype) -> None:
    values = np.full((2, 300, 300), np.nan, dtype=np.float32)
    values[:, :200, :200] = 7
    with write_field(ArrayField(values), tmp_path / "field.zarr", dtype=dtype) as field:
        np.testing.assert_array_equal(np.isnan(field.read()), np.isnan(values))
        np.testing.assert_allclose(field.read(), values, rtol=1e-6)


def test_attributes_follow_the_conventions(stored: Path) -> None:
    attributes = attributes_of(stored)
    assert {convention["name"] for convention in attributes["zarr_conventions"]} == {
        "proj:",
        "spatial:",
        "geoemb:",
        "multiscales",
    }
    assert attributes["proj:code"] == "EPSG:4326"
    assert attributes["spatial:dimensions"] == ["y", "x"]
    assert attributes["spatial:shape"] == [HEIGHT, WIDTH]
    assert attributes["spatial:transform"] == [0.1, 0, -10, 0, -0.1, 50]
    assert attributes["spatial:bbox"] == pytest.approx([-10, 20, 15.7, 50])
    assert attributes["geoemb:type"] == "pixel"
    assert attributes["geoemb:dimensions"] == DIM
    assert attributes["geoemb:data_type"] == "uint8"
    assert attributes["geoemb:model"] == "https://example.org"
    assert attributes["geoemb:source_data"] == ["none"]
    assert attributes["geoemb:spatial_layout"] == "regional"


def test_a_field_around_the_world_says_so(tmp_path: Path, make_field: Callable[..., EncodedField]) -> None:
    path = write_field(make_field(res=10), tmp_path / "field.zarr").disk_path
    assert attributes_of(path)["geoemb:spatial_layout"] == "global"


@pytest.mark.parametrize(("west", "res", "width"), [(170.0, 0.5, 40), (-180.0, 1 / 3, 30), (0.1, 0.05, 6)])
def test_the_grid_comes_back_exactly(tmp_path: Path, west: float, res: float, width: int) -> None:
    grid = Grid(west=west, north=20.1, res=res, width=width, height=9)
    values = np.random.default_rng(1).random((1, 9, width))
    assert open_field(write_field(ArrayField(values, grid), tmp_path / "field.zarr").disk_path).grid == grid


def test_a_field_across_the_antimeridian_runs_past_180(tmp_path: Path, make_field: Callable[..., EncodedField]) -> None:
    path = write_field(make_field(0.5, (170, -10, -170, 10)), tmp_path / "field.zarr").disk_path
    with xr.open_zarr(path) as ds:
        assert (ds.x.values[0], ds.x.values[-1]) == (170.25, 189.75)
        pixel = (ds.embedding * ds.scale + ds.offset).sel(x=180.25, y=0.25)
    east, north = np.deg2rad([-179.75, 0.25])
    truth = [np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)]
    assert pixel.values == pytest.approx(truth, abs=2e-3)


@pytest.mark.parametrize("corner", [(0, 0, 1, 1), (100, 120, 60, 150), (0, 255, 257, 2), (256, 299, 1, 1)])
def test_a_window_is_that_part_of_the_whole(stored: Path, corner: tuple[int, int, int, int]) -> None:
    window = Window(*corner)
    with open_field(stored) as field:
        np.testing.assert_array_equal(field.read(window), field.read()[:, window.rows, window.cols])


@pytest.mark.parametrize("layout", ["sharded", "flat"])
@every_dtype
def test_a_coarser_level_is_read_as_zarr_reads_it(tmp_path: Path, dtype: Dtype, layout: geozarr.Layout) -> None:
    path = write_field(ArrayField(bumpy(DIM, 530, 301)), tmp_path / "field.zarr", dtype=dtype, layout=layout).disk_path
    window = Window(7, 200, 140, 65)
    with open_field(path) as field:
        assert field.overviews == {2: (265, 151), 4: (133, 76)}
        for number, factor in enumerate(field.overviews, 1):
            codes = array_of(path, f"{number}/embedding")[:]
            np.testing.assert_array_equal(field.read_overview(factor), field.packing.unpack(np.asarray(codes)))
        np.testing.assert_array_equal(
            field.read_overview(2, window), field.read_overview(2)[:, window.rows, window.cols]
        )
        with pytest.raises(GridError, match=r"factor=8 is no coarser level of .*\. It has: 2, 4"):
            field.read_overview(8)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("change", ["gone", "of another size"])
def test_a_coarser_level_that_is_not_this_fields_is_not_read(tmp_path: Path, change: str) -> None:
    path = write_field(ArrayField(bumpy(DIM, 530, 301)), tmp_path / "field.zarr").disk_path
    shutil.rmtree(path / "1")
    if change == "of another size":
        shutil.copytree(path / "2", path / "1")
    zarr.consolidate_metadata(path)
    with open_field(path) as field:
        assert field.overviews == {}
        assert np.isfinite(field.read()).any()


def test_a_window_past_the_edge_is_refused(stored: Path) -> None:
    with open_field(stored) as field, pytest.raises(GridError, match=r"passes the edge of a grid of 257 x 300"):
        field.read(Window(0, 299, 1, 2))


def test_threads_read_one_field_at_the_same_time(stored: Path) -> None:
    windows = [Window(col, row, 60, 60) for row in range(0, 240, 35) for col in range(0, 190, 35)]
    with open_field(stored) as field, ThreadPoolExecutor(4) as pool:
        whole = field.read()
        for window, found in zip(windows, pool.map(field.read, windows), strict=True):
            np.testing.assert_array_equal(found, whole[:, window.rows, window.cols])


def test_a_pickled_field_opens_its_group_again(stored: Path) -> None:
    with open_field(stored) as field:
        again = pickle.loads(pickle.dumps(field))  # noqa: S301  our own bytes
        np.testing.assert_array_equal(again.read(), field.read())
        assert (again.disk_path, again.grid, again.card) == (field.disk_path, field.grid, field.card)


def test_a_group_can_be_moved(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, tmp_path / "elsewhere.zarr")
    with open_field(tmp_path / "elsewhere.zarr") as moved, open_field(stored) as field:
        np.testing.assert_array_equal(moved.read(), field.read())


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: npt.NDArray[np.float32], error: type[BaseException]
) -> None:
    # Strips of 40 rows: while the seventh of the first two shards is packed, the first of the next two is computed.
    monkeypatch.setattr(packing, "STRIP", 4 * DIM * WIDTH * 40)
    field = Breaking(values, error, rows=geozarr.SHARD)
    done: list[int] = []
    with pytest.raises(error, match="in the middle"):
        write_field(field, tmp_path / "field.zarr", progress=done.append)
    assert field.broke
    assert sum(done) == 240 * WIDTH
    assert listing(tmp_path) == []


def test_what_stands_there_is_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "field.zarr").mkdir()
    (tmp_path / "field.zarr" / "kept").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"field\.zarr exists"):
        write_field(ArrayField(bumpy(1, 20, 30)), tmp_path / "field.zarr")
    assert listing(tmp_path) == ["field.zarr", "field.zarr/kept"]


def test_the_leftover_of_a_killed_write_is_in_nobodys_way(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / ".field.zarr.part" / "field.zarr", mode="w").create_array(
        "embedding", shape=(3,), dtype="uint8"
    )
    values = bumpy(1, 20, 30)
    with write_field(ArrayField(values), tmp_path / "field.zarr", dtype="float32") as field:
        np.testing.assert_array_equal(field.read(), values)
    assert [path.name for path in tmp_path.iterdir()] == ["field.zarr"]


# What a bad disk, or a hasty editor, may have made of the metadata of a group: of its root's zarr.json, which has
# the attributes, the header among them, and the metadata of all arrays.
DAMAGES: dict[str, Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], object]] = {
    "no shape": lambda _, attributes, __: attributes.pop("spatial:shape"),
    "short shape": lambda _, attributes, __: attributes.update({"spatial:shape": [3]}),
    "shape of words": lambda _, attributes, __: attributes.update({"spatial:shape": ["a", "b"]}),
    "another shape": lambda _, attributes, __: attributes.update({"spatial:shape": [30, 60]}),
    "no transform": lambda _, attributes, __: attributes.pop("spatial:transform"),
    "short transform": lambda _, attributes, __: attributes.update({"spatial:transform": [1, 2]}),
    "transform of words": lambda _, attributes, __: attributes.update({"spatial:transform": list("abcdef")}),
    "transform of nothing": lambda _, attributes, __: attributes.update({"spatial:transform": [math.nan] * 6}),
    "no CRS": lambda _, attributes, __: attributes.pop("proj:code"),
    "attributes in a list": lambda whole, *_: whole.update(attributes=[]),
    "consolidated junk": lambda _, __, arrays: arrays.update(scale=3),
    "no scale": lambda _, __, arrays: arrays.pop("scale"),
    "one scale": lambda _, __, arrays: arrays["scale"].update(shape=[1]),
    "complex numbers": lambda _, __, arrays: arrays["embedding"].update(data_type="complex64"),
    "unknown numbers": lambda _, __, arrays: arrays["embedding"].update(data_type="junk"),
    "flat embedding": lambda _, __, arrays: arrays.update(embedding=arrays["scale"]),
    "embedding of no dimension": lambda _, __, arrays: arrays.update(embedding=arrays["spatial_ref"]),
}


@pytest.fixture
def damaged(stored: Path, tmp_path: Path) -> Path:
    """Return a copy of a group, to be damaged."""
    return shutil.copytree(stored, tmp_path / "damaged.zarr")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_metadata_are_refused(damaged: Path, damage: Callable[..., object]) -> None:
    whole = json.loads((damaged / "zarr.json").read_text())
    damage(whole, whole["attributes"], whole["consolidated_metadata"]["metadata"])
    (damaged / "zarr.json").write_text(json.dumps(whole))
    with pytest.raises(FormatError, match=r"damaged\.zarr"):
        open_field(damaged)


@pytest.mark.parametrize("name", ["scale", "offset"])
@pytest.mark.parametrize("loss", ["gone", "empty", "junk"])
def test_a_group_that_lost_how_its_numbers_are_packed_is_refused(damaged: Path, name: str, loss: str) -> None:
    chunk = damaged / name / "c" / "0"
    chunk.unlink() if loss == "gone" else chunk.write_bytes(b"" if loss == "empty" else b"junk")
    with pytest.raises(FormatError, match=r"damaged\.zarr has .*(lost how its numbers are packed|cannot be read)"):
        open_field(damaged)


def test_coordinates_that_are_lost_are_not_read_as_zeros(damaged: Path) -> None:
    (damaged / "x" / "c" / "0").unlink()
    with xr.open_zarr(damaged) as ds:
        assert np.isnan(ds.x).all()
