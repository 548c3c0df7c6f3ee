"""Readers that do not know embedfield: each decodes every stored dtype to the same bits as `open_field`."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
import zarr
from fields import ArrayField, bumpy
from pyproj import Transformer
from rio_cogeo.cogeo import cog_validate

from embedfield.formats import cog, open_field, write_field
from embedfield.formats.packing import Dtype
from embedfield.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from embedfield.formats.geozarr import Layout

# Odd sizes on the way down: 530, 265, 133; a band's range is 1 to 1000, and every third band lies far from zero.
DIM, HEIGHT, WIDTH = 20, 530, 301
WEST, NORTH, RES = -10.0, 50.0, 0.1
DOCS = Path(__file__).parent.parent / "docs"
every_dtype = pytest.mark.parametrize("dtype", get_args(Dtype))
every_layout = pytest.mark.parametrize("layout", ["sharded", "flat"])
# rioxarray has one attribute for the scale of all bands and says so; and affine means to retire the `*` it uses.
quiet = pytest.mark.filterwarnings("ignore:(Scales|Offsets) differ across bands", "ignore:Use .@. matmul")


@pytest.fixture(scope="module")
def values() -> npt.NDArray[np.float32]:
    """Return what is written."""
    band = np.arange(DIM)[:, None, None]
    waves = bumpy(DIM, HEIGHT, WIDTH).astype(np.float64) / 10.0**band * 10.0 ** (band % 4)
    odd: npt.NDArray[np.float32] = (waves + np.where(band % 3 == 2, 20_000, 0)).astype(np.float32)
    # A whole block of nothing, and the last row and column, which overviews must not lose.
    odd[:, 128:256, 128:256] = np.nan
    odd[::2, -1, ::7] = np.nan
    return odd


@pytest.fixture(scope="module")
def written(values: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a maker of fields on disk, each made once."""
    made: dict[tuple[str, str, str], Path] = {}

    def write(dtype: Dtype, suffix: str = ".zarr", layout: Layout = "sharded") -> Path:
        key = (dtype, suffix, layout)
        if key not in made:
            path = tmp_path_factory.mktemp("field") / f"field{suffix}"
            with write_field(ArrayField(values), path, dtype=dtype, layout=layout) as field:
                made[key] = field.disk_path
        return made[key]

    return write


def assert_same(found: Any, path: Path) -> None:
    """Hold what a reader decoded to what `open_field` reads: in float32 bit for bit, in float64 exactly."""
    with open_field(path) as field:
        ours = field.read()
    assert np.isfinite(ours).mean() > 0.8
    theirs = np.asarray(found)
    assert theirs.dtype in (np.float32, np.float64)
    np.testing.assert_array_equal(theirs, ours)
    if theirs.dtype == np.float32:
        there = ~np.isnan(ours)
        assert theirs[there].tobytes() == ours[there].tobytes()


def means(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return means of 2 x 2 pixels that leave out NaN and what lies past the edge."""
    _, height, width = pixels.shape
    even = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2)), constant_values=np.nan)
    quads = np.stack([even[:, row::2, col::2] for row in (0, 1) for col in (0, 1)])
    there = ~np.isnan(quads)
    total, count = np.where(there, quads, 0).sum(axis=0), there.sum(axis=0)
    result: npt.NDArray[np.float64] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return result


def assert_coarser(below: npt.NDArray[np.float64], found: npt.NDArray[np.float64], dtype: Dtype, scale: Any) -> None:
    """Hold a level to the means of the level below, within half a step of its dtype."""
    truth = means(below)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
    # Half a step of codes; half the distance of neighbouring floats, and what sums of four in float32 lose.
    steps = {"float16": 2.0**-11, "float32": 2.0**-23}
    largest = np.nanmax(abs(below), axis=(1, 2), keepdims=True)
    step = abs(truth) * steps[dtype] + largest * 2.0**-22 if dtype in steps else scale / 2 * (1 + 1e-6)
    assert np.nanmax(abs(found - truth) - step) <= 0


@every_dtype
def test_rasterio_decodes_a_cog(dtype: Dtype, written: Callable[..., Path]) -> None:
    path = written(dtype, ".tif")
    with rasterio.open(path) as dataset:
        assert len(set(dataset.nodatavals)) == 1 or np.isnan(dataset.nodatavals).all()
        codes = dataset.read()
        scale, offset = (np.array(found)[:, None, None] for found in (dataset.scales, dataset.offsets))
        decoded = np.where((codes == dataset.nodata) | np.isnan(codes), np.nan, codes * scale + offset)
    assert_same(decoded, path)


@every_dtype
@quiet
def test_rioxarray_decodes_a_cog(dtype: Dtype, written: Callable[..., Path]) -> None:
    path = written(dtype, ".tif")
    array = rioxarray.open_rasterio(path, mask_and_scale=True)
    assert isinstance(array, xr.DataArray)
    with array:
        assert_same(array, path)


@every_dtype
def test_gdal_translate_decodes_a_cog(dtype: Dtype, written: Callable[..., Path], tmp_path: Path) -> None:
    program = shutil.which("gdal_translate")
    if not program:
        pytest.skip("gdal_translate is not on this machine")
    path = written(dtype, ".tif")
    line = (DOCS / "packing.md").read_text().partition("# GDAL\ngdal_translate ")[2].split("\n")[0]
    words = [
        {"field.tif": str(path), "values.tif": str(tmp_path / "values.tif")}.get(word, word) for word in line.split()
    ]
    subprocess.run([program, "-q", *words], check=True, capture_output=True)
    with rasterio.open(tmp_path / "values.tif") as dataset:
        assert_same(dataset.read(), path)


@every_dtype
@every_layout
def test_xarray_decodes_a_zarr(dtype: Dtype, layout: Layout, written: Callable[..., Path]) -> None:
    path = written(dtype, ".zarr", layout)
    with xr.open_zarr(path) as ds:
        decoded = ds.embedding * ds.scale + ds.offset
        assert decoded.dims == ("band", "y", "x")
        assert decoded.dtype == np.float32
        assert_same(decoded, path)


@every_dtype
@every_layout
def test_zarr_alone_decodes_a_zarr(dtype: Dtype, layout: Layout, written: Callable[..., Path]) -> None:
    path = written(dtype, ".zarr", layout)
    group = zarr.open_group(path, mode="r")
    codes, scale, offset = (array_of(group, name)[:] for name in ("embedding", "scale", "offset"))
    nodata = array_of(group, "embedding").fill_value
    assert (scale.dtype, offset.dtype) == (np.float32, np.float32)
    decoded = codes * scale[:, None, None] + offset[:, None, None]
    assert_same(np.where((codes == nodata) | np.isnan(codes), np.nan, decoded), path)


def array_of(group: zarr.Group, name: str) -> Any:
    """Return an array of a group."""
    found = group[name]
    assert isinstance(found, zarr.Array)
    return found


@every_dtype
@every_layout
@quiet
def test_rioxarray_finds_the_place_of_a_zarr(dtype: Dtype, layout: Layout, written: Callable[..., Path]) -> None:
    with xr.open_zarr(written(dtype, ".zarr", layout), decode_coords="all") as ds:
        assert ds.rio.crs.to_epsg() == 4326
        np.testing.assert_allclose(tuple(ds.rio.transform())[:6], (RES, 0, WEST, 0, -RES, NORTH), rtol=0, atol=1e-12)
        assert ds.embedding.rio.crs.to_epsg() == 4326
        assert (ds.rio.x_dim, ds.rio.y_dim) == ("x", "y")
        np.testing.assert_allclose(ds.x, WEST + RES * (np.arange(WIDTH) + 0.5), rtol=0, atol=1e-9)
        np.testing.assert_allclose(ds.y, NORTH - RES * (np.arange(HEIGHT) + 0.5), rtol=0, atol=1e-9)


@every_dtype
def test_gdal_reads_the_codes_and_the_place_of_a_flat_zarr(dtype: Dtype, written: Callable[..., Path]) -> None:
    path = written(dtype, ".zarr", "flat")
    with rasterio.open(f'ZARR:"{path}":/embedding') as dataset:
        assert (dataset.count, *dataset.shape) == (DIM, HEIGHT, WIDTH)
        assert dataset.dtypes == (dtype,) * DIM
        assert dataset.crs.to_epsg() == 4326
        np.testing.assert_allclose(tuple(dataset.transform)[:6], (RES, 0, WEST, 0, -RES, NORTH), rtol=0, atol=1e-12)
        codes, nodata = dataset.read(), dataset.nodata
    np.testing.assert_array_equal(nodata, {"uint8": 0, "int16": -32768}.get(dtype, np.nan))
    with xr.open_zarr(path) as ds:
        decoded = codes * ds.scale.values[:, None, None] + ds.offset.values[:, None, None]
    assert_same(np.where((codes == nodata) | np.isnan(codes), np.nan, decoded), path)


@every_dtype
def test_gdal_decodes_the_vrt_beside_a_flat_zarr(dtype: Dtype, written: Callable[..., Path], tmp_path: Path) -> None:
    path = written(dtype, ".zarr", "flat")
    # Both can be moved: the one names the other by its place beside it.
    shutil.copytree(path, tmp_path / "moved" / path.name)
    shutil.copy(f"{path}.vrt", tmp_path / "moved")
    vrt = tmp_path / "moved" / f"{path.name}.vrt"
    with rasterio.open(vrt) as dataset, rasterio.open(written(dtype, ".tif")) as single:
        assert dataset.descriptions == single.descriptions
        assert (dataset.crs, dataset.transform, dataset.shape) == (single.crs, single.transform, single.shape)
        assert (dataset.scales, dataset.offsets) == (single.scales, single.offsets)
        scale, offset = (np.array(found)[:, None, None] for found in (dataset.scales, dataset.offsets))
        decoded = dataset.read(masked=True).astype(np.float64) * scale + offset
        assert dataset.overviews(1) == [2, 4]
    assert_same(decoded.filled(np.nan), path)
    with rasterio.open(vrt, overview_level=0) as small, xr.open_zarr(path, group="1", mask_and_scale=False) as ds:
        np.testing.assert_array_equal(small.read(), ds.embedding)


def test_gdal_reads_the_coarser_levels_of_a_flat_zarr(written: Callable[..., Path]) -> None:
    path = written("uint8", ".zarr", "flat")
    with (
        rasterio.open(f'ZARR:"{path}":/1/embedding') as dataset,
        xr.open_zarr(path, group="1", mask_and_scale=False) as ds,
    ):
        np.testing.assert_array_equal(dataset.read(), ds.embedding)
        assert dataset.crs.to_epsg() == 4326
        np.testing.assert_allclose(
            tuple(dataset.transform)[:6], (2 * RES, 0, WEST, 0, -2 * RES, NORTH), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("crs", ["EPSG:3035", "ESRI:54009", "EPSG:2193", "EPSG:3031"])
@pytest.mark.parametrize("kind", ["single", "tiles", "flat"])
def test_gdal_finds_a_projected_field_on_the_globe(crs: str, kind: str, tmp_path: Path) -> None:
    # rasterio takes x to come first whatever a file says; other programs believe the file.
    program = shutil.which("gdalinfo")
    if not program:
        pytest.skip("gdalinfo is not on this machine")
    north, west = {"EPSG:2193": (5_500_000.0, 1_500_000.0)}.get(crs, (1_000_000.0, 500_000.0))
    grid = Grid(west=west, north=north, res=1000.0, width=200, height=150, crs=crs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "BUDGET", 128 * 128 if kind == "tiles" else 2**29)
        path = tmp_path / ("field.zarr" if kind == "flat" else "field.tif")
        layout: Layout = "flat" if kind == "flat" else "sharded"
        path = write_field(ArrayField(bumpy(1, 150, 200), grid), path, layout=layout).disk_path
    told = path.with_name("field.zarr.vrt") if kind == "flat" else path
    done = subprocess.run([program, "-json", told], check=True, capture_output=True, text=True)
    corners = np.array(json.loads(done.stdout)["wgs84Extent"]["coordinates"][0])
    truth = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(
        [west, west, west + 200_000, west + 200_000], [north, north - 150_000, north - 150_000, north]
    )
    np.testing.assert_allclose(corners[:4], np.transpose(truth), rtol=0, atol=1e-3)


@every_dtype
def test_a_cog_is_valid_and_its_overviews_are_means(dtype: Dtype, written: Callable[..., Path]) -> None:
    path = written(dtype, ".tif")
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as full:
        # GDAL tells scale and offset of the full resolution alone.
        scale, offset = (np.array(found)[:, None, None] for found in (full.scales, full.offsets))
        levels = [full.read(masked=True).astype(np.float64).filled(np.nan) * scale + offset]
        assert full.overviews(1) == [2, 4, 8]
    for level, shape in enumerate([(265, 151), (133, 76), (67, 38)]):
        with rasterio.open(path, overview_level=level) as small:
            assert small.shape == shape
            levels.append(small.read(masked=True).astype(np.float64).filled(np.nan) * scale + offset)
    for below, found in pairwise(levels):
        assert_coarser(below, found, dtype, scale)


@every_dtype
@every_layout
def test_the_coarser_levels_of_a_zarr_are_means(dtype: Dtype, layout: Layout, written: Callable[..., Path]) -> None:
    path = written(dtype, ".zarr", layout)
    levels = []
    for group in (None, "1", "2"):
        with xr.open_zarr(path, group=group) as ds:
            decoded = ds.embedding.astype("float64") * ds.scale + ds.offset
            levels.append(decoded.transpose("band", "y", "x").values)
            scale = ds.scale.values.astype(np.float64)[:, None, None]
    assert [level.shape for level in levels] == [(DIM, 530, 301), (DIM, 265, 151), (DIM, 133, 76)]
    for below, found in pairwise(levels):
        assert_coarser(below, found, dtype, scale)


@every_layout
@quiet
def test_a_coarser_level_of_a_zarr_is_at_the_centres_of_its_pixels(
    layout: Layout, written: Callable[..., Path]
) -> None:
    path = written("int16", ".zarr", layout)
    for level in (1, 2):
        res = RES * 2**level
        with xr.open_zarr(path, group=str(level), decode_coords="all") as ds:
            np.testing.assert_allclose(ds.x, WEST + res * (np.arange(ds.sizes["x"]) + 0.5), rtol=0, atol=1e-9)
            np.testing.assert_allclose(ds.y, NORTH - res * (np.arange(ds.sizes["y"]) + 0.5), rtol=0, atol=1e-9)
            assert ds.rio.crs.to_epsg() == 4326
            np.testing.assert_allclose(tuple(ds.rio.transform())[:6], (res, 0, WEST, 0, -res, NORTH), rtol=0, atol=1e-9)
    with pytest.raises((KeyError, FileNotFoundError, ValueError)):
        xr.open_zarr(path, group="3")


@every_layout
def test_multiscales_say_where_the_levels_are(layout: Layout, written: Callable[..., Path]) -> None:
    path = written("uint8", ".zarr", layout)
    group = zarr.open_group(path, mode="r")
    told: Any = group.attrs["multiscales"]
    assert told["resampling_method"] == "average"
    assert [entry["asset"] for entry in told["layout"]] == ["embedding", "1/embedding", "2/embedding"]
    assert [entry.get("derived_from") for entry in told["layout"]] == [None, "embedding", "1/embedding"]
    for number, entry in enumerate(told["layout"]):
        array = array_of(group, entry["asset"])
        assert list(array.shape[1:]) == entry["spatial:shape"]
        res = RES * 2**number
        np.testing.assert_allclose(entry["spatial:transform"], (res, 0, WEST, 0, -res, NORTH), rtol=0, atol=1e-12)
        assert entry["transform"]["scale"] == ([2.0, 2.0] if number else [1.0, 1.0])
        below: Any = group[entry["asset"].removesuffix("embedding").rstrip("/")].attrs if number else group.attrs
        assert below["spatial:transform"] == entry["spatial:transform"]
        assert below["spatial:shape"] == entry["spatial:shape"]
    assert "multiscales" in {convention["name"].rstrip(":") for convention in group.attrs["zarr_conventions"]}  # type: ignore[union-attr,index,call-overload]


def test_a_field_of_one_shard_has_no_coarser_levels(tmp_path: Path) -> None:
    path = write_field(ArrayField(bumpy(2, 256, 200)), tmp_path / "field.zarr").disk_path
    assert "multiscales" not in json.loads((path / "zarr.json").read_text())["attributes"]
    assert not (path / "1").exists()


@quiet
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_the_lines_in_the_documentation_decode(
    dtype: Dtype, written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (DOCS / "packing.md").read_text().partition("```python\n")[2].partition("```")[0]
    (tmp_path / "field.tif").symlink_to(written(dtype, ".tif"))
    (tmp_path / "field.zarr").symlink_to(written(dtype))
    monkeypatch.chdir(tmp_path)
    with open_field("field.tif") as field:
        codes, _ = field.packing.pack(field.read())
        packing = field.packing
    known: dict[str, Any] = {"np": np, "xr": xr, "rasterio": rasterio, "rioxarray": rioxarray, "codes": codes}
    known |= {"nodata": packing.nodata, "scale": packing.scale, "offset": packing.offset}
    found = {}
    for name, *statements, expression in (part.splitlines() for part in lines.split("# ")[1:]):
        exec("\n".join(statements), known)  # noqa: S102  our own lines
        decoded = eval(expression, known)  # noqa: S307  the same
        found[name] = decoded.filled(np.nan) if np.ma.isMaskedArray(decoded) else decoded
        assert_same(found[name], written(dtype, ".tif"))
    assert len(found) == 4
