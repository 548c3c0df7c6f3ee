"""Tests of compiled loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from embedfield.encoders.loops import _compiled, normalise
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
