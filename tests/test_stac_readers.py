"""Readers of STAC that know nothing of embedfield find its items and load them as arrays, with the right values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import odc.geo.xr
import odc.stac
import pandas as pd
import pystac
import pystac_client
import pytest
import rasterio
import rioxarray  # noqa: F401  it adds `.rio` to arrays
import stackstac
import xarray

from embedfield.build import build_field
from embedfield.formats import open_field

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

# Each of these is of a reader's own making, and not about what it reads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Server does not advertise"),
    pytest.mark.filterwarnings("ignore:Falling back to pystac"),
]
# Calls of build_field, by the name of the item that each makes.
CALLS: dict[str, dict[str, Any]] = {
    "xyz-10deg-cog-uint8": {},
    "xyz-10deg-cog-int16": {"dtype": "int16"},
    "xyz-10deg-cog-float32": {"dtype": "float32"},
    "xyz-pca2-10deg-cog-uint8": {"pca": 2},
    "xyz-10deg-170e-20s-170w-20n-cog-uint8": {"bounds": (170, -20, -170, 20)},
    "xyz-100km-utm": {"res": 100_000, "crs": "EPSG:32633", "bounds": (200_000, 0, 800_000, 500_000)},
    "xyz-1deg-cog-uint8": {"res": 1},
    "xyz-10deg-zarr-uint8": {"format": "zarr"},
    "xyz-10deg-zarr-int16-flat": {"format": "zarr", "dtype": "int16", "layout": "flat"},
    "xyz-10deg-zarr-float32": {"format": "zarr", "dtype": "float32"},
}
TILED = "xyz-1deg-cog-uint8"
COGS = [name for name, call in CALLS.items() if "format" not in call and name != TILED]
ZARRS = [name for name, call in CALLS.items() if "format" in call]


@dataclass(frozen=True)
class Built:
    """A catalogue, and the items in it, by the names of the calls that made them."""

    root: Path
    items: dict[str, pystac.Item]

    def raster(self, name: str) -> str:
        """Return the path of an item's raster."""
        return str(self.items[name].assets["embeddings"].get_absolute_href())

    def values(self, name: str) -> npt.NDArray[np.float32]:
        """Return the vectors (dim, height, width) of a field."""
        with open_field(self.raster(name)) as field:
            return field.read()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A catalogue of one field of each kind, its items as pystac reads them."""
    root = tmp_path_factory.mktemp("built") / "catalog"
    items = {}
    with pytest.MonkeyPatch.context() as patch:
        # Two tiles of 128 x 128 pixels and narrower ones: a set of six for a grid of 360 x 180.
        patch.setattr("embedfield.formats.cog.BUDGET", 128 * 128 * 3)
        for name, call in CALLS.items():
            told: dict[str, Any] = {"res": 10, "out": root, "device": "cpu", "verify": False, **call}
            with build_field("xyz", **told) as field:
                folder = field.disk_path.parent
            items[name] = pystac.Item.from_file(str(folder / f"{folder.name}.json"))
    return Built(root, items)


def test_pystac_client_finds_every_collection_and_item(built: Built) -> None:
    client = pystac_client.Client.open(str(built.root / "catalog.json"))
    assert [collection.id for collection in client.get_collections()] == ["xyz"]
    found = {item.id for item in client.get_items(recursive=True)}
    assert found == {item.id for item in built.items.values()}


def decoded(name: str, built: Built, codes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the values (dim, height, width) of stored numbers, by what the item says of them and nothing else."""
    bands = built.items[name].assets["embeddings"].extra_fields["bands"]
    scale, offset = (np.array([band[f"raster:{key}"] for band in bands])[:, None, None] for key in ("scale", "offset"))
    nodata = np.array([float(band["nodata"]) for band in bands])[:, None, None]
    values: npt.NDArray[np.float64] = np.where(codes == nodata, np.nan, codes * scale + offset)
    return values


@pytest.mark.parametrize("name", COGS)
def test_odc_stac_loads_an_item_by_what_it_says(built: Built, name: str) -> None:
    item = built.items[name]
    count = len(item.assets["embeddings"].extra_fields["bands"])
    dataset = odc.stac.load([item], bands=[f"embeddings.{number}" for number in range(1, count + 1)]).isel(time=0)
    with rasterio.open(built.raster(name)) as raster:
        assert dataset.odc.geobox.transform == raster.transform
        assert dataset.odc.geobox.shape == raster.shape
        assert dataset.odc.crs.to_epsg() == raster.crs.to_epsg()
        assert {str(array.dtype) for array in dataset.values()} == {raster.dtypes[0]}
    codes = np.stack([array.to_numpy() for array in dataset.values()])
    np.testing.assert_array_equal(decoded(name, built, codes), built.values(name))


def test_odc_stac_leaves_out_nodata(built: Built) -> None:
    dataset = odc.stac.load([built.items["xyz-10deg-cog-uint8"]], bands=["embeddings.2"])
    assert dataset["embeddings.2"].odc.nodata == 0


def test_odc_stac_loads_a_set_of_tiles_as_one(built: Built) -> None:
    dataset = odc.stac.load([built.items[TILED]], bands=["embeddings.1", "embeddings.2", "embeddings.3"], chunks={})
    dataset = dataset.isel(time=0).load()
    codes = np.stack([array.to_numpy() for array in dataset.values()])
    np.testing.assert_array_equal(decoded(TILED, built, codes), built.values(TILED))


def test_odc_stac_loads_a_part_of_several_items_at_once(built: Built) -> None:
    items = [built.items[name] for name in ("xyz-10deg-cog-uint8", "xyz-10deg-cog-int16")]
    dataset = odc.stac.load(items, bands=["embeddings.1"], bbox=(0, 0, 30, 20), groupby="id")
    assert dict(dataset.sizes) == {"time": 2, "latitude": 2, "longitude": 3}


@pytest.fixture
def _pandas_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pandas take an argument that it no longer has, and that stackstac 0.5 still gives it."""
    today = pd.to_datetime

    def then(values: Any, *, infer_datetime_format: bool, **more: Any) -> Any:
        return today(values, **more)

    monkeypatch.setattr("stackstac.prepare.pd.to_datetime", then)


@pytest.mark.usefixtures("_pandas_of_then")
@pytest.mark.parametrize("name", [name for name in COGS if "float" not in name])
def test_stackstac_stacks_the_bands_of_an_item_once_each_is_an_asset(built: Built, name: str) -> None:
    # It takes assets of one band alone, here by GDAL's name for it, and knows the CRS by its older name alone.
    item = built.items[name]
    bands = item.assets["embeddings"].extra_fields["bands"]
    bandwise = item.to_dict()
    bandwise["assets"] = {
        band["name"]: {
            "href": f"vrt://{built.raster(name)}?bands={number}",
            "type": item.assets["embeddings"].media_type,
        }
        for number, band in enumerate(bands, 1)
    }
    epsg = int(item.properties["proj:code"].removeprefix("EPSG:"))
    bandwise["properties"]["proj:epsg"] = epsg
    array = stackstac.stack([bandwise], dtype="float32", fill_value=np.float32(np.nan), rescale=False)
    assert array["band"].to_numpy().tolist() == [band["name"] for band in bands]
    assert list(array.attrs["transform"])[:6] == item.properties["proj:transform"]
    codes = array.isel(time=0).to_numpy()
    np.testing.assert_array_equal(decoded(name, built, codes), built.values(name))


@pytest.mark.parametrize("name", ZARRS)
def test_xarray_opens_the_asset_of_a_zarr_as_the_item_says(built: Built, name: str) -> None:
    asset = built.items[name].assets["embeddings"]
    assert asset.media_type == "application/vnd.zarr; version=3"
    with xarray.open_dataset(built.raster(name), **asset.extra_fields["xarray:open_kwargs"]) as dataset:
        assert dataset["embedding"].chunks
        assert dataset.rio.crs.to_string() == "EPSG:4326"
        assert list(dataset.rio.transform())[:6] == built.items[name].properties["proj:transform"]
        values = dataset["embedding"] * dataset["scale"] + dataset["offset"]
        np.testing.assert_array_equal(values.transpose("band", "y", "x").values, built.values(name))


def test_an_item_that_was_read_loads_again_from_what_pystac_writes(built: Built, tmp_path: Path) -> None:
    item = built.items["xyz-10deg-cog-uint8"].full_copy()
    item.make_asset_hrefs_absolute()
    copied = pystac.Item.from_dict(item.to_dict(include_self_link=False))
    copied.save_object(dest_href=str(tmp_path / "copy.json"), include_self_link=False)
    with open_field(tmp_path / "copy.json") as field:
        np.testing.assert_array_equal(field.read(), built.values("xyz-10deg-cog-uint8"))
