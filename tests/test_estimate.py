"""An estimate is near what a build makes, refuses what a build refuses, and leaves nothing behind."""

from __future__ import annotations

import inspect
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pytest
import shapely
from other_process import holding

import embedfield as ef
from embedfield.build import build_field
from embedfield.errors import BusyError, EmbedfieldError, GridError, OutputExistsError, PackingError, StorageError
from embedfield.estimate import Estimate, estimate_build
from embedfield.formats import cog, shards
from embedfield.formats.pieces import CogPieces
from embedfield.integrity import size
from embedfield.order import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Done

REFERENCE = Path(__file__).parent / "reference"
WEIGHTS = REFERENCE / "satclip_l40_small.ckpt"
ID = "xyz-10deg-cog-uint8"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, which must be empty at the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def estimate(out: Path, model: str = "xyz", res: float = 10, **kwargs: Any) -> Estimate:
    """Estimate a build on the CPU."""
    return estimate_build(model, res, **{"out": out, "device": "cpu", **kwargs})


def listing(folder: Path) -> dict[str, int]:
    """Return all that is in a folder, and when it was changed."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


# What it says is so


@pytest.mark.parametrize("form", ["cog", "zarr"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_size_is_about_that_of_the_raster(catalog: Path, form: str, dtype: str) -> None:
    call = {"format": form, "dtype": dtype, "bounds": (-60, -60, 120, 60)}
    found = estimate(catalog, "sh-l10", 0.5, **call)
    field = build_field("sh-l10", 0.5, out=catalog, device="cpu", verify=False, **call)  # type: ignore[arg-type]
    assert found.stored_bytes == pytest.approx(size(field.disk_path), rel=0.35)
    assert found.raw_bytes == 360 * 240 * 100 * np.dtype(dtype).itemsize


def test_a_field_that_is_tried_as_a_whole_has_its_own_size(catalog: Path) -> None:
    found = estimate(catalog, res=5)
    assert found.sampled == 72 * 36
    assert found.stored_bytes == pytest.approx(
        size(build_field("xyz", 5, out=catalog, device="cpu").disk_path), rel=0.25
    )


def test_grid_pieces_model_and_place_are_told(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128 * 3)
    found = estimate(catalog, res=1, precision="float32")
    assert (found.grid.shape, found.dim, found.units) == ((180, 360), 3, (6, 128, 128))
    assert (found.card.name, found.device, found.precision) == ("xyz", "cpu", "float32")
    assert (found.format, found.dtype) == ("cog", "uint8")
    assert Path(found.folder) == catalog / "xyz" / "xyz-1deg-cog-uint8"
    lines = dict(line.split(maxsplit=1) for line in found.lines)
    assert lines["model"] == "xyz in float32 on cpu"
    assert lines["grid"] == "360 x 180 pixels of 1 degree, EPSG:4326"
    assert lines["raster"] == "cog, 3 bands of uint8, 6 tiles of 128 x 128 pixels"
    assert lines["folder"] == str(found.folder)
    assert lines["time"].startswith("about ")
    assert lines["memory"].startswith("at most about ")


def test_a_raster_of_one_piece_has_no_size_of_pieces(catalog: Path) -> None:
    assert "cog, 3 bands of uint8, one tile" in estimate(catalog).describe()["raster"]
    assert "zarr, 3 bands of uint8, one shard" in estimate(catalog, format="zarr").describe()["raster"]


def test_times_are_of_the_pixels_at_the_speed_that_was_measured(catalog: Path) -> None:
    found = estimate(catalog, "sh-l10", 0.5)
    assert list(found.seconds) == ["computing", "packing", "writing", "checking"]
    assert found.seconds["computing"] == pytest.approx(720 * 360 / found.speed)
    assert found.total == pytest.approx(sum(found.seconds.values()))
    assert found.left == pytest.approx(found.total)


def test_what_another_device_computes_overlaps_with_what_this_one_writes(catalog: Path) -> None:
    found = estimate(catalog)
    seconds = {"computing": 5.0, "packing": 2.0, "writing": 1.0, "checking": 3.0}
    known = {**vars(found), "seconds": seconds}
    assert Estimate(**known).total == 11
    assert Estimate(**{**known, "overlapped": True}).total == 8


def test_a_certificate_that_nobody_wants_costs_nothing(catalog: Path) -> None:
    assert estimate(catalog, verify=False).seconds["checking"] < estimate(catalog).seconds["checking"]


def test_memory_is_that_of_the_process_and_of_the_writer(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CogPieces, "peak_memory", 10**12)
    assert 10**12 < estimate(catalog).peak_memory < 2 * 10**12


def test_components_are_counted_as_they_are_stored(catalog: Path) -> None:
    found = estimate(catalog, "sh-l10", 1, pca=7)
    assert found.dim == 7
    assert found.raw_bytes == 360 * 180 * 7
    assert Path(found.folder).name == "sh-l10-pca7-1deg-cog-uint8"


def test_a_projected_field_is_estimated(catalog: Path) -> None:
    found = estimate(catalog, res=100_000, crs="EPSG:3035")
    assert found.grid.crs == "EPSG:3035"
    assert found.describe()["grid"].endswith("pixels of 100000 metres, EPSG:3035")


def box(folder: Path, *edges: float) -> Path:
    """Return a file of one box."""
    geopandas.GeoSeries([shapely.box(*edges)], crs="EPSG:4326").to_file(folder / "box.geojson")
    return folder / "box.geojson"


@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_of_a_region_only_its_own_pixels_cost(catalog: Path, tmp_path: Path, form: str) -> None:
    call: dict[str, Any] = {"bounds": (-180, -90, 180, 90), "format": form}
    globe = estimate(catalog, "sh-l10", 0.5, **call)
    part = estimate(catalog, "sh-l10", 0.5, region=box(tmp_path, 0.1, 0.1, 35.9, 17.9), **call)
    # A hundredth of the pixels.
    assert part.stored_bytes == pytest.approx(globe.stored_bytes / 100, rel=0.5)
    share = part.seconds["computing"] * part.speed / (720 * 360)
    # What a sum of times loses in its last bits aside.
    assert 0.01 - 1e-9 <= share <= (0.011 if form == "zarr" else 0.05)


def test_rows_where_a_model_has_no_value_are_not_computed(catalog: Path) -> None:
    weights = REFERENCE / "gps2vec_tag_small.zip"
    found = estimate(catalog, "gps2vec-tag", 2, bounds=(102, -88, 108, 90), weights=weights)
    # From -80 to 84 degrees.
    assert found.seconds["computing"] * found.speed == pytest.approx(3 * 82)


# What stands there


def test_nothing_is_left_behind(catalog: Path, scratch: Path) -> None:
    for form in ("cog", "zarr"):
        assert estimate(catalog, format=form).done is None
    assert not catalog.exists()
    assert list(scratch.iterdir()) == []


def test_a_field_that_is_there_is_told_and_not_touched(catalog: Path) -> None:
    build_field("xyz", 10, out=catalog, device="cpu")
    before = listing(catalog)
    found = estimate(catalog)
    assert (found.there, found.left) == (True, 0)
    assert found.lines[-1].endswith(f"{ID} is there already, and the same: nothing is left to do")
    assert listing(catalog) == before


def begin(catalog: Path, monkeypatch: pytest.MonkeyPatch, calls: int, **kwargs: Any) -> None:
    """Leave a build that stopped after its encoder was asked so many times for a window."""
    from embedfield.evaluate import EncodedField

    read, done = EncodedField.read, iter(range(calls))

    def failing(self: EncodedField, window: Any = None) -> Any:
        if next(done, None) is None:
            raise KeyboardInterrupt
        return read(self, window)

    with monkeypatch.context() as patch:
        patch.setattr(EncodedField, "read", failing)
        with pytest.raises(KeyboardInterrupt):
            build_field("xyz", 1, out=catalog, device="cpu", **kwargs)


@pytest.mark.parametrize(("form", "pieces"), [("cog", 6), ("zarr", 2)])
def test_what_a_stopped_build_has_done_is_told_and_not_touched(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, form: str, pieces: int
) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128 * 3)
    monkeypatch.setattr(shards, "ROW", 1)  # one shard at a time
    begin(catalog, monkeypatch, pieces - 1, format=form)
    before = listing(catalog)
    found = estimate(catalog, res=1, format=form)
    # All tiles but the last, or the two before it where one was still to be written; the first shard.
    assert found.done in ({360 * 180 - 104 * 52, 360 * 180 - 104 * 52 - 128 * 52} if form == "cog" else {256 * 180, 0})
    assert found.left <= found.total
    assert re.search(r": an unfinished build has \d+ % of it, about .* are left$", found.lines[-1])
    assert listing(catalog) == before


@pytest.mark.parametrize("kwargs", [{}, {"pca": 2, "format": "zarr"}])
def test_a_build_that_only_its_picture_is_missing_of_is_all_done(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, kwargs: dict[str, Any]
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("embedfield.closing.write_both", stop)
        with pytest.raises(KeyboardInterrupt):
            build_field("xyz", 1, out=catalog, device="cpu", **kwargs)
    found = estimate(catalog, res=1, **kwargs)
    assert found.done == 360 * 180
    assert "an unfinished build has 100 % of it" in found.lines[-1]


def test_another_field_that_is_there_is_refused_unless_it_may_be_replaced(catalog: Path) -> None:
    build_field("xyz", 10, out=catalog, device="cpu", precision="float32")
    with pytest.raises(OutputExistsError, match="its precision is 'float32', and this build's is 'float64'"):
        estimate(catalog, precision="float64")
    found = estimate(catalog, precision="float64", overwrite=True)
    assert not found.there


def test_a_field_that_another_process_is_building_is_refused(catalog: Path) -> None:
    held = holding(catalog / "xyz" / f".{ID}.lock")
    with held, pytest.raises(BusyError, match="Another process is building"):
        estimate(catalog)
    assert not estimate(catalog).there


def test_a_disk_with_too_little_room_is_told_plainly(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(catalog.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    found = estimate(catalog)
    assert found.free_bytes == 1000
    assert "only 1.0 kB are free: make room, or write elsewhere with --out" in found.describe()["size"]


# What is refused


@pytest.mark.parametrize(
    "kwargs",
    [
        {"model": "satclip-l4"},
        {"format": "png"},
        {"dtype": "int8"},
        {"layout": "flat"},
        {"res": 7},
        {"res": float("nan")},
        {"bounds": (-180, -100, 180, 90)},
        {"crs": "EPSG:1"},
        {"region": "nowhere.gpkg"},
        {"supersample": 0},
        {"pca": 4},
        {"dims": 3},
        {"month": 7},
        {"device": "tpu9"},
        {"precision": "float16"},
        {"weights": WEIGHTS},
        {"model": "satclip-l40", "weights": Path("nowhere.ckpt")},
        {"model": "geoclip", "offline": True},
        {"model": "gps2vec-tag", "bounds": (0, -90, 10, -80), "res": 1},
        {"out": "s3://bucket/catalog"},
    ],
)
def test_what_a_build_refuses_is_refused_with_the_same_words(catalog: Path, kwargs: dict[str, Any]) -> None:
    call: dict[str, Any] = {"model": "xyz", "res": 10, "device": "cpu", "out": catalog} | kwargs
    refused = []
    for function in (build_field, estimate_build):
        with pytest.raises(EmbedfieldError) as caught:
            function(**call)
        refused.append((caught.type, str(caught.value)))
    assert refused[0] == refused[1]
    assert not catalog.exists()


def test_a_field_without_any_value_is_refused(catalog: Path) -> None:
    weights = REFERENCE / "gps2vec_tag_small.zip"
    with pytest.raises(PackingError, match=r"gps2vec-tag has no value at any of \d+ places in bounds="):
        estimate(catalog, "gps2vec-tag", 2, bounds=(-160, -10, -140, 10), weights=weights)


def test_a_region_outside_of_the_bounds_is_refused(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(GridError, match="The region box lies outside"):
        estimate(catalog, bounds=(-90, 0, -60, 30), region=box(tmp_path, 0, 0, 10, 10))


def test_a_folder_that_may_not_be_looked_at_is_refused_in_words(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Order, "fulfilled", deny)
    with pytest.raises(StorageError, match="Permission denied"):
        estimate(catalog)


# How it is asked


def test_it_takes_what_a_build_takes(catalog: Path) -> None:
    told = list[str]()
    found = estimate(catalog, progress=lambda *_: None, report=told.append, step=told.append, verify=False)
    assert found.sampled
    assert told[0] == "loading the model"
    assert "packing and writing the sample" in told


def test_an_order_takes_the_arguments_of_a_build_and_assumes_the_same() -> None:
    asked, built = (inspect.signature(function).parameters for function in (Order.of, build_field))
    own = {"verify", "progress", "step", "note", "client"}
    assert {name: built[name].default for name in built if name not in own} == {
        name: asked[name].default for name in asked if name != "sized"
    }


def test_it_is_a_public_function() -> None:
    assert ef.estimate_build is estimate_build
    assert ef.Estimate is Estimate


def test_the_command_line_prints_it_and_writes_nothing(run: Callable[..., Done], tmp_path: Path) -> None:
    done = run("build", "--model", "xyz", "--res", 10, "--dry-run", "--out", "mine")
    assert (done.code, done.err) == (0, "")
    assert re.match(r"model    xyz in \w+ on \w+\ngrid     36 x 18 pixels of 10 degrees, EPSG:4326\n", done.out)
    assert "folder   mine/xyz/xyz-10deg-cog-uint8\n" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


def test_the_command_line_refuses_in_one_line(run: Callable[..., Done]) -> None:
    done = run("build", "--model", "xyz", "--res", 7, "--dry-run")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert "res=7 does not divide" in done.err
