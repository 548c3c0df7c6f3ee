"""The air temperature pipeline, on stations that are made up and models without weights."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import spatial_folds
from PIL import Image

from embedfield.errors import PlacesError
from embedfield.formats import write_field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embedfield.evaluate import EncodedField


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Any]:
    """Return the script as a module; without repeats, which take time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spatial_folds, "REPEATS", 1)
        yield importlib.import_module("air_temperature")


@pytest.fixture
def stations(tmp_path: Path) -> Path:
    """Return a table of stations whose temperature falls with the square of the sine of latitude, and with height."""
    generator = np.random.default_rng(11)
    lon, lat = generator.uniform(-180, 180, 400), np.rad2deg(np.arcsin(generator.uniform(-0.95, 0.95, 400)))
    temperature = 28 - 45 * np.sin(np.deg2rad(lat)) ** 2 + generator.normal(0, 1, 400)
    table = pd.DataFrame({"Lon": lon, "Lat": lat, "nObs": 1, "meanT": temperature, "name": "a"})
    table.loc[3, "meanT"] = np.nan
    table.to_csv(tmp_path / "stations.csv", index=False)
    return tmp_path / "stations.csv"


def scores(folder: Path) -> dict[tuple[str, str], float]:
    """Return R² by method and kind of folds."""
    table = pd.read_csv(folder / "air_temperature.csv")
    return dict(zip(zip(table["method"], table["folds"], strict=True), table["r2"].astype(float), strict=True))


def test_a_model_that_knows_the_law_wins_where_stations_are_far(
    pipeline: Any, stations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.main([str(stations), "--model", "sh-l10", "--out", str(tmp_path / "out"), "--block", "30"])
    found = scores(tmp_path / "out")
    names = ["ridge on lon, lat", "ridge on x, y, z", "inverse distance, 8 nearest", "ridge on sh-l10"]
    assert list(found) == [(name, folds) for name in names for folds in ("random folds", "30° blocks")]
    assert found["ridge on sh-l10", "30° blocks"] > 0.9
    assert found["ridge on sh-l10", "30° blocks"] > found["inverse distance, 8 nearest", "30° blocks"]
    # No line through latitude fits a law that is the same north and south.
    assert max(found["ridge on lon, lat", folds] for folds in ("random folds", "30° blocks")) < 0.2
    said = " ".join(capsys.readouterr().out.split())
    assert "Mean air temperature at 399 stations" in said
    assert "'ridge on sh-l10' is best with R²" in said
    assert "the best without an embedding, 'inverse distance, 8 nearest', has" in said


def test_the_words_say_which_won_and_not_what_was_hoped(pipeline: Any) -> None:
    score = pipeline.Score
    near = pipeline.INTERPOLATION
    found = {pipeline.ON_XYZ: [score(0.1, 1)], near: [score(0.9, 1)], "ridge on d": [score(0.8, 1)]}
    assert pipeline.won(found, 0) == f"'{near}' is best with R² 0.900; the best embedding, 'ridge on d', has 0.800"
    found["ridge on e"] = [score(0.95, 1)]
    best = "'ridge on e' is best with R² 0.950"
    assert pipeline.won(found, 0) == f"{best}; the best without an embedding, '{near}', has 0.900"


def test_a_field_takes_the_place_of_a_model(
    pipeline: Any,
    stations: Path,
    tmp_path: Path,
    make_field: Callable[..., EncodedField],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_field(make_field(res=2.0, bounds=(-180, -90, 180, 60), model="sh-l10"), tmp_path / "field.tif").close()
    pipeline.main([str(stations), "--field", str(tmp_path / "field.tif"), "--out", str(tmp_path / "out")])
    assert scores(tmp_path / "out")["ridge on sh-l10 in field.tif", "15° blocks"] > 0.9
    left_out = (pd.read_csv(stations).dropna()["Lat"] > 60).sum()
    assert f"{left_out} stations are left out" in capsys.readouterr().out


def test_the_map_shows_warmth_at_the_equator_and_cold_at_the_poles(
    pipeline: Any, stations: Path, tmp_path: Path
) -> None:
    found = pipeline.Stations.read(stations, "meanT")
    source = next(pipeline.sources_of(["sh-l10"], []))
    pipeline.draw(found, source, None, tmp_path / "map.png")
    pixels = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    middle = pixels[:, width // 4 : width // 2]
    redness = (middle[..., 0] - middle[..., 2]).mean(axis=1)
    assert redness[height // 2] > 80
    assert redness[height // 6] < -20
    assert redness[-height // 6] < -20


def test_blocks_cover_the_sphere_in_about_equal_areas() -> None:
    sine = np.random.default_rng(2).uniform(-1, 1, 400_000)
    lonlat = np.column_stack((np.random.default_rng(3).uniform(-180, 180, 400_000), np.rad2deg(np.arcsin(sine))))
    _, counts = np.unique(spatial_folds.blocks(lonlat, 15.0), return_counts=True)
    # The sphere has 41,253 square degrees.
    assert len(counts) == pytest.approx(41_253 / 15**2, rel=0.03)
    assert counts.min() > 0.6 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()
    assert len(np.unique(spatial_folds.blocks(np.array([[-180.0, 50], [180.0, 50]]), 15.0))) == 1


def test_no_block_lies_on_both_sides_of_a_fold(pipeline: Any, stations: Path) -> None:
    found = pipeline.Stations.read(stations, "meanT")
    random, spatial = spatial_folds.folds_of(found.lonlat, 20.0)
    groups = spatial_folds.blocks(found.lonlat, 20.0)
    assert spatial.distance > 1.5 * random.distance
    for splits in spatial.splits:
        for fitted, held in splits:
            assert not set(groups[fitted]) & set(groups[held])
        assert sorted(np.concatenate([held for _, held in splits])) == list(range(399))


def test_distances_are_those_of_great_circles() -> None:
    paris, tokyo = [2.3522, 48.8566], [139.6917, 35.6895]
    found = spatial_folds.nearest_km(np.array([tokyo]), np.array([paris, tokyo]))
    # By the haversine formula on a sphere of 6,371 km.
    np.testing.assert_allclose(found, [9712, 0], rtol=0, atol=3)


def test_interpolation_holds_at_a_station(pipeline: Any, stations: Path) -> None:
    found = pipeline.Stations.read(stations, "meanT")
    interpolation = pipeline.methods([])["inverse distance, 8 nearest"].fit(found.lonlat, found.temperature)
    np.testing.assert_allclose(interpolation.predict(found.lonlat[:9]), found.temperature[:9], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--column", "warmth"], "no column 'warmth'; it has: Lon, Lat, nObs, meanT, name. Name one with --column"),
        (["--column", "name"], "Column 'name' of .* is not of numbers"),
        (["--block", "180"], "lie in . blocks of 180 degrees, and 5 are needed at least"),
    ],
)
def test_stations_that_cannot_be_used_are_refused(
    pipeline: Any, stations: Path, words: list[str], message: str
) -> None:
    with pytest.raises(PlacesError, match=message):
        pipeline.main([str(stations), "--model", "xyz", *words])
