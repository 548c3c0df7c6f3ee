"""A build makes a whole field or nothing, and the same call again opens what is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pystac
import pytest
import shapely
import torch
from fields import ArrayField
from other_process import holding

from embedfield.build import build_field
from embedfield.card import Card
from embedfield.errors import (
    BusyError,
    DeviceError,
    FormatError,
    GridError,
    OutputExistsError,
    PackingError,
    StorageError,
    UnknownModelError,
    WeightsError,
)
from embedfield.evaluate import Evaluator, load
from embedfield.folder import field_id
from embedfield.formats import open_field
from embedfield.grid import Grid
from embedfield.plan import identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.formats.stored import StoredField

WEIGHTS = Path(__file__).parent / "reference" / "satclip_l40_small.ckpt"
ID = "xyz-10deg-cog-uint8"


def build(out: Path, model: str = "xyz", res: float = 10, **kwargs: Any) -> StoredField:
    """Build a small field, on the CPU, and close it."""
    field = build_field(model, res, out=out, device="cpu", **{"verify": False, **kwargs})
    field.close()
    return field


def other_weights(folder: Path) -> Path:
    """Return a checkpoint of the same shape with one number changed."""
    checkpoint = torch.load(WEIGHTS, weights_only=True)
    checkpoint["state_dict"]["model.location.nnet.last_layer.bias"][0] += 1
    torch.save(checkpoint, folder / "other.ckpt")
    return folder / "other.ckpt"


def remains(catalog: Path, model: str = "xyz") -> list[str]:
    """Return what lies in a model's folder beside locks."""
    return sorted(path.name for path in (catalog / model).glob("*") if path.suffix != ".lock")


def entered(catalog: Path) -> list[str]:
    """Return the names of the items that a catalogue leads to."""
    return sorted(item.id for item in pystac.Catalog.from_file(str(catalog / "catalog.json")).get_items(recursive=True))


def fail_after(monkeypatch: pytest.MonkeyPatch, calls: int, error: BaseException) -> None:
    """Let the encoder fail once it has answered some calls."""
    encode, done = Evaluator.encode_lattice, iter(range(calls))

    def failing(self: Evaluator, lons: Any, lats: Any) -> Any:
        if next(done, None) is None:
            raise error
        return encode(self, lons, lats)

    monkeypatch.setattr(Evaluator, "encode_lattice", failing)


@pytest.mark.parametrize(("form", "suffix"), [("cog", ".tif"), ("zarr", ".zarr")])
def test_a_build_is_a_raster_a_preview_and_an_item_in_a_folder_of_their_name(
    catalog: Path, form: str, suffix: str
) -> None:
    field = build(catalog, format=form, verify=True)
    name = f"xyz-10deg-{form}-uint8"
    assert field.disk_path == catalog / "xyz" / name / f"{name}{suffix}"
    assert sorted(path.name for path in field.disk_path.parent.iterdir()) == sorted(
        [
            *(f"{name}{end}" for end in (suffix, ".json", ".qml")),
            *("preview.png", "rgb.tif", "colours.json", "certificate.json", "certificate.png", "SHA256SUMS"),
        ]
    )
    assert remains(catalog) == ["collection.json", "model.json", name]
    assert entered(catalog) == [name]


@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_a_built_field_holds_the_encoder_at_its_pixel_centres(catalog: Path, form: str) -> None:
    with build_field("xyz", 30, dtype="float32", format=form, out=catalog) as field:  # type: ignore[arg-type]
        lon, lat = np.deg2rad(np.meshgrid(np.arange(-165, 180, 30), np.arange(75, -90, -30)))
        wanted = np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
        np.testing.assert_allclose(field.read(), wanted, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("bounds", "name"),
    [
        ((-180, -90, 180, 90), "xyz-10deg-cog-uint8"),
        ((0, -10, 20, 50), "xyz-10deg-0e-10s-20e-50n-cog-uint8"),
        ((170, -20, -170, 20), "xyz-10deg-170e-20s-170w-20n-cog-uint8"),
        ((-40, -90, -20, 0), "xyz-10deg-40w-90s-20w-0n-cog-uint8"),
    ],
)
def test_a_field_is_named_by_its_resolution_and_its_bounds(bounds: tuple[float, ...], name: str) -> None:
    grid = Grid.from_bounds(10, bounds)  # type: ignore[arg-type]
    assert field_id("xyz", grid, "cog", "uint8") == name


@pytest.mark.parametrize(
    ("res", "name"),
    [(0.25, "sh-l10-0.25deg-zarr-float32"), (1.0, "sh-l10-1deg-zarr-float32"), (0.1, "sh-l10-0.1deg-zarr-float32")],
)
def test_a_resolution_is_written_without_needless_digits(res: float, name: str) -> None:
    assert field_id("sh-l10", Grid.from_bounds(res), "zarr", "float32") == name


def test_bounds_that_differ_make_names_that_differ() -> None:
    names = {
        field_id("xyz", Grid.from_bounds(1, bounds), "cog", "uint8")
        for bounds in ((10, 0, 20, 5), (-20, 0, -10, 5), (10, -5, 20, 0), (10, 0, -160, 5), (0, -90, 360, 90))
    }
    assert len(names) == 5


@pytest.mark.parametrize("kwargs", [{}, {"format": "zarr"}, {"bounds": (170, -20, -170, 20)}, {"res": 20 / 3}])
def test_the_same_call_again_opens_what_is_there(catalog: Path, kwargs: dict[str, Any]) -> None:
    raster, news = build(catalog, **kwargs).disk_path, list[str]()
    before = {path: path.stat().st_mtime_ns for path in catalog.rglob("*") if path.suffix != ".lock"}
    again = build(catalog, report=news.append, **kwargs)
    assert again.disk_path == raster
    assert {path: path.stat().st_mtime_ns for path in catalog.rglob("*") if path.suffix != ".lock"} == before
    hint = f"It has no certificate: 'embedfield verify {raster.parent}' makes one."
    assert news == [f"{raster.parent} is there already, and the same. {hint}"]


@pytest.mark.parametrize("kwargs", [{"dtype": "float32"}, {"format": "zarr"}, {"res": 20}, {"bounds": (0, 0, 20, 20)}])
def test_another_kind_of_field_goes_beside_the_first(catalog: Path, kwargs: dict[str, Any]) -> None:
    build(catalog)
    second = build(catalog, **kwargs)
    assert entered(catalog) == sorted([ID, second.disk_path.parent.name])


def test_another_precision_in_the_same_place_is_refused_by_name(catalog: Path) -> None:
    raster = build(catalog, precision="float64").disk_path
    before = raster.read_bytes()
    with pytest.raises(OutputExistsError, match=r"its precision is 'float64', .*'float32'.*--overwrite.*--out"):
        build(catalog, precision="float32")
    assert raster.read_bytes() == before


def test_other_weights_in_the_same_place_are_refused_by_name(catalog: Path, tmp_path: Path) -> None:
    raster = build(catalog, "satclip-l40", weights=WEIGHTS).disk_path
    before = raster.read_bytes()
    with pytest.raises(OutputExistsError, match=r"its weights_sha256 is '[0-9a-f]{64}'"):
        build(catalog, "satclip-l40", weights=other_weights(tmp_path))
    assert raster.read_bytes() == before


def test_the_same_weights_under_another_name_are_the_same(catalog: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.ckpt").write_bytes(WEIGHTS.read_bytes())
    first = build(catalog, "satclip-l40", weights=WEIGHTS).disk_path.stat().st_mtime_ns
    assert build(catalog, "satclip-l40", weights=tmp_path / "copy.ckpt").disk_path.stat().st_mtime_ns == first


@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_overwrite_replaces_a_field(catalog: Path, form: str) -> None:
    build(catalog, format=form)
    replaced = build(catalog, format=form, precision="float32", overwrite=True)
    with open_field(replaced.disk_path) as field:
        assert field.provenance["precision"] == "float32"
    assert remains(catalog) == ["collection.json", "model.json", f"xyz-10deg-{form}-uint8"]
    item = json.loads((replaced.disk_path.parent / f"{replaced.disk_path.parent.name}.json").read_text("utf-8"))
    assert item["properties"]["emb:runtime_parameters"]["precision"] == "float32"


@pytest.mark.parametrize("name", ["notes.txt", f"{ID}.tif"])
def test_a_folder_that_holds_something_else_is_refused_and_kept(catalog: Path, name: str) -> None:
    folder = catalog / "xyz" / ID
    folder.mkdir(parents=True)
    (folder / name).write_text("mine")
    with pytest.raises(OutputExistsError, match=r"exists and holds something else.*--overwrite"):
        build(catalog)
    assert [path.read_text() for path in folder.iterdir()] == ["mine"]


def test_a_file_where_the_folder_should_go_is_refused_and_kept(catalog: Path) -> None:
    (catalog / "xyz").mkdir(parents=True)
    (catalog / "xyz" / ID).write_text("mine")
    with pytest.raises(OutputExistsError):
        build(catalog)
    assert (catalog / "xyz" / ID).read_text() == "mine"


@pytest.mark.parametrize("place", [".", "xyz"])
def test_a_file_where_the_catalogue_should_go_is_refused_and_kept(catalog: Path, place: str) -> None:
    file = catalog / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    with pytest.raises(OutputExistsError, match="--out"):
        build(catalog)
    assert file.read_text() == "mine"


def test_a_catalogue_of_something_else_is_refused_before_anything_is_written(catalog: Path) -> None:
    catalog.mkdir()
    (catalog / "catalog.json").write_text("not JSON")
    with pytest.raises(FormatError, match=r"catalog\.json is no STAC catalogue"):
        build(catalog)
    assert [path for path in catalog.rglob("*") if path.is_dir() or path.suffix != ".lock"] == [
        catalog / "catalog.json"
    ]


def test_an_encoder_without_finite_values_is_refused_and_leaves_no_field(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "encode_lattice", lambda _, lons, lats: np.full((len(lats), len(lons), 3), np.inf))
    with pytest.raises(PackingError, match="not finite"):
        build(catalog)
    assert remains(catalog) == []


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
@pytest.mark.parametrize("form", ["cog", "zarr"])
@pytest.mark.parametrize("calls", [0, 1])
def test_a_build_that_fails_leaves_no_field_and_goes_on_when_called_again(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, form: str, calls: int
) -> None:
    with monkeypatch.context() as patch:
        fail_after(patch, calls, error)
        with pytest.raises(type(error)):
            build(catalog, format=form)
    # Before the ranges are known there is nothing to keep.
    assert remains(catalog) == ([f".xyz-10deg-{form}-uint8.build"] if calls else [])
    assert not (catalog / "catalog.json").exists()
    build(catalog, format=form)
    assert remains(catalog) == ["collection.json", "model.json", f"xyz-10deg-{form}-uint8"]


def test_a_build_that_fails_among_tiles_goes_on_with_those_that_are_missing(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedfield.formats.cog.BUDGET", 128 * 128 * 3)
    with monkeypatch.context() as patch:
        fail_after(patch, 4, RuntimeError("out of memory"))
        with pytest.raises(RuntimeError, match="out of memory"):
            build(catalog, res=1)
    news = list[str]()
    # The globe at 1 degree is six tiles of 128 pixels, and one of the four may not have been written yet; one more call
    # would break.
    fail_after(monkeypatch, 6 - 3, RuntimeError("asked again"))
    build(catalog, res=1, report=news.append, verify=False)
    assert re.fullmatch(r"Going on with the build that was begun in .*\.xyz-1deg-cog-uint8\.build\.", news[0])
    assert remains(catalog) == ["collection.json", "model.json", "xyz-1deg-cog-uint8"]


def test_a_replacement_that_fails_leaves_the_field_as_it_was(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = build(catalog).disk_path
    before = {path: path.read_bytes() for path in raster.parent.rglob("*") if path.is_file()}
    fail_after(monkeypatch, 1, RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        build(catalog, overwrite=True)
    assert {path: path.read_bytes() for path in raster.parent.rglob("*") if path.is_file()} == before
    open_field(raster).close()


def begin(catalog: Path, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> None:
    """Leave an unfinished build."""
    with monkeypatch.context() as patch:
        patch.setattr("embedfield.closing.write_both", raise_(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            build(catalog, **kwargs)


def box(folder: Path, east: float) -> Path:
    """Return a file of one square."""
    folder.mkdir(exist_ok=True)
    geopandas.GeoSeries([shapely.box(5, 5, east, 50)], crs="EPSG:4326").to_file(folder / "box.geojson")
    return folder / "box.geojson"


@pytest.mark.parametrize(
    ("calls", "named"),
    [
        (({"precision": "float64"}, {"precision": "float32"}), "its precision is 'float64'; this build's is 'float32'"),
        (({"region": 80}, {"region": 70}), "its region is {'name': 'box', 'sha256': "),
    ],
)
def test_an_unfinished_build_of_another_field_is_refused_and_told_apart(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, calls: tuple[dict[str, Any], ...], named: str
) -> None:
    first, second = (
        call | ({"region": box(tmp_path / str(number), call["region"])} if "region" in call else {})
        for number, call in enumerate(calls)
    )
    begin(catalog, monkeypatch, bounds=(0, 0, 90, 60), **first)
    with pytest.raises(OutputExistsError, match=rf"An unfinished build stands in .*{re.escape(named)}.*--overwrite"):
        build(catalog, bounds=(0, 0, 90, 60), **second)
    field = build(catalog, bounds=(0, 0, 90, 60), overwrite=True, **second)
    assert remains(catalog) == ["collection.json", "model.json", field.disk_path.parent.name]


def test_a_region_outside_of_the_bounds_is_refused_before_work(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"The region box lies outside of bounds=\(-90\.0, 0\.0, -60\.0, 30\.0\)"):
        build(catalog, bounds=(-90, 0, -60, 30), region=box(tmp_path / "a", 80))
    assert not catalog.exists()


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"identity": {}, "packing": {}, "reduction_sha256": null}'])
def test_an_unfinished_build_whose_plan_is_lost_begins_anew(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    begin(catalog, monkeypatch, pca=2)
    work = catalog / "xyz" / ".xyz-pca2-10deg-cog-uint8.build"
    (work / "plan.json").write_text(damage)
    build(catalog, pca=2)
    begin(catalog, monkeypatch, pca=2, overwrite=True)
    (work / "field" / "reduction.safetensors").write_bytes(b"")
    build(catalog, pca=2, overwrite=True)
    assert remains(catalog) == ["collection.json", "model.json", "xyz-pca2-10deg-cog-uint8"]


def test_a_field_that_a_killed_replacement_left_behind_is_swept(catalog: Path) -> None:
    build(catalog)
    old = catalog / "xyz" / f".{ID}.old"
    old.mkdir()
    build(catalog)
    assert not old.exists()


def test_a_linked_folder_is_replaced_as_often_as_is_asked(catalog: Path, tmp_path: Path) -> None:
    folder = build(catalog).disk_path.parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        build(catalog, overwrite=True)
    assert not folder.is_symlink()
    assert (tmp_path / "elsewhere" / f"{ID}.tif").exists()


def test_an_unfinished_build_of_another_version_is_refused(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(catalog, monkeypatch)
    plan = catalog / "xyz" / f".{ID}.build" / "plan.json"
    plan.write_text(plan.read_text().replace('"embedfield": "', '"embedfield": "9.'))
    with pytest.raises(OutputExistsError, match=r"and its embedfield is '9\.0\.1\.0'; this build's is '0\.1\.0'"):
        build(catalog)


def test_ranges_are_measured_once(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(catalog, monkeypatch)
    monkeypatch.setattr("embedfield.plan.Packing.measure", raise_(AssertionError("measured again")))
    build(catalog)
    assert remains(catalog) == ["collection.json", "model.json", ID]


def test_after_a_failure_the_same_call_succeeds(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fail_after(patch, 1, RuntimeError("out of memory"))
        with pytest.raises(RuntimeError, match="out of memory"):
            build(catalog)
    build(catalog)
    assert entered(catalog) == [ID]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"model": "satclip-l4"}, UnknownModelError, "Did you mean 'satclip-l40'"),
        ({"model": "../xyz"}, UnknownModelError, "No model named"),
        ({"format": "png"}, FormatError, "Choose from: cog, zarr"),
        ({"dtype": "int8"}, PackingError, "Choose from: uint8, int16, float16, float32"),
        ({"res": 7}, GridError, "does not divide .* into whole pixels"),
        ({"res": 0}, GridError, "is no size of a pixel"),
        ({"res": -10}, GridError, "is no size of a pixel"),
        ({"res": float("nan")}, GridError, "is no size of a pixel"),
        ({"res": 400}, GridError, "does not divide .* into whole pixels"),
        ({"bounds": (-180, -100, 180, 90)}, GridError, "south=-100"),
        ({"bounds": (-180, 90, 180, -90)}, GridError, "rise from south to north"),
        ({"bounds": (-190, -90, 180, 90)}, GridError, "west=-190"),
        ({"bounds": (-180, -90, 370, 90)}, GridError, "east=370"),
        ({"bounds": (10, 0, 10, 10)}, GridError, "differ"),
        ({"device": "tpu9"}, DeviceError, "is no device"),
        ({"precision": "float16"}, DeviceError, "Choose from: float64, float32, tf32, bf16"),
        ({"weights": WEIGHTS}, WeightsError, "has no weights"),
        ({"model": "satclip-l40", "weights": Path("nowhere.ckpt")}, WeightsError, "No weights at"),
        ({"model": "satclip-l10", "weights": WEIGHTS}, WeightsError, "is not satclip-vit16-l10"),
        ({"model": "satclip-resnet18-l40", "weights": WEIGHTS}, WeightsError, "is not satclip-resnet18-l40"),
        ({"model": "satclip-resnet50-l40", "weights": WEIGHTS}, WeightsError, "is not satclip-resnet50-l40"),
        ({"model": "geoclip", "weights": WEIGHTS}, WeightsError, "is not a GeoCLIP checkpoint"),
        ({"model": "satclip-l40", "offline": True}, WeightsError, "--weights FILE"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_written(
    catalog: Path, kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    call: dict[str, Any] = {"model": "xyz", "res": 10, "device": "cpu"} | kwargs
    with pytest.raises(error, match=message) as caught:
        build_field(out=catalog, **call)
    assert len(str(caught.value).splitlines()) == 1
    assert not catalog.exists()


def test_an_alias_goes_to_the_canonical_name(catalog: Path) -> None:
    by_alias = build(catalog, "satclip-l40", weights=WEIGHTS)
    before = by_alias.disk_path.stat().st_mtime_ns
    assert by_alias.disk_path.parent == catalog / "satclip-vit16-l40" / "satclip-vit16-l40-10deg-cog-uint8"
    by_name = build(catalog, "satclip-vit16-l40", weights=WEIGHTS)
    assert by_name.disk_path == by_alias.disk_path
    assert by_name.disk_path.stat().st_mtime_ns == before


def test_a_checkpoint_of_ones_own_is_what_the_field_holds(catalog: Path) -> None:
    with build_field("satclip-l40", 10, weights=WEIGHTS, dtype="float32", device="cpu", out=catalog) as field:
        places = np.array([[8.54, 47.37], [-70.66, -33.45]])
        wanted = load("satclip-l40", WEIGHTS, "cpu").encode(np.floor(places / 10) * 10 + 5)
        np.testing.assert_allclose(field.at(places), wanted, rtol=0, atol=1e-6)
        assert field.dim == 32
        assert field.band_names[-1] == "satclip-vit16-l40_031"


def test_a_field_that_another_process_is_building_is_refused(catalog: Path) -> None:
    with holding(catalog / "xyz" / f".{ID}.lock"):
        with pytest.raises(BusyError, match=r"Another process is building .*Wait for it.*--out"):
            build(catalog)
        build(catalog, res=20)
    assert build(catalog).disk_path.exists()


def test_a_folder_without_a_plan_is_swept_away(catalog: Path) -> None:
    left = catalog / "xyz" / f".{ID}.build"
    (left / "field" / "deep").mkdir(parents=True)
    (left / "field" / f"{ID}.tif").write_text("half")
    (left / "plan.json.part").write_text('{"identity"')
    field = build(catalog)
    assert not left.exists()
    assert not (field.disk_path.parent / "deep").exists()


def raise_(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises."""

    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_field_that_was_not_entered_is_entered_by_the_next_run(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, *, overwrite: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("embedfield.build.add_to_catalog", raise_(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            build(catalog)
    raster = catalog / "xyz" / ID / f"{ID}.tif"
    before = raster.stat().st_mtime_ns
    build(catalog, overwrite=overwrite)
    assert (raster.parent / f"{ID}.json").exists()
    assert entered(catalog) == [ID]
    assert (raster.stat().st_mtime_ns == before) is not overwrite


@pytest.mark.parametrize("kwargs", [{}, {"format": "zarr"}, {"res": 1}, {"bounds": (170, -20, -170, 20)}])
def test_progress_rises_to_the_number_of_pixels(
    catalog: Path, kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedfield.formats.cog.BUDGET", 128 * 128 * 3)
    told = list[tuple[int, int]]()
    height, width = build(catalog, progress=lambda done, total: told.append((done, total)), **kwargs).grid.shape
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (height * width, height * width)
    assert {total for _, total in told} == {height * width}


def test_progress_of_a_resumed_build_begins_with_what_was_done(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedfield.formats.cog.BUDGET", 128 * 128 * 3)
    with monkeypatch.context() as patch:
        fail_after(patch, 5, RuntimeError("out of memory"))
        with pytest.raises(RuntimeError, match="out of memory"):
            build(catalog, res=1)
    told = list[tuple[int, int]]()
    build(catalog, res=1, progress=lambda done, total: told.append((done, total)))
    done = [done for done, _ in told]
    assert 128 * 128 <= done[0] < 360 * 180
    assert done == sorted(set(done))
    assert told[-1] == (360 * 180, 360 * 180)


def test_steps_are_told_as_they_begin(catalog: Path) -> None:
    steps = list[str]()
    build(catalog, step=steps.append, verify=True)
    assert steps == [
        "loading the model",
        "measuring the range of each band",
        "drawing the preview",
        "verifying: the encoder is asked at random places",
        "entering it into the catalogue",
    ]
    steps.clear()
    build(catalog, step=steps.append)
    assert steps == ["loading the model"]


@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_a_build_says_what_took_its_time_and_its_item_keeps_it(catalog: Path, form: str) -> None:
    news = list[str]()
    field = build(catalog, format=form, report=news.append)
    assert re.fullmatch(r"computing \S+ s, packing \S+ s, writing \S+ s(; limited by \w+)?", news[1])
    item = json.loads((field.disk_path.parent / f"{field.disk_path.parent.name}.json").read_text("utf-8"))
    kept = item["properties"]["emb:runtime_parameters"]["seconds"]
    assert list(kept) == ["total", "computing", "packing", "writing"]
    assert all(isinstance(spent, float) for spent in kept.values())


def test_a_relative_catalogue_is_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert build(Path("catalog")).disk_path == Path("catalog/xyz") / ID / f"{ID}.tif"
    build(Path("catalog"), res=20)
    assert entered(tmp_path / "catalog") == sorted([ID, "xyz-20deg-cog-uint8"])


def test_the_catalogue_may_be_named_in_words(catalog: Path) -> None:
    assert build_field("xyz", 30, out=str(catalog)).disk_path.is_relative_to(catalog)


@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_a_full_disk_is_one_line_and_the_build_goes_on_when_there_is_room(catalog: Path, form: str) -> None:
    words = f"'{sys.executable}' -m embedfield build --model xyz --res 0.5 --dtype float32 --format {form}"
    command = f"{words} --no-verify --out '{catalog}'"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 50; exec {command}"],  # noqa: S607
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.fullmatch(rf"embedfield: Cannot write {catalog}/xyz/\S+: .*Make room there.*same command.*", lines[-1])
    name = f"xyz-0.5deg-{form}-float32"
    assert remains(catalog) == [f".{name}.build"]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)  # noqa: S607
    assert done.returncode == 0
    assert "Going on with the build" in done.stderr
    assert remains(catalog) == ["collection.json", "model.json", name]


def test_a_catalogue_that_cannot_be_made_is_refused_in_words(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", raise_(PermissionError(13, "Permission denied")))
    with pytest.raises(StorageError, match="Cannot write .*: Permission denied.*--out"):
        build(catalog)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"type": "Feature"}'])
def test_a_damaged_collection_is_refused_before_anything_is_computed(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    build(catalog)
    (catalog / "xyz" / "collection.json").write_text(content)
    monkeypatch.setattr(Evaluator, "encode_lattice", raise_(AssertionError("it was computed")))
    with pytest.raises(FormatError, match=r"collection\.json is no STAC collection: .*remove it"):
        build(catalog, res=20)
    assert (catalog / "xyz" / "collection.json").read_text() == content
    assert remains(catalog) == ["collection.json", "model.json", ID]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_item_is_written_anew_by_the_next_run(catalog: Path, content: str) -> None:
    item = build(catalog).disk_path.with_suffix(".json")
    whole = json.loads(item.read_text())
    item.write_text(content)
    build(catalog)
    assert json.loads(item.read_text())["assets"] == whole["assets"]


def test_fields_of_one_model_with_other_inputs_are_not_the_same() -> None:
    card = Card(name="mine", title="", dim=1, code="a:B", homepage="")
    march, july = (ArrayField([[[0.0]]], card=replace(card, options={"month": month})) for month in (3, 7))
    assert identity(march) == identity(march)
    assert identity(march) != identity(july)


def test_an_old_field_that_a_killed_replacement_left_is_no_hindrance(catalog: Path) -> None:
    build(catalog)
    left = catalog / "xyz" / f".{ID}.old"
    left.mkdir()
    (left / "half").write_text("x")
    build(catalog, overwrite=True)
    assert remains(catalog) == ["collection.json", "model.json", ID]


def test_a_slip_in_the_resolution_is_refused_before_memory_is_gone(catalog: Path) -> None:
    with pytest.raises(
        GridError, match=r"res=1e-09 degrees makes 1,000,000,000 x 1,000,000,000 pixels, .* GB before compression"
    ):
        build_field("xyz", 1e-9, bounds=(0, 0, 1, 1), out=catalog)
    assert not catalog.exists()


def test_an_address_of_the_web_is_no_place_for_a_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match="https://example.org/catalog is on the web"):
        build_field("xyz", 30, out="https://example.org/catalog")
    assert list(tmp_path.iterdir()) == []
