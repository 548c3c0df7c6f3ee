"""xarray opens fields by the engine embedfield: stored ones, and models whose pixels are computed when touched."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  registers the .rio accessor
import xarray as xr
import zarr
from fields import ArrayField, bumpy
from range_server import serving
from references import REFERENCE, REFERENCES
from safetensors.numpy import load_file, save_file
from xarray.backends.plugins import detect_parameters

from embedfield.backend import Backend, lazy, virtual
from embedfield.backend.virtual import virtual_field
from embedfield.build import build_field
from embedfield.errors import EmbedfieldError, FormatError, GridError, InputsError, WeightsError
from embedfield.evaluate import EncodedField
from embedfield.formats import cog, open_field, shards, write_field
from embedfield.formats.stored import StoredField
from embedfield.grid import Grid
from embedfield.models import card
from embedfield.sample import extract_points
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

# affine means to retire the `*` that rioxarray uses.
pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul")

DIM, HEIGHT, WIDTH = 3, 300, 280
VALUES = bumpy(DIM, HEIGHT, WIDTH)
# A model whose last digits depend on how many pixels are computed together.
SINR: dict[str, Any] = {"weights": REFERENCE / "sinr_small.safetensors", "device": "cpu"}
SUFFIXES = {"cog": ".tif", "zarr": ".zarr"}
every_kind = pytest.mark.parametrize("kind", SUFFIXES)
KEYS: dict[str, tuple[Any, Any, Any]] = {
    "all": (slice(None), slice(None), slice(None)),
    "a window": (slice(None), slice(100, 150), slice(120, 260)),
    "one band": (1, slice(None), slice(None)),
    "one number": (2, 299, 0),
    "steps back": (slice(None, None, -1), slice(280, 3, -50), slice(5, None, 91)),
    "lists": ([2, 0], [299, 0, 7, 7], [-1, 3, 128]),
    "nothing": (slice(None), slice(9, 9), slice(None)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a field as a COG and as a Zarr."""
    made = tmp_path_factory.mktemp("fields")
    for suffix in SUFFIXES.values():
        write_field(ArrayField(VALUES), made / f"field{suffix}", dtype="int16").close()
    return made


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """The windows that are read of stored fields."""
    found: list[Window] = []
    read = StoredField.read

    def noted(self: StoredField, window: Window | None = None) -> npt.NDArray[np.float32]:
        found.append(window or self.grid.window)
        return read(self, window)

    monkeypatch.setattr(StoredField, "read", noted)
    return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """The windows of longitudes and latitudes that are computed."""
    found: list[Window] = []
    lattice = EncodedField._lattice

    def noted(self: EncodedField, window: Window) -> npt.NDArray[np.float32]:
        found.append(window)
        return lattice(self, window)

    monkeypatch.setattr(EncodedField, "_lattice", noted)
    return found


def opened(name: Any, **options: Any) -> xr.Dataset:
    """Open something by the engine."""
    found: xr.Dataset = xr.open_dataset(name, engine=Backend, **options)
    return found


def by_rasterio(path: Path) -> npt.NDArray[np.float32]:
    """Return the values of a GeoTIFF, by its own scales, offsets and nodata."""
    with rasterio.open(path) as dataset:
        codes = dataset.read()
        shape = (-1, 1, 1)
        values = codes * np.reshape(dataset.scales, shape) + np.reshape(dataset.offsets, shape)
        found: npt.NDArray[np.float32] = np.where(codes == dataset.nodata, np.nan, values).astype(np.float32)
        return found


def built(out: Path, model: Any, res: float, **asked: Any) -> npt.NDArray[np.float32]:
    """Build a field as float32, and return its numbers as other readers see them."""
    field = build_field(model, res, out=out, dtype="float32", verify=False, **asked)
    field.close()
    if field.format == "cog":
        return by_rasterio(field.disk_path)
    with xr.open_zarr(field.path) as dataset:
        found: npt.NDArray[np.float32] = dataset["embedding"].to_numpy()
        return found


def same_bits(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    """Whether arrays are the same to the last bit, wherever they have a value."""
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)


# Stored fields. -----------------------------------------------------------------------------------------------------


@every_kind
def test_a_stored_field_is_a_dataset_of_its_values(folder: Path, kind: str) -> None:
    with opened(folder / f"field{SUFFIXES[kind]}") as ds:
        assert ds["embedding"].dims == ("band", "y", "x")
        assert ds["embedding"].dtype == np.float32
        assert same_bits(ds["embedding"].to_numpy(), by_rasterio(folder / "field.tif"))
        assert list(ds["band"].to_numpy()) == ["array_000", "array_001", "array_002"]


@every_kind
def test_a_dataset_says_where_it_is_as_rasterio_does(folder: Path, kind: str) -> None:
    with opened(folder / f"field{SUFFIXES[kind]}") as ds, rasterio.open(folder / "field.tif") as dataset:
        assert ds.rio.crs == dataset.crs
        assert ds["embedding"].rio.crs == dataset.crs
        assert ds.rio.transform() == dataset.transform
        np.testing.assert_allclose(ds.rio.bounds(), dataset.bounds, rtol=0, atol=1e-9)
        xs, _ = rasterio.transform.xy(dataset.transform, [0] * WIDTH, range(WIDTH))
        np.testing.assert_allclose(ds["x"], xs, rtol=0, atol=1e-12)
        assert ds["y"].attrs["units"] == "degrees_north"
        assert ds["x"].attrs["standard_name"] == "longitude"


@every_kind
def test_a_dataset_tells_of_its_model(folder: Path, kind: str) -> None:
    with opened(folder / f"field{SUFFIXES[kind]}") as ds:
        for attributes in (ds.attrs, ds["embedding"].attrs):
            assert (attributes["model"], attributes["licence"]) == ("array", "MIT")
            assert json.loads(attributes["embedfield"])["card"]["dim"] == DIM
        assert ds.attrs["Conventions"].startswith("CF-")
        assert ds["embedding"].attrs["long_name"] == "An array"


@every_kind
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_any_selection_is_that_of_the_array(folder: Path, kind: str, key: tuple[Any, Any, Any]) -> None:
    expected = by_rasterio(folder / "field.tif")
    for axis, part in enumerate(key):
        before = (slice(None),) * (axis - sum(isinstance(done, int) for done in key[:axis]))
        expected = expected[(*before, part)]
    with opened(folder / f"field{SUFFIXES[kind]}") as ds:
        assert same_bits(ds["embedding"][key].to_numpy(), expected)


@every_kind
@pytest.mark.parametrize("factor", [None, 2])
def test_single_pixels_are_picked_without_their_rows_and_columns(
    folder: Path, kind: str, factor: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, cols = np.array([[3, 149, -1], [3, 60, 0]]), np.array([[7, 139, -1], [7, 2, 101]])
    with opened(folder / f"field{SUFFIXES[kind]}", overview=factor) as ds:
        expected = ds["embedding"].to_numpy()[:, rows, cols]
    with opened(folder / f"field{SUFFIXES[kind]}", overview=factor) as ds:
        monkeypatch.setattr(lazy.LazyPixels, "_outer", None)  # which would read every pair of a row and a column
        points = ds["embedding"].isel(y=xr.DataArray(rows, dims=("a", "b")), x=xr.DataArray(cols, dims=("a", "b")))
        assert points.dims == ("band", "a", "b")
        assert same_bits(points.to_numpy(), expected)
        assert same_bits(points.isel(band=1, a=0).to_numpy(), expected[1, 0])
        assert points.isel(b=slice(0)).to_numpy().shape == (DIM, 2, 0)


def test_opening_reads_nothing_and_a_selection_its_blocks_alone(folder: Path, windows: list[Window]) -> None:
    with opened(folder / "field.tif") as ds:
        assert not windows
        ds["embedding"].isel(y=[1, 3, 299], x=[2, 131]).load()
    assert windows == [Window(2, 1, 130, 3), Window(2, 299, 130, 1)]


def test_one_band_of_many_is_read_piece_by_piece(
    folder: Path, windows: list[Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy, "HELD", 4 * DIM * 128 * 128)
    with opened(folder / "field.tif") as ds:
        assert same_bits(ds["embedding"][0].to_numpy(), by_rasterio(folder / "field.tif")[0])
    assert max(window.width * window.height for window in windows) == 128 * 128
    assert sum(window.width * window.height for window in windows) == HEIGHT * WIDTH


@pytest.mark.parametrize(("kind", "side"), [("cog", 128), ("zarr", 32)])
def test_chunks_of_dask_are_the_blocks_of_the_field(folder: Path, kind: str, side: int) -> None:
    with opened(folder / f"field{SUFFIXES[kind]}", chunks={}) as ds:
        bands, rows, cols = ds["embedding"].chunks or ((), (), ())
        assert bands == (DIM,)
        assert set(rows[:-1]) == set(cols[:-1]) == {side}
        assert same_bits(ds["embedding"].compute(scheduler="threads").to_numpy(), by_rasterio(folder / "field.tif"))


@every_kind
def test_coarser_levels_are_opened_by_their_factor(folder: Path, kind: str) -> None:
    path = folder / f"field{SUFFIXES[kind]}"
    with opened(path, overview=2) as ds, open_field(path) as field:
        assert ds["embedding"].shape == (DIM, 150, 140)
        assert ds.rio.transform() == rasterio.transform.from_origin(-10, 50, 0.2, 0.2)
        assert same_bits(ds["embedding"].to_numpy(), field.read_overview(2))
        assert ds["x"].to_numpy()[0] == pytest.approx(-9.9)
        table = ds.embedfield.sample([[-4.9, 40.1]])
        np.testing.assert_array_equal(table.iloc[0, 2:-1], ds["embedding"].sel(x=-4.9, y=40.1, method="nearest"))
    with opened(path, overview=1) as ds:
        assert ds["embedding"].shape == (DIM, HEIGHT, WIDTH)
    with pytest.raises(GridError, match="overview=3 is no coarser level of .*It has: 2"):
        opened(path, overview=3)


def test_a_level_with_an_odd_edge_reaches_beyond_the_globe(tmp_path: Path) -> None:
    grid = Grid.from_bounds(0.6, (0, -90, 180, 90))
    write_field(ArrayField(np.ones((1, *grid.shape)), grid), tmp_path / "odd.zarr").close()
    with opened(tmp_path / "odd.zarr", overview=2) as ds:
        assert ds["embedding"].shape == (1, 150, 150)
    write_field(ArrayField(np.ones((1, 299, 300)), Grid(west=0, north=90, res=0.6, width=300, height=299)),
                tmp_path / "odder.zarr").close()  # fmt: skip
    with opened(tmp_path / "odder.zarr", overview=2) as ds:
        assert ds["embedding"].shape == (1, 150, 150)
        assert ds["y"].to_numpy()[-1] == pytest.approx(90 - 149.5 * 1.2)
        assert (ds["embedding"].to_numpy() == 1).all()


@every_kind
def test_a_dataset_is_sampled_as_the_field_is(folder: Path, kind: str) -> None:
    generator = np.random.default_rng(2)
    places = np.column_stack((generator.uniform(-11, 19, 200), generator.uniform(19, 51, 200)))
    path = folder / f"field{SUFFIXES[kind]}"
    with opened(path) as ds, opened(path, chunks={}) as chunked, open_field(path) as field:
        expected = extract_points(field, places)
        assert ds.embedfield.sample(places).equals(expected)
        assert chunked.embedfield.sample(places).equals(expected)


def test_variables_are_left_out(folder: Path) -> None:
    with opened(folder / "field.tif", drop_variables="spatial_ref") as ds:
        assert "spatial_ref" not in ds.variables
    with opened(folder / "field.tif", drop_variables=["embedding", "not there"]) as ds:
        assert not ds.data_vars


def test_a_closed_dataset_has_let_go_of_its_file(folder: Path) -> None:
    ds = opened(folder / "field.tif")
    ds.close()
    with pytest.raises(FormatError, match="is closed. Open it again"):
        ds["embedding"].load()


@every_kind
def test_a_dataset_is_pickled_as_a_path(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    with opened(f"field{SUFFIXES[kind]}", overview=2) as ds:
        data = pickle.dumps(ds)
        assert len(data) < 20_000
        monkeypatch.chdir(tmp_path)
        with pickle.loads(data) as again:  # noqa: S301  our own
            assert again.equals(ds)


def test_several_threads_read_at_once(folder: Path) -> None:
    expected = by_rasterio(folder / "field.tif")
    with opened(folder / "field.tif", cache=False) as ds, ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda row: ds["embedding"][:, row].to_numpy(), range(0, HEIGHT, 3))
        assert all(same_bits(one, expected[:, 3 * number]) for number, one in enumerate(found))


def test_projected_grids_have_metres(tmp_path: Path) -> None:
    grid = Grid.from_bounds(1000, (500_000, 5_200_000, 540_000, 5_250_000), "EPSG:32632")
    write_field(ArrayField(bumpy(2, 50, 40), grid), tmp_path / "utm.tif", dtype="float32").close()
    with opened(tmp_path / "utm.tif") as ds:
        assert ds.rio.crs.to_epsg() == 32632
        assert ds.rio.bounds() == (500_000, 5_200_000, 540_000, 5_250_000)
        assert ds["x"].attrs["units"] == "metre"
        assert same_bits(ds["embedding"].to_numpy(), bumpy(2, 50, 40))


def test_a_raster_may_be_one_pixel_and_have_no_value(tmp_path: Path) -> None:
    grid = Grid(west=7, north=47, res=1, width=1, height=1)
    write_field(ArrayField(np.ones((2, 1, 1)), grid), tmp_path / "one.zarr", dtype="float32").close()
    with opened(tmp_path / "one.zarr", chunks={}) as ds:
        assert ds["embedding"].to_numpy().tolist() == [[[1.0]], [[1.0]]]
        assert ds.rio.bounds(recalc=True) == (7, 46, 8, 47)
    zarr.open_array(tmp_path / "one.zarr" / "embedding", mode="r+")[:] = np.nan
    with opened(tmp_path / "one.zarr") as ds:
        assert np.isnan(ds["embedding"].to_numpy()).all()


def test_a_folder_its_item_and_an_address_are_opened(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with build_field("xyz", 30, out=server.root, verify=False) as field:
            folder, expected = field.disk_path.parent, field.read()
        url = f"{server.url}/{folder.relative_to(server.root).as_posix()}/{folder.name}"
        for name in (folder, folder / f"{folder.name}.json", f"{url}.json", f"{url}.tif"):
            with opened(name) as ds:
                assert same_bits(ds["embedding"].to_numpy(), expected)
                assert ds.attrs["model"] == "xyz"


def test_nothing_of_others_is_claimed(tmp_path: Path, folder: Path) -> None:
    item = tmp_path / "some" / "some.json"
    item.parent.mkdir()
    item.write_text(json.dumps({"type": "Feature", "properties": {"embedfield:version": 1}}))
    (tmp_path / "other.json").write_text(json.dumps({"type": "Feature", "properties": {}}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    guess = Backend().guess_can_open
    assert guess(item)
    assert guess(str(item.parent))
    others = [*(tmp_path / f"{name}.json" for name in ("other", "broken", "list", "none")), tmp_path, "xyz", b"", None]
    assert not any(map(guess, [*others, *folder.iterdir(), "https://example.org/some.json"]))


def test_xarray_takes_it_for_an_engine() -> None:
    assert {"filename_or_obj", "drop_variables", "res", "overview"} <= set(detect_parameters(Backend().open_dataset))


def test_xarray_loads_it_without_what_is_heavy() -> None:
    # Whoever opens any file by xarray without naming an engine imports all engines.
    heavy = {"torch", "rasterio", "zarr", "rioxarray", "pystac", "geopandas"}
    code = f"import sys, xarray, embedfield.backend; print({heavy} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# Fields that are computed. ------------------------------------------------------------------------------------------

REGION = {
    "type": "Feature",
    "properties": {},
    "geometry": {"type": "Polygon", "coordinates": [[[-20, 10], [60, -30], [70, 62], [-20, 10]]]},
}
ASKED: dict[str, dict[str, Any]] = {
    "the globe": {"res": 6.0},
    "across the antimeridian": {"res": 0.5, "bounds": (160, -20, -170, 5)},
    "one pixel": {"res": 1.0, "bounds": (7, 46, 8, 47)},
    "metres": {"res": 50_000, "bounds": (0, 5_000_000, 1_000_000, 6_000_000), "crs": "EPSG:32632"},
    "several centres": {"res": 10.0, "supersample": 2},
    "float64": {"res": 10.0, "precision": "float64"},
    "a region": {"res": 2.0, "region": REGION},
    "its bounds": {"res": 2.0, "region": REGION, "mask": False},
}


@pytest.fixture
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have builds make many tiles and shards side by side of small fields, in strips of few rows."""
    monkeypatch.setattr(cog, "BUDGET", 2**20)
    monkeypatch.setattr(cog, "TILE_BUDGET", 2**20)
    monkeypatch.setattr("embedfield.formats.packing.PIXELS", 1500)
    monkeypatch.setattr(shards, "ROW", 2**21)


def asked_of(name: str, tmp_path: Path) -> dict[str, Any]:
    """Return what is asked, a region as a file."""
    asked = dict(ASKED[name])
    if "region" in asked:
        asked["region"] = tmp_path / "region.geojson"
        asked["region"].write_text(json.dumps(REGION))
    return asked


@every_kind
@pytest.mark.parametrize("name", ASKED)
@pytest.mark.usefixtures("few_pixels")
def test_every_slice_of_a_model_is_what_a_build_stores(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(name, tmp_path)
    expected = built(tmp_path, "sinr", **asked, **SINR, format=kind)
    monkeypatch.setattr(virtual, "KEPT", 0)
    array = opened("sinr", **asked, **SINR, format=kind, cache=False)["embedding"]
    assert same_bits(array.to_numpy(), expected)
    _, height, width = expected.shape
    generator = np.random.default_rng(1)
    for _ in range(8):
        top, left = int(generator.integers(height)), int(generator.integers(width))
        part = np.s_[:, top : top + int(generator.integers(1, 9)), left : left + int(generator.integers(1, 60))]
        assert same_bits(array[part].to_numpy(), expected[part])
        assert same_bits(array[:, top, left].to_numpy(), expected[:, top, left])


@every_kind
@pytest.mark.usefixtures("few_pixels")
def test_tiles_and_shards_are_computed_in_their_own_strips(kind: str, tmp_path: Path, computed: list[Window]) -> None:
    asked: dict[str, Any] = {"res": 0.1, "bounds": (0, 0, 70, 30), "format": kind}
    built(tmp_path, "xyz", **asked)
    wanted = set(computed)
    # Tiles of 256 pixels a side; pairs of shards; narrower ones in the east, lower ones in the south.
    assert {window.width for window in wanted} == ({256, 188} if kind == "cog" else {512, 188})
    assert len(wanted) > 100
    computed.clear()
    opened("xyz", **asked)["embedding"].load()
    assert set(computed) == wanted


@pytest.mark.parametrize("name", ["xyz", "sh-l10"])
def test_models_without_weights_are_opened_by_their_name_alone(name: str, tmp_path: Path) -> None:
    with opened(name, res=15) as ds:
        assert same_bits(ds["embedding"].to_numpy(), built(tmp_path, name, 15))
        assert ds.attrs["model"] == name
        assert ds.rio.crs.to_epsg() == 4326
        assert ds.rio.bounds() == (-180, -90, 180, 90)
        assert ds.encoding["source"] == name


def test_what_is_asked_beside_a_place_is_asked(tmp_path: Path) -> None:
    files = {"weights": REFERENCE / REFERENCES["climplicit"].weights}
    expected = built(tmp_path, "climplicit", 30, month=4, **files)
    with (
        opened("climplicit", res=30, month=4, **files) as ds,
        opened("climplicit", res=30, inputs={"month": 4}, **files) as same,
    ):
        assert same_bits(ds["embedding"].to_numpy(), expected)
        assert ds.equals(same)
        assert json.loads(ds.attrs["embedfield"])["card"]["options"]["month"] == 4
    for asked, message in (
        ({"month": 4}, "xyz takes no input 'month'"),
        ({"inputs": {"dims": 2}}, "xyz takes no input 'dims'"),
        ({"month": 4, "inputs": {"month": 5}}, "month is given twice"),
    ):
        with pytest.raises(InputsError, match=message):
            opened("xyz", res=30, **asked)


def test_a_card_is_opened_too() -> None:
    with opened(card("xyz"), res=30) as ds:
        assert ds["embedding"].shape == (3, 6, 12)


def test_opening_computes_no_pixel_and_touching_one_its_strip_once(computed: list[Window]) -> None:
    ds = opened("xyz", res=0.1, cache=False)
    assert not computed
    for col in range(900, 920):
        ds["embedding"][:, 901, col].load()
    # 32,768 pixels at most, on a grid that is one tile.
    assert computed == [Window(0, 900, 3600, 9)]


def test_few_strips_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "KEPT", 100_000)
    field = virtual_field("xyz", 1.0)
    field.read()
    assert len(field._kept) == 1
    field.close()
    assert not field._kept


def test_chunks_of_dask_are_strips_and_each_is_computed_once(computed: list[Window]) -> None:
    with opened("xyz", res=0.5, chunks={}) as ds:
        _, rows, cols = ds["embedding"].chunks or ((), (), ())
        assert (rows, cols) == ((45,) * 8, (720,))
        whole = ds["embedding"].compute(scheduler="threads")
        assert len(computed) == 8
        assert same_bits(whole.to_numpy(), opened("xyz", res=0.5)["embedding"].to_numpy())


def test_single_pixels_are_computed_alone_and_differ_in_their_last_digits_at_most(computed: list[Window]) -> None:
    ds = opened("sinr", res=0.5, **SINR)
    rows, cols = np.random.default_rng(4).integers(0, 360, (2, 200))
    points = ds["embedding"].isel(y=xr.DataArray(rows, dims="p"), x=xr.DataArray(cols, dims="p")).to_numpy()
    assert not computed
    whole = ds["embedding"].to_numpy()
    np.testing.assert_allclose(points, whole[:, rows, cols], rtol=0, atol=2e-6 * abs(whole).max())


def test_a_model_is_sampled_as_its_pixels() -> None:
    with opened("xyz", res=1) as ds:
        table = ds.embedfield.sample([[7.4, 46.9], [-179.9, 89.2]])
        np.testing.assert_array_equal(table.iloc[0, 2:-1], ds["embedding"].sel(x=7.5, y=46.5))
        np.testing.assert_array_equal(table.iloc[1, 2:-1], ds["embedding"].sel(x=-179.5, y=89.5))


def test_a_pickled_model_is_loaded_again_with_the_same_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REFERENCE)
    with opened("sinr", res=5, weights="sinr_small.safetensors", bounds=(0, 0, 50, 45)) as ds:
        data = pickle.dumps(ds)
        assert len(data) < 20_000  # no weights
        monkeypatch.chdir(tmp_path)
        with pickle.loads(data) as again:  # noqa: S301  our own
            assert again.identical(ds)


def test_a_region_travels_with_a_pickled_model(tmp_path: Path) -> None:
    asked = asked_of("a region", tmp_path)
    with opened("xyz", **asked) as ds:
        data = pickle.dumps(ds)
        asked["region"].unlink()
        with pickle.loads(data) as again:  # noqa: S301  our own
            assert again.identical(ds)


def test_other_weights_elsewhere_are_found_out(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes((REFERENCE / "sinr_small.safetensors").read_bytes())
    data = pickle.dumps(opened("sinr", res=5, weights=own))
    tensors = load_file(own)
    next(iter(tensors.values())).flat[0] += 1
    save_file(tensors, own)
    with pytest.raises(WeightsError, match="are not those that the field was opened with"):
        pickle.loads(data)  # noqa: S301  our own


# What cannot be. ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("satclap", {"res": 1}, "'satclap' is no field: nothing is there by that path.* no model: .*Did you mean"),
        ("no/such.tif", {}, "'no/such.tif' is no field: nothing .* And it is no model"),
        (5, {}, "5 is no field. Give a path, an address, the name of a model"),
        ("xyz", {}, "xyz is a model, and res, .*, is not given"),
        ("xyz", {"res": 1, "overview": 2}, "overview=2 is of stored fields, and xyz is a model. Give a coarser res"),
        ("xyz", {"res": 7}, "res=7 does not divide"),
        ("xyz", {"res": 1, "precision": "float8"}, "precision='float8'. Choose from"),
        ("xyz", {"res": 1, "format": "png"}, "format='png' is not known"),
        ("field.tif", {"res": 1, "mask": False}, "res, mask: not for a stored field, and field.tif is a path"),
        ("https://example.org/a.tif", {"dims": 3}, "dims: not for a stored field, and https"),
        ("field.txt", {}, "is of no format known here"),
        ("x" * 5000, {}, "xxx' is no field: nothing is there by that path"),
    ],
)
def test_what_cannot_be_opened_says_why(
    name: Any, asked: dict[str, Any], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "field.txt").touch()
    monkeypatch.chdir(folder)
    with pytest.raises(EmbedfieldError, match=message):
        opened(name, **asked)


def test_what_is_there_by_a_path_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with opened("xyz", res=30) as ds:
        assert ds.attrs["model"] == "xyz"
    (tmp_path / "xyz").mkdir()
    write_field(ArrayField(VALUES), tmp_path / "xyz" / "mine.tif").close()
    with opened("xyz") as ds:
        assert ds.attrs["model"] == "array"
    with pytest.raises(FormatError, match="res: not for a stored field, and xyz is a path .* give the model's card"):
        opened("xyz", res=30)


def test_a_field_that_was_not_asked_for_has_no_recipe(make_field: Callable[..., EncodedField]) -> None:
    field = make_field()
    with pytest.raises(TypeError, match="was not made by virtual_field"):
        pickle.dumps(virtual.VirtualField(field.evaluator, field.grid))


def test_xarray_knows_the_engine_by_its_name() -> None:
    assert isinstance(xr.backends.list_engines()["embedfield"], Backend)
