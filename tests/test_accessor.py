"""An array of xarray is sampled as the field that it is, or as the raster that it shows."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, get_args

import dask.array
import geopandas
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from fields import ArrayField as Array
from fields import bumpy
from pyproj import Transformer
from shapely.geometry import box

import embedfield.accessor
from embedfield.array_field import ArrayField
from embedfield.card import Card
from embedfield.errors import FormatError, GridError, PlacesError
from embedfield.formats import open_field, write_field
from embedfield.formats.packing import Dtype
from embedfield.grid import Grid
from embedfield.models import card

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd

DIM, HEIGHT, WIDTH = 4, 150, 140
every_dtype = pytest.mark.parametrize("dtype", get_args(Dtype))
# rioxarray has one attribute for the scale of all bands and says so; and affine means to retire the `*` it uses.
pytestmark = pytest.mark.filterwarnings("ignore:(Scales|Offsets) differ across bands", "ignore:Use .@. matmul")


def cog(folder: Path, **options: Any) -> xr.DataArray:
    """Return a COG as rioxarray opens it."""
    found = rioxarray.open_rasterio(folder / "field.tif", **options)
    assert isinstance(found, xr.DataArray)
    return found


OPENERS: dict[str, Callable[[Path], xr.DataArray | xr.Dataset]] = {
    "zarr": lambda folder: xr.open_zarr(folder / "field.zarr"),
    "zarr, codes": lambda folder: xr.open_zarr(folder / "field.zarr", mask_and_scale=False),
    "zarr, no dask": lambda folder: xr.open_zarr(folder / "field.zarr", chunks=None),
    "zarr, coordinates": lambda folder: xr.open_zarr(folder / "field.zarr", decode_coords="all"),
    "cog": cog,
    "cog, values": lambda folder: cog(folder, mask_and_scale=True),
    "cog, dask": lambda folder: cog(folder, chunks=True),
}
every_opener = pytest.mark.parametrize("opener", OPENERS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Dtype], Path]:
    """Return a maker of folders with a field as COG and as Zarr, each made once."""
    made: dict[str, Path] = {}

    def write(dtype: Dtype) -> Path:
        if dtype not in made:
            made[dtype] = tmp_path_factory.mktemp("field")
            for suffix in (".tif", ".zarr"):
                write_field(Array(bumpy(DIM, HEIGHT, WIDTH)), made[dtype] / f"field{suffix}", dtype=dtype).close()
        return made[dtype]

    return write


def places(count: int = 300) -> npt.NDArray[np.float64]:
    """Return places over the field and somewhat around it: it reaches from 10 W to 4 E and from 35 to 50 N."""
    generator = np.random.default_rng(3)
    return np.column_stack((generator.uniform(-11, 5, count), generator.uniform(34, 51, count)))


def vectors(table: pd.DataFrame, dim: int = DIM) -> npt.NDArray[np.float32]:
    """Return the columns of the embedding: those before the status."""
    found: npt.NDArray[np.float32] = table.iloc[:, -dim - 1 : -1].to_numpy()
    return found


def plane(crs: str = "EPSG:3035", dim: int = 2, *, bottom_up: bool = False) -> xr.DataArray:
    """Return an array of noise, of pixels 1 km wide, as another program would make it."""
    values = np.random.default_rng(5).normal(size=(dim, 40, 50)).astype(np.float32)
    x, y = 4_000_500.0 + 1000 * np.arange(50), 3_039_500.0 - 1000 * np.arange(40)
    array = xr.DataArray(values, dims=("band", "y", "x"), coords={"y": y, "x": x}, name="Noise of 2020")
    array = array.isel(y=slice(None, None, -1)) if bottom_up else array
    located: xr.DataArray = array.rio.write_crs(crs)
    return located


def globe(lon: npt.NDArray[Any], lat: npt.NDArray[Any]) -> xr.DataArray:
    """Return an array whose one band is its longitude, from 180 W."""
    values = np.broadcast_to((np.asarray(lon, dtype=np.float64) + 180) % 360 - 180, (len(lat), len(lon)))
    array = xr.DataArray(values, dims=("lat", "lon"), coords={"lat": lat, "lon": lon}, name="longitude")
    located: xr.DataArray = array.rio.write_crs("EPSG:4326")
    return located


@every_dtype
@every_opener
def test_a_field_opened_by_xarray_is_the_field(dtype: Dtype, opener: str, written: Callable[[Dtype], Path]) -> None:
    folder = written(dtype)
    with open_field(folder / ("field.zarr" if "zarr" in opener else "field.tif")) as field:
        found = OPENERS[opener](folder).embedfield.field
        assert (found.grid, found.card, found.band_names) == (field.grid, field.card, field.band_names)
        assert found.provenance == field.provenance
        assert found.read().tobytes() == field.read().tobytes()


@every_dtype
@every_opener
def test_nearest_values_are_those_that_rasterio_samples(
    dtype: Dtype, opener: str, written: Callable[[Dtype], Path]
) -> None:
    folder = written(dtype)
    table = OPENERS[opener](folder).embedfield.sample(places(), "nearest")
    with rasterio.open(folder / "field.tif") as dataset:
        codes = np.array(list(dataset.sample(places())), dtype=np.float64)
        nodata = (codes == dataset.nodata) | np.isnan(codes)
        expected = np.where(nodata, np.nan, codes * dataset.scales + dataset.offsets)
        inside = np.array([dataset.bounds.left < x < dataset.bounds.right for x, _ in places()])
        inside &= np.array([dataset.bounds.bottom < y < dataset.bounds.top for _, y in places()])
    np.testing.assert_array_equal(vectors(table), np.where(inside[:, None], expected, np.nan).astype(np.float32))
    assert set(table["status"]) == {"valid", "nodata", "outside"}
    np.testing.assert_array_equal(table["status"] == "outside", ~inside)


@every_opener
def test_a_part_of_a_field_holds_what_the_field_holds_there(opener: str, written: Callable[[Dtype], Path]) -> None:
    folder = written("uint8")
    whole = OPENERS[opener](folder)
    part = whole.isel(y=slice(33, 90), x=slice(7, 8), band=[3, 1])
    found = part.embedfield.field
    assert found.grid == Grid(west=found.grid.west, north=found.grid.north, res=0.1, width=1, height=57)
    np.testing.assert_allclose(found.grid.bounds, (-9.3, 41.0, -9.2, 46.7), rtol=0, atol=1e-12)
    assert found.band_names == ["array_003", "array_001"]
    with open_field(folder / "field.tif") as field:
        np.testing.assert_array_equal(found.read(), field.read()[[3, 1], 33:90, 7:8])


def test_a_field_as_an_array_keeps_its_model_and_its_bands(make_field: Callable[..., Any]) -> None:
    field = make_field(res=1.0, bounds=(0, 0, 30, 20))
    array = field.to_xarray()
    found = array.isel(band=[2, 0], y=slice(5, 15)).embedfield.field
    assert found.card == card("xyz")
    assert found.band_names == ["xyz_002", "xyz_000"]
    np.testing.assert_array_equal(found.read(), field.read()[[2, 0], 5:15])


def test_bands_without_their_numbers_are_refused_if_some_are_gone(written: Callable[[Dtype], Path]) -> None:
    codes = cog(written("uint8")).isel(band=[1, 2]).drop_vars("band")
    with pytest.raises(FormatError, match="has 2 of the 4 bands .* not which. Keep its coordinate 'band'"):
        codes.embedfield.sample(places())


def test_the_coarser_levels_of_a_zarr_are_sampled_too(tmp_path: Path) -> None:
    values = bumpy(2, 300, 280)
    write_field(Array(values), tmp_path / "field.zarr", dtype="float32").close()
    with xr.open_zarr(tmp_path / "field.zarr", group="1") as level:
        found = level.embedfield.field
        assert found.grid.shape == (150, 140)
        assert found.grid.res == pytest.approx(0.2, abs=1e-12)
        # Of the part east of the hole in the first rows.
        means = values[:, :, 40:].astype(np.float64).reshape(2, 150, 2, 120, 2).mean(axis=(2, 4))
        np.testing.assert_allclose(found.read()[:, :, 20:], means, rtol=0, atol=1e-5)


def test_components_keep_their_names(tmp_path: Path, make_field: Callable[..., Any]) -> None:
    from embedfield.reduce import ReducedField, Reduction

    field = make_field(res=5.0)
    reduced = ReducedField(field, Reduction.fit(field.at(field.places(500)), 2))
    write_field(reduced, tmp_path / "field.zarr").close()
    with xr.open_zarr(tmp_path / "field.zarr") as ds:
        found = ds.embedfield.field
        assert (found.dim, found.band_names) == (2, ["xyz_pc000", "xyz_pc001"])


@pytest.mark.parametrize("bottom_up", [False, True])
def test_any_array_with_a_reference_system_is_a_field(*, bottom_up: bool) -> None:
    array = plane(bottom_up=bottom_up)
    generator = np.random.default_rng(1)
    x, y = generator.uniform(4_000_000, 4_050_000, 200), generator.uniform(3_000_000, 3_040_000, 200)
    lonlat = np.column_stack(Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(x, y))
    nearest = array.sel(x=xr.DataArray(x, dims="p"), y=xr.DataArray(y, dims="p"), method="nearest").T
    table = array.embedfield.sample(lonlat)
    np.testing.assert_array_equal(vectors(table, 2), nearest)
    assert list(table) == ["lon", "lat", "noise-of-2020_000", "noise-of-2020_001", "status"]
    inner = (x > 4_000_500) & (x < 4_049_500) & (y > 3_000_500) & (y < 3_039_500)
    between = array.astype(np.float64).interp(x=xr.DataArray(x, dims="p"), y=xr.DataArray(y, dims="p")).T
    found = vectors(array.embedfield.sample(lonlat, "bilinear"), 2)
    np.testing.assert_allclose(found[inner], between[inner], rtol=0, atol=1e-5)


def test_a_geodataframe_keeps_its_columns_and_its_system() -> None:
    points = geopandas.GeoDataFrame(
        {"name": ["a", "b"]}, geometry=geopandas.points_from_xy([4_000_700, 1], [3_039_100, 1]), crs="EPSG:3035"
    )
    table = plane().embedfield.sample(points)
    assert isinstance(table, geopandas.GeoDataFrame)
    assert table.crs == "EPSG:3035"
    assert list(table["status"]) == ["valid", "outside"]
    assert table["noise-of-2020_001"][0] == plane().to_numpy()[1, 0, 0]


def test_an_array_without_bands_has_one() -> None:
    table = plane().isel(band=1, drop=True).embedfield.sample(np.array([[10.0, 50.0]]))
    assert list(table)[2:] == ["noise-of-2020_000", "status"]
    assert plane().isel(band=[1]).squeeze().embedfield.field.dim == 1


def test_bands_with_names_of_their_own_keep_them() -> None:
    table = plane().rename("s2").assign_coords(band=["red", "nir"]).embedfield.sample(np.array([[10.0, 50.0]]))
    assert list(table) == ["lon", "lat", "s2_red", "s2_nir", "status"]


def test_a_dataset_of_one_array_is_that_array() -> None:
    dataset = plane().to_dataset(name="noise")
    np.testing.assert_array_equal(dataset.embedfield.field.read(), plane())
    with pytest.raises(
        FormatError, match=r"has 2 arrays over y and x: noise, again. Choose one, as in dataset\['noise"
    ):
        dataset.assign(again=dataset["noise"]).embedfield.sample(places())


@pytest.mark.parametrize("start", [-179.95, 0.05, -179.85])
@pytest.mark.parametrize("numbers", [np.float64, np.float32])
def test_a_globe_closes_wherever_its_columns_begin(start: float, numbers: type[np.floating[Any]]) -> None:
    lon, lat = (start + 0.1 * np.arange(3600)).astype(numbers), (9.95 - 0.1 * np.arange(200)).astype(numbers)
    field = globe(lon, lat).embedfield.field
    assert field.grid.closed
    assert field.grid.res == pytest.approx(0.1, abs=1e-12)
    there = np.array([[-170.02, 5], [-0.02, -3], [0.03, 2], [10.04, 1], [170.0, 9.99]])
    np.testing.assert_allclose(field.at(there, "bilinear")[:, 0], there[:, 0], rtol=0, atol=1e-4)
    # Half way between 179.95 W and 179.95 E the mean of both is zero.
    assert field.at([[180.0, 3.0]], "bilinear")[0, 0] == pytest.approx(0, abs=1e-3)


def test_a_part_of_the_world_may_lie_across_the_antimeridian() -> None:
    field = globe(np.arange(170.5, 200), np.arange(10.5, -10, -1)).embedfield.field
    np.testing.assert_array_equal(field.at([[-175.2, 3], [171.7, 3], [0, 3]])[:, 0], [-175.5, 171.5, np.nan])


def test_pixels_are_read_when_they_are_asked_for_and_each_block_once() -> None:
    read = []

    def block(block_info: Any = None) -> npt.NDArray[np.float32]:
        read.append(block_info[None]["chunk-location"])
        return np.ones((2, 10, 10), dtype=np.float32)

    chunks = ((2,), (10,) * 4, (10,) * 5)
    lazy = plane().copy(data=dask.array.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.ones((0, 0, 0))))  # type: ignore[no-untyped-call]
    field = lazy.embedfield.field
    assert field.blocksize == 10
    assert not read
    pixels = np.array([[0, 0], [35, 41], [3, 8], [39, 49]])
    field.pixels(*pixels.T)
    assert sorted(read) == [(0, 0, 0), (0, 3, 4)]


def test_a_field_over_an_array_can_be_pickled() -> None:
    found = pickle.loads(pickle.dumps(ArrayField(plane())))  # noqa: S301  our own
    np.testing.assert_array_equal(found.read(), plane())
    assert found.grid == ArrayField(plane()).grid


def test_integers_are_unpacked_by_their_attributes() -> None:
    codes = plane().copy(data=np.arange(4000).reshape(2, 40, 50).astype(np.int16))
    packed = codes.rio.write_nodata(7).assign_attrs(scale_factor=0.1, add_offset=-5.0)
    values = packed.embedfield.field.read()
    expected = (np.arange(4000).reshape(2, 40, 50) * 0.1 - 5).astype(np.float32)
    expected[0, 0, 7] = np.nan
    np.testing.assert_array_equal(values, expected)


def test_nodata_of_floats_is_no_value() -> None:
    values = plane().to_numpy().copy()
    values[:, 3, 4] = -9999
    found = plane().copy(data=values).rio.write_nodata(-9999).embedfield.field.read()
    np.testing.assert_array_equal(np.isnan(found), values == -9999)


def test_floats_that_may_be_unpacked_already_are_refused(written: Callable[[Dtype], Path]) -> None:
    codes = cog(written("uint8"))
    with pytest.raises(FormatError, match=r"float64, and its attributes \(scales, offsets\).*mask_and_scale=True"):
        codes.astype(np.float64).embedfield.sample(places())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda array: array.drop_vars("spatial_ref"), "has no reference system. Set it: .*write_crs"),
        (lambda array: array.drop_vars("x"), "no coordinate 'x'"),
        (lambda array: array.isel(x=[0, 1, 2, 4]), "The array's x is not evenly spaced"),
        (lambda array: array.isel(x=slice(None, None, -1)), "The array's x is not evenly spaced"),
        (lambda array: array.isel(x=slice(None, None, 2)), "pixels are 2000 by 1000, .* squares"),
        (lambda array: array.isel(x=[3], y=[3]), "one pixel, and does not tell how large"),
        (lambda array: array.isel(x=slice(0)), "no coordinate 'x'"),
        (lambda array: array.rename(x="a", y="b"), "dimensions are band, b, a, and none are y and x"),
        (lambda array: array.rio.write_crs("EPSG:4258"), "in degrees of its own"),
        (lambda array: array.rio.write_crs("+proj=laea +lat_0=12.3 +lon_0=45.6"), "has no code that is known"),
    ],
)
def test_an_array_whose_place_is_not_known_is_refused(
    wrong: Callable[[xr.DataArray], xr.DataArray], message: str
) -> None:
    with pytest.raises(GridError, match=message):
        wrong(plane()).embedfield.sample(places())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda array: array.expand_dims(time=2), r"dimensions time, band, y, x.*array.isel\(time=0\)"),
        (lambda array: array.astype(str), "and embeddings are numbers"),
        (lambda array: array.assign_attrs(embedfield={"version": 99}), "header version 99; this embedfield reads"),
        (lambda array: array.assign_attrs(EMBEDFIELD="{"), "header of embedfield cannot be read"),
        (lambda array: array.assign_attrs(embedfield={"version": 2}), "header of embedfield cannot be read"),
    ],
)
def test_an_array_that_is_no_field_is_refused(wrong: Callable[[xr.DataArray], xr.DataArray], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        wrong(plane()).embedfield.sample(places())


def test_exact_values_cannot_be_had_from_an_array() -> None:
    with pytest.raises(PlacesError, match="method='exact' is not to be had"):
        plane().embedfield.sample(places(), "exact")


def test_a_mean_over_polygons_is_that_of_their_pixels() -> None:
    parts = geopandas.GeoSeries([box(4_001_000, 3_037_000, 4_004_000, 3_039_000)], crs="EPSG:3035").to_frame("geometry")
    table = plane().embedfield.zonal_stats(parts)
    np.testing.assert_allclose(
        vectors(table, 2)[0], plane().to_numpy()[:, 1:3, 1:4].mean(axis=(1, 2)), rtol=0, atol=1e-5
    )
    assert list(table["status"]) == ["valid"]


def test_it_is_registered_once_for_arrays_and_once_for_datasets() -> None:
    assert xr.DataArray.embedfield is embedfield.accessor.Accessor  # type: ignore[attr-defined]
    assert xr.Dataset.embedfield is embedfield.accessor.Accessor  # type: ignore[attr-defined]
    assert isinstance(plane().embedfield.field.card, Card)
