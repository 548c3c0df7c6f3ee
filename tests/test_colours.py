"""Colours are a model's principal components, the same wherever they are asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embedfield.card import Card
from embedfield.errors import FormatError
from embedfield.pictures.colours import Colours
from embedfield.reduce import Reduction

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def sample(dim: int = 6, count: int = 5000) -> npt.NDArray[np.float64]:
    """Vectors (count, dim) about a mean far from zero, of unlike variances, mixed."""
    chance = np.random.default_rng(dim)
    turned, _ = np.linalg.qr(chance.normal(size=(dim, dim)))
    return (chance.normal(size=(count, dim)) * 2.0 ** -np.arange(dim)) @ turned + 3.0


def encode(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Vectors (N, 5) of places."""
    lon, lat = np.deg2rad(lonlat).T
    return np.stack(
        [np.sin(lon) * np.cos(lat), np.sin(lat), np.cos(2 * lon) * np.cos(lat), 0 * lon + 1, np.cos(3 * lat)], axis=1
    )


def card(dim: int, **more: Any) -> Card:
    return Card(name="made-up", title="", dim=dim, code="a:B", homepage="", **more)


def test_axes_are_the_principal_components_of_directions() -> None:
    values = sample()
    directions = values / np.linalg.norm(values, axis=1, keepdims=True)
    colours = Colours.fit(values, model="made-up")
    _, _, truth = np.linalg.svd(directions - directions.mean(axis=0), full_matrices=False)
    for axis, true in zip(colours.axes, truth, strict=False):
        assert abs(axis @ true) == pytest.approx(1, abs=1e-8)
        assert axis[abs(axis).argmax()] > 0


def test_ranges_are_percentiles_2_and_98() -> None:
    values = sample()
    directions = values / np.linalg.norm(values, axis=1, keepdims=True)
    colours = Colours.fit(values, model="made-up")
    seen = colours.of(values.T[:, None, :].astype(np.float32))[0]
    for colour in range(3):
        low, high = np.percentile(directions @ colours.axes[colour], (2, 98))
        truth = 255 * ((directions @ colours.axes[colour] - low) / (high - low)).clip(0, 1)
        assert abs(seen[:, colour] - truth).max() <= 0.51
        assert (seen[:, colour] == 0).mean() == pytest.approx(0.02, abs=0.005)
    assert (seen[:, 3] == 255).all()


def test_lengths_do_not_matter_unless_three_colours_show_a_vector_whole() -> None:
    for dim, same in ((6, True), (3, False)):
        values = sample(dim).T[:, None, :]
        colours = Colours.fit(values[:, 0].T, model="made-up")
        assert np.array_equal(colours.of(values), colours.of(2 * values)) == same


def test_what_was_written_gives_the_same_colours_and_the_same_bytes(tmp_path: Path) -> None:
    values = sample()
    colours = Colours.fit(values, model="made-up", weights_sha256="ab" * 32, fitted_on="a sample of mine")
    colours.write(tmp_path / "colours.json")
    again = Colours.read(tmp_path / "colours.json")
    picture = values.T.reshape(6, 50, 100).astype(np.float32)
    np.testing.assert_array_equal(again.of(picture), colours.of(picture))
    assert again.to_json() == colours.to_json() == Colours.fit(values, model="made-up", **_told(again)).to_json()
    assert json.loads(again.to_json())["dim"] == 6
    assert (again.model, again.weights_sha256, again.fitted_on) == ("made-up", "ab" * 32, "a sample of mine")


def _told(colours: Colours) -> dict[str, Any]:
    return {"weights_sha256": colours.weights_sha256, "fitted_on": colours.fitted_on}


def test_an_encoder_is_asked_evenly_over_the_globe_and_always_gives_the_same() -> None:
    asked: list[npt.NDArray[np.float64]] = []

    def noted(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        asked.append(lonlat)
        return encode(lonlat)

    texts = {Colours.of_encoder(noted, card(5), "abc").to_json() for _ in range(2)}
    assert len(texts) == 1
    lon, lat = asked[0].T
    assert np.sin(np.deg2rad(lat)).mean() == pytest.approx(0, abs=1e-3)
    assert (abs(lat) < 30).mean() == pytest.approx(0.5, abs=1e-3)  # half of the sphere
    assert np.histogram(lon, 8, (-180, 180))[0] == pytest.approx([len(lon) / 8] * 8, abs=2)


def test_an_encoder_is_not_asked_beyond_its_latitudes() -> None:
    def within(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        assert abs(lonlat[:, 1]).max() <= 66
        return encode(lonlat)

    assert Colours.of_encoder(within, card(5, latitudes=(-66.0, 66.0))).dim == 5


def test_places_without_a_vector_do_not_count() -> None:
    def partly(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(lonlat[:, :1] > 0, encode(lonlat), np.nan)

    colours = Colours.of_encoder(partly, card(5))
    assert np.isfinite(colours.axes).all()
    assert (colours.high > colours.low).all()


def test_components_have_the_colours_of_the_vectors_they_stand_for() -> None:
    values = sample()
    colours, reduction = Colours.fit(values, model="made-up"), Reduction.fit(values, 6)
    whole = colours.of(values.T.reshape(6, 50, 100))
    reduced = colours.of(reduction.reduce(values).T.reshape(6, 50, 100).astype(np.float32), reduction)
    assert abs(whole.astype(int) - reduced).max() <= 1


def test_few_components_are_not_more_colourful_than_whole_vectors() -> None:
    chance = np.random.default_rng(0)
    # A few strong components, and as much in many weak ones: vectors of which a reduction takes half the length away.
    values = np.concatenate((chance.normal(size=(4000, 4)) * 4, chance.normal(size=(4000, 64))), axis=1)
    colours, reduction = Colours.fit(values, model="made-up"), Reduction.fit(values, 4)
    whole = colours.components(values.T)
    reduced = colours.components(reduction.reduce(values).T, reduction)
    assert reduced.std(axis=1) == pytest.approx(whole.std(axis=1), rel=0.05)


def test_what_has_no_value_is_transparent() -> None:
    values = sample(4, 6).T.reshape(4, 2, 3)
    values[2, 0, 1] = np.nan
    seen = Colours.fit(sample(4), model="made-up").of(values)
    assert seen.shape == (2, 3, 4)
    assert seen[0, 1].tolist() == [0, 0, 0, 0]
    assert (seen[..., 3] == 255).sum() == 5


@pytest.mark.parametrize("dim", [2, 5])
def test_what_is_infinite_has_no_colour_and_changes_no_other(dim: int) -> None:
    values = sample(dim, 60).T.reshape(dim, 6, 10).copy()
    holes = values.copy()
    values[0, 1, 1], values[1, 2, 2], values[:, 3, 3], values[:2, 4, 4] = np.inf, -np.inf, np.inf, (np.inf, -np.inf)
    holes[:, [1, 2, 3, 4], [1, 2, 3, 4]] = np.nan
    colours = [Colours.fit(some.reshape(dim, -1).T, model="made-up") for some in (values, holes)]
    assert colours[0].to_json() == colours[1].to_json()
    np.testing.assert_array_equal(colours[0].of(values), colours[0].of(holes))
    assert (colours[0].of(values)[..., 3] == 255).sum() == 56


@pytest.mark.parametrize(
    "values", [np.full((10, 5), np.nan), np.empty((0, 5)), np.ones((10, 5)), np.zeros((10, 5)), np.ones((1, 2))]
)
def test_where_nothing_differs_there_is_one_colour(values: npt.NDArray[np.float64]) -> None:
    colours = Colours.fit(values, model="made-up")
    seen = Colours.from_json(colours.to_json()).of(np.ones((values.shape[1], 3, 4), dtype=np.float32))
    assert len(np.unique(seen.reshape(-1, 4), axis=0)) == 1
    assert (seen[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version 2, and this embedfield reads 1"),
        ({"axes": [[1, 2], [3]]}, "inhomogeneous"),
        ({"axes": [1, 2]}, "one, two or three of each"),
        ({"low": [0, 0]}, "one, two or three of each"),
        ({"low": [9, 9, 9], "high": [1, 1, 1]}, "low is above high"),
        ({"high": [float("nan")] * 3}, "not finite"),
        ({"axes": "red"}, "could not convert"),
        ({"version": None}, "not supported"),
    ],
)
def test_damaged_colours_are_refused_by_name(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "colours.json"
    path.write_text(json.dumps(json.loads(Colours.fit(sample(), model="made-up").to_json()) | change))
    with pytest.raises(FormatError, match=rf"colours\.json holds no colours.*{words}"):
        Colours.read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"version": 1}', "\x00", "[" * 100_000])
def test_other_files_are_refused_as_colours(tmp_path: Path, text: str) -> None:
    path = tmp_path / "colours.json"
    path.write_text(text)
    with pytest.raises(FormatError, match="holds no colours"):
        Colours.read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="No such file"):
        Colours.read(tmp_path / "colours.json")
