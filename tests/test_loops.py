"""Tests of compiled loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from embedfield.encoders.between import averaged_sine_, rectified_sum_, sine_
from embedfield.encoders.loops import _compiled, normalise, write_sines
from embedfield.encoders.networks import ACTIVATIONS, FeedForward

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


def test_a_loop_is_compiled_where_it_cannot_be_kept() -> None:
    """What has no file has no folder to be kept in, as where nothing may be written."""
    namespace: dict[str, Callable[[npt.NDArray[np.float64]], None]] = {}
    exec("def double(numbers):\n    for i in range(len(numbers)):\n        numbers[i] *= 2.0\n", namespace)  # noqa: S102
    double = _compiled()(namespace["double"])
    numbers = np.arange(3.0)
    double(numbers)
    assert numbers.tolist() == [0.0, 2.0, 4.0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 4e-7), (torch.float64, 1e-15)])
def test_normalised_rows_are_torchs_layer_norm(dtype: torch.dtype, tolerance: float) -> None:
    """To a few last bits of the largest number, far from zero too, where a one-pass variance would cancel."""
    generator = torch.Generator().manual_seed(3)
    rows, gain, shift = (torch.randn(*size, generator=generator).to(dtype) for size in ((70, 33), (33,), (33,)))
    rows[35:] = 100 + rows[35:]
    expected = torch.nn.functional.layer_norm(rows.double(), (33,), gain.double(), shift.double(), 1e-5)
    epsilon = np.asarray(1e-5, dtype=gain.numpy().dtype)[()]
    normalise(rows.numpy(), gain.numpy(), shift.numpy(), epsilon)
    allowed = tolerance * expected.abs().max()
    torch.testing.assert_close(rows[:35].double(), expected[:35], rtol=0, atol=float(allowed))
    torch.testing.assert_close(rows[35:].double(), expected[35:], rtol=0, atol=100 * float(allowed))


def test_what_gradients_are_wanted_of_is_left_to_torch() -> None:
    """A network in training has them; its numbers are those of evaluation but for rounding."""
    network = FeedForward([4, 8, 8, 3], ACTIVATIONS["tanh"], norm=True, skip=False).double().to_empty(device="cpu")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(4))
    features = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    trained = network(features)
    trained.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    with torch.inference_mode():
        torch.testing.assert_close(network(features), trained.detach())


@pytest.mark.parametrize("reach", [1e-30, 1e-3, 1.6, 40.0, 1e3, 9.9e4, 3e5, 1e30])
def test_sines_are_numpys_in_float64(reach: float) -> None:
    """To two units in the last place of 1 and, of small numbers, of themselves."""
    numbers = np.random.default_rng(6).uniform(-reach, reach, 10_000).astype("float32")
    sines = numbers.copy()
    write_sines(sines, np.float32(1))
    expected = np.sin(numbers.astype("float64"))
    assert np.abs(sines - expected).max() <= 1.3e-7 * min(1.0, reach)


def test_numbers_are_multiplied_before_their_sine_is_taken() -> None:
    """In float32, as the official networks do."""
    numbers = np.random.default_rng(7).uniform(-3, 3, 1000).astype("float32")
    once, twice = numbers.copy(), numbers * np.float32(30)
    write_sines(once, np.float32(30))
    write_sines(twice, np.float32(1))
    np.testing.assert_allclose(once, twice, rtol=0, atol=1e-5)


def test_sines_of_what_is_no_number_and_of_zeros() -> None:
    """NaN stays, infinity becomes NaN, and a zero keeps its sign; among numbers near and far."""
    for other in (1.0, 1e6):
        numbers = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, other], dtype="float32")
        write_sines(numbers, np.float32(1))
        assert np.isnan(numbers[2:5]).all()
        assert np.signbit(numbers[:2]).tolist() == [False, True]
        assert numbers[5] == pytest.approx(np.sin(other), abs=1e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_sines_are_taken_however_numbers_lie(turned: bool) -> None:
    """Row by row, column by column, and of every second column, which no loop takes."""
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(8))
    lying = x.T.contiguous().T if turned else x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(sine_(lying.clone()[:, ::2], 2.0), (2 * x[:, ::2]).sin(), rtol=0, atol=1.3e-7)
        assert sine_(lying, 3.0) is lying
    torch.testing.assert_close(lying, (3 * x).sin(), rtol=0, atol=1.3e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averaged_sines_leave_the_averages(dtype: torch.dtype) -> None:
    """As torch's operations one by one do, which stand in for the loop in float64."""
    x, last = (40 * torch.randn(3, 701, generator=torch.Generator().manual_seed(seed), dtype=dtype) for seed in (9, 10))
    mean = (x + last) / 2
    with torch.inference_mode():
        assert averaged_sine_(x, last) is x
    torch.testing.assert_close(last, mean, rtol=2e-7, atol=1e-5)
    torch.testing.assert_close(x, last.sin(), rtol=0, atol=1.3e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rectified_sums_keep_what_is_no_number(dtype: torch.dtype) -> None:
    """So damaged weights are found out; infinity and zeros are as torch has them."""
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1.5, -1.5], dtype=dtype)
    x, other = special.repeat(7, 9), special.repeat_interleave(7).reshape(7, 7).repeat(1, 9)
    expected = x.relu() + other
    with torch.inference_mode():
        assert rectified_sum_(x, other) is x
    assert torch.equal(x.nan_to_num(nan=77), expected.nan_to_num(nan=77))
