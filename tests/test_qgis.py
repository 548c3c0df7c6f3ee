"""A double click in QGIS shows a field as a picture, with its names, values and place; checked with Debian's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from fields import ArrayField
from PIL import Image

from embedfield.formats import cog, write_field
from embedfield.grid import Grid
from embedfield.pictures.preview import write_rgb
from embedfield.pictures.style import style_path, write_style
from embedfield.reduce import ReducedField, Reduction

if TYPE_CHECKING:
    from embedfield.formats.packing import Dtype
    from embedfield.formats.stored import StoredField

PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).parent / "in_qgis.py"
DEGREES = Grid(west=170.0, north=20.0, res=0.1, width=300, height=280)
METRES = Grid(west=300_000.0, north=5_500_000.0, res=1000.0, width=300, height=280, crs="EPSG:32632")
NAMES = ("uint8", "int16", "float16", "float32", "utm", "tiles", "components", "grey", "two", "rgb")


def values(grid: Grid, dim: int = 6) -> npt.NDArray[np.float32]:
    """Waves of unlike sizes (dim, height, width), with a hole at a tenth of the way."""
    row, col = np.mgrid[: grid.height, : grid.width] / 40
    made = np.stack(
        [(band + 1) * np.sin(row * (band + 1) / 3 + band) + np.cos(col * (band + 2) / 2) for band in range(dim)]
    )
    made[:, 10:50, 10:50] = np.nan
    return made.astype(np.float32)


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredField]:
    """Fields in every form that QGIS 3.22 can open, with their styles."""
    folder = tmp_path_factory.mktemp("fields")

    def stored(name: str, field: Any, dtype: Dtype = "uint8") -> StoredField:
        return write_field(field, folder / name / f"{name}.tif", dtype=dtype)

    dtypes: tuple[Dtype, ...] = ("uint8", "int16", "float16", "float32")
    made: dict[str, StoredField] = {
        dtype: stored(dtype, ArrayField(values(DEGREES), DEGREES), dtype) for dtype in dtypes
    }
    made["utm"] = stored("utm", ArrayField(values(METRES), METRES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "BUDGET", 128 * 128 * 6)
        made["tiles"] = stored("tiles", ArrayField(values(DEGREES), DEGREES))
    whole = values(DEGREES)
    flat = whole.reshape(6, -1).T
    reduction = Reduction.fit(flat[~np.isnan(flat).any(axis=1)], 4)
    made["components"] = stored("components", ReducedField(ArrayField(whole, DEGREES), reduction))
    made["grey"] = stored("grey", ArrayField(values(DEGREES, 1), DEGREES))
    made["two"] = stored("two", ArrayField(values(DEGREES, 2), DEGREES))
    for field in made.values():
        write_style(field, style_path(field.disk_path))
    return made


@pytest.fixture(scope="module")
def rgb(fields: dict[str, StoredField]) -> Path:
    """The first of them as a GeoTIFF in colours."""
    path = fields["uint8"].disk_path.with_name("rgb.tif")
    write_rgb(fields["uint8"], path)
    return path


@pytest.fixture(scope="module")
def told(fields: dict[str, StoredField], rgb: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What QGIS says of them, by name."""
    folder = tmp_path_factory.mktemp("qgis")
    env = os.environ | {"QT_QPA_PLATFORM": "offscreen", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    if not shutil.which(PYTHON) or subprocess.run([PYTHON, "-c", "import qgis.core"], check=False, env=env).returncode:
        pytest.skip("QGIS is not installed for /usr/bin/python3: 'apt-get install python3-qgis' brings it.")
    paths = {name: field.disk_path for name, field in fields.items()} | {"rgb": rgb}
    run = subprocess.run(
        [PYTHON, str(SCRIPT), str(folder), *map(str, paths.values())],
        check=True,
        env=env,
        capture_output=True,
        text=True,
    )
    found = json.loads(run.stdout)
    return {name: found[str(path)] for name, path in paths.items()}


@pytest.mark.parametrize("name", NAMES)
def test_qgis_opens_a_field_where_it_is(told: dict[str, Any], name: str) -> None:
    found, grid = told[name], METRES if name == "utm" else DEGREES
    assert found["valid"]
    assert found["crs"] == grid.crs
    assert found["extent"] == pytest.approx(grid.bounds, abs=1e-6)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_qgis_names_the_bands(told: dict[str, Any], fields: dict[str, StoredField], name: str) -> None:
    shown = [words.partition(": ")[2] for words in told[name]["bands"]]
    assert shown == fields[name].band_names


@pytest.mark.parametrize("name", NAMES[:-1])
def test_qgis_shows_decoded_values_and_where_there_are_none(
    told: dict[str, Any], fields: dict[str, StoredField], name: str
) -> None:
    grid, found = fields[name].grid, told[name]
    x, y = np.array(found["places"]).T
    rows, cols = ((grid.north - y) / grid.res).astype(int), ((x - grid.west) / grid.res).astype(int)
    truth = fields[name].pixels(rows, cols)
    samples = np.array(found["samples"], dtype=float)
    np.testing.assert_allclose(samples, truth, rtol=1e-6, atol=1e-6)
    assert np.isnan(samples).all(axis=1).sum() == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "tiles"])
def test_qgis_knows_the_coarser_levels(told: dict[str, Any], name: str) -> None:
    assert 2 in told[name]["overviews"]


@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_style_is_taken_by_itself(told: dict[str, Any], fields: dict[str, StoredField], name: str) -> None:
    found = told[name]
    assert found["styled"]
    assert found["renderer"] == ("singlebandgray" if name == "grey" else "multibandcolor")
    shown = {"grey": [1], "two": [1, 2], "components": [1, 2, 3]}.get(name)
    # Of the six bands the last vary most.
    assert set(found["shown"]) <= {3, 4, 5, 6} if shown is None else sorted(set(found["shown"])) == shown


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_is_not_flat_and_shows_nothing_where_there_is_none(told: dict[str, Any], name: str) -> None:
    with Image.open(told[name]["picture"]) as image:
        drawn = np.asarray(image.convert("RGBA"))
    opaque = drawn[..., 3] > 127
    extent = np.flatnonzero(opaque.any(axis=0))
    assert len(extent) > 150
    assert 0.7 < opaque.mean() < 0.99
    colours = drawn[opaque][:, :3].astype(float)
    assert len(np.unique(colours, axis=0)) > (100 if name != "grey" else 50)
    # Stretched between percentiles 2 and 98: dark and bright in every colour.
    assert (np.percentile(colours, 3, axis=0) < 40).all()
    assert (np.percentile(colours, 97, axis=0) > 215).all()
    assert not drawn[20, 20, 3]


def test_debians_gdal_reads_a_field_and_its_colours(fields: dict[str, StoredField], rgb: Path) -> None:
    gdalinfo = "/usr/bin/gdalinfo"
    if not shutil.which(gdalinfo):
        pytest.skip("GDAL is not installed: 'apt-get install gdal-bin' brings it.")

    def info(path: Path) -> Any:
        run = subprocess.run([gdalinfo, "-json", str(path)], check=True, capture_output=True, text=True)
        assert not run.stderr
        return json.loads(run.stdout)

    field, found = fields["uint8"], info(fields["uint8"].disk_path)
    assert found["size"] == [300, 280]
    assert [band["description"] for band in found["bands"]] == field.band_names
    assert [band["scale"] for band in found["bands"]] == pytest.approx(field.packing.scale)
    assert [band["offset"] for band in found["bands"]] == pytest.approx(field.packing.offset)
    assert {band["noDataValue"] for band in found["bands"]} == {0}
    found = info(rgb)
    assert [band["colorInterpretation"] for band in found["bands"]] == ["Red", "Green", "Blue", "Alpha"]
    assert found["geoTransform"] == pytest.approx([170.0, 0.1, 0.0, 20.0, 0.0, -0.1])
    assert found["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    assert all(len(band["overviews"]) for band in found["bands"])


def test_a_style_has_the_name_that_qgis_looks_for(tmp_path: Path) -> None:
    assert style_path(tmp_path / "x.tif") == tmp_path / "x.qml"
    assert style_path(tmp_path / "x.vrt") == tmp_path / "x.qml"
    assert style_path(tmp_path / "x.zarr") == tmp_path / "x.qml"
    (tmp_path / "x.zarr.vrt").touch()
    assert style_path(tmp_path / "x.zarr") == tmp_path / "x.zarr.qml"


@pytest.mark.parametrize("dim", [1, 2, 3, 7])
@pytest.mark.parametrize("value", [np.nan, 0.0, -3.0])
def test_any_field_has_a_style_always_the_same(tmp_path: Path, dim: int, value: float) -> None:
    field = ArrayField(np.full((dim, 1, 1), value))
    write_style(field, tmp_path / "one.qml")
    write_style(field, tmp_path / "two.qml")
    text = (tmp_path / "one.qml").read_text()
    assert text == (tmp_path / "two.qml").read_text()
    assert "nan" not in text
