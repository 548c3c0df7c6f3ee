"""Shards: the files that zarr-python itself writes are the truth."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from fields import ArrayField, bumpy, listing

from embedfield.formats import geozarr, packing, shards, write_field
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import Packing
from embedfield.formats.shards import Chunking, crc32c, interleaved

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.formats.geozarr import Layout
    from embedfield.formats.packing import Dtype
    from embedfield.window import Window

SHAPES = [(1, 1), (32, 33), (256, 256), (300, 100), (321, 530)]


@pytest.mark.parametrize("layout", ["sharded", "flat"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_files_are_those_of_zarr_python(tmp_path: Path, shape: tuple[int, int], dtype: Dtype, layout: Layout) -> None:
    values = np.random.default_rng(1).uniform(size=(2, *shape)).astype(np.float32)
    values[:, 1:4, 2:9] = np.nan
    path = write_field(ArrayField(values), tmp_path / "field.zarr", dtype=dtype, layout=layout).disk_path
    array = zarr.open_array(path / "embedding", mode="r")
    codes = np.asarray(array[:])
    other = zarr.create_array(
        tmp_path / "other.zarr", shape=array.shape, dtype=array.dtype, chunks=array.chunks, shards=array.shards,
        compressors=array.compressors, fill_value=array.fill_value, config={"write_empty_chunks": True},
    )  # fmt: skip
    # A shard at a time, as a whole array would be written in pieces of another size.
    for row in range(0, shape[0], 256):
        for col in range(0, shape[1], 256):
            other[:, row : row + 256, col : col + 256] = codes[:, row : row + 256, col : col + 256]
    own, theirs = path / "embedding" / "c", tmp_path / "other.zarr" / "c"
    assert listing(own) == listing(theirs)
    for name in listing(own):
        if (own / name).is_file():
            assert (own / name).read_bytes() == (theirs / name).read_bytes()


def test_a_checksum_is_that_of_the_standard() -> None:
    # RFC 3720, B.4, and the check value of CRC-32C.
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"") == 0


def test_places_follow_a_curve_that_fills_square_after_square() -> None:
    order = sorted(((row, col) for row in range(4) for col in range(4)), key=lambda place: interleaved(*place))
    assert order[:8] == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0), (2, 1), (3, 1)]
    assert [interleaved(*place) for place in order] == list(range(16))


def test_a_shard_of_a_small_level_is_no_larger_than_its_chunks() -> None:
    chunking = Chunking(256, 32, sharded=True)
    assert chunking.shard((300, 100)) == (256, 128)
    assert chunking.shard((1, 33)) == (32, 64)


@pytest.mark.parametrize(
    ("size", "across"), [(2**25, 1), (2**30, 1), (2**24, 2), (2**24 - 1, 2), (2**22, 8), (2**22 + 1, 4)]
)
def test_shards_side_by_side_are_as_many_as_memory_allows(size: int, across: int) -> None:
    assert shards.shards_across(size) == across


class Traced(ArrayField):
    """A field whose values depend on the window, as those of an encoder do in their last digits."""

    def __init__(self, values: npt.ArrayLike) -> None:
        super().__init__(values)
        self.windows: list[Window] = []

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        window = window or self.grid.window
        self.windows.append(window)
        return super().read(window) + np.float32(window.width + 7 * window.height) / 10


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have shards of 64 pixels a side, two of them computed together, in strips of 20 rows or so."""
    monkeypatch.setattr(geozarr, "SHARD", 64)
    monkeypatch.setattr(shards, "ROW", 2 * 64 * 64)
    monkeypatch.setattr(packing, "STRIP", 4 * 128 * 20)


def written(folder: Path) -> tuple[list[Window], int]:
    """Write what is missing of a field; return the windows that were computed, and how many pixels were told."""
    field, told = Traced(bumpy(1, 200, 330)), list[int]()
    rule = Packing.fit(np.array([-10.0]), np.array([120.0]), "uint8")
    geozarr.write_zarr(Work(field, rule, Journal(folder / "journal"), told.append), folder / "field.zarr")
    return field.windows, sum(told)


@pytest.mark.usefixtures("small")
def test_shards_are_computed_in_wide_strips_and_each_pixel_once(tmp_path: Path) -> None:
    windows, told = written(tmp_path)
    counts = np.zeros((200, 330), dtype=int)
    for window in windows:
        counts[window.rows, window.cols] += 1
    assert counts.min() == counts.max() == 1
    assert {window.width for window in windows} == {128, 330 - 256}
    assert told == 200 * 330


@pytest.mark.usefixtures("small")
def test_a_shard_that_was_lost_is_computed_in_the_window_it_had(tmp_path: Path) -> None:
    written(tmp_path)
    files = [path for path in (tmp_path / "field.zarr").rglob("c/0/*/*") if path.is_file()]
    whole = {path: path.read_bytes() for path in files if "embedding" in path.parts}
    assert len(whole) == 24 + 6 + 2 + 1
    for lost in np.array_split(np.random.default_rng(1).permutation(sorted(whole)), 6):
        for path in lost:
            path.unlink()
        windows, told = written(tmp_path)
        assert len(windows) < 12 * 4  # as many as are of all shards
        assert {path: path.read_bytes() for path in whole} == whole
        assert told == 200 * 330


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("good", [0, 3, 20])
def test_a_full_disk_is_told_at_once_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    write, written = Path.write_bytes, list[Path]()

    def filling(path: Path, data: Any) -> int:
        if "embedding/c" in path.as_posix():
            written.append(path)
            if len(written) > good:
                write(path, bytes(data)[:10])
                raise OSError("no space left")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", filling)
    with pytest.raises(OSError, match="no space left"):
        write_field(ArrayField(bumpy(1, 200, 330)), tmp_path / "field.zarr")
    assert written
    assert listing(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embedfield")]
