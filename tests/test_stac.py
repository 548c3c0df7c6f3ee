"""What is said of a field is true, valid without a network, and holds wherever the catalogue is moved."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
import zarr
from references import REFERENCE

from embedfield import catalog as catalogue
from embedfield import stac
from embedfield.build import build_field
from embedfield.catalog import add_to_catalog
from embedfield.errors import FormatError
from embedfield.formats import open_field, write_field
from embedfield.integrity import check_sums, listed, placed
from embedfield.schemas import kept, validator
from embedfield.stac import PREFIXES

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.evaluate import EncodedField

WEIGHTS = Path(__file__).parent / "reference" / "satclip_l40_small.ckpt"
VALIDATOR = validator()
# The last two are those of Zarr.
EXTENSIONS = [url for url in PREFIXES if "/mlm/" not in url]
# Calls of build_field, by the name of the item that each makes.
CALLS: dict[str, dict[str, Any]] = {
    "xyz-10deg-cog-uint8": {},
    "xyz-10deg-cog-float32": {"dtype": "float32"},
    "xyz-10deg-zarr-uint8": {"format": "zarr"},
    "xyz-10deg-zarr-float32": {"format": "zarr", "dtype": "float32"},
    "xyz-10deg-170e-20s-170w-20n-cog-uint8": {"bounds": (170, -20, -170, 20)},
    "xyz-1deg-cog-uint8": {"res": 1},
    "sh-l10-10deg-0e-0n-60e-40n-cog-uint8": {"model": "sh-l10", "bounds": (0, 0, 60, 40)},
    "satclip-vit16-l40-10deg-cog-uint8": {"model": "satclip-l40", "weights": WEIGHTS, "precision": "float64"},
    "xyz-10deg-cog-int16": {"dtype": "int16"},
    "xyz-10deg-cog-float16": {"dtype": "float16"},
    "xyz-10deg-zarr-uint8-flat": {"format": "zarr", "layout": "flat"},
    "xyz-pca2-ss2-10deg-cog-uint8": {"pca": 2, "supersample": 2},
    "xyz-500000m-epsg3035-cog-uint8": {"res": 500_000, "crs": "EPSG:3035"},
}
TILED, CROSSING, PLAIN = "xyz-1deg-cog-uint8", "xyz-10deg-170e-20s-170w-20n-cog-uint8", "xyz-10deg-cog-uint8"
COGS = [name for name in CALLS if "-cog-" in name]


def build(out: Path, name: str = PLAIN, **kwargs: Any) -> Path:
    """Build one of the fields in `CALLS` and return its item's path."""
    call: dict[str, Any] = {"model": "xyz", "res": 10, "device": "cpu"} | CALLS[name] | kwargs
    with build_field(out=out, **call) as field:
        return field.disk_path.parent / f"{field.disk_path.parent.name}.json"


@dataclass(frozen=True)
class Built:
    """A catalogue of one field of each kind."""

    root: Path
    items: dict[str, Path]

    def item(self, name: str) -> dict[str, Any]:
        """Return an item as it lies on disk."""
        found: dict[str, Any] = read(self.items[name])
        return found

    def asset(self, name: str, key: str = "embeddings") -> Path:
        """Return the file that an item's asset points at."""
        return self.items[name].parent / str(self.item(name)["assets"][key]["href"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A catalogue of one field of each kind; to look at, not to change."""
    root = tmp_path_factory.mktemp("built") / "catalog"
    with pytest.MonkeyPatch.context() as patch:
        # Two tiles of 128 x 128 pixels and narrower ones: a set of six for a grid of 360 x 180.
        patch.setattr("embedfield.formats.cog.BUDGET", 128 * 128 * 3)
        return Built(root, {name: build(root, name) for name in CALLS})


def validate(content: dict[str, Any]) -> list[str]:
    """Validate a STAC object with its extensions; return the schemas that were applied."""
    kind = {"Feature": "ITEM", "Collection": "COLLECTION", "Catalog": "CATALOG"}[content["type"]]
    extensions = content.get("stac_extensions", [])
    applied: list[str] = VALIDATOR.validate(content, pystac.STACObjectType[kind], content["stac_version"], extensions)
    return applied


def read(path: Path) -> Any:
    """Return what a file of JSON holds."""
    return json.loads(path.read_text("utf-8"))


def links(content: dict[str, Any], rel: str) -> list[str]:
    """Return where an object's links of one relation lead."""
    return [link["href"] for link in content["links"] if link["rel"] == rel]


def items_in(root: Path) -> list[str]:
    """Return the names of all items that a catalogue leads to, as pystac follows its links."""
    return sorted(item.id for item in pystac.Catalog.from_file(str(root / "catalog.json")).get_items(recursive=True))


@pytest.mark.parametrize("name", CALLS)
def test_an_item_is_valid_with_all_its_extensions(built: Built, name: str) -> None:
    assert built.item(name)["id"] == name
    assert validate(built.item(name))[1:] == EXTENSIONS[: None if "-zarr-" in name else -2]


@pytest.mark.parametrize("model", ["xyz", "sh-l10", "satclip-vit16-l40"])
def test_a_collection_is_valid_with_the_embeddings_extension(built: Built, model: str) -> None:
    assert "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json" in validate(
        read(built.root / model / "collection.json")
    )


def test_the_catalogue_is_valid(built: Built) -> None:
    assert validate(read(built.root / "catalog.json"))


def test_each_schema_is_kept_under_the_address_that_items_give() -> None:
    assert set(PREFIXES) <= set(kept())


WRONG_ITEMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no asset of embeddings": lambda item: item["assets"].pop("embeddings"),
    "an asset with emb:": lambda item: item["assets"]["preview"].update({"emb:type": "pixel"}),
    "emb:type in an item": lambda item: item["properties"].update({"emb:type": "pixel"}),
    "emb:dimensions in an item": lambda item: item["properties"].update({"emb:dimensions": 3}),
    "an emb: property unheard of": lambda item: item["properties"].update({"emb:colour": "red"}),
    "quantization without a method": lambda item: item["properties"]["emb:quantization"].pop("method"),
    "quantization without its origin": lambda item: item["properties"]["emb:quantization"].pop("original_dtype"),
    "quantization with a bare scale": lambda item: item["properties"]["emb:quantization"].update(scale=1),
    "quantization that says more": lambda item: item["properties"]["emb:quantization"].update(nodata=0),
    "postprocessing in words": lambda item: item["properties"].update({"emb:postprocessing": "PCA"}),
    "fit for one use in words": lambda item: item["properties"].update({"emb:fit_for_use": "maps"}),
    "parameters in a list": lambda item: item["properties"].update({"emb:runtime_parameters": []}),
    "a size below zero": lambda item: item["assets"]["preview"].update({"file:size": -1}),
    "half a byte": lambda item: item["assets"]["preview"].update({"file:size": 0.5}),
    "a checksum in capitals": lambda item: item["assets"]["preview"].update({"file:checksum": "12AB"}),
    "a file: field unheard of": lambda item: item["assets"]["preview"].update({"file:colour": "red"}),
    "a shape of one": lambda item: item["properties"].update({"proj:shape": [1]}),
    "a scale in words": lambda item: item["assets"]["embeddings"]["bands"][0].update({"raster:scale": "1"}),
    "no citation": lambda item: item["properties"].pop("sci:citation"),
    "software without a version": lambda item: item["properties"]["processing:software"].update(embedfield=1),
    "a version that is a number": lambda item: item["properties"].update(version=1),
    "deprecated in words": lambda item: item["properties"].update(deprecated="no"),
    "no renderings": lambda item: item["properties"].pop("renders"),
    "a rendering of nothing": lambda item: item["properties"]["renders"]["embeddings"].pop("assets"),
    "a rendering of a band before the first": lambda item: rendering(item).update(bidx=[0]),
    "a range of one number": lambda item: rendering(item).update(rescale=[[1]]),
}


def rendering(item: dict[str, Any]) -> dict[str, Any]:
    """Return the rendering of an item's vectors."""
    found: dict[str, Any] = item["properties"]["renders"]["embeddings"]
    return found


@pytest.mark.parametrize("wrong", WRONG_ITEMS)
def test_the_schemas_refuse_a_wrong_item(built: Built, wrong: str) -> None:
    item = built.item(PLAIN)
    WRONG_ITEMS[wrong](item)
    with pytest.raises(pystac.STACValidationError):
        validate(item)


WRONG_CUBES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no dimensions": lambda item: item["properties"].pop("cube:dimensions"),
    "a dimension without an extent": lambda item: item["properties"]["cube:dimensions"]["x"].pop("extent"),
    "an open extent of x": lambda item: item["properties"]["cube:dimensions"]["x"].update(extent=[0, None]),
    "an axis unheard of": lambda item: item["properties"]["cube:dimensions"]["x"].update(axis="w"),
    "bands without labels": lambda item: item["properties"]["cube:dimensions"]["band"].pop("extent"),
    "bands along an axis": lambda item: item["properties"]["cube:dimensions"]["band"].update(axis="x"),
    "a variable without dimensions": lambda item: item["properties"]["cube:variables"]["scale"].pop("dimensions"),
    "a variable of another kind": lambda item: item["properties"]["cube:variables"]["scale"].update(type="codes"),
    "a cube: property unheard of": lambda item: item["properties"].update({"cube:colour": "red"}),
    "words to open with": lambda item: item["assets"]["embeddings"].update({"xarray:open_kwargs": "zarr"}),
    "another way to open": lambda item: item["assets"]["embeddings"].update({"xarray:engine": "zarr"}),
}


@pytest.mark.parametrize("wrong", WRONG_CUBES)
def test_the_schemas_refuse_a_wrong_cube(built: Built, wrong: str) -> None:
    item = built.item("xyz-10deg-zarr-uint8")
    WRONG_CUBES[wrong](item)
    with pytest.raises(pystac.STACValidationError):
        validate(item)


WRONG_COLLECTIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no type": lambda collection: collection.pop("emb:type"),
    "another type": lambda collection: collection.update({"emb:type": "patch"}),
    "no dimensions": lambda collection: collection.pop("emb:dimensions"),
    "dimensions of zero": lambda collection: collection.update({"emb:dimensions": 0}),
    "no data type": lambda collection: collection.pop("data_type"),
    "no model": lambda collection: collection.update(links=[]),
    "a model without an address": lambda collection: collection.update(
        links=[link | ({"href": ""} if link["rel"] == "emb:model" else {}) for link in collection["links"]]
    ),
    "no source data": lambda collection: collection.update(
        links=[link for link in collection["links"] if link["rel"] != "emb:source-data"]
    ),
    "a summary unheard of": lambda collection: collection.update(summaries={"emb:colour": ["red", "blue"]}),
}


@pytest.mark.parametrize("wrong", WRONG_COLLECTIONS)
def test_the_schemas_refuse_a_wrong_collection(built: Built, wrong: str) -> None:
    collection = copy.deepcopy(read(built.root / "xyz" / "collection.json"))
    WRONG_COLLECTIONS[wrong](collection)
    with pytest.raises(pystac.STACValidationError):
        validate(collection)


def test_every_href_in_the_catalogue_is_relative_and_no_object_links_to_itself(built: Built) -> None:
    for path in (built.root / "catalog.json", *built.root.glob("*/collection.json"), *built.items.values()):
        content = read(path)
        assert links(content, "self") == []
        hrefs = [link["href"] for link in content["links"] if link["rel"] not in ("license", "emb:source-data")]
        hrefs += [asset["href"] for asset in content.get("assets", {}).values()]
        assert all(href.startswith(("./", "../")) for href in hrefs)
        assert [href for href in hrefs if not (path.parent / href).exists()] == []


def test_a_catalogue_that_was_moved_still_leads_to_every_file(built: Built, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(built.root, tmp_path / "elsewhere" / "moved"))
    items = list(pystac.Catalog.from_file(str(moved / "catalog.json")).get_items(recursive=True))
    assert {item.id for item in items} == set(CALLS)
    for item in items:
        hrefs = [str(asset.get_absolute_href()) for asset in item.assets.values()]
        assert all(href.startswith(str(moved)) and Path(href).exists() for href in hrefs)
        with open_field(str(item.assets["embeddings"].get_absolute_href())) as field:
            assert field.card.name == item.collection_id


@pytest.mark.parametrize("name", CALLS)
def test_sizes_and_checksums_are_those_of_the_files(built: Built, name: str) -> None:
    for key, asset in built.item(name)["assets"].items():
        path = built.asset(name, key)
        if path.is_dir():
            assert asset["file:size"] == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            # Of a folder it is the digest of the list of its files' digests.
            body = (path.parent / "SHA256SUMS").read_bytes()
            assert asset["file:checksum"] == "1220" + hashlib.sha256(body).hexdigest()
        else:
            body = path.read_bytes()
            assert asset["file:size"] == len(body)
            # A multihash begins with its function, 0x12 for sha2-256, and its length, 0x20.
            assert asset["file:checksum"] == "1220" + hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("name", COGS)
def test_bands_are_as_rasterio_reads_them(built: Built, name: str) -> None:
    bands = built.item(name)["assets"]["embeddings"]["bands"]
    with rasterio.open(built.asset(name)) as raster:
        assert [band["name"] for band in bands] == list(raster.descriptions)
        assert [band["data_type"] for band in bands] == list(raster.dtypes)
        assert [float(band["nodata"]) for band in bands] == pytest.approx(list(raster.nodatavals), nan_ok=True)
        assert [band["raster:scale"] for band in bands] == list(raster.scales)
        assert [band["raster:offset"] for band in bands] == list(raster.offsets)


@pytest.mark.parametrize("name", COGS)
def test_projection_is_as_rasterio_reads_it(built: Built, name: str) -> None:
    properties = built.item(name)["properties"]
    with rasterio.open(built.asset(name)) as raster:
        assert properties["proj:code"] == raster.crs.to_string()
        assert tuple(properties["proj:shape"]) == raster.shape
        assert properties["proj:transform"] == list(raster.transform)[:6]
        assert properties["proj:bbox"] == pytest.approx(list(raster.bounds), abs=1e-9)


@pytest.mark.parametrize("name", ["xyz-10deg-zarr-uint8", "xyz-10deg-zarr-float32"])
def test_bands_of_zarr_are_as_its_arrays(built: Built, name: str) -> None:
    bands = built.item(name)["assets"]["embeddings"]["bands"]
    group = zarr.open_group(str(built.asset(name)), mode="r")
    assert [band["raster:scale"] for band in bands] == np.asarray(group["scale"]).tolist()
    assert [band["raster:offset"] for band in bands] == np.asarray(group["offset"]).tolist()
    assert {band["data_type"] for band in bands} == {str(np.asarray(group["embedding"]).dtype)}


def test_quantization_says_how_values_come_of_codes(built: Built) -> None:
    quantization = built.item(PLAIN)["properties"]["emb:quantization"]
    with rasterio.open(built.asset(PLAIN)) as raster, open_field(built.asset(PLAIN)) as field:
        codes = raster.read()
        scale, offset = (np.array(quantization[key])[:, None, None] for key in ("scale", "offset"))
        np.testing.assert_array_equal(codes * scale + offset, field.read())
    assert quantization["quantized_dtype"] == str(codes.dtype)


def test_parameters_say_how_the_field_was_made(built: Built) -> None:
    parameters = built.item("satclip-vit16-l40-10deg-cog-uint8")["properties"]["emb:runtime_parameters"]
    assert parameters["weights_sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert (parameters["model"], parameters["precision"], parameters["device"]) == (
        "satclip-vit16-l40",
        "float64",
        "cpu",
    )


@pytest.mark.parametrize(("model", "dim"), [("xyz", 3), ("sh-l10", 100), ("satclip-vit16-l40", 32)])
def test_a_collection_has_as_many_dimensions_as_its_items_have_bands(built: Built, model: str, dim: int) -> None:
    items = [built.item(name) for name in CALLS if name.startswith(model) and "-pca" not in name]
    assert read(built.root / model / "collection.json")["emb:dimensions"] == dim
    assert {len(item["assets"]["embeddings"]["bands"]) for item in items} == {dim}


def test_each_tile_of_a_set_is_an_asset(built: Built) -> None:
    assets = built.item(TILED)["assets"]
    assert Path(assets["embeddings"]["href"]).suffix == ".vrt"
    tiles = [asset for asset in assets.values() if ".tiles/" in asset["href"]]
    assert len(tiles) == 6
    assert {asset["type"] for asset in tiles} == {"image/tiff; application=geotiff; profile=cloud-optimized"}


def test_types_of_assets_are_those_of_their_formats(built: Built) -> None:
    kinds = {name: built.item(name)["assets"]["embeddings"].get("type") for name in CALLS}
    assert kinds[PLAIN] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert kinds["xyz-10deg-zarr-uint8"] == "application/vnd.zarr; version=3"
    assert kinds[TILED] is None
    assert built.item(PLAIN)["assets"]["preview"]["roles"] == ["thumbnail"]


def test_an_outline_across_the_antimeridian_is_two_valid_polygons(built: Built) -> None:
    item = built.item(CROSSING)
    outline = shapely.geometry.shape(item["geometry"])
    assert outline.geom_type == "MultiPolygon"
    assert outline.is_valid
    assert sorted(part.bounds for part in outline.geoms) == [(-180, -20, -170, 20), (170, -20, 180, 20)]
    assert all(part.exterior.is_ccw for part in outline.geoms)
    assert item["bbox"] == [170, -20, -170, 20]
    assert item["properties"]["proj:bbox"] == [170, -20, 190, 20]


@pytest.mark.parametrize("name", [name for name in CALLS if name != CROSSING])
def test_an_outline_elsewhere_is_one_valid_polygon_as_wide_as_the_bbox(built: Built, name: str) -> None:
    item = built.item(name)
    outline = shapely.geometry.shape(item["geometry"])
    assert outline.geom_type == "Polygon"
    assert outline.is_valid
    assert outline.exterior.is_ccw
    assert list(outline.bounds) == item["bbox"]


def test_a_field_around_the_world_from_greenwich_is_as_wide_as_the_world(catalog: Path) -> None:
    with build_field("xyz", 10, bounds=(0, -90, 360, 90), device="cpu", out=catalog) as field:
        item = read(field.disk_path.parent / f"{field.disk_path.parent.name}.json")
    validate(item)
    assert item["bbox"] == [-180, -90, 180, 90]
    assert shapely.geometry.shape(item["geometry"]).area == 360 * 180
    assert read(catalog / "xyz" / "collection.json")["extent"]["spatial"]["bbox"] == [[-180, -90, 180, 90]]


def test_fields_of_one_model_share_a_collection_and_models_a_catalogue(built: Built) -> None:
    assert sorted(links(read(built.root / "catalog.json"), "child")) == [
        "./satclip-vit16-l40/collection.json",
        "./sh-l10/collection.json",
        "./xyz/collection.json",
    ]
    wanted = sorted(f"./{name}/{name}.json" for name in CALLS if name.startswith("xyz"))
    assert sorted(links(read(built.root / "xyz" / "collection.json"), "item")) == wanted
    assert items_in(built.root) == sorted(CALLS)


def test_a_field_built_again_is_entered_once(catalog: Path) -> None:
    build(catalog)
    before = read(build(catalog, CROSSING))
    first = read(catalog / "xyz" / PLAIN / f"{PLAIN}.json")
    build(catalog, overwrite=True)
    assert items_in(catalog) == sorted([PLAIN, CROSSING])
    assert len(links(read(catalog / "xyz" / "collection.json"), "item")) == 2
    assert read(catalog / "xyz" / PLAIN / f"{PLAIN}.json")["properties"]["created"] > first["properties"]["created"]
    assert read(catalog / "xyz" / CROSSING / f"{CROSSING}.json") == before


def extent(catalog: Path) -> dict[str, Any]:
    """Return the extent of the collection of xyz."""
    found: dict[str, Any] = read(catalog / "xyz" / "collection.json")["extent"]
    return found


def test_the_extent_of_a_collection_is_the_union_of_its_items(catalog: Path) -> None:
    stamps = []
    for bounds in ((0, 0, 40, 40), (-60, -20, -20, 0), (10, 10, 20, 20)):
        with build_field("xyz", 10, bounds=bounds, device="cpu", out=catalog) as field:
            folder = field.disk_path.parent
            stamps.append(read(folder / f"{folder.name}.json")["properties"]["datetime"])
    assert extent(catalog)["spatial"]["bbox"] == [[-60, -20, 40, 40]]
    assert extent(catalog)["temporal"]["interval"] == [[min(stamps), max(stamps)]]


def test_a_collection_says_each_length_that_its_fields_have(catalog: Path) -> None:
    weights = REFERENCE / "climplicit_small.safetensors"
    asked: list[dict[str, Any]] = [{"month": 7}, {}, {"month": 8}]
    for month in asked:
        build_field("climplicit", 30, weights=weights, device="cpu", out=catalog, **month).close()
        found = read(catalog / "climplicit" / "collection.json")
        validate(found)
        first = month == {"month": 7}
        assert found["emb:dimensions"] == (16 if first else 64)
        assert found["summaries"].get("emb:dimensions") == (None if first else [16, 64])


def test_an_extent_with_a_field_across_the_antimeridian_holds_all_of_it(catalog: Path) -> None:
    build(catalog, CROSSING)
    west, _, east, _ = extent(catalog)["spatial"]["bbox"][0]
    assert (west, east) in {(170, -170), (-180, 180)}
    build_field("xyz", 10, bounds=(0, -50, 40, 40), device="cpu", out=catalog).close()
    assert extent(catalog)["spatial"]["bbox"] == [[-180, -50, 180, 40]]


@pytest.mark.parametrize(
    "content",
    [
        "not JSON at all",
        "",
        "[]",
        '"catalog"',
        "{}",
        '{"type": "Feature", "id": "a", "geometry": null, "properties": {}}',
        '{"type": "Collection", "id": "mine", "links": []}',
        '{"type": "Catalog", "id": "mine"}',
    ],
)
def test_a_catalog_json_that_is_something_else_is_refused_and_kept(catalog: Path, content: str) -> None:
    catalog.mkdir()
    (catalog / "catalog.json").write_text(content)
    with pytest.raises(FormatError, match=r"catalog\.json is no STAC catalogue.*--out") as caught:
        build(catalog)
    assert len(str(caught.value).splitlines()) == 1
    assert (catalog / "catalog.json").read_text() == content


def test_a_catalogue_of_somebody_else_takes_another_child_and_keeps_its_own(catalog: Path) -> None:
    theirs = pystac.Catalog("theirs", "A catalogue that was there before.")
    theirs.add_item(pystac.Item("a", None, None, pystac.utils.str_to_datetime("2020-01-01T00:00:00Z"), {}))
    theirs.normalize_and_save(str(catalog), pystac.CatalogType.SELF_CONTAINED)
    build(catalog)
    assert read(catalog / "catalog.json")["id"] == "theirs"
    assert items_in(catalog) == ["a", PLAIN]


def test_an_item_whose_file_is_gone_does_not_stop_a_new_one(catalog: Path) -> None:
    shutil.rmtree(build(catalog).parent)
    build(catalog, CROSSING)
    assert f"./{CROSSING}/{CROSSING}.json" in links(read(catalog / "xyz" / "collection.json"), "item")


def test_a_collection_whose_folder_is_gone_is_made_anew(catalog: Path) -> None:
    build(catalog)
    shutil.rmtree(catalog / "xyz")
    build(catalog)
    assert items_in(catalog) == [PLAIN]
    assert links(read(catalog / "catalog.json"), "child") == ["./xyz/collection.json"]


def write_fields(root: Path, make_field: Callable[..., EncodedField], count: int) -> list[Path]:
    """Write small fields where a catalogue keeps them, and enter none."""
    paths = []
    for number in range(count):
        folder = root / "xyz" / f"field-{number}"
        folder.mkdir(parents=True)
        bounds = (10 * number, 0, 10 * number + 10, 10)
        with write_field(make_field(bounds=bounds), folder / f"field-{number}.tif") as field:
            paths.append(field.disk_path)
    return paths


def test_fields_entered_by_threads_at_once_are_all_there(
    catalog: Path, make_field: Callable[..., EncodedField]
) -> None:
    paths = write_fields(catalog, make_field, 8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: add_to_catalog(catalog, open_field(path)), paths))
    assert items_in(catalog) == [path.parent.name for path in paths]
    assert extent(catalog)["spatial"]["bbox"] == [[0, 0, 80, 10]]


def test_fields_entered_by_processes_at_once_are_all_there(
    catalog: Path, make_field: Callable[..., EncodedField]
) -> None:
    paths = write_fields(catalog, make_field, 10)
    code = (
        "import sys; from pathlib import Path; from embedfield.catalog import add_to_catalog;"
        "from embedfield.formats import open_field;"
        "print('ready', flush=True); sys.stdin.readline();"
        "[add_to_catalog(Path(sys.argv[1]), open_field(path)) for path in sys.argv[2:]]"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(catalog), *map(str, paths[start::2])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for start in (0, 1)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert items_in(catalog) == [path.parent.name for path in paths]


def test_nothing_but_stac_and_its_lock_is_left_of_entering(built: Built) -> None:
    assert list(built.root.rglob("*.part")) == []
    there = sorted(path.name for path in built.root.iterdir() if path.is_file())
    assert there == [".catalog.lock", "catalog.json", "items.parquet"]


@pytest.mark.parametrize("name", ["C#", "a?b&c", "100%25", r"back\\slash", "ünï cödé", 'it\'s <"&">', "a;b,c", "x:y"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_of_any_name_holds_a_whole_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path(name) if relative else tmp_path / name
    for _ in range(2):
        for field in (PLAIN, "xyz-10deg-zarr-uint8"):
            item = build(root, field)
            assert links(read(item), "collection") == ["../collection.json"]
            assert (item.parent / read(item)["assets"]["embeddings"]["href"]).exists()
    assert links(read(root / "catalog.json"), "child") == ["./xyz/collection.json"]
    assert len(links(read(root / "xyz" / "collection.json"), "item")) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_published_catalogue_of_somebody_else_gets_relative_links(catalog: Path) -> None:
    catalog.mkdir()
    theirs = pystac.Catalog("theirs", "Published.", catalog_type=pystac.CatalogType.ABSOLUTE_PUBLISHED)
    theirs.set_self_href("https://example.org/catalog.json")
    theirs.add_link(pystac.Link("child", "https://example.org/other/collection.json"))
    theirs.remove_links("root")
    (catalog / "catalog.json").write_text(json.dumps(theirs.to_dict()))
    build(catalog)
    build(catalog, CROSSING)
    found = links(read(catalog / "catalog.json"), "child")
    assert found == ["https://example.org/other/collection.json", "./xyz/collection.json"]


def test_a_reader_never_meets_a_link_to_what_is_not_there(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[str]()

    def note(path: Path, write: Callable[[Path], object]) -> Path:
        written.append(path.name)
        return placed(path, write)

    monkeypatch.setattr("embedfield.catalog.documents.placed", note)
    monkeypatch.setattr("embedfield.catalog.items_table.placed", note)
    with build_field("xyz", 10, out=catalog, device="cpu"):
        assert written == [f"{PLAIN}.json", "model.json", "collection.json", "items.parquet", "catalog.json"]


def test_a_model_without_doi_and_stated_licence_makes_a_valid_entry(tmp_path: Path) -> None:
    weights = WEIGHTS.with_name("gps2vec_tag_small.zip")
    field = build_field(
        "gps2vec-tag", 2, bounds=(102, 0, 108, 8), weights=weights, out=tmp_path / "catalog", device="cpu"
    )
    assert validate(read(field.disk_path.with_suffix(".json")))[1:] == EXTENSIONS[:-2]
    collection = read(tmp_path / "catalog" / "gps2vec-tag" / "collection.json")
    assert validate(collection)
    assert collection["license"] == "other"


def test_sizes_and_digests_that_are_known_are_not_taken_from_the_files(catalog: Path) -> None:
    path = build(catalog)
    known = {"./preview.png": {"file:size": 1, "file:checksum": "1220aa"}}
    with open_field(path.parent) as field:
        assets = stac.item_of(field, known=known).assets
    assert assets["preview"].extra_fields == known["./preview.png"]
    assert assets["embeddings"].extra_fields["file:size"] == path.with_suffix(".tif").stat().st_size


def test_digests_are_those_that_stand_beside_the_field_so_that_later_damage_is_found(catalog: Path) -> None:
    path = build(catalog)
    path.unlink()
    with open_field(path.parent) as field:
        field.disk_path.write_bytes(field.disk_path.read_bytes() + b"more")
        item = add_to_catalog(catalog, field)
        told = item.assets["embeddings"].extra_fields["file:checksum"]
        assert told.removeprefix("1220") == listed(path.parent)[field.disk_path.name]
    assert any("is damaged" in fault for fault in check_sums(path.parent))


def test_a_field_without_a_list_of_digests_is_hashed_for_its_item(
    tmp_path: Path, make_field: Callable[..., EncodedField]
) -> None:
    folder = tmp_path / "catalog" / "xyz" / "plain"
    with write_field(make_field(), folder / "plain.tif") as field:
        item = add_to_catalog(tmp_path / "catalog", field)
        digest = hashlib.sha256(field.disk_path.read_bytes()).hexdigest()
    assert item.assets["embeddings"].extra_fields["file:checksum"] == f"1220{digest}"


def test_an_item_that_was_damaged_is_not_written_anew(catalog: Path) -> None:
    path = build(catalog)
    item = read(path)
    path.write_text(json.dumps(item | {"properties": {}}))
    before = path.read_text()
    with open_field(path.parent) as field, pytest.raises(FormatError, match="is no STAC item: .*--overwrite"):
        catalogue.refresh(field, ["certificate.json"])
    assert path.read_text() == before
