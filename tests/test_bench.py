"""The bench's machinery, on figures that take no time."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import random_weights
import rasterio
import torch
from fields import ArrayField
from rasterio.transform import from_origin

from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def bench() -> Any:
    """Return the script as a module."""
    return importlib.import_module("bench")


@pytest.fixture
def fakes(bench: Any) -> dict[str, Callable[[Path], list[Any]]]:
    """Return two benches that measure nothing."""

    def good(folder: Path) -> list[Any]:
        assert folder.is_dir()
        return [bench.Figure("size", 1.5, 2.0, "bits", note="a note")]

    def bad(_: Path) -> list[Any]:
        return [bench.Figure("speed", 100.0, 200.0, "MB/s", at_most=False), bench.Figure("loss", 1e-4, 5e-5, "")]

    return {"good": good, "bad": bad}


def test_figures_are_printed_and_written(
    bench: Any, fakes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.main(["--json", str(tmp_path / "new" / "figures.json")], fakes)
    found = json.loads((tmp_path / "new" / "figures.json").read_text())
    assert [(figure["name"], figure["measured"], figure["ok"]) for figure in found["figures"]] == [
        ("size", 1.5, True),
        ("speed", 100.0, False),
        ("loss", 1e-4, False),
    ]
    assert found["figures"][0]["note"] == "a note"
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["rasterio"] == rasterio.__version__
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:5]] for line in out.splitlines() if line.startswith("│")]
    assert rows == [
        ["size", "≤ 2 bits", "1.5 bits", "yes"],
        ["speed", "≥ 200 MB/s", "100 MB/s", "no"],
        ["loss", "≤ 5e-05", "0.0001", "no"],
    ]


def test_one_bench_can_be_run_alone(bench: Any, fakes: dict[str, Any], tmp_path: Path) -> None:
    bench.main(["--only", "good", "--json", str(tmp_path / "figures.json")], fakes)
    assert len(json.loads((tmp_path / "figures.json").read_text())["figures"]) == 1


def test_an_unknown_bench_is_refused(
    bench: Any, fakes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--only", "bda", "--json", str(tmp_path / "figures.json")], fakes)
    assert "good" in capsys.readouterr().err
    assert not (tmp_path / "figures.json").exists()


def test_bits_are_those_of_the_blocks_of_the_file(bench: Any, tmp_path: Path) -> None:
    # Not compressed, and of whole blocks: each number takes its own 8 or 16 bits.
    for dtype, bits in (("uint8", 8), ("int16", 16)):
        path = tmp_path / f"{dtype}.tif"
        values = np.random.default_rng(1).integers(0, 100, (3, 256, 512)).astype(dtype)
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=256, width=512, dtype=dtype, tiled=True, blockxsize=128,
            blockysize=128, interleave="band", crs="EPSG:4326", transform=from_origin(0, 1, 0.1, 0.1),
        ) as dataset:  # fmt: skip
            dataset.write(values)
        assert bench.bits_of(path) == bits


def test_the_cosine_loss_is_a_mean_over_pixels(bench: Any) -> None:
    one = np.ones((2, 300, 4), dtype=np.float32)
    other = one.copy()
    # A quarter of the pixels is turned by 45 degrees; length does not count.
    other[:, :, 1] = np.array([[3], [0]])
    assert bench.cosine_loss(ArrayField(one), ArrayField(one)) == pytest.approx(0, abs=1e-15)
    assert bench.cosine_loss(ArrayField(one), ArrayField(other)) == pytest.approx((1 - 0.5**0.5) / 4)


def test_a_window_of_the_waves_is_that_part_of_them(bench: Any) -> None:
    waves = bench.Waves(300)
    held = bench.Held(waves)
    window = Window(17, 200, 30, 40)
    np.testing.assert_array_equal(waves.read(window), held.values[:, window.rows, window.cols])
    np.testing.assert_array_equal(held.read(window), waves.read(window))
    assert 0.5 < abs(held.values).max() <= 1


def test_memory_is_measured_in_a_process_of_its_own(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the process that is started looks for the script.
    monkeypatch.setenv("PYTHONPATH", str(Path(bench.__file__).parent))
    assert bench.apart(os.getpid) != os.getpid()
    held = np.ones(2**26)
    peak = bench.apart(bench.peak_of_writing, 64, str(tmp_path / "field.tif"))
    assert (tmp_path / "field.tif").exists()
    # Python with what the script imports, and a field of a few megabytes; nothing of what this process holds.
    assert 50e6 < peak < bench.peak_memory() - held.nbytes / 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_figures_are_refused(bench: Any) -> None:
    with pytest.raises(SystemExit, match="torch sees no NVIDIA GPU here. Without one: make bench"):
        bench.main(["--gpu"])


def test_a_bench_that_is_not_there_is_refused(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--only", "sorcery"])
    assert "--only sorcery: choose from satclip" in capsys.readouterr().err


def test_random_encoders_are_of_real_size(tmp_path: Path) -> None:
    for name in ("satclip-l40", "csp", "sinr", "climplicit"):
        make, macs = random_weights.ENCODERS[name]
        encoder: Any = make(tmp_path)._encoder
        lattice = encoder.lattice(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
        (folded,) = lattice.folded
        first = encoder.network.first_layer()
        layers = [layer for layer in encoder.network.modules() if hasattr(layer, "in_features") and layer is not first]
        assert macs == pytest.approx(folded[0].numel() + sum(layer.weight.numel() for layer in layers), rel=0.005)
