"""A catalogue says what there is, can be made anew from its files, and takes fields from elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from pyarrow import parquet
from rasterio.transform import from_origin
from stac_geoparquet.arrow import stac_table_to_items

from embedfield.build import build_field
from embedfield.catalog import Catalog, add_to_catalog
from embedfield.catalog.validation import check_catalog_files
from embedfield.errors import EmbedfieldWarning, FormatError, GridError, OutputExistsError
from embedfield.formats import open_field
from embedfield.schemas import validator

if TYPE_CHECKING:
    from collections.abc import Callable

# Calls of build_field, by the id that each makes.
CALLS: dict[str, dict[str, Any]] = {
    "xyz-30deg-cog-uint8": {},
    "xyz-30deg-zarr-float32": {"format": "zarr", "dtype": "float32"},
    "xyz-10deg-170e-20s-170w-20n-cog-int16": {"res": 10, "bounds": (170, -20, -170, 20), "dtype": "int16"},
    "xyz-500000m-epsg3035-cog-uint8": {"res": 500_000, "crs": "EPSG:3035"},
    "xyz-pca2-30deg-cog-uint8": {"pca": 2},
    "sh-l10-30deg-cog-uint8": {"model": "sh-l10"},
}
PLAIN, CROSSING, METRES = (
    "xyz-30deg-cog-uint8",
    "xyz-10deg-170e-20s-170w-20n-cog-int16",
    "xyz-500000m-epsg3035-cog-uint8",
)


def build(root: Path, *names: str) -> None:
    """Build some of the fields in `CALLS`."""
    for name in names:
        call: dict[str, Any] = {"model": "xyz", "res": 30, "device": "cpu", "verify": False} | CALLS[name]
        build_field(out=root, **call).close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of one field of each kind; to look at, not to change."""
    root = tmp_path_factory.mktemp("built") / "catalog"
    build(root, *CALLS)
    return root


@pytest.fixture
def mine(built: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return Path(shutil.copytree(built, tmp_path / "mine"))


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    """A raster that somebody else made: four bands of float32, in Svalbard."""
    path = tmp_path / "theirs" / "some bands.tif"
    path.parent.mkdir()
    profile = {"driver": "GTiff", "count": 4, "height": 20, "width": 30, "dtype": "float32", "nodata": np.nan}
    values = np.random.default_rng(1).normal(size=(4, 20, 30)).astype("float32")
    transform = from_origin(500_000, 8_700_000, 100, 100)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=transform, **profile) as file:
        file.write(values)
    return path


def added(root: Path, *words: Any, **named: Any) -> Path:
    """Register a field in a catalogue of this disk, and return its item."""
    item = Catalog(root).add(*words, **named)
    assert isinstance(item, Path)
    return item


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def links(path: Path, rel: str) -> list[str]:
    return [link["href"] for link in read(path)["links"] if link["rel"] == rel]


def item(root: Path, name: str = PLAIN) -> Path:
    return next(root.glob(f"*/{name}/{name}.json"))


def ids(root: Path) -> list[str]:
    return [entry.id for entry in Catalog(root).entries()]


def documents(root: Path) -> dict[str, bytes]:
    """Return all files of a catalogue that follow from its fields."""
    paths = (*root.rglob("*.json"), root / "items.parquet")
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if ".zarr/" not in str(path)}


def test_entries_say_what_rasterio_says(built: Path) -> None:
    for entry in Catalog(built).entries():
        if not entry.href.endswith(".tif"):
            continue
        with rasterio.open(entry.href) as file:
            assert (entry.bands, entry.dtype, entry.res) == (file.count, file.dtypes[0], file.res[0])
            assert entry.crs == file.crs.to_string()
        assert Path(entry.path).parent.name == entry.id
        assert entry.bytes is not None
        assert entry.bytes > Path(entry.href).stat().st_size


def test_entries_are_found_by_model_bounds_and_resolution(built: Path) -> None:
    catalog = Catalog(built)
    assert [entry.id for entry in catalog.entries("sh-l10")] == ["sh-l10-30deg-cog-uint8"]
    assert catalog.entries("geoclip") == []
    everywhere = {name for name in CALLS if name not in {CROSSING, METRES}}
    assert {entry.id for entry in catalog.entries(bounds=(10, -40, 20, -30))} == everywhere
    assert {entry.id for entry in catalog.entries(bounds=(175, 0, 178, 5))} == everywhere | {CROSSING}
    assert {entry.id for entry in catalog.entries(bounds=(-175, 0, -172, 5))} == everywhere | {CROSSING}
    assert {entry.id for entry in catalog.entries(bounds=(178, 0, -178, 5))} == everywhere | {CROSSING}
    assert {entry.id for entry in catalog.entries(bounds=(-170, 0, -165, 5))} == everywhere, "an edge is no area"
    assert [entry.id for entry in catalog.entries(res=(5, 10))] == [CROSSING]
    assert [entry.pixel for entry in catalog.entries(res=(1000, 1e6))] == ["500000 m"]


BROKEN: dict[str, Callable[[Path], object]] = {
    "is no JSON": lambda path: path.write_text("{"),
    "does not exist": lambda path: path.unlink(),
    "holds no JSON object": lambda path: path.write_text("[]"),
    "its type is 'Catalog'": lambda path: path.write_text('{"type": "Catalog"}'),
    "written by a newer embedfield": lambda path: path.write_text(
        json.dumps(read(path) | {"properties": read(path)["properties"] | {"embedfield:version": 2}})
    ),
    "no asset|has no 'embeddings'": lambda path: path.write_text(json.dumps(read(path) | {"assets": {}})),
    "its bbox is": lambda path: path.write_text(json.dumps(read(path) | {"bbox": [0, 5, 1, float("nan")]})),
    "it has no geometry": lambda path: path.write_text(json.dumps(read(path) | {"geometry": None})),
    "is no STAC item": lambda path: path.write_text(json.dumps(read(path) | {"properties": []})),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_item_is_named_and_stops_nothing(mine: Path, raster: Path, what: str) -> None:
    BROKEN[what](item(mine))
    with pytest.warns(EmbedfieldWarning, match=f"^xyz/{PLAIN}/{PLAIN}.json: (.*)({what})") as caught:
        found = ids(mine)
    assert len(caught) == 1
    assert sorted(found) == sorted(set(CALLS) - {PLAIN})
    # What is entered now is entered, and the broken one is still linked to.
    Catalog(mine).add(raster, kind="plain", name="xyz")
    assert f"./{PLAIN}/{PLAIN}.json" in links(mine / "xyz" / "collection.json", "item")
    assert len(gpd.read_parquet(mine / "items.parquet")) == len(CALLS)


def test_a_folder_without_catalogue_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="embedfield build --out"):
        Catalog(tmp_path).entries()


def test_a_rebuild_of_a_whole_catalogue_changes_no_byte(mine: Path) -> None:
    before = documents(mine)
    assert Catalog(mine).rebuild() == []
    assert documents(mine) == before


def test_a_catalogue_is_made_anew_from_rasters_alone(mine: Path) -> None:
    before = {name: read(item(mine, name)) for name in CALLS}
    for name in documents(mine):
        if Path(name).name != "colours.json":
            (mine / name).unlink()
    assert Catalog(mine).rebuild() == []
    assert sorted(ids(mine)) == sorted(CALLS)
    for name, old in before.items():
        new = read(item(mine, name))
        assert new["assets"] == old["assets"]
        assert {key: new[key] for key in ("bbox", "geometry", "links", "id")} == {
            key: old[key] for key in ("bbox", "geometry", "links", "id")
        }
    assert check_catalog_files(mine) == []


def test_a_rebuild_keeps_what_an_item_says_of_its_run(mine: Path) -> None:
    (mine / "xyz" / "collection.json").unlink()
    (mine / "catalog.json").write_text("damaged")
    before = read(item(mine))["properties"]
    faults = Catalog(mine).rebuild()
    assert [fault.where for fault in faults] == ["catalog.json"]
    after = read(item(mine))["properties"]
    assert after == before
    assert after["emb:runtime_parameters"]["device"] == "cpu"
    assert sorted(ids(mine)) == sorted(CALLS)


def test_a_rebuild_names_what_it_cannot_enter_and_keeps_what_is_newer(mine: Path) -> None:
    newer = read(item(mine, CROSSING))
    newer["properties"]["embedfield:version"] = 7
    item(mine, CROSSING).write_text(json.dumps(newer))
    raster = item(mine, METRES).with_suffix(".tif")
    raster.write_bytes(b"II*\0 no raster")
    item(mine, METRES).unlink()
    shutil.copytree(mine / "xyz" / PLAIN, mine / "sh-l10" / "stray")
    faults = {fault.where: fault.what for fault in Catalog(mine).rebuild()}
    assert set(faults) == {
        f"xyz/{CROSSING}/{CROSSING}.json", f"xyz/{METRES}/{METRES}.json", "sh-l10/stray/stray.json"
    }  # fmt: skip
    assert "newer embedfield" in faults[f"xyz/{CROSSING}/{CROSSING}.json"]
    assert "Move its folder to xyz/stray" in faults["sh-l10/stray/stray.json"]
    assert read(item(mine, CROSSING)) == newer
    assert f"./{CROSSING}/{CROSSING}.json" in links(mine / "xyz" / "collection.json", "item")
    with pytest.warns(EmbedfieldWarning, match="newer"):
        assert sorted(ids(mine)) == sorted(set(CALLS) - {CROSSING, METRES})


def test_a_rebuild_keeps_a_collection_of_others_and_drops_one_of_ours_without_fields(mine: Path) -> None:
    theirs = pystac.Catalog("theirs", "Something else.")
    theirs.normalize_and_save(str(mine / "theirs"), pystac.CatalogType.SELF_CONTAINED)
    catalog = read(mine / "catalog.json")
    catalog["links"] += [
        {"rel": "child", "href": "./theirs/catalog.json"},
        {"rel": "child", "href": "https://e.org/c.json"},
    ]
    catalog["description"] = "My own words."
    (mine / "catalog.json").write_text(json.dumps(catalog))
    shutil.rmtree(mine / "sh-l10" / "sh-l10-30deg-cog-uint8")
    assert Catalog(mine).rebuild() == []
    children = links(mine / "catalog.json", "child")
    assert children == ["./theirs/catalog.json", "https://e.org/c.json", "./xyz/collection.json"]
    assert read(mine / "catalog.json")["description"] == "My own words."
    assert not (mine / "sh-l10" / "collection.json").exists()


def without_nothing(value: Any) -> Any:
    """Return JSON without null: a column of a table has a value for every row, if only none."""
    if isinstance(value, dict):
        return {name: without_nothing(inner) for name, inner in value.items() if inner is not None}
    return [without_nothing(inner) for inner in value] if isinstance(value, list) else value


def test_the_table_of_items_is_geoparquet_of_valid_items(built: Path) -> None:
    frame = gpd.read_parquet(built / "items.parquet")
    assert sorted(frame["id"]) == sorted(CALLS)
    assert frame.crs.to_epsg() == 4326
    for row in stac_table_to_items(parquet.read_table(built / "items.parquet")):
        found, wanted = without_nothing(row), read(item(built, row["id"]))
        assert shapely.equals(shapely.geometry.shape(found["geometry"]), shapely.geometry.shape(wanted["geometry"]))
        assert found["bbox"] == wanted["bbox"]
        assert found["properties"]["emb:quantization"] == wanted["properties"]["emb:quantization"]
        assert set(found["assets"]) == set(wanted["assets"])
        for asset in found["assets"].values():
            assert (built / asset["href"]).exists(), "hrefs are relative to the folder of the table"
        bands = found["assets"]["embeddings"]["bands"]
        assert [band["name"] for band in bands] == [band["name"] for band in wanted["assets"]["embeddings"]["bands"]]
        kind = pystac.STACObjectType.ITEM
        assert validator().validate(found, kind, found["stac_version"], found["stac_extensions"])
    told = json.loads(parquet.read_schema(built / "items.parquet").metadata[b"stac-geoparquet"])
    assert set(told["collections"]) == {"xyz", "sh-l10"}


def test_a_table_of_the_same_items_has_the_same_bytes_in_whatever_order_they_came(built: Path, tmp_path: Path) -> None:
    shutil.copytree(
        built, tmp_path / "again", ignore=shutil.ignore_patterns("items.parquet", "catalog.json", "collection.json")
    )
    for name in reversed(CALLS):
        old = read(item(built, name))["properties"]
        with open_field(item(tmp_path / "again", name)) as field:
            run = {key: old["emb:runtime_parameters"][key] for key in ("device", "seconds")}
            add_to_catalog(tmp_path / "again", field, run, pystac.utils.str_to_datetime(old["created"]))
    assert documents(tmp_path / "again") == documents(built)


def test_items_that_do_not_agree_on_types_still_make_a_table(mine: Path) -> None:
    for number, (name, value) in enumerate([(PLAIN, "text"), (CROSSING, 3), (METRES, {"a": [1, "b", None]})]):
        content = read(item(mine, name))
        content["properties"] |= {"emb:runtime_parameters": {"seed": value, "empty": {}, "list": [{}, {"x": number}]}}
        content["properties"] |= {"large": 10 ** (30 * number), "updated": value, "flag": True, "half": "\ud800"}
        item(mine, name).write_text(json.dumps(content))
    build(mine, PLAIN)
    Catalog(mine).remove("xyz-pca2-30deg-cog-uint8")
    rows = {row["id"]: row["properties"] for row in stac_table_to_items(parquet.read_table(mine / "items.parquet"))}
    assert rows[CROSSING]["emb:runtime_parameters"]["seed"] == "3"
    assert json.loads(rows[METRES]["emb:runtime_parameters"]["seed"]) == {"a": [1, "b", None]}
    assert rows[METRES]["large"] == 1e60


def test_fields_registered_by_processes_at_once_are_all_there(mine: Path, raster: Path) -> None:
    code = (
        "import sys; from embedfield.catalog import Catalog; there = Catalog(sys.argv[1]);"
        "print('ready', flush=True); sys.stdin.readline();"
        "[there.add(sys.argv[2], kind='plain', field_id=name) for name in sys.argv[3:]]"
    )
    names = [f"field-{number}" for number in range(6)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(mine), str(raster), *names[start::2]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for start in (0, 1)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.communicate("go\n", timeout=60)
        assert worker.returncode == 0
    assert sorted(gpd.read_parquet(mine / "items.parquet")["id"]) == sorted([*CALLS, *names])
    assert check_catalog_files(mine, checksums=False) == []


def test_a_raster_of_others_is_registered_where_it_is(mine: Path, raster: Path) -> None:
    before = raster.read_bytes()
    path = Catalog(mine).add(raster, kind="plain", name="theirs", title="Four bands")
    assert path == mine / "theirs" / "some-bands" / "some-bands.json"
    assert read(path)["assets"]["embeddings"]["href"] == str(raster)
    (entry,) = Catalog(mine).entries("theirs")
    assert (entry.foreign, entry.bands, entry.res, entry.href) == (True, 4, 100, str(raster))
    with open_field(path) as field, rasterio.open(raster) as file:
        np.testing.assert_array_equal(field.read(), file.read())
    assert raster.read_bytes() == before
    assert check_catalog_files(mine) == []
    # And all of it stays when the catalogue is made anew.
    told = documents(mine)
    assert Catalog(mine).rebuild() == []
    assert documents(mine) == told


def test_a_raster_within_the_catalogue_is_named_relative_to_its_item(mine: Path, raster: Path, tmp_path: Path) -> None:
    (mine / "data").mkdir()
    shutil.copy(raster, mine / "data" / "theirs.tif")
    path = added(mine, mine / "data" / "theirs.tif", kind="plain", name="theirs")
    assert read(path)["assets"]["embeddings"]["href"] == "../../data/theirs.tif"
    moved = Path(shutil.move(mine, tmp_path / "moved to" / "elsewhere"))
    with open_field(moved / "theirs" / "theirs" / "theirs.json") as field:
        assert field.dim == 4
    assert check_catalog_files(moved) == []


def test_a_field_of_ours_elsewhere_is_registered_and_one_inside_is_entered(mine: Path, tmp_path: Path) -> None:
    build(tmp_path / "other", PLAIN)
    path = added(mine, tmp_path / "other" / "xyz" / PLAIN, field_id="copy")
    assert read(path)["assets"]["embeddings"]["href"] == str(tmp_path / "other" / "xyz" / PLAIN / f"{PLAIN}.tif")
    with open_field(path) as copy, open_field(mine / "xyz" / PLAIN) as field:
        np.testing.assert_array_equal(copy.read(), field.read())
    Catalog(mine).remove(CROSSING)
    assert Catalog(mine).add(mine / "xyz" / CROSSING) == mine / "xyz" / CROSSING / f"{CROSSING}.json"
    assert read(item(mine, CROSSING))["assets"]["embeddings"]["href"] == f"./{CROSSING}.tif"
    assert check_catalog_files(mine) == []


def test_an_id_that_is_taken_is_refused_and_nothing_is_left(mine: Path, raster: Path) -> None:
    Catalog(mine).add(raster, kind="plain", name="theirs")
    before = documents(mine)
    with pytest.raises(OutputExistsError, match=r"has 'some-bands' among those of theirs already\. Give another --id"):
        Catalog(mine).add(raster, kind="plain", name="theirs")
    with pytest.raises(OutputExistsError, match=f"has '{PLAIN}' among those of xyz already"):
        Catalog(mine).add(mine / "xyz" / PLAIN)
    with pytest.raises(FormatError, match="leave out title"):
        Catalog(mine).add(mine / "xyz" / PLAIN, title="mine")
    with pytest.raises(FormatError, match=r"'\.\./out' is no id"):
        Catalog(mine).add(raster, kind="plain", field_id="../out")
    with pytest.raises(FormatError, match="does not exist"):
        Catalog(mine).add(raster.with_name("none.tif"))
    with pytest.raises(FormatError, match="holds no field"):
        Catalog(mine).add(mine)
    with pytest.raises(FormatError, match="is a STAC Collection, and no item"):
        Catalog(mine).add(mine / "xyz" / "collection.json")
    assert documents(mine) == before


def test_a_registration_that_fails_leaves_nothing(mine: Path, raster: Path) -> None:
    def draw(_: object, folder: Path) -> None:
        (folder / "preview.png").write_bytes(b"half")
        raise FormatError("No picture of this.")

    with pytest.raises(FormatError, match="No picture"):
        Catalog(mine).add(raster, kind="plain", name="theirs", draw=draw)
    assert not (mine / "theirs").exists()


def test_a_field_taken_out_leaves_collection_and_table_as_if_it_had_never_been(tmp_path: Path) -> None:
    build(tmp_path, PLAIN)
    before = documents(tmp_path)
    build(tmp_path, CROSSING)
    left = documents(tmp_path).keys() - before.keys() - {f"xyz/{CROSSING}/{CROSSING}.json"}
    assert read(tmp_path / "xyz" / "collection.json")["summaries"]["proj:code"] == ["EPSG:4326"]
    Catalog(tmp_path).remove(CROSSING)
    assert {name: data for name, data in documents(tmp_path).items() if name not in left} == before
    assert (tmp_path / "xyz" / CROSSING / f"{CROSSING}.tif").exists()
    assert check_catalog_files(tmp_path) == []


def test_a_collection_goes_with_its_last_field_and_an_empty_catalogue_is_sound(tmp_path: Path) -> None:
    build(tmp_path, PLAIN)
    assert Catalog(tmp_path).remove(PLAIN, delete=True) == tmp_path / "xyz" / PLAIN
    there = [path.name for path in tmp_path.rglob("[!.]*") if path.is_file()]
    assert sorted(there) == ["catalog.json", "items.parquet"]
    assert Catalog(tmp_path).entries() == []
    frame = gpd.read_parquet(tmp_path / "items.parquet")
    assert (len(frame), frame.crs.to_epsg()) == (0, 4326)
    assert list(stac_table_to_items(parquet.read_table(tmp_path / "items.parquet"))) == []
    assert check_catalog_files(tmp_path) == []
    build(tmp_path, PLAIN)
    assert ids(tmp_path) == [PLAIN]


def test_the_raster_of_a_registered_field_is_never_deleted(mine: Path, raster: Path) -> None:
    path = added(mine, raster, kind="plain", name="theirs")
    Catalog(mine).remove("theirs/some-bands", delete=True)
    assert raster.exists()
    assert not path.parent.parent.exists()


def test_what_is_taken_out_must_be_one_field(mine: Path, raster: Path) -> None:
    Catalog(mine).add(raster, kind="plain", name="one")
    Catalog(mine).add(raster, kind="plain", name="two")
    with pytest.raises(FormatError, match=r"several fields 'some-bands'\. Say which: one/some-bands or two/some-bands"):
        Catalog(mine).remove("some-bands")
    with pytest.raises(FormatError, match="has no field 'atlantis'"):
        Catalog(mine).remove("atlantis")
    item(mine).write_text("damaged")
    Catalog(mine).remove(PLAIN)
    assert PLAIN not in ids(mine)


def test_collections_follow_from_their_items(built: Path) -> None:
    found = read(built / "xyz" / "collection.json")
    assert found["extent"]["spatial"]["bbox"] == [[-180, -90, 180, 90]]
    assert found["emb:dimensions"] == 3
    assert found["summaries"] == {"proj:code": ["EPSG:3035", "EPSG:4326"], "emb:dimensions": [2, 3]}
    assert {"embeddings", "preview", "checksums", "reduction"} <= set(found["item_assets"])
    assert found["license"] == "MIT"
    assert found["providers"]
    assert links(built / "xyz" / "collection.json", "emb:model") == ["./model.json"]
    model = pystac.Item.from_file(str(built / "xyz" / "model.json"))
    assert (model.id, model.properties["mlm:output"][0]["result"]["shape"]) == ("xyz", [-1, 3])


def test_an_older_collection_gains_what_is_new_and_keeps_its_own_words(mine: Path) -> None:
    path = mine / "xyz" / "collection.json"
    old = {name: read(path)[name] for name in ("type", "id", "stac_version", "license", "extent", "links")}
    old["links"] = [link for link in old["links"] if link["rel"] != "emb:model"]
    old |= {"description": "My own words.", "links": [*old["links"], {"rel": "about", "href": "https://e.org"}]}
    path.write_text(json.dumps(old))
    (mine / "xyz" / "model.json").unlink()
    (mine / "items.parquet").unlink()
    shutil.rmtree(mine / "xyz" / PLAIN)
    build(mine, PLAIN)
    assert read(path)["description"] == "My own words."
    assert links(path, "about") == ["https://e.org"]
    assert links(path, "emb:model") == ["./model.json"]
    assert check_catalog_files(mine) == []


def test_bounds_and_resolutions_that_hold_nothing_are_refused(built: Path) -> None:
    for bounds in ((0, 5, 1, 4), (0, 5, 1, 5), (float("nan"), 0, 1, 1)):
        with pytest.raises(GridError, match="with south below north"):
            Catalog(built).entries(bounds=bounds)
    with pytest.raises(GridError, match="Give the smaller number first"):
        Catalog(built).entries(res=(10, 5))


def test_what_lies_outside_is_named_and_neither_listed_nor_in_the_table(mine: Path, built: Path) -> None:
    for path, rel, target in (
        (mine / "catalog.json", "child", built / "sh-l10" / "collection.json"),
        (mine / "xyz" / "collection.json", "item", item(built)),
    ):
        content = read(path)
        content["links"].append({"rel": rel, "href": os.path.relpath(target, path.parent)})
        path.write_text(json.dumps(content))
    entries, faults = Catalog(mine).survey()
    assert sorted(entry.id for entry in entries) == sorted(CALLS)
    assert {fault.where for fault in faults} == {str(built / "sh-l10" / "collection.json"), str(item(built))}
    assert all("lies outside of" in fault.what for fault in faults)
    Catalog(mine).remove(METRES)
    assert sorted(gpd.read_parquet(mine / "items.parquet")["id"]) == sorted(set(CALLS) - {METRES})


def test_a_build_of_a_field_that_is_registered_leaves_its_item_as_it_is(tmp_path: Path) -> None:
    build(tmp_path / "other", PLAIN)
    path = Catalog(tmp_path / "mine").add(tmp_path / "other" / "xyz" / PLAIN)
    before = path.read_bytes()
    build(tmp_path / "mine", PLAIN)
    assert path.read_bytes() == before
    assert check_catalog_files(tmp_path / "mine") == []


@pytest.mark.parametrize("name", ["items.parquet", "catalog.json", "xyz/collection.json"])
def test_a_build_that_was_stopped_while_it_was_entered_is_entered_by_the_next(mine: Path, name: str) -> None:
    before = read(item(mine))["properties"]
    older = (mine / name).read_bytes()
    build(mine, PLAIN)  # it is there: nothing changes
    assert (mine / name).read_bytes() == older
    Catalog(mine).remove(PLAIN)
    without = (mine / name).read_bytes()
    Catalog(mine).rebuild()
    item(mine).write_text(json.dumps(read(item(mine)) | {"properties": before}))
    Catalog(mine).rebuild()
    (mine / name).write_bytes(without)
    build(mine, PLAIN)
    assert (mine / name).read_bytes() == older
    assert read(item(mine))["properties"] == before, "the receipt of its run stays"
    assert check_catalog_files(mine) == []


def test_a_link_to_a_folder_of_a_field_is_removed_and_the_folder_stays(mine: Path, tmp_path: Path) -> None:
    folder = item(mine).parent
    real = Path(shutil.move(folder, tmp_path / "real"))
    folder.symlink_to(real)
    there = sorted(real.iterdir())
    Catalog(mine).remove(PLAIN, delete=True)
    assert not folder.is_symlink()
    assert sorted(real.iterdir()) == there
    assert check_catalog_files(mine) == []


def test_a_rebuild_keeps_what_users_added_to_a_collection_and_mends_the_rest(mine: Path) -> None:
    path = mine / "xyz" / "collection.json"
    before = read(path)
    added = {"links": [*before["links"], {"rel": "about", "href": "https://e.org"}], "mine:note": "kept"}
    path.write_text(json.dumps(before | added | {"license": "wrong"}))
    assert Catalog(mine).rebuild() == []
    after = read(path)
    assert after == before | {"mine:note": "kept", "links": after["links"]}
    assert links(path, "about") == ["https://e.org"]
    path.write_text("{")
    (fault,) = Catalog(mine).rebuild()
    assert re.fullmatch(r"xyz/collection\.json: is no STAC Collection: is no JSON: .* It was made anew", str(fault))
    assert read(path) == before


def test_a_rebuild_keeps_the_link_to_a_registered_item_that_cannot_be_read(mine: Path, raster: Path) -> None:
    Catalog(mine).add(raster, kind="plain", name="xyz")
    (mine / "xyz" / "some-bands" / "some-bands.json").write_text("{")
    assert [fault.where for fault in Catalog(mine).rebuild()] == ["xyz/some-bands/some-bands.json"]
    assert "./some-bands/some-bands.json" in links(mine / "xyz" / "collection.json", "item")


def test_infinite_values_are_none_and_the_item_stays_strict_json(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    values[1, 2, 3], values[2, 0, 0] = np.inf, -np.inf
    profile = {"count": 3, "height": 4, "width": 5, "crs": "EPSG:4326", "transform": from_origin(0, 4, 1, 1)}
    with rasterio.open(tmp_path / "inf.tif", "w", driver="GTiff", dtype="float32", **profile) as target:
        target.write(values)
    written = added(tmp_path / "catalog", tmp_path / "inf.tif")
    said = json.loads(written.read_text("utf-8"), parse_constant=pytest.fail)
    found = [band["statistics"] for band in said["assets"]["embeddings"]["bands"]]
    assert [band["count"] for band in found] == [20, 19, 19]
    assert [band["maximum"] for band in found] == [19, 39, 59]
    assert check_catalog_files(tmp_path / "catalog") == []


def test_a_registration_that_was_killed_before_it_was_entered_is_finished_by_a_rebuild(
    mine: Path, raster: Path
) -> None:
    written = Catalog(mine).add(raster, name="theirs")
    for path in (mine / "theirs" / "collection.json", mine / "items.parquet"):
        path.unlink()
    catalogue = read(mine / "catalog.json")
    catalogue["links"] = [link for link in catalogue["links"] if "theirs" not in link["href"]]
    (mine / "catalog.json").write_text(json.dumps(catalogue))
    with pytest.raises(
        OutputExistsError, match=r"stopped halfway. 'embedfield catalog rebuild --catalog .*' enters it"
    ):
        Catalog(mine).add(raster, name="theirs")
    assert Catalog(mine).rebuild() == []
    assert [entry.path for entry in Catalog(mine).entries("theirs")] == [written]
    assert check_catalog_files(mine) == []
