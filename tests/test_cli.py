"""The command line prints a path, or one line that says what is wrong, and changes nothing it should not."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
import xarray as xr
from conftest import Done

from embedfield.build import build_field
from embedfield.evaluate import Evaluator
from embedfield.models import cards

if TYPE_CHECKING:
    from collections.abc import Callable


WEIGHTS = Path(__file__).parent / "reference" / "satclip_l40_small.ckpt"
ID = "xyz-10deg-cog-uint8"
# What a build says when it is done.
NEWS = (
    r"\d+ x \d+ pixels x \d+ bands, [0-9.]+ MB, in [0-9.]+ s\n"
    r"computing [0-9.]+ s, packing [0-9.]+ s, writing [0-9.]+ s(; limited by \w+)?\n"
    r"verified at [0-9,]+ places.*\nbilinear +cosine .*\nnearest +cosine .*\nIn mean cosine.*\n"
)
PLACES = "name,lon,lat\nZürich,8.54,47.37\nSantiago,-70.66,-33.45\n"


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A CSV of two places."""
    path = tmp_path / "places.csv"
    path.write_text(PLACES, "utf-8")
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field that was built before."""
    with build_field("xyz", 10, device="cpu", out=tmp_path_factory.mktemp("stored")) as field:
        return field.disk_path


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder but locks, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def assert_refused(done: Done, message: str) -> None:
    """Check that a command ended in one line of ours."""
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("embedfield: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith((".\n", "?\n"))
    assert re.search(message, done.err)


def assert_built(done: Done, path: str) -> None:
    """Check that a build printed its path alone, and its news on stderr."""
    assert (done.code, done.out) == (0, f"{path}\n")
    assert re.fullmatch(NEWS, done.err)


def imported(*words: str | Path) -> set[str]:
    """Return the packages that a command imports, in an interpreter of its own."""
    code = (
        "import sys; from embedfield.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_the_list_of_models_import_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pandas", "geopandas", "rasterio", "zarr"}
    assert "torch" not in imported("models")
    assert imported("--help") & heavy == set()


def test_sampling_a_stored_field_imports_no_torch(stored: Path, places: Path, tmp_path: Path) -> None:
    assert "torch" not in imported("sample", stored, places, "-o", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").exists()


def test_info_imports_no_torch(stored: Path) -> None:
    assert "torch" not in imported("info", stored)


def test_the_installed_command_prints_the_path_alone(tmp_path: Path) -> None:
    script = str(Path(sys.executable).with_name("embedfield"))
    command = [script, "build", "--model", "xyz", "--res", "10", "--out", "c"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True, timeout=60)
    assert done.stdout == f"c/xyz/{ID}/{ID}.tif\n"
    assert re.fullmatch(NEWS, done.stderr)


def test_no_words_or_help_name_the_commands(run: Callable[..., Done]) -> None:
    done = run("--help")
    assert done.code == 0
    assert all(name in done.out for name in ("build", "sample", "models", "info"))


@pytest.mark.parametrize("command", ["build", "sample", "models", "info"])
def test_each_command_has_help(run: Callable[..., Done], command: str) -> None:
    done = run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"embedfield {command}" in done.out


def test_build_writes_a_field_and_prints_its_path_alone(run: Callable[..., Done], tmp_path: Path) -> None:
    done = run("build", "--model", "xyz", "--res", 10)
    assert_built(done, f"catalog/xyz/{ID}/{ID}.tif")
    assert (tmp_path / "catalog" / "catalog.json").exists()
    assert Path(done.out.strip()).exists()


def test_build_takes_bounds_format_dtype_precision_and_place(run: Callable[..., Done], tmp_path: Path) -> None:
    options = ("--format", "zarr", "--dtype", "float32", "--precision", "float32", "--device", "cpu", "--out", "mine")
    done = run("build", "--model", "xyz", "--res", 10, "--bounds", 170, -20, -170, 20, *options)
    name = "xyz-10deg-170e-20s-170w-20n-zarr-float32"
    assert_built(done, f"mine/xyz/{name}/{name}.zarr")
    item = json.loads((tmp_path / "mine" / "xyz" / name / f"{name}.json").read_text("utf-8"))
    assert item["properties"]["emb:runtime_parameters"]["precision"] == "float32"


def test_build_takes_a_reference_system_a_region_and_how_pixels_are_made(
    run: Callable[..., Done], tmp_path: Path
) -> None:
    geopandas.GeoSeries([shapely.Point(10, 50).buffer(2)], crs="EPSG:4326").to_file(tmp_path / "here.geojson")
    words = ("build", "--model", "sh-l10", "--crs", "epsg:3035", "--res", 20_000, "--region", "here.geojson")
    done = run(*words, "--supersample", 2, "--pca", 3, "--dtype", "int16", "--no-verify")
    name = "sh-l10-pca3-ss2-20000m-epsg3035-here-cog-int16"
    assert (done.code, done.out) == (0, f"catalog/sh-l10/{name}/{name}.tif\n")
    with rasterio.open(done.out.strip()) as dataset:
        assert dataset.crs.to_epsg() == 3035
        assert dataset.res == (20_000, 20_000)
        assert dataset.dtypes == ("int16",) * 3
        assert dataset.descriptions == ("sh-l10_pc000", "sh-l10_pc001", "sh-l10_pc002")
        assert (dataset.read(1)[0, 0], dataset.read(1)[5, 5] == -32768) == (-32768, False)
    assert not (Path(done.out.strip()).parent / "certificate.json").exists()
    done = run(*words, "--no-mask", "--format", "zarr", "--zarr-layout", "flat", "--no-verify")
    with xr.open_zarr(done.out.strip()) as ds:
        assert bool((ds.embedding != 0).all())


def test_verify_prints_what_the_raster_loses_and_keeps_it(run: Callable[..., Done], tmp_path: Path) -> None:
    raster = run("build", "--model", "xyz", "--res", 10, "--no-verify").out.strip()
    folder = Path(raster).parent
    done = run("verify", folder, "--places", 200, "--seed", 5, "--device", "cpu")
    assert (done.code, done.out) == (0, f"{folder}/certificate.json\n")
    assert re.search(r"verified at 200 places, 25 more near the poles.*\nbilinear  cosine 0\.99", done.err)
    kept = json.loads((folder / "certificate.json").read_text())
    item = json.loads((folder / f"{folder.name}.json").read_text())
    assert item["properties"]["embedfield:certificate"] == kept["summary"]
    assert item["properties"]["emb:runtime_parameters"]["device"] == "cpu"
    assert {"certificate", "certificate-picture"} <= item["assets"].keys()
    assert run("verify", raster, "--checksums").code == 0


def test_help_names_the_devices_and_precisions(run: Callable[..., Done]) -> None:
    said = " ".join(run("build", "--help").out.replace("│", " ").split())
    assert "auto, cpu, cuda, cuda:N or mps" in said
    assert (
        "float64, float32, tf32 or bf16. [default: (the fastest whose error is below a tenth of the packing's)]" in said
    )
    assert "--dry-run" in said


def test_verify_of_another_checkpoint_is_refused(run: Callable[..., Done], tmp_path: Path) -> None:
    words = ("--model", "satclip-l40", "--res", 30, "--weights", WEIGHTS, "--no-verify")
    raster = run("build", *words).out.strip()
    checkpoint = torch.load(WEIGHTS, weights_only=True)
    checkpoint["state_dict"]["model.location.nnet.last_layer.bias"][0] += 1
    torch.save(checkpoint, tmp_path / "other.ckpt")
    assert_refused(run("verify", raster, "--weights", "other.ckpt"), "was made with weights of sha256 .*--weights FILE")
    assert run("verify", raster, "--weights", WEIGHTS, "--places", 50).code == 0


def test_advise_prints_a_table_and_the_command_to_give(run: Callable[..., Done]) -> None:
    words = ("advise", "--model", "xyz", "--res", 10, "--res", 5, "--dtype", "uint8")
    done = run(*words, "--device", "cpu")
    assert done.code == 0
    assert "embedfield build --model xyz --res 10" in done.out
    told = json.loads(run(*words, "--json").out)
    assert told["model"] == "xyz"
    assert_refused(run("advise", "--model", "xyz", "--tolerance", 2), "is no cosine to hold a grid to")


def test_build_of_an_alias_with_a_checkpoint_goes_to_the_canonical_name(run: Callable[..., Done]) -> None:
    done = run("build", "--model", "satclip-l40", "--weights", WEIGHTS, "--res", 10)
    name = "satclip-vit16-l40-10deg-cog-uint8"
    assert_built(done, f"catalog/satclip-vit16-l40/{name}/{name}.tif")


def test_build_again_says_so_on_stderr_and_prints_the_path(run: Callable[..., Done]) -> None:
    first = run("build", "--model", "xyz", "--res", 10)
    again = run("build", "--model", "xyz", "--res", 10)
    assert (again.code, again.out) == (0, first.out)
    assert again.err == f"catalog/xyz/{ID} is there already, and the same.\n"


def test_build_with_overwrite_replaces_a_field(run: Callable[..., Done]) -> None:
    run("build", "--model", "xyz", "--res", 10)
    assert run("build", "--model", "xyz", "--res", 10, "--precision", "float32", "--overwrite").code == 0
    assert re.search(r"^precision +float32$", run("info", f"catalog/xyz/{ID}").out, re.MULTILINE)


@pytest.mark.parametrize("folder", ["[red]", "[/]", "a[link]b", ":smile:"])
def test_paths_that_look_like_markup_are_printed_as_they_are(run: Callable[..., Done], folder: str) -> None:
    run("build", "--model", "xyz", "--res", 30, "--out", folder)
    done = run("build", "--model", "xyz", "--res", 30, "--out", folder)
    name = "xyz-30deg-cog-uint8"
    assert done.out == f"{Path(folder)}/xyz/{name}/{name}.tif\n"
    assert done.err == f"{Path(folder)}/xyz/{name} is there already, and the same.\n"
    assert f"{Path(folder)}/xyz/{name}/{name}.tif (cog)" in run("info", done.out.strip()).out


def test_models_lists_every_card_with_its_aliases(run: Callable[..., Done]) -> None:
    done = run("models")
    assert (done.code, done.err) == (0, "")
    rows = done.out.splitlines()
    for card in cards():
        row = next(row for row in rows if row.split()[:1] == [card.name])
        assert str(card.dim) in row.split()
        assert all(alias in row for alias in card.aliases)


@pytest.mark.parametrize("path", ["folder", "raster"])
def test_info_says_what_a_field_is(run: Callable[..., Done], stored: Path, path: str) -> None:
    done = run("info", stored if path == "raster" else stored.parent)
    assert (done.code, done.err) == (0, "")
    said = {name: value.strip() for name, _, value in (line.partition(" ") for line in done.out.splitlines())}
    assert said["model"].startswith("xyz: ")
    assert said["file"] == f"{stored} (cog)"
    assert said["grid"] == "36 x 18 pixels of 10 degrees, EPSG:4326"
    assert said["bounds"] == "west -180, south -90, east 180, north 90"
    assert said["bands"] == "3, xyz_000 to xyz_002, uint8"


@pytest.mark.parametrize("output", ["out.parquet", "out.csv", "out.gpkg"])
def test_sample_writes_a_table_and_prints_its_path_alone(
    run: Callable[..., Done], stored: Path, places: Path, output: str
) -> None:
    assert run("sample", stored, places, "--output", output) == Done(0, f"{output}\n", "2 places: 2 valid\n")
    readers: dict[str, Callable[[str], Any]] = {
        "out.parquet": pd.read_parquet,
        "out.csv": pd.read_csv,
        "out.gpkg": geopandas.read_file,
    }
    table = readers[output](output)
    assert list(table.columns)[:7] == ["name", "lon", "lat", "xyz_000", "xyz_001", "xyz_002", "status"]
    assert table["name"].tolist() == ["Zürich", "Santiago"]
    assert table["status"].tolist() == ["valid", "valid"]


def test_rows_that_are_no_places_stay_and_say_why(run: Callable[..., Done], stored: Path, tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("name,lon,lat\na,1,2\nb,,2\nc,nan,2\nd,1,91\ne,400,2\nf,-7,8\n")
    statuses = ["valid", "missing", "missing", "invalid", "invalid", "valid"]
    for source in ((stored,), ("--model", "xyz")):
        done = run("sample", *source, "places.csv", "-o", "t.csv", "--overwrite")
        assert done == Done(0, "t.csv\n", "6 places: 2 valid, 2 missing, 2 invalid\n")
        table = pd.read_csv("t.csv")
        assert table["name"].tolist() == list("abcdef")
        assert table["status"].tolist() == statuses
        assert table["xyz_000"].notna().tolist() == [status == "valid" for status in statuses]


@pytest.mark.filterwarnings("default::embedfield.errors.EmbedfieldWarning")
def test_swapped_coordinates_are_warned_of(run: Callable[..., Done], stored: Path, tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("lon,lat\n47,108\n47,109\n47,8\n")
    done = run("sample", stored, "places.csv", "-o", "t.csv")
    warning = (
        "2 of 3 places have latitudes beyond 90 degrees: longitude and latitude may be swapped, or be in another "
        "reference system."
    )
    assert done == Done(0, "t.csv\n", f"embedfield: warning: {warning}\n3 places: 2 invalid, 1 valid\n")


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Return a file with two squares and a place."""
    shapes = [shapely.box(0, 0, 20, 10), shapely.box(-40, 10, -20, 20), shapely.Point(5, 5)]
    table = geopandas.GeoDataFrame({"name": ["a", "b", "c"], "size": [1, 2, 3]}, geometry=shapes, crs="EPSG:4326")
    table.to_file(tmp_path / "squares.gpkg", layer="squares")
    return tmp_path / "squares.gpkg"


def test_sample_of_polygons_gives_means_and_what_else_is_asked(
    run: Callable[..., Done], stored: Path, squares: Path
) -> None:
    assert run("sample", stored, squares, "-o", "t.parquet") == Done(0, "t.parquet\n", "3 places: 3 valid\n")
    means = geopandas.read_parquet("t.parquet")
    assert list(means.columns) == ["name", "size", "geometry", "xyz_000", "xyz_001", "xyz_002", "status"]
    # The grid's pixels are 10 degrees wide: two of them, one, and the one that the place lies in.
    with rasterio.open(stored) as raster:
        x = raster.read(1)[8, 18:20] * raster.scales[0] + raster.offsets[0]
    np.testing.assert_allclose(means["xyz_000"][[0, 2]], [x.mean(), x[0]], rtol=1e-6)
    stats = ("--stat", "mean", "--stat", "max", "--stat", "count", "--where", "size < 3", "--columns", "list")
    assert run("sample", stored, squares, "-o", "s.parquet", *stats).err == "2 places: 2 valid\n"
    more = geopandas.read_parquet("s.parquet")
    assert list(more.columns) == ["name", "size", "geometry", "xyz", "xyz_max", "count", "status"]
    assert more["count"].tolist() == [2, 2]
    np.testing.assert_allclose(np.stack(more["xyz"])[0, 0], x.mean(), rtol=1e-6)


def test_sample_of_polygons_by_a_model_computes_the_pixels_under_them(
    run: Callable[..., Done], stored: Path, squares: Path
) -> None:
    assert_refused(run("sample", "--model", "xyz", squares), "xyz by itself has no pixels .* --res")
    assert run("sample", "--model", "xyz", "--res", 10, squares, "-o", "m.csv").code == 0
    assert run("sample", stored, squares, "-o", "s.csv").code == 0
    columns = ["xyz_000", "xyz_001", "xyz_002"]
    # Rounding to 255 levels aside.
    np.testing.assert_allclose(pd.read_csv("m.csv")[columns], pd.read_csv("s.csv")[columns], rtol=0, atol=0.004)


def test_sample_takes_circles_around_places(run: Callable[..., Done], stored: Path, places: Path) -> None:
    options = ("--buffer", 1000, "--stat", "mean", "--stat", "count", "--stat", "coverage")
    assert run("sample", stored, places, "-o", "t.csv", *options).code == 0
    table = pd.read_csv("t.csv")
    # Pixels of 10 degrees, and circles of 1 km: π km² of about 1,113² cos(lat) km².
    wanted = np.pi / (1112**2 * np.cos(np.deg2rad(table["lat"])))
    np.testing.assert_allclose(table["count"], wanted, rtol=0.01)
    assert table["coverage"].tolist() == [1, 1]


def test_sample_of_a_field_and_a_model_puts_them_side_by_side(
    run: Callable[..., Done], stored: Path, places: Path
) -> None:
    assert run("sample", stored, "--model", "sh-l10", places, "-o", "t.parquet").code == 0
    columns = list(pd.read_parquet("t.parquet").columns)
    assert columns[:7] == ["name", "lon", "lat", "xyz_000", "xyz_001", "xyz_002", "sh-l10_000"]
    assert columns[-2:] == ["sh-l10_099", "status"]


def test_places_in_a_reference_system_of_their_own(run: Callable[..., Done], stored: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("name,x,y\nBern,2600072,1199545\n")
    assert run("sample", stored, "p.csv", "-o", "t.csv", "--crs", "EPSG:2056", "--method", "bilinear").code == 0
    (tmp_path / "q.csv").write_text("name,lon,lat\nBern,7.43958,46.94656\n")
    assert run("sample", stored, "q.csv", "-o", "u.csv", "--method", "bilinear").code == 0
    columns = ["xyz_000", "xyz_001", "xyz_002"]
    np.testing.assert_allclose(pd.read_csv("t.csv")[columns], pd.read_csv("u.csv")[columns], rtol=0, atol=1e-5)


def test_sample_of_a_model_gives_its_exact_values(run: Callable[..., Done], places: Path) -> None:
    assert run("sample", "--model", "xyz", places, "-o", "t.csv") == Done(0, "t.csv\n", "2 places: 2 valid\n")
    lon, lat = np.deg2rad([[8.54, -70.66], [47.37, -33.45]])
    wanted = np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    np.testing.assert_allclose(pd.read_csv("t.csv")[["xyz_000", "xyz_001", "xyz_002"]], wanted, rtol=0, atol=1e-7)


def test_sample_of_a_model_takes_a_checkpoint(run: Callable[..., Done], places: Path) -> None:
    assert run("sample", "--model", "satclip-l40", "--weights", WEIGHTS, places, "-o", "t.parquet").code == 0
    columns = list(pd.read_parquet("t.parquet").columns)
    assert (columns[3], columns[-2], columns[-1]) == ("satclip-vit16-l40_000", "satclip-vit16-l40_031", "status")


def test_sample_takes_names_of_columns_and_a_method(run: Callable[..., Done], stored: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("rechts,hoch\n0,0\n")
    options = ("--lon", "rechts", "--lat", "hoch", "--method", "bilinear", "-o", "t.csv")
    assert run("sample", stored, "p.csv", *options).code == 0
    # Four centres, 5 degrees from the origin in each direction: cos(5°)² along x, nothing along y and z.
    found = pd.read_csv("t.csv")["xyz_000"].to_numpy()
    np.testing.assert_allclose(found, np.cos(np.deg2rad(5)) ** 2, rtol=0, atol=0.004)


def test_sample_with_overwrite_replaces_a_table(run: Callable[..., Done], stored: Path, places: Path) -> None:
    Path("t.csv").write_text("mine")
    assert run("sample", stored, places, "-o", "t.csv", "--overwrite").code == 0
    assert len(pd.read_csv("t.csv")) == 2


@pytest.mark.parametrize("words", [(), ("places.csv",), ("places.csv", "--model", "xyz", "--card", "xyz.toml")])
def test_sample_without_one_source_and_places_is_a_wrong_use(
    run: Callable[..., Done], places: Path, words: tuple[str, ...]
) -> None:
    done = run("sample", *words)
    assert (done.code, done.out) == (2, "")
    assert files(places.parent) == {"places.csv": PLACES.encode()}


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_sample_of_a_model_by_pixels_that_nobody_named_is_a_wrong_use(
    run: Callable[..., Done], places: Path, method: str
) -> None:
    done = run("sample", "--model", "xyz", places, "-o", "t.csv", "--method", method)
    assert (done.code, done.out) == (2, "")
    assert not Path("t.csv").exists()


def test_a_build_that_is_told_to_end_leaves_what_the_next_goes_on_with(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from embedfield import cli;"
        "import embedfield.closing; embedfield.closing.write_both = lambda *_: os.kill(os.getpid(), signal.SIGTERM);"
        "sys.argv = ['embedfield', 'build', '--model', 'xyz', '--res', '1', '--out', sys.argv[1]]; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
    assert [path.name for path in (tmp_path / "xyz").iterdir() if path.is_dir()] == [".xyz-1deg-cog-uint8.build"]


def cut_short(folder: Path) -> Path:
    """Return half of a checkpoint."""
    (folder / "short.ckpt").write_bytes(WEIGHTS.read_bytes()[:400_000])
    return folder / "short.ckpt"


def of_another_family(folder: Path) -> Path:
    """Return a checkpoint with tensors of other names."""
    torch.save({"state_dict": {"capsule0.head.0.weight": torch.zeros(512, 1024)}}, folder / "other.ckpt")
    return folder / "other.ckpt"


def not_a_checkpoint(folder: Path) -> Path:
    """Return a file of text."""
    (folder / "text.ckpt").write_text("version https://example.org/spec/v1\n")
    return folder / "text.ckpt"


def empty(folder: Path) -> Path:
    """Return a file without bytes."""
    (folder / "empty.ckpt").touch()
    return folder / "empty.ckpt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (cut_short, "short.ckpt is not a whole checkpoint: .*Fetch it again"),
        (of_another_family, "other.ckpt is not a (SatCLIP|GeoCLIP) checkpoint: .*Give the file"),
        (not_a_checkpoint, "text.ckpt "),
        (empty, "empty.ckpt "),
    ],
)
@pytest.mark.parametrize("model", ["satclip-l40", "geoclip"])
def test_weights_that_are_not_the_models_are_refused(
    run: Callable[..., Done], places: Path, make: Callable[[Path], Path], message: str, model: str
) -> None:
    weights = make(places.parent)
    before = files(places.parent)
    assert_refused(run("build", "--model", model, "--weights", weights, "--res", 10), message)
    assert_refused(run("sample", "--model", model, "--weights", weights, places), message)
    assert files(places.parent) == before
    assert not (places.parent / "catalog").exists()


@pytest.mark.parametrize("model", ["satclip-l10", "satclip-resnet50-l40"])
def test_weights_of_another_variant_are_refused(run: Callable[..., Done], tmp_path: Path, model: str) -> None:
    assert_refused(
        run("build", "--model", model, "--weights", WEIGHTS, "--res", 10), "is not satclip-.*the model's own name"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "satclip-l4", "--res", 10), "No model named 'satclip-l4'. Did you mean 'satclip-l40'"),
        (("--model", "GeoClip", "--res", 10), "Did you mean 'geoclip'"),
        (("--model", "nothing-like-it", "--res", 10), "'embedfield models' for the list"),
        (("--model", "xyz", "--res", 0.7), "res=0.7 does not divide .*Choose a res such as"),
        (("--model", "xyz", "--res", 0), "res=0 is no size"),
        (("--model", "xyz", "--res", "-1"), "res=-1 is no size"),
        (("--model", "xyz", "--res", "nan"), "res=nan is no size"),
        (("--model", "xyz", "--res", 1, "--bounds", -180, -100, 180, 90), r"within \[-90, 90\]"),
        (("--model", "xyz", "--res", 1, "--bounds", -200, -90, 180, 90), r"within \[-180, 360\]"),
        (("--model", "xyz", "--res", 1, "--bounds", 0, 0, "nan", 10), "not four finite numbers"),
        (("--model", "xyz", "--res", 10, "--format", "png"), "Choose from: cog, zarr"),
        (("--model", "xyz", "--res", 10, "--dtype", "int8"), "Choose from: uint8, int16, float16, float32"),
        (("--model", "xyz", "--res", 10, "--device", "abacus"), "device='abacus'"),
        (("--model", "xyz", "--res", 10, "--precision", "half"), "precision='half'"),
        (("--model", "geoclip", "--res", 10, "--offline"), "not in the cache.*--weights FILE"),
        (("--model", "satclip-l40", "--res", 10, "--weights", "nowhere.ckpt"), "No weights at"),
        (("--model", "satclip-l40", "--res", 10, "--weights", "."), "Weights . are a folder"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(
    run: Callable[..., Done], tmp_path: Path, words: tuple[Any, ...], message: str
) -> None:
    assert_refused(run("build", *words), message)
    assert list(tmp_path.iterdir()) == []


def test_a_field_that_differs_from_the_one_there_is_refused(run: Callable[..., Done], tmp_path: Path) -> None:
    run("build", "--model", "xyz", "--res", 10, "--precision", "float64")
    before = files(tmp_path)
    assert_refused(
        run("build", "--model", "xyz", "--res", 10, "--precision", "float32"), "its precision is .*--overwrite"
    )
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [(f"catalog/xyz/{ID}/notes.txt", "mine"), ("catalog/catalog.json", "{}"), ("catalog", "mine"), ("catalog/xyz", "")],
)
def test_a_place_that_holds_something_else_is_refused(
    run: Callable[..., Done], tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    assert_refused(run("build", "--model", "xyz", "--res", 10), "catalog.*--(out|overwrite)")
    assert files(tmp_path) == {name: content.encode()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,rechts,hoch\na,1,2\n", "its columns are: name, rechts, hoch. Name it with --lon COLUMN"),
        ("lon;lat\n1;2\n", "its columns are: lon;lat"),
        ("lon,lat\n1,2\neast,2\n", "Column 'lon' holds what is no number"),
        ("lon,lat,status\n1,2,good\n", "have a column 'status' already"),
        ("", "places.csv cannot be read"),
    ],
)
def test_places_that_cannot_be_sampled_are_refused_in_one_line(
    run: Callable[..., Done], stored: Path, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "places.csv").write_text(content)
    assert_refused(run("sample", stored, "places.csv"), message)
    assert_refused(run("sample", "--model", "xyz", "places.csv"), message)
    assert files(tmp_path) == {"places.csv": content.encode()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{stored}", "nowhere.csv"), "nowhere.csv does not exist"),
        (("nowhere.tif", "places.csv"), "nowhere.tif does not exist"),
        (("places.csv", "places.csv"), "is of no format known here"),
        (("{stored}", "places.csv", "-o", "t.xlsx"), "is no table that can be written"),
        (("{stored}", "places.csv", "-o", "nowhere/t.csv"), "is no folder"),
        (("{stored}", "places.csv", "-o", "places.csv"), "places.csv exists.*--overwrite"),
        (("{stored}", "places.csv", "--lon", "east"), "no column 'east'"),
        (("{stored}", "places.csv", "--method", "exact"), "'exact' is not to be had"),
        (("{stored}", "places.csv", "--method", "cubic"), "'cubic' is not to be had"),
        (("--model", "geoclop", "places.csv"), "Did you mean 'geoclip'"),
        (("--model", "geoclip", "--offline", "places.csv"), "not in the cache"),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_one_line(
    run: Callable[..., Done], stored: Path, places: Path, words: tuple[str, ...], message: str
) -> None:
    assert_refused(run("sample", *(word.format(stored=stored) for word in words)), message)
    assert files(places.parent) == {"places.csv": PLACES.encode()}


@pytest.mark.parametrize("name", ["broken.tif", "broken.vrt", "broken.zarr", "broken.png", "nowhere.tif", "."])
@pytest.mark.parametrize("command", ["info", "sample"])
def test_what_is_no_field_is_refused(run: Callable[..., Done], places: Path, name: str, command: str) -> None:
    if name.startswith("broken"):
        Path(name).write_bytes(b"II*\x00 not a raster")
    before = files(places.parent)
    assert_refused(run(command, name, *([places] if command == "sample" else [])), re.escape(name))
    assert files(places.parent) == before


@pytest.mark.parametrize("kept", [8, 1000, -2000, -200])
def test_a_field_cut_short_is_refused(run: Callable[..., Done], stored: Path, places: Path, kept: int) -> None:
    Path("short.tif").write_bytes(stored.read_bytes()[:kept])
    assert_refused(run("sample", "short.tif", places), "short.tif")
    assert set(files(places.parent)) == {"short.tif", "places.csv"}


def test_an_error_of_ours_says_one_line_however_long_and_whatever_its_brackets(
    run: Callable[..., Done], tmp_path: Path
) -> None:
    name = f"[bold]{'long' * 50}[/nothing].csv"
    done = run("sample", "--model", "xyz", name)
    assert_refused(done, re.escape(f"{name} does not exist"))


def test_an_error_that_is_not_ours_keeps_its_traceback(
    run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Evaluator, "encode_lattice", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run("build", "--model", "xyz", "--res", 10)
