"""An item says of the numbers of a field, and of the files beside it, what others find in them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
import rasterio
import xarray
from fields import ArrayField, bumpy
from foreign_files import alphaearth_tiff, signed_codes
from pystac.extensions.datacube import DatacubeExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.render import RenderExtension
from pystac.extensions.scientific import ScientificExtension
from pystac.extensions.version import VersionExtension
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from embedfield.formats import write_field
from embedfield.formats.foreign import open_foreign, recognise
from embedfield.grid import Grid
from embedfield.reduce import ReducedField, Reduction
from embedfield.schemas import validator
from embedfield.stac import bands, item_of

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.field import Field
    from embedfield.formats.packing import Dtype
    from embedfield.formats.stored import StoredField

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MADE = {"embedfield": "9.8.7", "torch": "2.0.0", "precision": "float32"}
VALIDATOR = validator()


def stored(
    tmp_path: Path, field: Field | None = None, *, suffix: str = ".tif", dtype: Dtype = "uint8", **more: Any
) -> StoredField:
    """Write a field into a folder of its own, as a build would."""
    folder = tmp_path / "a-field"
    folder.mkdir(exist_ok=True)
    made = field or ArrayField(bumpy(4, 20, 30), provenance=MADE)
    return write_field(made, folder / f"a-field{suffix}", dtype=dtype, **more)


def validated(item: pystac.Item) -> dict[str, Any]:
    """Return an item as it would be written, once it was found valid."""
    content: dict[str, Any] = json.loads(json.dumps(item.to_dict(include_self_link=False)))
    VALIDATOR.validate(content, pystac.STACObjectType.ITEM, content["stac_version"], content["stac_extensions"])
    return content


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32"])
def test_statistics_are_those_of_the_numbers_that_rasterio_reads(tmp_path: Path, dtype: Dtype) -> None:
    with stored(tmp_path, dtype=dtype) as field, rasterio.open(field.disk_path) as raster:
        item = item_of(field, created=WHEN)
        codes = np.ma.masked_invalid(raster.read(masked=True).astype(np.float64)).reshape(4, -1)
    said = [band["statistics"] for band in item.assets["embeddings"].extra_fields["bands"]]
    found = {name: [band[name] for band in said] for name in said[0]}
    np.testing.assert_allclose(found["minimum"], codes.min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["maximum"], codes.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["mean"], codes.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["stddev"], codes.std(axis=1), rtol=1e-6)
    assert found["count"] == codes.count(axis=1).tolist()
    np.testing.assert_allclose(found["valid_percent"], 100 * codes.count(axis=1) / 600)


def test_a_field_of_many_numbers_has_no_statistics_and_is_shown_by_its_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "COUNTED", 10)
    with stored(tmp_path) as field:
        item = item_of(field, created=WHEN)
    assert all("statistics" not in band for band in item.assets["embeddings"].extra_fields["bands"])
    assert item.properties["renders"]["embeddings"]["rescale"] == [[1, 255]] * 3
    validated(item)


def test_a_field_of_many_floats_is_shown_by_its_coarsest_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(-3, 5, 300 * 300, dtype=np.float32).reshape(1, 300, 300)
    with stored(tmp_path, ArrayField(values, provenance=MADE), dtype="float32") as field:
        monkeypatch.setattr(bands, "COUNTED", 300 * 300 - 1)
        ((low, high),) = item_of(field, created=WHEN).properties["renders"]["embeddings"]["rescale"]
    assert -3 <= low < -2.9
    assert 4.9 < high <= 5


def test_a_field_of_many_floats_without_levels_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "COUNTED", 10)
    with stored(tmp_path, dtype="float32") as field:
        item = item_of(field, created=WHEN)
    assert "renders" not in item.properties
    assert not any("/render/" in extension for extension in item.stac_extensions)
    validated(item)


@pytest.mark.parametrize("dim", [1, 2, 3, 7])
def test_a_rendering_shows_bands_that_are_there(tmp_path: Path, dim: int) -> None:
    with stored(tmp_path, ArrayField(bumpy(dim, 20, 30), provenance=MADE)) as field:
        item = item_of(field, created=WHEN)
    shown = RenderExtension.ext(item).renders["embeddings"]
    assert shown.assets == ["embeddings"]
    assert shown.properties["bidx"] == list(range(1, (3 if dim >= 3 else 1) + 1))
    assert shown.rescale is not None
    assert len(shown.rescale) == len(shown.properties["bidx"])
    assert shown.nodata == 0
    validated(item)


def test_a_constant_band_has_a_range_of_some_width(tmp_path: Path) -> None:
    with stored(tmp_path, ArrayField(np.full((1, 4, 4), 7), provenance=MADE), dtype="float32") as field:
        ((low, high),) = item_of(field, created=WHEN).properties["renders"]["embeddings"]["rescale"]
    assert low == 7
    assert high > low


def test_one_pixel_is_a_valid_item(tmp_path: Path) -> None:
    with stored(tmp_path, ArrayField([[[1.5]], [[2.5]]], provenance=MADE), suffix=".zarr") as field:
        item = validated(item_of(field, created=WHEN))
    assert item["properties"]["cube:dimensions"]["x"] == {
        "type": "spatial",
        "axis": "x",
        "extent": [pytest.approx(-9.95)] * 2,
        "reference_system": 4326,
    }


def test_a_band_without_any_value_has_no_least_and_greatest(tmp_path: Path) -> None:
    values = bumpy(3, 20, 30)
    values[1] = np.nan
    with stored(tmp_path, ArrayField(values, provenance=MADE), dtype="float32") as field:
        item = item_of(field, created=WHEN)
    empty = item.assets["embeddings"].extra_fields["bands"][1]
    assert empty["statistics"] == {"count": 0, "valid_percent": 0}
    assert "renders" not in item.properties
    validated(item)


def test_bands_of_components_say_how_much_they_explain(tmp_path: Path) -> None:
    whole = ArrayField(bumpy(4, 20, 30), provenance=MADE)
    with stored(tmp_path, ReducedField(whole, Reduction.measure(whole, 2))) as field:
        item = item_of(field, created=WHEN)
        assert field.reduction
        share = field.reduction.explained[0]
    first = item.assets["embeddings"].extra_fields["bands"][0]
    assert first["name"] == "array_pc000"
    assert first["description"] == f"principal component 0 of array, {share:.2%} of the variance"
    assert item.assets["reduction"].roles == ["metadata"]


def test_an_item_has_the_version_of_what_computed_its_field(tmp_path: Path) -> None:
    with stored(tmp_path) as field:
        item = item_of(field, {"device": "cpu"}, WHEN)
    assert VersionExtension.ext(item).version == "9.8.7"
    assert VersionExtension.ext(item).deprecated is False
    said = item.properties
    assert said["processing:version"] == "9.8.7"
    assert said["processing:software"] == {"embedfield": "9.8.7", "torch": "2.0.0"}
    assert said["processing:datetime"] == said["created"] == "2026-01-02T03:04:05Z"
    assert said["embedfield:version"] == 1
    assert said["emb:runtime_parameters"]["device"] == "cpu"
    assert ScientificExtension.ext(item).citation == "https://example.org"
    assert "embedfield:layout" not in said


def test_the_same_field_gives_the_same_item(tmp_path: Path) -> None:
    with stored(tmp_path) as field:
        first, second = (json.dumps(item_of(field, created=WHEN).to_dict()) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("grid", "system"),
    [
        (Grid(west=170.0, north=20.0, res=1.0, width=20, height=10), 4326),
        (Grid(west=500_000.0, north=5_000_000.0, res=100.0, width=20, height=10, crs="EPSG:32633"), 32633),
        (Grid(west=0.0, north=1_000_000.0, res=9_000.0, width=20, height=10, crs="ESRI:54009"), "PROJCRS"),
    ],
)
def test_a_cube_has_the_coordinates_that_xarray_reads(tmp_path: Path, grid: Grid, system: int | str) -> None:
    with stored(tmp_path, ArrayField(bumpy(3, 10, 20), grid, provenance=MADE), suffix=".zarr") as field:
        item = item_of(field, created=WHEN)
        path = field.disk_path
    validated(item)
    cube = DatacubeExtension.ext(item)
    asset = item.assets["embeddings"]
    dimensions, variables = cube.dimensions, cube.variables or {}
    with xarray.open_dataset(path, **asset.extra_fields["xarray:open_kwargs"]) as dataset:
        assert {*dataset.variables} == {*dimensions, *variables}
        assert all(list(dataset[name].dims) == found.dimensions for name, found in variables.items())
        for name, found in dimensions.items():
            assert found.properties["extent"] == [dataset[name].min(), dataset[name].max()]
        for axis in ("x", "y"):
            assert dimensions[axis].properties["step"] == pytest.approx(grid.res)
            assert str(dimensions[axis].properties["reference_system"]).startswith(str(system))


def test_a_cog_is_no_cube(tmp_path: Path) -> None:
    with stored(tmp_path) as field:
        item = item_of(field, created=WHEN)
    assert not DatacubeExtension.has_extension(item)
    assert "xarray:open_kwargs" not in item.assets["embeddings"].extra_fields


def picture(path: Path) -> None:
    """Write a picture of red, green, blue and alpha."""
    size: dict[str, Any] = {"width": 6, "height": 4, "count": 4, "dtype": "uint8"}
    transform = from_origin(-10, 50, 0.5, 0.5)
    with rasterio.open(path, "w", "COG", crs="EPSG:4326", transform=transform, **size) as raster:
        raster.write(np.arange(96, dtype=np.uint8).reshape(4, 4, 6))
        raster.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]


def test_what_stands_beside_a_raster_is_an_asset_with_its_size_and_digest(tmp_path: Path) -> None:
    with stored(tmp_path) as field:
        folder = field.disk_path.parent
        picture(folder / "rgb.tif")
        (folder / "colours.json").write_text("{}")
        (folder / "a-field.qml").write_text("<qgis/>")
        item = item_of(field, created=WHEN)
    validated(item)
    assets = item.assets
    assert {key: (asset.href, asset.roles) for key, asset in assets.items() if key != "embeddings"} == {
        "rgb": ("./rgb.tif", ["visual"]),
        "colours": ("./colours.json", ["metadata"]),
        "style": ("./a-field.qml", ["metadata"]),
    }
    assert assets["rgb"].media_type == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert assets["style"].media_type == "application/x-qgis-layer-settings"
    for asset in assets.values():
        body = (folder / asset.href).read_bytes()
        assert FileExtension.ext(asset).size == len(body)
        assert FileExtension.ext(asset).checksum == "1220" + hashlib.sha256(body).hexdigest()


def test_a_picture_has_its_own_grid_and_is_shown_as_it_is(tmp_path: Path) -> None:
    with stored(tmp_path) as field:
        picture(field.disk_path.parent / "rgb.tif")
        item = item_of(field, created=WHEN)
    found = ProjectionExtension.ext(item.assets["rgb"])
    assert found.shape == [4, 6]
    assert found.transform == [0.5, 0.0, -10.0, 0.0, -0.5, 50.0]
    names = [band["name"] for band in item.assets["rgb"].extra_fields["bands"]]
    assert names == ["red", "green", "blue", "alpha"]
    shown = RenderExtension.ext(item).renders["rgb"]
    assert (shown.assets, shown.properties["bidx"], shown.rescale) == (["rgb"], [1, 2, 3], [[0, 255]] * 3)


def test_each_tile_of_a_set_has_its_own_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedfield.formats.cog.BUDGET", 128 * 128 * 2)
    with stored(tmp_path, ArrayField(bumpy(2, 200, 150), provenance=MADE)) as field:
        item = item_of(field, created=WHEN)
        folder = field.disk_path.parent
    validated(item)
    tiles = {key: asset for key, asset in item.assets.items() if ".tiles/" in asset.href}
    assert len(tiles) > 1
    for tile in tiles.values():
        with rasterio.open(folder / tile.href) as raster:
            assert ProjectionExtension.ext(tile).shape == list(raster.shape)
            assert ProjectionExtension.ext(tile).transform == list(raster.transform)[:6]


def test_an_item_may_stand_elsewhere_and_name_its_raster_by_an_absolute_path(tmp_path: Path) -> None:
    elsewhere = tmp_path / "catalog" / "array" / "theirs"
    elsewhere.mkdir(parents=True)
    (elsewhere / "colours.json").write_text("{}")
    with stored(tmp_path) as field:
        item = item_of(field, created=WHEN, folder=elsewhere)
        assert item.id == "theirs"
        assert item.assets["embeddings"].href == field.disk_path.as_posix()
    assert item.assets["colours"].href == "./colours.json"
    assert "file:checksum" not in item.assets["embeddings"].extra_fields
    validated(item)


def test_an_item_names_its_raster_as_it_is_told(tmp_path: Path) -> None:
    elsewhere = tmp_path / "catalog" / "array" / "theirs"
    with stored(tmp_path) as field:
        item = item_of(field, created=WHEN, folder=elsewhere, href="../../../a-field/a-field.tif")
    assert item.assets["embeddings"].href == "../../../a-field/a-field.tif"
    validated(item)


def test_an_item_of_a_field_that_others_made_says_how_it_is_read_and_nothing_of_a_run(tmp_path: Path) -> None:
    file = alphaearth_tiff(tmp_path / "tile.tiff", signed_codes(64, 16, 24))
    layout = recognise(file, "alphaearth")
    folder = tmp_path / "catalog" / "alphaearth" / "tile"
    with open_foreign(file, layout) as field:
        content = validated(item_of(field, created=WHEN, folder=folder))
    said, asset = content["properties"], content["assets"]["embeddings"]
    assert said["embedfield:layout"] == json.loads(json.dumps(layout))
    assert said["emb:quantization"]["method"] == "signed_square"
    assert asset["href"] == file.as_posix()
    assert asset["type"] == "image/tiff; application=geotiff"
    assert [band["name"] for band in asset["bands"][:2]] == ["alphaearth_A00", "alphaearth_A01"]
    assert asset["bands"][0]["data_type"] == "int8"
    assert asset["bands"][0]["nodata"] == -128
    assert {"raster:scale", "statistics"}.isdisjoint(asset["bands"][0])
    assert {"version", "processing:software", "renders"}.isdisjoint(said)
    unused = ("/version/", "/file/", "/render/")
    assert not [url for url in content["stac_extensions"] if any(name in url for name in unused)]


def test_an_item_of_a_plain_raster_has_its_scales_and_the_statistics_of_its_numbers(tmp_path: Path) -> None:
    codes = np.arange(2 * 6 * 5, dtype=np.uint16).reshape(2, 6, 5)
    grid: dict[str, Any] = {"crs": "EPSG:4326", "transform": from_origin(0, 10, 1, 1), "nodata": 7}
    size: dict[str, Any] = {"width": 5, "height": 6, "count": 2, "dtype": "uint16"}
    with rasterio.open(tmp_path / "plain.tif", "w", "GTiff", **grid, **size) as raster:
        raster.write(codes)
        raster.scales, raster.offsets = (0.5, 0.1), (-3, 1)
    layout = recognise(tmp_path / "plain.tif", "plain", name="mine")
    with open_foreign(tmp_path / "plain.tif", layout) as field:
        item = item_of(field, created=WHEN, folder=tmp_path / "catalog" / "mine" / "plain")
    validated(item)
    first, second = item.assets["embeddings"].extra_fields["bands"]
    assert (first["raster:scale"], first["raster:offset"]) == (0.5, -3)
    assert (second["raster:scale"], second["raster:offset"]) == (0.1, 1)
    assert (first["statistics"]["minimum"], first["statistics"]["maximum"]) == (0, 29)
    assert (first["statistics"]["count"], second["statistics"]["count"]) == (29, 30)
    assert item.properties["renders"]["embeddings"]["rescale"] == [[0, 29]]
