"""Sines and cosines in bulk: beside products, most of what encoders cost.

In float32 on a CPU, numpy makes them in a third of torch's time, and `loops.write_sines` in a tenth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor


def sine_(x: Tensor, factor: float = 1.0) -> Tensor:
    """Replace numbers by the sines of so many times them, and return them."""
    lying = x if x.is_contiguous() else x.mT
    if not _quick(x) or not lying.is_contiguous():
        return (x if factor == 1 else x.mul_(factor)).sin_()
    from embedfield.encoders.loops import write_sines

    write_sines(lying.view(-1).numpy(), np.float32(factor))
    return x


def sine(x: Tensor) -> Tensor:
    """Return the sines of numbers."""
    return sine_(x.clone()) if _quick(x) else x.sin()


def cosine_and_sine(x: Tensor) -> Tensor:
    """Return the cosines, then the sines, of numbers (N, n): (N, 2 n)."""
    if _quick(x):
        result = x.new_empty(len(x), 2 * x.shape[1])
        both, angles = result.numpy(), x.numpy()
        np.cos(angles, out=both[:, : x.shape[1]])
        np.sin(angles, out=both[:, x.shape[1] :])
        return result
    return torch.cat((x.cos(), x.sin()), dim=-1)


def _quick(x: Tensor) -> bool:
    """Whether torch takes longest: in float32, on one processor, which is all that a block has."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad
