"""Fields that others made are read by their own rules, and sampled, shown and described as ours are."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import pytest
import rasterio
import rioxarray  # noqa: F401  registers the .rio accessor
import xarray
import zarr
from affine import Affine
from fields import ArrayField
from foreign_files import (
    EASTING,
    NORTHING,
    UTM,
    alphaearth_tiff,
    enter,
    mind_zarr,
    plain_zarr,
    put,
    signed_codes,
    tessera_tile,
    tessera_zarr,
)
from PIL import Image
from range_server import Server, serving
from rasterio.errors import NotGeoreferencedWarning

from embedfield.errors import CardError, FormatError, GridError
from embedfield.formats import open_field, write_field
from embedfield.formats.foreign import open_foreign, recognise
from embedfield.pictures.preview import write_preview
from embedfield.sample import extract_points, zonal_stats
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.foreign.field import ForeignField

    Numbers = npt.NDArray[Any]

RNG = np.random.default_rng(42)
LONLAT = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
FORKED = """
import json, pickle, sys
field = pickle.load(sys.stdin.buffer)
json.dump(field.read().tolist(), sys.stdout)
"""

DAMAGED = """
import json, sys
from embedfield.errors import FormatError
from embedfield.formats.foreign import open_foreign
try:
    open_foreign(*json.load(sys.stdin)).read()
except FormatError as error:
    print(error)
"""


def opened(path: Path | str, kind: str | None = None, **options: Any) -> ForeignField:
    """Open a field as its files and the options tell, by a layout that went through JSON."""
    return open_foreign(path, json.loads(json.dumps(recognise(path, kind, **options))))


def signed_squares(codes: Numbers) -> Numbers:
    """AlphaEarth's rule, written out."""
    wide = codes.astype(np.float64)
    values = np.where(wide < 0, -1.0, 1.0) * (wide / 127.5) * (wide / 127.5)
    return np.where(codes == -128, np.nan, values).astype(np.float32)


def assert_same(found: Numbers, expected: Numbers) -> None:
    """Hold numbers to others, bit for bit, NaN included."""
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.fixture
def aef(tmp_path: Path) -> tuple[Path, Numbers]:
    """A bottom-up tile of AlphaEarth, and its codes, north first."""
    codes = signed_codes(64, 48, 64)
    return alphaearth_tiff(tmp_path / "x9ab-0000000000-0000008192.tiff", codes), codes


@pytest.fixture
def tile(tmp_path: Path) -> tuple[Path, Numbers]:
    """A tile of TESSERA, and its values (dim, height, width)."""
    codes = RNG.integers(-127, 128, (23, 31, 128)).astype(np.int8)
    scales = RNG.uniform(0.01, 0.1, (23, 31)).astype(np.float32)
    scales[0, 0], scales[1, 1], scales[2, 2] = np.nan, np.inf, 0.0
    values = codes.astype(np.float32) * np.where(np.isfinite(scales), scales, np.nan)[..., None]
    return tessera_tile(tmp_path / "tiles", codes, scales), values.transpose(2, 0, 1)


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, Numbers, Numbers]:
    """A store of TESSERA of two years, its codes and scales."""
    codes = RNG.integers(-127, 128, (2, 16, 20, 24)).astype(np.int8)
    scales = RNG.uniform(0.01, 0.1, (2, 20, 24)).astype(np.float32)
    scales[:, 3, 4], scales[:, 5, 6] = np.nan, np.inf
    return tessera_zarr(tmp_path / "tessera.zarr", codes, scales, [2023, 2024], zones=(31, 32)), codes, scales


@pytest.fixture
def mind(tmp_path: Path) -> tuple[Path, list[Numbers], list[Numbers]]:
    """A store of MIND's layout at 4 degrees, its values and those of its levels, NaN on the sea."""
    shapes = [(45, 90), (22, 45), (11, 22)]
    levels = [RNG.integers(0, 256, (6, *shape)).astype(np.uint8) for shape in shapes]
    masks = [(RNG.random(shape) > 0.4).astype(np.uint8) for shape in shapes]
    # A shard without land.
    masks[0][16:32, 64:80] = 0
    scale, offset = RNG.uniform(0.001, 0.02, 6).astype(np.float32), RNG.uniform(-2, -1, 6).astype(np.float32)
    path = mind_zarr(tmp_path / "mind.zarr", levels, masks, scale, offset, res=4.0)
    wide = [codes * scale.astype(float)[:, None, None] + offset.astype(float)[:, None, None] for codes in levels]
    return path, [np.where(mask, values, np.nan) for values, mask in zip(wide, masks, strict=True)], masks


def test_alphaearth_codes_are_signed_squares_of_127_5(tmp_path: Path) -> None:
    codes = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16).repeat(64, axis=0)
    field = opened(alphaearth_tiff(tmp_path / "all.tiff", codes))
    assert_same(field.read(), signed_squares(codes))
    assert field.read()[0].flat[[0, 1, 128, 255]].tolist() == pytest.approx(
        [np.nan, -0.99217224, 0, 0.99217224], nan_ok=True
    )


def test_a_bottom_up_raster_is_turned_north_up(aef: tuple[Path, Numbers]) -> None:
    path, codes = aef
    field = opened(path)
    with rasterio.open(path) as dataset:
        assert dataset.transform.e > 0
        assert field.grid.bounds == (dataset.bounds.left, min(dataset.bounds.top, dataset.bounds.bottom),
                                     dataset.bounds.right, max(dataset.bounds.top, dataset.bounds.bottom))  # fmt: skip
        x, y = EASTING + 10 * np.array([0.5, 33.5, 63.5]), NORTHING - 10 * np.array([0.5, 20.5, 47.5])
        by_rasterio = np.array(list(dataset.sample(zip(x, y, strict=True))))
    assert_same(field.at(np.column_stack(LONLAT.transform(x, y)), "nearest"), signed_squares(by_rasterio))
    assert_same(field.read(), signed_squares(codes))
    assert_same(field.read(Window(5, 1, 9, 3)), signed_squares(codes[:, 1:4, 5:14]))


def test_a_top_down_raster_has_the_same_values(tmp_path: Path, aef: tuple[Path, Numbers]) -> None:
    path, codes = aef
    field, other = opened(path), opened(alphaearth_tiff(tmp_path / "down.tiff", codes, bottom_up=False))
    assert field.grid == other.grid
    assert_same(field.read(), other.read())
    assert field.overviews == other.overviews == {2: (24, 32), 4: (12, 16)}
    with rasterio.open(path, overview_level=0) as level:
        assert_same(field.read_overview(2), signed_squares(level.read()[:, ::-1]))
    with rasterio.open(tmp_path / "down.tiff", overview_level=1) as level:
        assert_same(other.read_overview(4, Window(3, 2, 5, 6)), signed_squares(level.read()[:, 2:8, 3:8]))


def test_levels_that_do_not_fit_a_raster_from_the_south_are_left_out(tmp_path: Path) -> None:
    codes = signed_codes(64, 46, 64)
    assert opened(alphaearth_tiff(tmp_path / "odd.tiff", codes)).overviews == {2: (23, 32)}
    down = opened(alphaearth_tiff(tmp_path / "down.tiff", codes, bottom_up=False))
    assert down.overviews == {2: (23, 32), 4: (12, 16)}


def test_alphaearth_bands_and_card_are_its_own(aef: tuple[Path, Numbers]) -> None:
    field = opened(aef[0])
    assert field.band_names[:2] == ["alphaearth_A00", "alphaearth_A01"]
    assert (field.card.licence, field.card.unit_norm, field.dim) == ("CC-BY-4.0", True, 64)
    assert field.quantization == {"method": "signed_square", "original_dtype": "float32", "quantized_dtype": "int8"}
    assert (field.packing.dtype, field.packing.nodata, field.packing.scale) == ("int8", -128, None)
    assert "127.5" in field.describe()["packing"]


def test_int8_that_tells_nothing_of_itself_is_refused_with_the_choices(tmp_path: Path) -> None:
    path = alphaearth_tiff(tmp_path / "bare.tiff", signed_codes(64, 16, 16), named=False)
    with pytest.raises(FormatError, match=r"64 bands of int8, nodata -128, .*--as alphaearth .*--as plain"):
        recognise(path)
    assert opened(path, "alphaearth").band_names[0] == "alphaearth_000"
    assert np.nanmax(opened(path, "plain").read()) > 1


def test_signed_squares_of_another_model_need_its_name(tmp_path: Path) -> None:
    path = alphaearth_tiff(tmp_path / "other.tiff", signed_codes(5, 16, 16), named=False)
    with pytest.raises(FormatError, match=r"has 5 bands, and AlphaEarth's have 64.* --name"):
        recognise(path, "alphaearth")
    field = opened(path, "alphaearth", name="olmoearth", licence="Apache-2.0", homepage="https://example.org")
    assert (field.card.name, field.card.licence, field.dim) == ("olmoearth", "Apache-2.0", 5)
    assert_same(field.read(), signed_squares(signed_codes(5, 16, 16)))


def test_a_mosaic_in_a_zarr_is_alphaearths_by_what_it_says(tmp_path: Path) -> None:
    codes = np.stack([signed_codes(64, 20, 30), -signed_codes(64, 20, 30).clip(-127)])
    root = zarr.create_group(tmp_path / "mosaic.zarr", zarr_format=3)
    root.attrs.put({
        "geoemb:quantization": {"method": "signed_square"}, "proj:code": "EPSG:4326",
        "spatial:transform": [0.1, 0.0, -180.0, 0.0, -0.1, 83.7],
    })  # fmt: skip
    put(root, "embeddings", codes, ("time", "band", "y", "x"), chunks=(1, 64, 16, 16), fill_value=-128)
    put(root, "time", np.array([2017, 2018]), ("time",))
    with pytest.raises(FormatError, match=r"several times in 'embeddings'.*2017, 2018"):
        recognise(tmp_path / "mosaic.zarr")
    field = opened(tmp_path / "mosaic.zarr", time="2018")
    assert_same(field.read(), signed_squares(codes[1]))
    assert (field.grid.west, field.grid.north, field.provenance["time"]) == (-180.0, 83.7, 2018)
    assert field.layout["kind"] == "alphaearth"


def test_a_tessera_tile_is_codes_times_the_scale_of_the_pixel(tile: tuple[Path, Numbers]) -> None:
    path, values = tile
    field = opened(path)
    assert_same(field.read(), values)
    assert_same(field.read(Window(2, 1, 3, 4)), values[:, 1:5, 2:5])
    # Without a scale no value; with a scale of zero a vector of zeros.
    assert np.isnan(field.read()[:, [0, 1], [0, 1]]).all()
    assert not field.read()[:, 2, 2].any()
    assert (field.grid.crs, field.grid.west, field.grid.north, field.grid.res) == (UTM, EASTING, NORTHING, 10)
    assert field.layout["landmask"] == "../../../global_0.1_degree_tiff_all/grid_7.55_46.65.tiff"


def test_a_tile_without_its_landmask_asks_for_it(tmp_path: Path) -> None:
    codes, scales = np.ones((4, 5, 8), np.int8), np.ones((4, 5), np.float32)
    path = tessera_tile(tmp_path / "tiles", codes, scales, landmask="elsewhere/land.tif")
    with pytest.raises(FormatError, match=r"where its pixels are: .*--landmask"):
        recognise(path)
    assert opened(path, landmask=str(tmp_path / "tiles/elsewhere/land.tif")).grid.shape == (4, 5)
    with pytest.raises(FormatError, match=r"has the scales of a tile"):
        recognise(path.with_name(f"{path.stem}_scales.npy"))


def test_a_landmask_is_found_though_a_link_lies_between(tmp_path: Path) -> None:
    codes, scales = np.ones((4, 5, 8), np.int8), np.ones((4, 5), np.float32)
    tile = tessera_tile(tmp_path / "disk/tiles", codes, scales, landmask="../land.tif")
    (tmp_path / "here").mkdir()
    (tmp_path / "disk/land.tif").rename(tmp_path / "here/land.tif")
    (tmp_path / "here/tile").symlink_to(tile.parent)
    field = opened(tmp_path / "here/tile" / tile.name, landmask=str(tmp_path / "here/land.tif"))
    assert field.layout["landmask"] == "../land.tif"
    assert field.grid.shape == (4, 5)


def test_a_tile_whose_files_differ_is_refused(tmp_path: Path) -> None:
    path = tessera_tile(tmp_path / "tiles", np.ones((4, 5, 8), np.int8), np.ones((4, 5), np.float32))
    np.save(path.with_name(f"{path.stem}_scales.npy"), np.ones((4, 6), np.float32))
    with pytest.raises(FormatError, match=r"_scales\.npy is \(4, 6\), .* of another tile"):
        recognise(path)


def test_a_tile_that_is_a_pickle_or_cut_short_is_refused(tmp_path: Path) -> None:
    path = tessera_tile(tmp_path / "tiles", np.ones((4, 5, 8), np.int8), np.ones((4, 5), np.float32))
    layout, whole = recognise(path), path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(FormatError, match="cut short"):
        open_foreign(path, layout).read()
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="objects of Python"):
        recognise(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(FormatError, match=r"no \.npy file"):
        recognise(path)


def test_a_tessera_store_needs_its_zone_and_its_year(store: tuple[Path, Numbers, Numbers]) -> None:
    path, codes, scales = store
    with pytest.raises(FormatError, match=r"2 arrays .*: utm31/embeddings, utm32/embeddings.*--array"):
        recognise(path)
    with pytest.raises(FormatError, match=r"several times .*2023, 2024"):
        recognise(path, array="utm32")
    with pytest.raises(FormatError, match=r"no time 2019"):
        recognise(path, array="utm32", time=2019)
    with pytest.raises(FormatError, match=r"at 'utm33'.*utm31/embeddings"):
        recognise(path, array="utm33", time=2023, kind="tessera")
    field = opened(path, array="utm32", time=2024)
    expected = codes[1].astype(np.float32) * np.where(np.isfinite(scales[1]), scales[1], np.nan)
    assert_same(field.read(), expected)
    assert (field.grid.crs, field.grid.west, field.grid.north) == ("EPSG:32632", EASTING, NORTHING)
    assert (field.layout["kind"], field.card.name, field.dim) == ("tessera", "tessera", 16)
    assert (field.name, opened(path, array="utm31", time=2023).name) == ("tessera-utm32-2024", "tessera-utm31-2023")


def test_an_older_tessera_store_has_its_bands_last(tmp_path: Path) -> None:
    codes, scales = RNG.integers(-9, 9, (12, 10, 8)).astype(np.int8), RNG.random((12, 10)).astype(np.float32)
    group = zarr.create_group(tmp_path / "old.zarr", zarr_format=3).create_group("utm32")
    group.attrs.put({"proj:code": UTM, "spatial:transform": [10.0, 0.0, EASTING, 0.0, -10.0, NORTHING]})
    put(group, "embeddings", codes, None)
    put(group, "scales", scales, None)
    field = opened(tmp_path / "old.zarr")
    assert_same(field.read(), (codes.astype(np.float32) * scales[..., None]).transpose(2, 0, 1))
    assert field.grid.bounds == (EASTING, NORTHING - 120, EASTING + 100, NORTHING)


def test_minds_store_is_affine_by_dimension_and_masked(mind: tuple[Path, list[Numbers], list[Numbers]]) -> None:
    path, values, masks = mind
    field = opened(path)
    assert_same(field.read(), values[0])
    assert (np.isnan(field.read()).all(axis=0) == (masks[0] == 0)).all()
    assert (field.grid.bounds, field.grid.crs, field.grid.closed) == ((-180, -90, 180, 90), "EPSG:4326", True)
    # Halved levels leave out the last row where their number is odd.
    assert field.overviews == {2: (22, 45), 4: (11, 22)}
    assert_same(field.read_overview(2), values[1])
    assert_same(field.read_overview(4, Window(3, 2, 7, 5)), values[2][:, 2:7, 3:10])
    assert (field.name, field.quantization["method"]) == ("mind", "linear")
    assert len(field.quantization["scale"]) == field.dim == 6


def test_a_mask_of_other_pixels_is_refused(tmp_path: Path) -> None:
    codes, mask, ones = np.zeros((4, 9, 18), np.uint8), np.ones((4, 9), np.uint8), np.ones(4, np.float32)
    path = mind_zarr(tmp_path / "mind.zarr", [codes], [mask], ones, ones, res=20.0)
    with pytest.raises(FormatError, match=r"has mask of shape \(4, 9\) beside '0/embedding' of \(4, 9, 18\)"):
        recognise(path)


def test_damaged_shards_are_said_in_one_line_and_nothing_follows(
    mind: tuple[Path, list[Numbers], list[Numbers]],
) -> None:
    path, *_ = mind
    layout = recognise(path)
    for shard in (path / "0/embedding/c").rglob("*"):
        if shard.is_file():
            shard.write_bytes(shard.read_bytes()[:-40])
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED],
        input=json.dumps([str(path), layout]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be read: it is damaged or cut short" in done.stdout
    assert done.stderr == ""


def test_a_prefix_of_minds_store_is_read_alone(mind: tuple[Path, list[Numbers], list[Numbers]]) -> None:
    path, values, _ = mind
    field = opened(path, dims=4)
    assert_same(field.read(), values[0][:4])
    assert_same(field.read_overview(2), values[1][:4])
    with pytest.raises(FormatError, match=r"dims=7 cannot be: there are 6"):
        recognise(path, dims=7)


def test_minds_own_length_is_the_card_of_its_encoder(tmp_path: Path) -> None:
    codes = np.zeros((3072, 3, 4), np.uint8)
    ones = np.ones(3072, np.float32)
    path = mind_zarr(tmp_path / "mind.zarr", [codes], [np.ones((3, 4), np.uint8)], ones, ones, res=20.0)
    field = opened(path, dims=64)
    assert (field.card.name, field.card.dim, field.card.options["dims"]) == ("mind", 64, 64)
    assert field.card.weights is not None
    assert opened(path).dim == 3072


@pytest.mark.parametrize("version", [2, 3])
def test_a_plain_zarr_is_decoded_as_xarray_does(tmp_path: Path, version: Any) -> None:
    codes = RNG.integers(-3000, 3000, (5, 12, 9)).astype(np.int16)
    codes[:, 2, 3] = -32768
    packed = {"scale_factor": 0.001, "add_offset": 0.5} | ({"_FillValue": -32768} if version == 3 else {})
    path = plain_zarr(tmp_path / "plain.zarr", codes, version, packed, fill_value=-32768)
    field = opened(path, name="mine", licence="CC0-1.0")
    with xarray.open_zarr(path, consolidated=False) as dataset:
        np.testing.assert_allclose(field.read(), dataset["vectors"].to_numpy(), rtol=1e-6)
    assert np.isnan(field.read()[:, 2, 3]).all()
    assert (field.grid.bounds, field.grid.crs) == ((5, 57, 7.25, 60), "EPSG:4326")
    assert (field.band_names[0], field.card.licence) == ("mine_000", "CC0-1.0")
    assert (field.packing.nodata, field.packing.itemsize) == (-32768, 2)


def test_a_zarr_that_xarray_wrote_is_a_field(tmp_path: Path) -> None:
    values = RNG.normal(size=(4, 6, 8)).astype(np.float32)
    values[:, 1, 1] = np.nan
    array = xarray.DataArray(
        values, dims=("band", "y", "x"), name="emb",
        coords={"band": ["a", "b", "c", "d"], "y": 5.0 + 10 * np.arange(6), "x": 3005.0 + 10 * np.arange(8)},
    )  # fmt: skip
    array.rio.write_crs("EPSG:3035").to_dataset().to_zarr(tmp_path / "x.zarr", zarr_format=3, consolidated=False)
    field = opened(tmp_path / "x.zarr")
    # Its rows run from the south.
    assert_same(field.read(), values[:, ::-1])
    assert (field.grid.crs, field.grid.north, field.band_names[1]) == ("EPSG:3035", 60, "x_b")


@pytest.mark.parametrize("version", [2, 3])
def test_what_xarray_wrote_of_our_own_field_is_a_field_of_its_values(tmp_path: Path, version: Any) -> None:
    values = RNG.normal(size=(3, 6, 8)).astype(np.float32)
    ours = write_field(ArrayField(values), tmp_path / "own.zarr", dtype="int16")
    with xarray.open_dataset(ours.disk_path, engine="embedfield") as dataset:
        dataset.to_zarr(tmp_path / "copy.zarr", zarr_format=version, consolidated=False)
    field = opened(tmp_path / "copy.zarr")
    assert_same(field.read(), ours.read())
    assert (field.grid, field.band_names[0]) == (ours.grid, "copy_array_000")


def test_times_are_dates_and_chosen_by_their_beginning(tmp_path: Path) -> None:
    values = RNG.normal(size=(3, 2, 4, 4)).astype(np.float32)
    path = plain_zarr(tmp_path / "times.zarr", values[0])
    root = zarr.open_group(path)
    put(root, "each", values, ("time", "feature", "lat", "lon"))
    put(root, "time", np.array([0, 366, 400]), ("time",), {"units": "days since 2020-01-01", "calendar": "standard"})
    for time, words in (
        (None, r"several times in 'each'.*--time 2021-02-04; it has: 2020-01-01, 2021-01-01, 2021-02-04"),
        (2021, "several times '2021'|several times 2021"),
        ("202", "no time '202'"),
    ):
        with pytest.raises(FormatError, match=words):
            recognise(path, array="each", time=time)
    assert_same(opened(path, array="each", time=2020).read(), values[0])
    field = opened(path, array="each", time="2021-02")
    assert_same(field.read(), values[2])
    assert (field.layout["time"], field.name) == ("2021-02-04", "times-each-2021-02-04")


def test_hours_and_calendars_of_other_worlds_are_told_apart(tmp_path: Path) -> None:
    path = plain_zarr(tmp_path / "times.zarr", np.zeros((1, 4, 4), np.float32))
    root = zarr.open_group(path)
    put(root, "each", np.zeros((2, 1, 4, 4), np.float32), ("time", "feature", "lat", "lon"))
    put(root, "time", np.array([0, 6]), ("time",), {"units": "hours since 2020-01-01"})
    assert opened(path, array="each", time="2020-01-01T06").layout["time"] == "2020-01-01T06:00:00"
    root["time"].attrs["calendar"] = "360_day"
    assert opened(path, array="each", time=6).layout["time"] == 6
    root["time"].attrs.update({"calendar": "standard", "units": "days since the flood"})
    with pytest.raises(FormatError, match=r"has times in 'time' that cannot be read"):
        recognise(path, array="each", time=6)


def test_several_arrays_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    path = plain_zarr(tmp_path / "two.zarr", np.zeros((3, 4, 4), np.float32))
    put(zarr.open_group(path), "more", np.ones((2, 4, 4), np.float32), ("feature2", "lat", "lon"))
    with pytest.raises(FormatError, match=r"2 arrays of bands.*: more, vectors. Choose one"):
        recognise(path)
    assert opened(path, array="more").dim == 2


def test_a_zarr_of_integers_that_state_nothing_is_refused(tmp_path: Path) -> None:
    path = plain_zarr(tmp_path / "bare.zarr", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(FormatError, match=r"vectors of uint8 \(3, 4, 4\).*--as plain"):
        recognise(path)
    assert opened(path, "plain").dim == 3


@pytest.fixture
def tiff(tmp_path: Path) -> Callable[..., Path]:
    """A maker of GeoTIFFs, six rows of eight pixels of a degree from 10 east and 50 north."""

    def make(values: Numbers, **more: Any) -> Path:
        profile = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2]}
        profile |= {"dtype": values.dtype.name, "crs": "EPSG:4326", "transform": Affine(1, 0, 10, 0, -1, 50)}
        scales, offsets = more.pop("scales", None), more.pop("offsets", None)
        names = more.pop("names", ())
        path = tmp_path / "plain.tif"
        with rasterio.open(path, "w", **(profile | more)) as dataset:
            dataset.write(values)
            if scales:
                dataset.scales, dataset.offsets = scales, offsets
            for number, name in enumerate(names, 1):
                dataset.set_band_description(number, name)
        return path

    return make


def test_a_plain_raster_is_decoded_as_gdal_states_it(tiff: Callable[..., Path]) -> None:
    codes = RNG.integers(0, 65535, (3, 6, 8)).astype(np.uint16)
    codes[:, 1, 2] = 65535
    path = tiff(codes, nodata=65535, scales=[0.5, 0.25, 2], offsets=[-1, 0, 3], names=["ndvi", "height", "age"])
    field = opened(path)
    scale, offset = np.array([0.5, 0.25, 2.0])[:, None, None], np.array([-1.0, 0, 3])[:, None, None]
    assert_same(field.read(), np.where(codes == 65535, np.nan, codes * scale + offset))
    assert field.band_names == ["plain_ndvi", "plain_height", "plain_age"]
    assert field.quantization["scale"] == [0.5, 0.25, 2.0]


@pytest.mark.parametrize(
    ("nodata", "missing"), [(-9999.0, True), (float("nan"), False), (-3.4028234663852886e38, True), (None, False)]
)
def test_floats_have_the_nodata_that_gdal_states(
    tiff: Callable[..., Path], nodata: float | None, *, missing: bool
) -> None:
    values = RNG.normal(size=(2, 6, 8)).astype(np.float32)
    values[:, 1, 2], values[:, 3, 3] = np.nan, 7 if nodata is None else nodata
    field = opened(tiff(values, nodata=nodata))
    expected = values.copy()
    if missing:
        expected[:, 3, 3] = np.nan
    assert_same(field.read(), expected)


def test_doubles_beyond_floats_are_nodata_if_they_are_stated(tiff: Callable[..., Path]) -> None:
    values = RNG.normal(size=(2, 6, 8))
    values[:, 2, 2] = -1.7976931348623157e308
    field = opened(tiff(values, nodata=-1.7976931348623157e308))
    expected = values.copy()
    expected[:, 2, 2] = np.nan
    assert_same(field.read(), expected)


def test_a_mask_of_the_file_is_heeded(tiff: Callable[..., Path]) -> None:
    values = RNG.normal(size=(2, 6, 8)).astype(np.float32)
    path = tiff(values)
    mask = np.full((6, 8), 255, np.uint8)
    mask[4, 5] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    field = opened(path)
    assert_same(field.read(), np.where(mask, values, np.nan))
    assert "where the mask is 0" in field.describe()["packing"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transform": Affine(1, 0.1, 10, 0.1, -1, 50)}, "is rotated"),
        ({"transform": Affine(1, 0, 10, 0, -2, 50)}, "pixels of 1 by -2"),
        ({"transform": Affine(-1, 0, 10, 0, -1, 50)}, "pixels of -1 by -1"),
        ({"crs": None}, "no reference system.*--crs"),
        ({"transform": Affine(1, 0, 10, 0, -1, 93)}, "no grid on the globe"),
    ],
)
def test_a_raster_whose_pixels_are_no_fields_is_refused(
    tiff: Callable[..., Path], change: dict[str, Any], words: str
) -> None:
    path = tiff(np.zeros((2, 6, 8), np.float32), **change)
    with pytest.raises(FormatError, match=words):
        recognise(path)


def test_a_raster_that_is_nowhere_is_refused_though_its_reference_system_is_given(tiff: Callable[..., Path]) -> None:
    with pytest.warns(NotGeoreferencedWarning):
        path = tiff(np.zeros((2, 6, 8), np.float32), crs=None, transform=Affine.identity())
    with pytest.raises(FormatError, match=r"does not tell where its pixels are: it has no geotransform"):
        recognise(path, crs="EPSG:4326")


def test_a_raster_of_nothing_but_others_is_refused(tmp_path: Path) -> None:
    each = xarray.Variable(("band", "y", "x"), np.zeros((2, 4, 4), np.float32))
    xarray.Dataset({"one": each, "other": each}).to_netcdf(tmp_path / "two.nc")
    with pytest.raises(FormatError, match=r"has no bands of its own, but 2 rasters in it"):
        recognise(tmp_path / "two.nc")


def test_a_raster_without_reference_system_takes_the_one_that_is_given(tiff: Callable[..., Path]) -> None:
    path = tiff(np.zeros((2, 6, 8), np.float32), crs=None)
    assert opened(path, crs="EPSG:4326").grid.bounds == (10, 44, 18, 50)
    with pytest.raises(GridError, match="EPSG:4979"):
        recognise(path, crs="EPSG:4979")
    with pytest.raises(FormatError, match="is in EPSG:4326, and crs='EPSG:3035' was given"):
        recognise(tiff(np.zeros((2, 6, 8), np.float32)), crs="EPSG:3035")


def test_what_means_nothing_or_is_not_there_is_refused(tmp_path: Path, tiff: Callable[..., Path]) -> None:
    path = tiff(np.zeros((2, 6, 8), np.float32))
    with pytest.raises(FormatError, match=r"time=2020 means nothing"):
        recognise(path, time=2020)
    with pytest.raises(FormatError, match=r"'aef' is not known. Choose from: alphaearth, tessera, mind, plain"):
        recognise(path, "aef")
    with pytest.raises(CardError, match=r"'My Model'"):
        recognise(path, name="My Model")
    for kind in ("tessera", "mind"):
        with pytest.raises(FormatError, match="Give --as plain"):
            recognise(path, kind)
    with pytest.raises(FormatError, match="does not exist"):
        recognise(tmp_path / "nothing.tif")
    with pytest.raises(FormatError, match="is a folder and no Zarr"):
        recognise(tmp_path)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(FormatError, match="cannot be opened"):
        recognise(tmp_path / "text.tif")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(FormatError, match="no Zarr"):
        recognise(tmp_path / "empty.zarr")


@pytest.fixture(params=["alphaearth", "tile", "store", "mind", "plain"])
def field(request: pytest.FixtureRequest, tmp_path: Path) -> ForeignField:
    """A field of each layout."""
    if request.param == "alphaearth":
        return opened(request.getfixturevalue("aef")[0])
    if request.param == "tile":
        return opened(request.getfixturevalue("tile")[0])
    if request.param == "store":
        return opened(request.getfixturevalue("store")[0], array="utm32", time=2023)
    if request.param == "mind":
        return opened(request.getfixturevalue("mind")[0])
    return opened(plain_zarr(tmp_path / "p.zarr", RNG.normal(size=(5, 12, 9)).astype(np.float32)))


def test_points_of_any_layout_are_its_pixels(field: ForeignField) -> None:
    values = field.read()
    rows, cols = RNG.integers(0, field.grid.height, 40), RNG.integers(0, field.grid.width, 40)
    places = field.grid.centres(rows, cols)
    table = extract_points(field, places)
    np.testing.assert_array_equal(table[field.band_names].to_numpy(np.float32), values[:, rows, cols].T)
    nothing = np.isnan(values[:, rows, cols]).any(axis=0)
    assert ((table["status"] == "nodata").to_numpy() == nothing).all()
    assert_same(field.pixels(rows, cols), values[:, rows, cols].T)


def test_polygons_of_any_layout_are_means_of_its_pixels(field: ForeignField) -> None:
    import geopandas
    import shapely

    west, _, _, north = field.grid.bounds
    res = field.grid.res
    box = shapely.box(west + 2 * res, north - 9 * res, west + 9 * res, north - 3 * res)
    table = zonal_stats(field, geopandas.GeoDataFrame(geometry=[box], crs=field.grid.crs))
    inside = field.read(Window(2, 3, 7, 6)).astype(np.float64)
    ys = field.grid.ys(Window(2, 3, 7, 6))
    weights = np.broadcast_to((np.cos(np.deg2rad(ys)) if field.grid.geographic else np.ones(6))[:, None], (6, 7))
    there = ~np.isnan(inside).any(axis=0)
    means = (inside[:, there] * weights[there]).sum(axis=1) / weights[there].sum()
    np.testing.assert_allclose(table[field.band_names].to_numpy()[0], means, atol=2e-4)


def test_xarray_of_any_layout_has_its_values_and_place(field: ForeignField) -> None:
    array = field.to_xarray()
    np.testing.assert_array_equal(array.to_numpy(), field.read())
    assert array.rio.crs == rasterio.CRS.from_string(field.grid.crs)
    assert array["spatial_ref"].attrs["GeoTransform"] == " ".join(map(repr, field.grid.transform.to_gdal()))
    assert list(array["band"].to_numpy()) == field.band_names
    places = field.grid.centres([3, 7], [2, 5])
    table = array.embedfield.sample(places, method="nearest")
    np.testing.assert_array_equal(table[field.band_names].to_numpy(np.float32), field.at(places, "nearest"))


def test_any_layout_is_described_and_drawn(field: ForeignField, tmp_path: Path) -> None:
    lines = field.describe()
    assert field.card.name in lines["model"]
    assert lines["packing"]
    assert "saturated" not in lines["packing"]
    json.dumps(field.about())
    write_preview(field, tmp_path / "preview.png")
    with Image.open(tmp_path / "preview.png") as image:
        picture = np.asarray(image)
    seen, there = picture[..., 3] > 0, ~np.isnan(field.read()).any(axis=0)
    assert 0 < seen.mean() <= 1
    assert abs(seen.mean() - there.mean()) < 0.35
    assert len(np.unique(picture[seen][:, :3], axis=0)) > 20


def test_any_layout_is_pickled_and_read_by_several_threads(field: ForeignField) -> None:
    values = field.read()
    done = subprocess.run([sys.executable, "-c", FORKED], input=pickle.dumps(field), capture_output=True, check=True)
    np.testing.assert_array_equal(np.array(json.loads(done.stdout), dtype=np.float32), values)
    windows = list(field.grid.window.tiles(5, 7)) * 3
    with ThreadPoolExecutor(4) as pool:
        for window, found in zip(windows, pool.map(field.read, windows), strict=True):
            np.testing.assert_array_equal(found, values[:, window.rows, window.cols])


def test_any_layout_is_opened_by_its_item_or_the_items_folder(field: ForeignField, tmp_path: Path) -> None:
    item = enter(tmp_path / "catalog/others/one/one.json", str(field.path), field.layout)
    for place in (item, item.parent):
        with open_field(place) as again:
            assert again.layout == field.layout
            np.testing.assert_array_equal(again.read(), field.read())


def test_an_item_leads_past_a_folder_that_is_a_link(tiff: Callable[..., Path], tmp_path: Path) -> None:
    path = tiff(RNG.normal(size=(2, 6, 8)).astype(np.float32))
    (tmp_path / "large").mkdir()
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog/plain").symlink_to(tmp_path / "large")
    path = path.rename(tmp_path / "catalog/plain.tif")
    enter(tmp_path / "catalog/plain/one/one.json", "../../plain.tif", recognise(path))
    with open_field(tmp_path / "catalog/plain/one") as field:
        assert field.grid.shape == (6, 8)
    # The folder itself, as a link elsewhere, goes up to where it lies.
    (tmp_path / "large/plain.tif").write_bytes(path.read_bytes())
    enter(tmp_path / "large/two/two.json", "../plain.tif", recognise(path))
    (tmp_path / "shortcut").symlink_to(tmp_path / "large/two")
    with open_field(tmp_path / "shortcut/two.json") as field:
        assert field.grid.shape == (6, 8)


def test_files_that_are_gone_are_named_with_what_to_do(field: ForeignField, tmp_path: Path) -> None:
    field.close()
    there, layout = field.disk_path, field.layout
    there.rename(there.with_name("elsewhere"))
    with pytest.raises(FormatError, match=r"does not exist.*put it back, or .* 'embedfield catalog add'"):
        open_foreign(there, layout)


def test_files_of_others_without_an_item_are_refused_with_the_command(aef: tuple[Path, Numbers]) -> None:
    with pytest.raises(FormatError, match=r"no field of embedfield.*embedfield catalog add"):
        open_field(aef[0])


@pytest.mark.parametrize("name", ["own.tif", "own.zarr"])
def test_a_field_of_our_own_is_none_of_others(tmp_path: Path, name: str) -> None:
    ours = write_field(ArrayField(RNG.normal(size=(3, 6, 8))), tmp_path / name)
    with pytest.raises(FormatError, match=r"is a field of embedfield itself.*--as"):
        recognise(ours.path, "plain")


def test_items_that_cannot_be_understood_are_refused_by_name(aef: tuple[Path, Numbers], tmp_path: Path) -> None:
    layout = recognise(aef[0])
    newer = enter(tmp_path / "newer.json", str(aef[0]), layout, **{"embedfield:version": 2})
    with pytest.raises(FormatError, match=r"newer\.json was written by a newer embedfield"):
        open_field(newer)
    for change, words in (
        ({"store": "hologram"}, "store 'hologram'"),
        ({"card": {"name": "x"}}, "layout that cannot be read"),
        ({"rule": "affine", "card": layout["card"] | {"dim": 99}}, "99 were entered"),
    ):
        item = enter(tmp_path / "broken.json", str(aef[0]), layout | change)
        with pytest.raises(FormatError, match=words):
            open_field(item)
    with pytest.raises(FormatError, match="layout that cannot be read: 'aef'"):
        open_field(enter(tmp_path / "text.json", str(aef[0]), "aef"))  # type: ignore[arg-type]


def test_blocks_are_bounded_and_large_chunks_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedfield.formats.foreign import field as fields
    from embedfield.formats.foreign import zarr_field

    values = RNG.normal(size=(6, 300, 200)).astype(np.float32)
    path = plain_zarr(tmp_path / "large.zarr", values, chunks=(6, 256, 256))
    monkeypatch.setattr(fields, "HELD", 6 * 70**2)
    read: list[str] = []
    picked = zarr_field._picked

    def counted(array: Any, axes: str, picks: Any) -> Numbers:
        read.append(axes)
        return picked(array, axes, picks)

    monkeypatch.setattr(zarr_field, "_picked", counted)
    field = opened(path)
    read.clear()
    assert field.blocksize == 64
    assert_same(field.read(), values)
    # The chunks of 256 rows and of the 44 below.
    assert len(read) == 2
    assert_same(field.read(Window(60, 250, 10, 20)), values[:, 250:270, 60:70])


@pytest.mark.parametrize("chunks", [(3, 1, 200), (3, 150, 1), (1, 150, 200)])
def test_long_chunks_are_decoded_once_and_kept_until_the_field_is_closed(
    tmp_path: Path, chunks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedfield.formats.foreign import zarr_field

    values = RNG.normal(size=(3, 150, 200)).astype(np.float32)
    path = plain_zarr(tmp_path / "long.zarr", values, chunks=chunks)
    layout = recognise(path)
    places = RNG.integers(0, 150, 300), RNG.integers(0, 200, 300)

    picked, reads = zarr_field._picked, list[str]()

    def counted(array: Any, axes: str, picks: Any) -> Numbers:
        reads.append(axes)
        return picked(array, axes, picks)

    monkeypatch.setattr(zarr_field, "_picked", counted)

    def check() -> zarr_field.ForeignZarr:
        field = open_foreign(path, layout)
        assert isinstance(field, zarr_field.ForeignZarr)
        field.blocksize = 64
        reads.clear()
        assert_same(field.pixels(*places), values[:, *places].T)
        assert_same(np.concatenate([field.read(window) for window in field.grid.window.tiles(150, 40)], axis=2), values)
        return field

    field = check()
    assert len(reads) <= (150 // chunks[1]) * (200 // chunks[2])
    field.close()
    assert not field._levels[1].kept
    # Of more than may be kept one is, and what is too large to be kept at all is read as it is asked for.
    monkeypatch.setattr(zarr_field, "KEPT", 0)
    assert len(check()._levels[1].kept) == 1
    monkeypatch.setattr(zarr_field, "LARGEST", 0)
    assert not check()._levels[1].kept


def test_a_raster_of_one_pixel_and_one_without_any_value_are_fields(tmp_path: Path) -> None:
    one = np.full((64, 1, 1), 100, np.int8)
    path = tmp_path / "one.tiff"
    field = opened(alphaearth_tiff(path, one, blockxsize=16, blockysize=16))
    assert_same(field.read(), signed_squares(one))
    assert field.grid.bounds == (EASTING, NORTHING - 10, EASTING + 10, NORTHING)
    nothing = opened(alphaearth_tiff(tmp_path / "none.tiff", np.full((64, 16, 16), -128, np.int8)))
    assert np.isnan(nothing.read()).all()
    write_preview(nothing, tmp_path / "none.png")
    table = extract_points(nothing, nothing.grid.centres([3], [4]))
    assert list(table["status"]) == ["nodata"]


def test_a_plain_zarr_around_the_world_meets_itself(tmp_path: Path) -> None:
    values = RNG.normal(size=(2, 18, 36)).astype(np.float32)
    root = zarr.create_group(tmp_path / "world.zarr", zarr_format=2)
    # From 0 to 360 degrees east, as models of the weather have it.
    put(root, "v", values, ("channel", "latitude", "longitude"), fill_value=None)
    put(root, "latitude", 85.0 - 10 * np.arange(18), ("latitude",))
    put(root, "longitude", 5.0 + 10 * np.arange(36), ("longitude",))
    field = opened(tmp_path / "world.zarr")
    assert (field.grid.west, field.grid.closed) == (0, True)
    assert_same(field.at([[-5.0, 85.0], [5.0, -85.0], [180.0, 0.0]], "nearest"), values[:, [0, 17, 9], [35, 0, 18]].T)


def test_a_plain_zarr_across_the_antimeridian_is_read_on_both_sides(tmp_path: Path) -> None:
    values = RNG.normal(size=(2, 4, 6)).astype(np.float32)
    root = zarr.create_group(tmp_path / "fiji.zarr", zarr_format=3)
    put(root, "v", values, ("channel", "lat", "lon"))
    put(root, "lat", -15.5 - np.arange(4), ("lat",))
    put(root, "lon", 177.5 + np.arange(6), ("lon",))
    field = opened(tmp_path / "fiji.zarr")
    assert field.grid.bounds == (177, -19, 183, -15)
    assert_same(field.at([[179.5, -15.5], [-179.5, -15.5], [-177.5, -18.5], [-176.9, -18.5]], "nearest"),
         np.vstack([values[:, [0, 0, 3], [2, 3, 5]].T, np.full((1, 2), np.nan)]))  # fmt: skip


def test_a_tessera_store_whose_arrays_cannot_be_listed_is_read_by_its_zone(server: Server) -> None:
    codes = RNG.integers(-127, 128, (1, 4, 8, 8)).astype(np.int8)
    scales = RNG.random((1, 8, 8)).astype(np.float32)
    # As it is published: without a suffix, and without consolidated metadata.
    tessera_zarr(server.root / "v1", codes, scales, [2024])
    with pytest.raises(FormatError, match="--array"):
        recognise(f"{server.url}/v1")
    field = opened(f"{server.url}/v1", array="utm32")
    assert_same(field.read(), codes[0] * scales[0])
    assert field.name == "v1-utm32-2024"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a folder."""
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


def test_files_of_others_are_read_at_their_addresses(server: Server, tmp_path: Path) -> None:
    codes = signed_codes(64, 32, 32)
    alphaearth_tiff(server.root / "aef.tiff", codes)
    scales = RNG.random((40, 32)).astype(np.float32)
    large = RNG.integers(-127, 128, (40, 32, 64)).astype(np.int8)
    tile = tessera_tile(server.root / "tiles", large, scales, landmask="land.tiff")
    inside = tile.relative_to(server.root).as_posix()
    mask = np.ones((4, 8), np.uint8)
    numbers = RNG.integers(0, 255, (4, 4, 8)).astype(np.uint8)
    mind_zarr(server.root / "mind.zarr", [numbers], [mask], np.ones(4, np.float32), np.ones(4, np.float32), res=45.0)
    assert_same(opened(f"{server.url}/aef.tiff").read(), signed_squares(codes))
    field = opened(f"{server.url}/{inside}", landmask=f"{server.url}/tiles/land.tiff")
    assert_same(
        field.read(Window(3, 5, 20, 9)),
        (large.astype(np.float32) * scales[..., None]).transpose(2, 0, 1)[:, 5:14, 3:23],
    )
    field = opened(f"{server.url}/mind.zarr")
    assert_same(field.read(), numbers + 1.0)
    item = enter(tmp_path / "far.json", f"{server.url}/mind.zarr", field.layout)
    with open_field(item) as again:
        assert_same(again.read(), numbers + 1.0)
    with pytest.raises(FormatError, match="does not exist"):
        recognise(f"{server.url}/nothing.tiff")
    with pytest.raises(FormatError, match=r"is on a network, and its landmask .*land\.tiff on this disk"):
        recognise(f"{server.url}/{inside}", landmask=str(server.root / "tiles/land.tiff"))


def test_files_at_addresses_are_called_by_their_plain_names(server: Server) -> None:
    values = RNG.normal(size=(2, 4, 4)).astype(np.float32)
    profile = {"driver": "GTiff", "count": 2, "height": 4, "width": 4, "dtype": "float32", "crs": "EPSG:4326"}
    with rasterio.open(server.root / "zürich 1.tif", "w", transform=Affine(1, 0, 7, 0, -1, 48), **profile) as dataset:
        dataset.write(values)
    field = opened(f"{server.url}/z%C3%BCrich%201.tif")
    assert (field.name, field.card.name) == ("zürich 1", "z-rich-1")
    plain_zarr(server.root / "vectors.zarr", values)
    field = opened(f"{server.url}/signed/vectors.zarr?key=a%20b", array="vectors")
    assert (field.name, field.card.name) == ("vectors-vectors", "vectors")
    assert_same(field.read(), values)
