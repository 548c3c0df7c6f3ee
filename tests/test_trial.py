"""A trial computes, packs and writes a little of a field, as a build does it with all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from fields import ArrayField, bumpy

from embedfield.errors import PackingError
from embedfield.evaluate import EncodedField
from embedfield.formats.packing import Packing
from embedfield.grid import Grid
from embedfield.trial import Cost, Trial, pixel_rate, spanning, window_about
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

PLACES = np.array([[0.0, -80.0], [10.0, 0.0], [20.0, 80.0]])


def test_what_a_file_costs_is_told_apart_from_what_its_pixels_cost() -> None:
    cost = Cost.between(12.0, 30.0, (10, 100))
    assert (cost.fixed, cost.each) == (10.0, 0.2)
    assert cost.of(1000, files=3) == 230


@pytest.mark.parametrize(("small", "large", "pixels"), [(5.0, 4.0, (10, 100)), (4.0, 4.0, (100, 100))])
def test_where_a_small_file_tells_nothing_all_is_laid_on_the_pixels(
    small: float, large: float, pixels: tuple[int, int]
) -> None:
    assert Cost.between(small, large, pixels) == Cost(0.0, 0.04)


@pytest.mark.parametrize(
    ("place", "shape", "window"),
    [
        ((0, 0), (4, 6), Window(15, 7, 6, 4)),
        ((-179, 89), (4, 6), Window(0, 0, 6, 4)),
        ((179, -89), (4, 6), Window(30, 14, 6, 4)),
        ((0, 0), (99, 99), Window(0, 0, 36, 18)),
    ],
)
def test_a_window_lies_about_a_place_and_on_the_grid(
    place: tuple[float, float], shape: tuple[int, int], window: Window
) -> None:
    assert window_about(Grid.from_bounds(10), np.array(place, dtype=np.float64), *shape) == window


def test_a_packing_spans_all_samples_and_a_little_more() -> None:
    low, high = np.array([[0.0, np.nan], [np.nan, np.nan]]), np.array([[64.0], [np.nan]])
    found = spanning("uint8", low, high)
    wanted = Packing.fit(np.array([-1.0, 0.0]), np.array([65.0, 0.0]), "uint8")
    np.testing.assert_array_equal(found.scale, wanted.scale)
    np.testing.assert_array_equal(found.offset, wanted.offset)


def test_a_sample_that_is_not_finite_is_refused() -> None:
    with pytest.raises(PackingError, match="not finite"):
        spanning("uint8", np.array([[0.0, np.inf]]))


@pytest.mark.parametrize("model", ["xyz", "sh-l10"])
@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_a_trial_tells_what_pixels_cost(make_field: Callable[..., EncodedField], model: str, form: str) -> None:
    field, steps = make_field(1.0, model=model), list[str]()
    trial = Trial.of(field, PLACES, "uint8", form, "sharded", width=360, step=steps.append)  # type: ignore[arg-type]
    assert trial.pixels == 360 * 180
    assert min(trial.rate, trial.place_rate) > 0
    assert 0 < trial.stored.of(1, 0) < 2 * field.dim
    assert len(steps) == 3


def test_speed_is_that_of_windows_that_take_long_enough_or_of_the_whole(
    make_field: Callable[..., EncodedField],
) -> None:
    read = list[int]()

    class Counting(EncodedField):
        def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
            read.append(window.width * window.height if window else 0)
            return super().read(window)

    field = make_field(10.0)
    assert pixel_rate(Counting(field.evaluator, field.grid), PLACES[1], 360) > 0
    assert read == sorted(read)
    assert read[-2:] == [36 * 18, 36 * 18]


def test_pixels_without_a_value_are_part_of_a_trial() -> None:
    values = bumpy(3, 90, 120)
    field = ArrayField(values, Grid.from_bounds(2, (-120, -90, 120, 90)))
    trial = Trial.of(field, PLACES, "int16", "cog", "sharded", width=120, step=lambda _: None)
    assert trial.pixels > 0
    nowhere = ArrayField(np.full_like(values, np.nan), field.grid)
    with pytest.raises(PackingError, match="array has no value at any of 1 places"):
        Trial.of(nowhere, PLACES[:1], "int16", "cog", "sharded", width=120, step=lambda _: None)
