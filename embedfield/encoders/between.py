"""What stands between the products of networks: beside them, most of what encoders cost.

In float32 on a CPU torch takes longest. Compiled loops take a tenth of its time
for sines, half of it for layer norms, and go through memory once for what torch
does in several operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def sine_(x: Tensor, factor: float = 1.0) -> Tensor:
    """Replace numbers by the sines of so many times them, and return them."""
    lying = x if x.is_contiguous() else x.mT
    if not _quick(lying):
        return (x if factor == 1 else x.mul_(factor)).sin_()
    from embedfield.encoders.loops import write_sines

    write_sines(lying.view(-1).numpy(), np.float32(factor))
    return x


def averaged_sine_(x: Tensor, last: Tensor) -> Tensor:
    """Replace what was there last by its mean with x, and x by the sines of that, and return those."""
    if not _quick(x, last):
        last.copy_(x.lerp_(last, 0.5))
        return x.sin_()
    from embedfield.encoders.loops import write_averaged_sines

    write_averaged_sines(x.view(-1).numpy(), last.view(-1).numpy())
    return x


def rectified_sum_(x: Tensor, other: Tensor) -> Tensor:
    """Replace numbers by 0 where they are negative, add others, and return the sums."""
    if not _quick(x, other):
        return x.relu_().add_(other)
    from embedfield.encoders.loops import write_rectified_sums

    write_rectified_sums(x.view(-1).numpy(), other.view(-1).numpy())
    return x


def normalised_(rows: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return the layer norm of rows (N, n), which may be overwritten."""
    if not _quick(rows) or rows.ndim != 2:
        result: Tensor = norm(rows)
        return result
    from embedfield.encoders.loops import normalise

    normalise(rows.numpy(), norm.weight.numpy(), norm.bias.numpy(), np.float32(norm.eps))
    return rows


def cosine_and_sine(x: Tensor) -> Tensor:
    """Return the cosines, then the sines, of numbers (N, n): (N, 2 n)."""
    if not _quick(x):
        return torch.cat((x.cos(), x.sin()), dim=-1)
    result = x.new_empty(len(x), 2 * x.shape[1])
    both, angles = result.numpy(), x.numpy()
    np.cos(angles, out=both[:, : x.shape[1]])  # numpy's take a third of torch's time
    np.sin(angles, out=both[:, x.shape[1] :])
    return result


def _quick(*tensors: Tensor) -> bool:
    """Whether another than torch does it: in float32, on one processor, which is all that a block has."""
    return not torch.is_grad_enabled() and all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors
    )
