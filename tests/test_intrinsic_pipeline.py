"""The pipeline that measures a published intrinsic dimension again: the places that it draws, what it prints."""

from __future__ import annotations

from pathlib import Path

import geopandas
import intrinsic_dimension
import numpy as np
import pytest
import shapely

import embedfield as ef


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two lands: one around the equator, one around the south pole."""
    path = tmp_path_factory.mktemp("land") / "land.gpkg"
    shapes = [shapely.box(0, -30, 60, 30), shapely.box(-180, -90, 180, -60)]
    geopandas.GeoDataFrame(geometry=shapes, crs=4326).to_file(path)
    return path


def test_places_are_even_by_area_on_land_and_the_first_are_the_same_of_any_number(land: Path) -> None:
    region = ef.Region.read(land)
    lon, lat = intrinsic_dimension.places_on(region, 20_000).T
    tropics = (lon >= 0) & (lon <= 60) & (abs(lat) <= 30)
    assert (tropics | (lat <= -60)).all()
    # Areas: a sixth of the circle times sin 30 twice, against the whole circle times 1 - sin 60.
    share = (1 / 6) / (1 / 6 + 1 - np.sin(np.pi / 3))
    assert tropics.mean() == pytest.approx(share, abs=0.01)


def test_the_first_places_are_those_of_the_published_code(land: Path) -> None:
    rng = np.random.RandomState(42)
    lon, lat = rng.uniform(-180, 180, 1000), np.degrees(np.arcsin(rng.uniform(-1, 1, 1000)))
    on_land = (lat < -60) | ((lon > 0) & (lon < 60) & (abs(lat) < 30))
    found = intrinsic_dimension.places_on(ef.Region.read(land), 1000)
    np.testing.assert_array_equal(found[: on_land.sum()], np.column_stack((lon, lat))[on_land])


def test_it_prints_estimates_beside_the_published_ones(
    land: Path, released: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMBEDFIELD_CACHE", str(Path(__file__).parent.parent / ".cache"))
    found = intrinsic_dimension.main(land, 400)
    assert found
    assert found.distinct == 400
    assert 5 < found.mle < 60
    printed = capsys.readouterr().out
    assert f"{found.mom:.2f}" in printed
    assert "11.21" in printed
    assert "only those of equally many compare" in printed
    assert intrinsic_dimension.main(land, 50) is None
