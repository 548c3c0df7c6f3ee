"""Advice agrees with what one finds who builds, and says how to."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from references import REFERENCE

from embedfield import advise as advising
from embedfield.advice import Advice, uncertain_text
from embedfield.advise import LADDER, advise_grid
from embedfield.encoders.analytic import Analytic
from embedfield.encoders.lattice import Pointwise
from embedfield.encoders.positional import UnitVector
from embedfield.errors import GridError, InputsError, PackingError, PlacesError, UnknownModelError
from embedfield.evaluate import EncodedField, Evaluator, load
from embedfield.fidelity import Fidelity
from embedfield.formats import write_field
from embedfield.formats.packing import DTYPES
from embedfield.grid import Grid
from embedfield.models import card, read_card

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from conftest import Done

    from embedfield.card import Card
    from embedfield.encoders.lattice import Lattice
    from embedfield.field import Method

READINGS: tuple[Method, ...] = ("nearest", "bilinear")


class Sheared(Analytic):
    """Longitude and latitude, many times over."""

    def encode(self, lonlat: torch.Tensor) -> torch.Tensor:
        return lonlat * float(self.card.options["times"])

    def lattice(self, lons: torch.Tensor, lats: torch.Tensor) -> Lattice:
        return Pointwise(self.encode, lons, lats)


def sheared(times: float, **changes: Any) -> Card:
    """The card of an encoder that is a formula."""
    return replace(card("xyz"), name="sheared", dim=2, options={"times": times}, **changes)


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cards of formulas be loaded."""
    own = load

    def loads(model: Any, *args: Any, **options: Any) -> Evaluator:
        is_formula = getattr(model, "name", None) == "sheared"
        return Evaluator(Sheared(model, UnitVector()), "cpu") if is_formula else own(model, *args, **options)

    monkeypatch.setattr(advising, "load", loads)


def cosines(one: npt.ArrayLike, other: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The cosine of each pair of vectors."""
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    found: npt.NDArray[np.float64] = np.sum(one * other, axis=1) / np.linalg.norm(one, axis=1)
    found /= np.linalg.norm(other, axis=1)
    return found


def measured(folder: Path, res: float, dtype: Any, reading: Any, model: str = "sh-l10") -> float:
    """The mean cosine of a field that is built, at places of our own."""
    evaluator = load(model, device="cpu")
    field = write_field(EncodedField(evaluator, Grid.from_bounds(res)), folder / f"{res}-{dtype}.tif", dtype=dtype)
    rng = np.random.default_rng(99)
    places = np.column_stack((rng.uniform(-180, 180, 4000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 4000)))))
    return float(cosines(evaluator.encode(places), field.at(places, reading)).mean())


@pytest.fixture(scope="module")
def found() -> Advice:
    """Advice on the first ten degrees of harmonics."""
    return advise_grid("sh-l10", resolutions=(30, 10, 5, 2), device="cpu")


# What it says is so


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_fidelity_is_what_a_build_gives(found: Advice, tmp_path: Path, reading: Any, dtype: Any) -> None:
    for rung in found.rungs[:3]:
        built = measured(tmp_path, rung.grid.res, dtype, reading)
        assert rung.options[dtype].readings[reading].mean_loss == pytest.approx(1 - built, rel=0.1, abs=3e-5)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("tolerance", [0.9, 0.99, 0.995])
def test_the_grid_that_is_recommended_is_the_coarsest_within_tolerance(
    found: Advice, tmp_path: Path, reading: Any, tolerance: float
) -> None:
    chosen = replace(found, tolerance=tolerance).choice(reading)
    assert chosen
    rung, option = chosen
    assert measured(tmp_path, rung.grid.res, option.dtype, reading) >= tolerance - 0.001
    coarser = min(other.grid.res for other in found.rungs if other.grid.res > rung.grid.res)
    assert measured(tmp_path, coarser, "float32", reading) < tolerance


def test_nearest_of_the_sphere_loses_the_angle_to_the_centre_of_the_pixel() -> None:
    found = advise_grid("xyz", resolutions=[8], dtypes=["float32"], device="cpu")
    # Over a square of side s an angle's mean square is s² / 6; at latitude φ one side is shorter by cos φ, whose
    # mean square over the sphere is 2 / 3.
    expected = np.deg2rad(8) ** 2 * (1 + 2 / 3) / 12 / 2
    assert found.rungs[0].exact["nearest"].mean_loss == pytest.approx(expected, rel=0.05)


def test_finer_grids_are_nearer_and_larger(found: Advice) -> None:
    for reading in READINGS:
        losses = [rung.exact[reading].mean_loss for rung in found.rungs]
        assert losses == sorted(losses, reverse=True)
    for dtype in DTYPES:
        sizes = [rung.options[dtype].size_bytes for rung in found.rungs]
        assert sizes == sorted(sizes)


def test_more_bits_cost_less_and_take_more_room(found: Advice) -> None:
    for rung in found.rungs:
        costs = [rung.options[dtype].packing.relative_rmse for dtype in ("uint8", "float16", "int16", "float32")]
        assert costs == sorted(costs, reverse=True)
        assert costs[-1] == 0
        assert rung.options["uint8"].size_bytes < rung.options["int16"].size_bytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_are_about_those_of_files(found: Advice, tmp_path: Path, dtype: Any) -> None:
    rung = found.rungs[-1]
    field = write_field(EncodedField(load("sh-l10", device="cpu"), rung.grid), tmp_path / "field.tif", dtype=dtype)
    assert rung.options[dtype].size_bytes == pytest.approx(field.disk_path.stat().st_size, rel=0.4)


def test_times_are_those_of_this_machine(found: Advice) -> None:
    assert found.rate > 1000
    for rung in found.rungs:
        pixels = rung.grid.width * rung.grid.height
        assert rung.options["uint8"].seconds >= pixels / found.rate
    assert found.device == "cpu"


# What is tried


def test_the_ladder_goes_from_ten_degrees_to_a_hundredth() -> None:
    found = advise_grid("xyz", device="cpu", dtypes=["uint8"])
    assert tuple(rung.grid.res for rung in found.rungs) == LADDER
    assert found.places == 1024


def test_the_ladder_has_only_pixels_that_fit_into_the_bounds() -> None:
    found = advise_grid("xyz", bounds=(5, 45, 7, 46), device="cpu", dtypes=["uint8"])
    assert [rung.grid.res for rung in found.rungs] == [1, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01]
    assert all(rung.grid.bounds == (5, 45, 7, 46) for rung in found.rungs)


def test_bounds_that_no_pixels_tile_are_widened_and_the_command_says_so() -> None:
    found = advise_grid("xyz", bounds=(5.03, 45.01, 7.11, 46.2), resolutions=[0.5], device="cpu", dtypes=["uint8"])
    rung = found.rungs[0]
    assert rung.grid.bounds == (5, 45, 7.5, 46.5)
    assert found.command(rung, rung.options["uint8"]) == "embedfield build --model xyz --res 0.5 --bounds 5 45 7.5 46.5"


def test_bounds_may_cross_the_antimeridian() -> None:
    found = advise_grid("sh-l10", bounds=(170, -20, -170, -10), resolutions=[1], device="cpu", dtypes=["uint8"])
    assert found.rungs[0].grid.bounds == (170, -20, 190, -10)
    assert found.rungs[0].exact["bilinear"].cosine > 0.999


def test_bounds_of_less_than_a_hundredth_of_a_degree_have_one_grid() -> None:
    found = advise_grid("xyz", bounds=(5, 45, 5.003, 45.002), device="cpu", dtypes=["uint8"])
    assert [rung.grid.res for rung in found.rungs] == [0.01]


def test_resolutions_are_tried_from_coarse_to_fine_and_once() -> None:
    found = advise_grid("xyz", resolutions=[5, 20, 5, 10], device="cpu", dtypes=["uint8", "uint8"])
    assert [rung.grid.res for rung in found.rungs] == [20, 10, 5]
    assert found.dtypes == ("uint8",)


def test_a_slow_encoder_is_asked_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advising, "ASKING", 0.0)
    monkeypatch.setattr(advising, "MAKING", 0.0)
    found = advise_grid("sh-l10", resolutions=[5], device="cpu", dtypes=["uint8"])
    assert found.places == 256
    assert found.rungs[0].options["uint8"].size_bytes > 0
    assert "at 256 random places" in found.lines[0]


@pytest.mark.usefixtures("formula")
def test_an_encoder_of_some_latitudes_is_asked_only_there() -> None:
    found = advise_grid(sheared(1, latitudes=(-20.0, 33.0)), resolutions=[5], dtypes=["float32"])
    assert found.places == 1024
    assert found.rungs[0].exact["nearest"].relative_rmse < 0.1
    with pytest.raises(GridError, match="sheared has no value at any of 0 random places.*from -20 to 33 degrees"):
        advise_grid(sheared(1, latitudes=(-20.0, 33.0)), bounds=(0, 40, 10, 50), resolutions=[5])


@pytest.mark.usefixtures("formula")
def test_a_dtype_that_cannot_hold_the_values_is_left_out_and_named() -> None:
    found = advise_grid(sheared(1e5), resolutions=[10, 5])
    assert list(found.rungs[0].options) == ["uint8", "int16", "float32"]
    assert "float16 cannot hold the values of sheared." in found.lines
    with pytest.raises(PackingError, match="float16 cannot hold band 0"):
        advise_grid(sheared(1e5), resolutions=[10], dtypes=["float16"])


def test_progress_is_told_grid_by_grid() -> None:
    told: list[tuple[int, int]] = []
    advise_grid(
        "xyz", resolutions=[20, 10], device="cpu", dtypes=["uint8"],
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(1, 2), (2, 2)]


# What is refused


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, -0.5, float("nan")])
def test_a_tolerance_is_a_cosine(tolerance: float) -> None:
    with pytest.raises(PlacesError, match="is no cosine to hold a grid to"):
        advise_grid("xyz", tolerance=tolerance)


def test_what_is_unknown_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(PackingError, match="dtype='int8' cannot be stored"):
        advise_grid("xyz", dtypes=["int8"])  # type: ignore[list-item]
    with pytest.raises(GridError, match="resolutions=\\[\\] are none"):
        advise_grid("xyz", resolutions=[])
    with pytest.raises(GridError, match="res=0"):
        advise_grid("xyz", resolutions=[0])
    with pytest.raises(UnknownModelError, match="No model named 'xyzzy'"):
        advise_grid("xyzzy")
    with pytest.raises(InputsError, match="takes no input 'month'"):
        advise_grid("xyz", month=7)


# How it is said


def test_the_table_has_a_line_for_each_grid_in_even_columns(found: Advice) -> None:
    lines = found.lines
    assert lines[0].startswith("sh-l10 over the globe: cosine with the encoder at 1,024 random places, ")
    table = lines[2:8]
    assert [row.split()[0] for row in table[2:]] == ["30°", "10°", "5°", "2°"]
    assert len({len(row) for row in table[1:]}) == 1
    assert table[1].split() == [
        "res", "pixels", "mean", "worst", "1", "%", "RMSE", "mean", "worst", "1", "%", *DTYPES, "time",
    ]  # fmt: skip
    assert "36 x 18" in table[3]
    for dtype in DTYPES:
        assert any(line.startswith(f"{dtype}: packing costs ") for line in lines)


def test_the_last_lines_say_how_to_build(found: Advice) -> None:
    closing = found.lines[-4:]
    assert closing[0].startswith("bilinear: 10° as ")
    assert closing[1] == "    embedfield build --model sh-l10 --res 10"
    assert closing[2].startswith("nearest: 2° as uint8 is the coarsest with a mean cosine of at least 0.99 (0.9")
    assert closing[3] == "    embedfield build --model sh-l10 --res 2"


def test_where_no_grid_is_fine_enough_the_encoder_is_to_be_asked() -> None:
    found = advise_grid("sh-l10", resolutions=[30], device="cpu")
    assert found.choice("bilinear") is None
    assert found.lines[-3:] == [
        "bilinear: no grid down to 30° has a mean cosine of 0.99.",
        "nearest: no grid down to 30° has a mean cosine of 0.99.",
        "Ask the encoder itself: embedfield sample --model sh-l10 PLACES",
    ]
    assert found.to_dict()["choice"] == {"nearest": None, "bilinear": None}


def test_a_finer_grid_that_fails_rules_out_the_coarser_ones(found: Advice) -> None:
    shuffled = replace(found, rungs=[found.rungs[-1], found.rungs[0]])
    assert shuffled.choice("bilinear") is None


def test_another_dtype_is_chosen_where_the_smallest_is_too_poor(found: Advice) -> None:
    rung = found.rungs[-1]
    read = rung.options["uint8"].readings["bilinear"]
    least = read.cosine - 2 * read.standard_error
    assert rung.best("bilinear", least - 1e-9) is rung.options["uint8"]
    better = rung.best("bilinear", least + 1e-9)
    assert better
    assert better.dtype != "uint8"
    assert found.command(rung, better) == f"embedfield build --model sh-l10 --res 2 --dtype {better.dtype}"


def test_a_grid_that_only_chance_puts_within_tolerance_is_not_recommended(found: Advice) -> None:
    rung = found.rungs[1]
    alone = replace(found, rungs=[rung], dtypes=["float32"])
    read = rung.options["float32"].readings["bilinear"]
    best = max(option.readings["bilinear"].cosine for option in rung.options.values())
    doubted = replace(alone, tolerance=best - read.standard_error)
    assert doubted.choice("bilinear") is None
    said = doubted.lines[-3]
    assert re.match(
        r"bilinear: no grid down to 10° surely has a mean cosine of 0\.\d+: the finest has 0\.\d+ ± 0\.0", said
    )
    assert replace(alone, tolerance=read.cosine - 3 * read.standard_error).choice("bilinear")


def test_packing_is_named_where_it_alone_is_too_coarse(found: Advice) -> None:
    rung = found.rungs[-1]
    rung = replace(rung, options={"uint8": rung.options["uint8"]})
    # Hardly anything is lost to the grid: as in a small area, all that is lost is lost to packing.
    rung = replace(rung, exact={**rung.exact, "bilinear": Fidelity.compare(np.eye(9), np.eye(9))})
    said = replace(found, rungs=[rung], dtypes=["uint8"], tolerance=0.999999).lines
    line = next(line for line in said if line.startswith("bilinear: no grid"))
    assert line.startswith(
        "bilinear: no grid down to 2° has a mean cosine of 0.999999 as uint8: packing alone costs 0.0"
    )
    assert line.endswith(". Try --dtype int16 or float16 or float32.")


def test_a_recommended_grid_that_does_not_tell_places_apart_has_a_warning() -> None:
    found = advise_grid("sh-l10", bounds=(6, 46, 10, 48), resolutions=[2, 0.5, 0.1], dtypes=["uint8"], device="cpu")
    chosen = found.choice("bilinear")
    assert chosen
    assert chosen[0].grid.res == 2
    at = next(number for number, line in enumerate(found.lines) if line.startswith("bilinear: 2° as uint8"))
    assert re.fullmatch(
        r"    but its relative RMSE is 0\.\d+: poor for telling places of this area apart\. "
        r"The coarsest of at most 0\.15 is 0\.5°\.",
        found.lines[at + 2],
    )


@pytest.mark.parametrize(
    ("losses", "said"),
    [((0.0081, 0.0109), "0.9905 ± 0.0028"), ((0.0095, 0.0095), "0.9905"), ((0.0095,), "0.9905")],
)
def test_an_uncertainty_has_the_digits_of_its_cosine(losses: tuple[float, ...], said: str) -> None:
    exact = np.ones((len(losses), 3))
    assert uncertain_text(replace(Fidelity.compare(exact, exact), loss=np.array(losses))) == said


def test_bounds_without_an_area_are_refused() -> None:
    with pytest.raises(GridError):
        advise_grid("xyz", bounds=(10, 10, 10, 10), resolutions=[1])


def test_the_command_builds(found: Advice, run: Callable[..., Done]) -> None:
    chosen = found.choice("bilinear")
    assert chosen
    done = run(*shlex.split(found.command(*chosen))[1:], "--device", "cpu")
    assert done.code == 0, done.err
    assert "sh-l10-10deg-cog" in done.out


def test_what_was_asked_is_in_the_command() -> None:
    weights = REFERENCE / "mind_small.safetensors"
    found = advise_grid("mind", weights=weights, dims=8, resolutions=[20], dtypes=["uint8"], device="cpu")
    assert found.asked == f"--model mind --dims 8 --weights {weights}"
    assert found.to_dict()["asked"] == {"dims": 8}
    weights = REFERENCE / "climplicit_small.safetensors"
    found = advise_grid("climplicit", weights=weights, month=7, resolutions=[20], dtypes=["uint8"], device="cpu")
    assert found.asked == f"--model climplicit --month 7 --weights {weights}"
    assert found.to_dict()["asked"] == {"month": 7}


def test_a_model_of_the_users_own_is_asked_by_its_card(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ndim = 3\ncode = "embedfield.encoders.analytic:Analytic"\n', encoding="utf-8"
    )
    found = advise_grid(read_card(tmp_path / "mine.toml"), resolutions=[20], dtypes=["uint8"], device="cpu")
    assert found.command(found.rungs[0], found.rungs[0].options["uint8"]) == ("embedfield build --card FILE --res 20")


def test_advice_is_plain_data_for_json(found: Advice) -> None:
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(said) == [
        "model", "asked", "bounds", "tolerance", "places", "pixels_per_second", "device", "grids", "choice",
    ]  # fmt: skip
    grid = said["grids"][1]
    assert grid["res"] == 10
    assert grid["nearest"]["cosine"] == pytest.approx(found.rungs[1].exact["nearest"].cosine, abs=1e-6)
    assert list(grid["stored"]) == list(DTYPES)
    assert said["choice"]["bilinear"]["command"] == "embedfield build --model sh-l10 --res 10"
