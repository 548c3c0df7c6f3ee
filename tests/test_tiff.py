"""Tiff: the files that GDAL itself writes are the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from fields import ArrayField, bumpy
from numcodecs import zstd
from rio_cogeo.cogeo import cog_validate

from embedfield.formats import cog, tiff, write_field
from embedfield.formats.tiff import compressed
from embedfield.grid import Grid

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.packing import Dtype


def copied_by_gdal(path: Path, **options: Any) -> bytes:
    """Return a COG with its overviews as GDAL writes it anew."""
    with rasterio.open(path) as source:
        overviews = "FORCE_USE_EXISTING" if source.overviews(1) else "NONE"
        rasterio.shutil.copy(source, path.with_name("gdal.tif"), **{**tiff.OPTIONS, "OVERVIEWS": overviews, **options})
    return path.with_name("gdal.tif").read_bytes()


def told(path: Path) -> dict[str, Any]:
    """Return what GDAL tells of a file."""
    with rasterio.open(path) as source:
        spaces = {str(space): source.tags(ns=space) for space in (None, "IMAGE_STRUCTURE")}
        profile = {name: str(value) for name, value in source.profile.items()}  # NaN is not NaN
        return {"profile": profile, "bands": source.descriptions, "overviews": source.overviews(1), **spaces}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(1, 100, 100), (3, 300, 257), (2, 13, 300), (3, 128, 128)])
def test_without_compression_it_is_the_file_that_gdal_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], dtype: Dtype
) -> None:
    # Of whole numbers GDAL would shorten the table of sizes, which it knows beforehand.
    monkeypatch.setattr(tiff, "OPTIONS", {**tiff.OPTIONS, "COMPRESS": "NONE", "PREDICTOR": "NO"})
    monkeypatch.setattr(tiff, "_predicted", blocks_of)
    monkeypatch.setattr(zstd, "compress", lambda block, _: block.tobytes())
    path = write_field(ArrayField(bumpy(*shape)), tmp_path / "field.tif", dtype=dtype).disk_path
    own, other = path.read_bytes(), copied_by_gdal(path)
    assert len(own) == len(other)
    start, tags = tiff._directory(own)
    assert tiff._directory(other) == (start, tags)
    end = 6 + 12 * len(tags) + len(start)
    # GDAL orders the values of the first directory as they were set.
    names = [number for number, tag in tags.items() if len(tag.data) > 4 and number not in tiff.TABLES]
    end += sum(len(tags[number].data) + len(tags[number].data) % 2 for number in names)
    assert own[end:] == other[end:]


def blocks_of(codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return blocks of some bands as they are, filled up with zeros."""
    bands, height, width = codes.shape
    whole = np.zeros((bands, 128, 128), dtype=codes.dtype)
    whole[:, :height, :width] = codes
    return whole.reshape(bands, -1)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32"])
def test_gdal_tells_of_it_what_it_tells_of_its_own(tmp_path: Path, dtype: Dtype) -> None:
    path = write_field(ArrayField(bumpy(3, 300, 257)), tmp_path / "field.tif", dtype=dtype).disk_path
    copied_by_gdal(path)
    assert told(path) == told(tmp_path / "gdal.tif")
    for level in (None, 0, 1):
        options = {} if level is None else {"overview_level": level}
        with rasterio.open(path, **options) as own, rasterio.open(tmp_path / "gdal.tif", **options) as other:
            np.testing.assert_array_equal(own.read(), other.read())


def test_the_predictor_of_whole_numbers_leaves_steps_along_a_row() -> None:
    codes = np.array([[[5, 7, 4], [1, 1, 250]]], dtype=np.uint8)
    rows = tiff._predicted(codes).reshape(128, 128)
    assert rows[:2, :5].tolist() == [[5, 2, 253, 252, 0], [1, 0, 249, 6, 0]]
    assert not rows[2:].any()


def test_the_predictor_of_floats_has_the_bytes_of_a_row_by_weight() -> None:
    # 1 is 3F800000, 2 is 40000000.
    rows = tiff._predicted(np.array([[[1, 2]]], dtype=np.float32)).reshape(128, 512)
    assert rows[0, :3].tolist() == [0x3F, 0x01, 0xC0]
    assert rows[0, 128:131].tolist() == [0x80, 0x80, 0]
    assert not rows[0, 131:].any()


def test_blocks_stand_between_their_size_and_their_last_bytes() -> None:
    codes = np.random.default_rng(1).integers(1, 9, (11, 128, 128)).astype(np.uint8)
    data, sizes = compressed(codes)
    for band, size in enumerate(sizes):
        assert int.from_bytes(data[:4], "little") == size
        block, data = data[4 : 4 + size], data[4 + size :]
        assert data[:4] == block[-4:]
        data = data[4:]
        steps = np.frombuffer(zstd.decompress(block), dtype=np.uint8).reshape(128, 128)
        np.testing.assert_array_equal(np.add.accumulate(steps, axis=1, dtype=np.uint8), codes[band])
    assert data == b""


@pytest.mark.parametrize("width", [65_535, 65_536, 140_001])
def test_a_raster_may_be_wider_than_sixteen_bits_tell(tmp_path: Path, width: int) -> None:
    grid = Grid(west=0.0, north=1.0, res=0.001, width=width, height=1)
    values = np.random.default_rng(1).uniform(size=(1, 1, width))
    path = write_field(ArrayField(values, grid), tmp_path / "field.tif").disk_path
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as whole, rasterio.open(path, overview_level=0) as half:
        assert whole.shape == (1, width)
        assert half.shape == (1, -(-width // 2))
        assert whole.read().min() >= 1


def test_the_bits_of_a_value_are_those_in_the_file(tmp_path: Path) -> None:
    field = ArrayField(bumpy(3, 200, 300))
    with write_field(field, tmp_path / "field.tif") as stored:
        codes = stored.packing.pack(field.values)[0]
        told = cog.bits_per_value(codes, stored.packing)
    with rasterio.open(tmp_path / "field.tif") as dataset:
        names = [f"BLOCK_SIZE_{col}_{row}" for row in (0, 1) for col in (0, 1, 2)]
        sizes = [int(dataset.get_tag_item(name, "TIFF", bidx=band)) for band in (1, 2, 3) for name in names]
    assert told == 8 * sum(sizes) / codes.size
