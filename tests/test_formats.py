"""What opens as a field, what is refused, and what survives a round trip."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from fields import ArrayField, bumpy, listing
from rasterio.transform import from_origin

from embedfield.card import Card, HubWeights
from embedfield.errors import FormatError, OutputExistsError, PackingError
from embedfield.field import Field
from embedfield.formats import cog, open_field, packing, write_field
from embedfield.formats.stored import HEADER_VERSION, packing_of
from embedfield.models import built_in, card
from embedfield.reduce import ReducedField, Reduction

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.packing import Dtype
    from embedfield.window import Window

every_suffix = pytest.mark.parametrize("suffix", [".tif", ".zarr"])
# What a file of somebody else, of a later time or of a bad disk may have where the header should be.
BAD_HEADERS: dict[str, tuple[Any, str]] = {
    "newer": ({"version": HEADER_VERSION + 1}, rf"header version {HEADER_VERSION + 1}; .* reads {HEADER_VERSION}\. Up"),
    "empty": ({}, "header that cannot be read"),
    "no card": ({"version": HEADER_VERSION}, "header that cannot be read"),
    "unknown card": ({"version": HEADER_VERSION, "card": {"colour": "red"}}, r"cannot be read: .*colour"),
    "card alone": ({"version": HEADER_VERSION, "card": card("xyz").to_dict()}, r"header.*provenance"),
    "version of words": ({"version": "two"}, "header"),
    "version true": ({"version": True}, "header"),
    "list": ([1, 2], "."),
    "text": ("text", "."),
}

# The same of a header that is else whole.
BAD_ENTRIES: dict[str, dict[str, Any]] = {
    "card in a list": {"card": []},
    "provenance in a list": {"provenance": [1]},
    "no provenance": {"provenance": None},
    "saturated in words": {"saturated": "x"},
    "saturated nothing": {"saturated": None},
    "dtype of a number": {"dtype": 8},
    "crs of a number": {"crs": 4326},
    "crs in a list": {"crs": []},
    "reduction in words": {"reduction": "x"},
    "empty reduction": {"reduction": {}},
    "no digest": {"reduction": {"components": 2, "explained": [0.5, 0.1]}},
    "no shares": {"reduction": {"components": 2, "sha256": "0"}},
    "shares in words": {"reduction": {"components": 2, "sha256": "0", "explained": "abc"}},
    "a share in words": {"reduction": {"components": 2, "sha256": "0", "explained": ["a"]}},
    "half a component": {"reduction": {"components": 2.0, "sha256": "0", "explained": [0.5, 0.1]}},
}


@pytest.fixture
def values() -> npt.NDArray[np.float32]:
    """Return a small field's values."""
    return bumpy(2, 40, 50)


def plain_tiff(path: Path, **tags: str) -> Path:
    """Write what rasterio writes, and nothing of ours but tags."""
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "width": 5, "height": 4, "crs": "EPSG:4326"}
    with rasterio.open(path, "w", transform=from_origin(0, 4, 1, 1), **profile) as dataset:
        dataset.write(np.ones((3, 4, 5), dtype=np.uint8))
        dataset.update_tags(**tags)
    return path


@every_suffix
def test_a_path_or_its_text_or_its_folder_opens_the_field(
    tmp_path: Path, values: npt.NDArray[np.float32], suffix: str
) -> None:
    # Folders are named after resolutions: 0.25 is no suffix.
    folder = tmp_path / "array-0.25"
    folder.mkdir()
    written = write_field(ArrayField(values), folder / f"field{suffix}")
    (folder / "preview.png").write_bytes(b"")
    for path in (written.disk_path, str(written.disk_path), folder, str(folder)):
        with open_field(path) as field:
            assert field.disk_path == folder / f"field{suffix}"
            assert field.format == {".tif": "cog", ".zarr": "zarr"}[suffix]
            np.testing.assert_array_equal(field.read(), written.read())


def test_the_folder_of_a_tile_set_opens_its_vrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128)
    written = write_field(ArrayField(bumpy(1, 140, 150)), tmp_path / "field.tif")
    assert open_field(tmp_path).disk_path == written.disk_path == tmp_path / "field.vrt"


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("field.tif", "field.zarr", "folder"):
        with pytest.raises(FormatError, match=rf"{name} does not exist\. Give a \.tif, \.vrt or \.zarr"):
            open_field(tmp_path / name)


def test_an_unknown_suffix_is_refused_and_the_known_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "field.npy").write_bytes(b"")
    with pytest.raises(FormatError, match=r"field\.npy is of no format known here.*\.zarr, \.vrt, \.tif, \.tiff"):
        open_field(tmp_path / "field.npy")


def test_a_folder_without_a_raster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "preview.png").write_bytes(b"")
    with pytest.raises(FormatError, match=r"holds no field. A field's folder has"):
        open_field(tmp_path)


def test_a_geotiff_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"other\.tif is no field of embedfield: .*embedfield build"):
        open_field(plain_tiff(tmp_path / "other.tif", TITLE="another"))


def test_a_group_of_somebody_else_is_refused(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "other.zarr", mode="w").create_array("embedding", shape=(3,), dtype="uint8")
    with pytest.raises(FormatError, match=r"other\.zarr is no field of embedfield: .*embedfield build"):
        open_field(tmp_path / "other.zarr")


@pytest.mark.parametrize("kind", ["empty folder", "file", "array", "version 2", "folder.tif"])
def test_what_only_has_the_name_of_a_format_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("field.tif" if kind == "folder.tif" else "field.zarr")
    if kind == "file":
        path.write_text("not a group")
    elif kind == "array":
        zarr.create_array(path, shape=(3,), dtype="uint8")
    elif kind == "version 2":
        zarr.open_group(path, mode="w", zarr_format=2)
    else:
        path.mkdir()
    with pytest.raises(FormatError, match=rf"{path.name} cannot be opened.*not a whole one"):
        open_field(path)


@every_suffix
@pytest.mark.parametrize(("header", "message"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_header_that_cannot_be_understood_is_refused(tmp_path: Path, suffix: str, header: Any, message: str) -> None:
    path = tmp_path / f"field{suffix}"
    if suffix == ".zarr":
        zarr.open_group(path, mode="w").attrs["embedfield"] = header
    else:
        plain_tiff(path, EMBEDFIELD=json.dumps(header))
    with pytest.raises(FormatError, match=message) as caught:
        open_field(path)
    # Who opens many files must know which one it was.
    assert path.name in str(caught.value)


@every_suffix
@pytest.mark.parametrize("entries", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_a_header_with_an_entry_of_another_type_is_refused(
    tmp_path: Path, values: npt.NDArray[np.float32], suffix: str, entries: dict[str, Any]
) -> None:
    path = write_field(ArrayField(values), tmp_path / f"field{suffix}").disk_path
    if suffix == ".zarr":
        group = zarr.open_group(path, mode="r+")
        attributes: dict[str, Any] = dict(group.attrs)
        group.attrs["embedfield"] = attributes["embedfield"] | entries
    else:
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
            header = json.loads(dataset.tags()["EMBEDFIELD"])
            dataset.update_tags(EMBEDFIELD=json.dumps(header | entries))
    with pytest.raises(FormatError, match=rf"field{suffix} has a header that cannot be read: .* Build the field again"):
        open_field(path)


@pytest.mark.parametrize(
    ("scale", "offset"),
    [([1, 0], [0, 0]), ([1, -1], [0, 0]), ([1, np.nan], [0, 0]), ([1, 1], [0, np.inf]), ([1, 1], [0])],
)
def test_numbers_that_are_no_packing_are_refused(tmp_path: Path, scale: list[float], offset: list[float]) -> None:
    with pytest.raises(FormatError, match=r"field\.tif has lost how its numbers are packed\. Build it again"):
        packing_of(tmp_path / "field.tif", "uint8", scale, offset)


def test_a_header_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"field\.tif"):
        open_field(plain_tiff(tmp_path / "field.tif", EMBEDFIELD='{"version": 1, "card'))


@pytest.mark.parametrize("part", [0.0, 0.0005, 0.3, 0.999])
def test_a_truncated_tiff_is_refused_when_it_is_opened_or_read(tmp_path: Path, part: float) -> None:
    whole = write_field(ArrayField(bumpy(2, 300, 300)), tmp_path / "whole.tif").disk_path.read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(FormatError, match=r"cut\.tif cannot be (opened|read)"):
        open_field(tmp_path / "cut.tif").read()


def test_a_tile_that_is_missing_is_no_nodata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128)
    path = write_field(ArrayField(bumpy(1, 140, 150)), tmp_path / "field.tif").disk_path
    (tmp_path / "field.tiles" / "r000000c000128.tif").unlink()
    with pytest.raises(FormatError, match=r"field\.vrt cannot be (opened|read)"):
        open_field(path).read()


def test_a_truncated_shard_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write_field(ArrayField(bumpy(2, 40, 50)), tmp_path / "field.zarr").disk_path
    (shard,) = [found for found in (path / "embedding" / "c").rglob("*") if found.is_file()]
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(FormatError, match=r"field\.zarr cannot be (opened|read)"):
        open_field(path).read()


def test_a_group_with_damaged_metadata_is_refused(tmp_path: Path) -> None:
    path = write_field(ArrayField(bumpy(2, 40, 50)), tmp_path / "field.zarr").disk_path
    (path / "zarr.json").write_text((path / "zarr.json").read_text()[:200])
    with pytest.raises(FormatError, match=r"field\.zarr cannot be opened.*not a whole one"):
        open_field(path)


def test_a_dtype_of_a_later_embedfield_is_refused(tmp_path: Path) -> None:
    header = {"version": HEADER_VERSION, "card": card("xyz").to_dict(), "provenance": {}, "saturated": 0}
    path = tmp_path / "field.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="int32", count=3, width=5, height=4, crs="EPSG:4326",
        transform=from_origin(0, 4, 1, 1),
    ) as dataset:  # fmt: skip
        dataset.update_tags(EMBEDFIELD=json.dumps(header))
    with pytest.raises(FormatError, match=r"stores int32; this embedfield reads uint8, int16, float16, float32"):
        open_field(path)


@pytest.mark.parametrize("name", ["field.vrt", "field.nc", "field", "field.TIF"])
def test_a_format_that_cannot_be_written_is_refused(tmp_path: Path, values: npt.NDArray[np.float32], name: str) -> None:
    with pytest.raises(FormatError, match=r"is the suffix of no format that can be written.*\.tif or \.tiff or \.zarr"):
        write_field(ArrayField(values), tmp_path / name)
    assert listing(tmp_path) == []


@every_suffix
def test_what_exists_is_refused_before_anything_is_computed(tmp_path: Path, suffix: str) -> None:
    class Untouched(ArrayField):
        def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
            raise AssertionError(f"{window} is computed in vain")

    path = tmp_path / f"field{suffix}"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match=rf"field{suffix} exists. Remove it, or write elsewhere"):
        write_field(Untouched(np.zeros((1, 2, 2))), path)
    assert path.read_text() == "mine"


@every_suffix
def test_the_way_back_of_another_field_is_not_overwritten(
    tmp_path: Path, values: npt.NDArray[np.float32], suffix: str
) -> None:
    first, second = (ReducedField(field, Reduction.measure(field, 1)) for field in map(ArrayField, (values, values**2)))
    with write_field(first, tmp_path / "first.tif") as stored:
        there = listing(tmp_path)
        with pytest.raises(OutputExistsError, match=r"reduction\.safetensors exists: .*Write into another folder"):
            write_field(second, tmp_path / f"second{suffix}")
        assert listing(tmp_path) == there == ["first.tif", "reduction.safetensors"]
        assert stored.reduction
        np.testing.assert_array_equal(stored.reduction.mean, first.reduction.mean)
        # Beside it whole vectors need none.
        write_field(ArrayField(values), tmp_path / f"whole{suffix}").close()


@every_suffix
@pytest.mark.parametrize("stem", ["a[1]", "[!a]", "a.b c#1"])
def test_a_name_may_have_any_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, stem: str) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128)
    values = bumpy(1, 140, 150)
    with write_field(ArrayField(values), tmp_path / f"{stem}{suffix}", dtype="float32") as field:
        np.testing.assert_array_equal(field.read(), values)
    left = {".tif": {f"{stem}.vrt", f"{stem}.tiles"}, ".zarr": {f"{stem}.zarr"}}[suffix]
    assert {path.name for path in tmp_path.iterdir()} == left


@every_suffix
def test_a_folder_that_is_not_there_is_made(tmp_path: Path, values: npt.NDArray[np.float32], suffix: str) -> None:
    with write_field(ArrayField(values), tmp_path / "new" / "folder" / f"field{suffix}", dtype="float32") as field:
        np.testing.assert_array_equal(field.read(), values)


def test_two_formats_of_one_field_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128)
    field = ArrayField(bumpy(1, 140, 150))
    with write_field(field, tmp_path / "field.tif") as tiles, write_field(field, tmp_path / "field.zarr") as group:
        np.testing.assert_array_equal(tiles.read(), group.read())


@every_suffix
def test_a_field_without_a_value_writes_nothing(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PackingError, match="no value anywhere"):
        write_field(ArrayField(np.full((2, 3, 4), np.nan)), tmp_path / f"field{suffix}")
    assert listing(tmp_path) == []


@every_suffix
@pytest.mark.parametrize("model", built_in(), ids=lambda model: model.name)
def test_every_card_comes_back_as_it_was(tmp_path: Path, model: Card, suffix: str) -> None:
    # JSON knows no tuples; a card does.
    field = ArrayField(np.ones((model.dim, 1, 1)), card=model)
    with write_field(field, tmp_path / f"field{suffix}") as found:
        assert found.card == model
        assert found.dim == model.dim


@every_suffix
def test_a_card_and_provenance_of_odd_text_come_back(
    tmp_path: Path, values: npt.NDArray[np.float32], suffix: str
) -> None:
    model = Card(
        name="odd-1",
        title='Éire & <b>"München"</b>\n  東京 \\ 100 % ]]>',
        dim=2,
        code="none:None",
        options={"nested": {"list": [1, 2.5, None, True]}},
        weights=HubWeights(file="a.ckpt", repo="a/b", licence="CC-BY-4.0", sha256="0" * 64, size_bytes=2**40),
        detail=0.1,
        latitudes=(-85.0, 85.0),
        homepage="https://example.org/?a=1&b=<2>",
    )
    provenance = {"weights_sha256": None, "precision": "float64", "runs": [{"seconds": 1e-7}], "note": "a & b < c"}
    with write_field(ArrayField(values, card=model, provenance=provenance), tmp_path / f"field{suffix}") as field:
        assert field.card == model
        assert field.provenance == provenance
        assert field.band_names == ["odd-1_000", "odd-1_001"]


@pytest.mark.parametrize("kind", ["one file", "tiles", "zarr"])
def test_saturated_values_are_counted_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128 * 2 if kind == "tiles" else 2**29)

    class Sampled(ArrayField):
        def at(self, lonlat: npt.ArrayLike, *_: object) -> npt.NDArray[np.float32]:
            """Know nothing of the spikes."""
            return np.random.default_rng(1).uniform(size=(len(np.asarray(lonlat)), 2)).astype(np.float32)

    values = np.full((2, 300, 257), 0.5)
    spikes = [(0, 0, 0), (0, 127, 127), (0, 128, 128), (1, 299, 256), (1, 50, 256), (1, 299, 3), (1, 256, 255)]
    for spike in spikes:
        values[spike] = 100
    path = tmp_path / ("field.zarr" if kind == "zarr" else "field.tif")
    with write_field(Sampled(values), path) as field:
        assert field.saturated == len(spikes)
        assert open_field(field.disk_path).saturated == len(spikes)


@pytest.mark.parametrize("kind", ["one file", "tiles", "zarr"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_progress_tells_every_pixel_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, dtype: Dtype
) -> None:
    monkeypatch.setattr(cog, "BUDGET", 128 * 128 if kind == "tiles" else 2**29)
    monkeypatch.setattr(packing, "STRIP", 4 * 257 * 20)
    told: list[int] = []
    path = tmp_path / ("field.zarr" if kind == "zarr" else "field.tif")
    write_field(ArrayField(bumpy(1, 300, 257)), path, dtype=dtype, progress=told.append).close()
    assert sum(told) == 300 * 257
    assert len(told) >= 4


@every_suffix
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_stored_field_can_be_written_again_without_loss(
    tmp_path: Path, values: npt.NDArray[np.float32], suffix: str, dtype: Dtype
) -> None:
    other = {".tif": ".zarr", ".zarr": ".tif"}[suffix]
    with write_field(ArrayField(values), tmp_path / f"first{suffix}", dtype=dtype) as first:
        assert isinstance(first, Field)
        with write_field(first, tmp_path / f"second{other}", dtype="float32") as second:
            np.testing.assert_array_equal(second.read(), first.read())


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_both_formats_hold_the_same_values(tmp_path: Path, dtype: Dtype) -> None:
    field = ArrayField(bumpy(3, 300, 257))
    with (
        write_field(field, tmp_path / "a.tif", dtype=dtype) as cog_field,
        write_field(field, tmp_path / "b.zarr", dtype=dtype) as zarr_field,
    ):
        np.testing.assert_array_equal(cog_field.read(), zarr_field.read())
        assert (cog_field.grid, cog_field.card, cog_field.saturated) == (
            zarr_field.grid,
            zarr_field.card,
            zarr_field.saturated,
        )


@pytest.mark.parametrize("kind", ["one file", "tiles", "zarr"])
def test_a_field_opened_by_a_relative_path_outlives_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: npt.NDArray[np.float32], kind: str
) -> None:
    if kind == "tiles":
        monkeypatch.setattr(cog, "BUDGET", 128 * 128)
        values = bumpy(1, 140, 150)
    monkeypatch.chdir(tmp_path)
    field = write_field(ArrayField(values), "field.zarr" if kind == "zarr" else "field.tif", dtype="float32")
    sent = pickle.dumps(field)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    np.testing.assert_array_equal(field.read(), values)
    np.testing.assert_array_equal(pickle.loads(sent).read(), values)  # noqa: S301
    with ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(pool.submit(field.read).result(), values)
    assert str(field.disk_path).startswith("field.")


def copied(path: Path, **changes: Any) -> Path:
    """Return a copy of a COG as another program makes it: the header goes along."""
    with rasterio.open(path) as source:
        copy = path.with_name("copy.tif")
        with rasterio.open(
            copy, "w", **{**source.profile, "driver": "GTiff", "interleave": "band", **changes}
        ) as target:
            target.write(source.read()[: target.count])
            target.update_tags(**source.tags())
    return copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crs": "EPSG:3857"}, r"EPSG:3857, 0\.1 by -0\.1\) are not squares in EPSG:4326"),
        ({"crs": None}, "no CRS"),
        ({"transform": Affine(0.2, 0, -10, 0, -0.1, 50)}, r"0\.2 by -0\.1\) are not squares"),
        ({"transform": Affine(0.1, 0, -10, 0, 0.1, 50)}, "north up"),
        ({"transform": Affine(0.1, 0.01, -10, 0, -0.1, 50)}, "not squares"),
        ({"count": 1}, "1 bands, and its model has 2"),
    ],
)
def test_a_copy_that_is_reprojected_stretched_or_of_fewer_bands_is_refused(
    tmp_path: Path, values: npt.NDArray[np.float32], changes: dict[str, Any], message: str
) -> None:
    path = write_field(ArrayField(values), tmp_path / "field.tif").disk_path
    with pytest.raises(FormatError, match=rf"copy\.tif is no field any more: .*{message}"):
        open_field(copied(path, **changes))


def test_a_part_that_another_program_cut_out_is_a_field(tmp_path: Path, values: npt.NDArray[np.float32]) -> None:
    path = write_field(ArrayField(values), tmp_path / "field.tif").disk_path
    with rasterio.open(path) as source:
        scales, offsets = source.scales, source.offsets
    part = copied(path, transform=Affine(0.1, 0, 20, 0, -0.1, 5))
    with rasterio.open(part, "r+") as dataset:
        dataset.scales, dataset.offsets = scales, offsets
    with open_field(path) as whole, open_field(part) as found:
        np.testing.assert_array_equal(found.read(), whole.read())
        assert found.grid.bounds == (20.0, 1.0, 25.0, 5.0)
