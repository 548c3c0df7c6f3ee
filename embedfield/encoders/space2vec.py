"""What the heirs of Space2Vec share: how their checkpoints keep frequencies and a feed-forward net."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from embedfield.encoders.checkpoint import count, fill, parameter, shown, sizes
from embedfield.encoders.networks import ACTIVATIONS, FeedForward
from embedfield.encoders.positional import geometric
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


# More would be a slip, or malice: a released encoder has 64.
MOST_FREQUENCIES = 10_000


def frequencies(parameters: Mapping[str, Any], path: Path, family: str) -> Tensor:
    """Return the frequencies that a checkpoint's parameters describe, (F,), float64.

    Raises:
        WeightsError: If a parameter is missing, or they describe none.
    """
    number = parameter(parameters, "frequency_num", int, path, family)
    least, greatest = (parameter(parameters, name, float, path, family) for name in ("min_radius", "max_radius"))
    if 2 <= number <= MOST_FREQUENCIES and 0 < least < greatest < math.inf:
        scales = geometric(number, least, greatest)
        if scales.isfinite().all():
            return scales
    raise WeightsError(
        f"{path} is not a {family} checkpoint: {shown(number)} frequencies between the radii {least:g} and "
        f"{greatest:g} make no scale. Give the file that {family} released."
    )


def feed_forward(
    state: Mapping[str, Tensor], parameters: Mapping[str, Any], features: int, path: Path, family: str
) -> FeedForward:
    """Return the net of a checkpoint, filled.

    Args:
        state: Tensors ``layers.<n>.linear.…`` and ``layers.<n>.layernorm.…``.
        parameters: What the checkpoint says of its activation, layer norm and skips.
        features: Length of the positional encoding.
        path: The checkpoint, for messages.
        family: Its family, likewise.

    Raises:
        WeightsError: If the tensors are not that net, or their input is of another length.
    """
    name = parameter(parameters, "spa_f_act", str, path, family)
    if name not in ACTIVATIONS:
        raise WeightsError(
            f"{path} has the activation {shown(name)}. {family} has {', '.join(ACTIVATIONS)}. "
            f"Give the file that {family} released."
        )
    layers = range(count(state, r"layers\.\d+\.linear\.weight"))
    _, *widths = sizes(state, ["layers.0.linear", *(f"layers.{n}.linear" for n in layers[1:])], path, family)
    network = FeedForward(
        [features, *widths],
        ACTIVATIONS[name],
        norm=parameter(parameters, "use_layn", bool, path, family),
        skip=parameter(parameters, "skip_connection", bool, path, family),
    )
    fill(network, state, path, family)
    return network
