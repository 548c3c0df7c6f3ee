"""Preview: a field as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from embedfield.reduce import Reduction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.field import Field

# Pixels of the picture's longer side, about.
SIZE = 1080
# Places at which the colours are fitted.
SAMPLE = 8192
# With fewer values among them, as where a region is small in its bounds, the pixels that are shown are the sample.
FEW = 512
# Shares of the sample that may fall outside the colours, in percent.
CLIP = (2, 98)


def write_preview(field: Field, path: Path) -> None:
    """Write a PNG of the three strongest principal components as red, green, blue.

    Components are those of the vectors' directions, weighed by area and stretched between percentiles 2 and 98;
    a place without a value is transparent. A large field is shown by pixels
    picked at even steps, a small one with its pixels enlarged.

    Args:
        field: What to show.
        path: ``….png``.
    """
    step = max(1, max(field.grid.shape) // SIZE)
    shown = [_directions(strip) for strip in _strips(field, step)]
    sample = _with_value(_directions(field.at(field.places(SAMPLE))))
    if len(sample) < FEW:
        pixels = np.concatenate([_with_value(strip) for strip in shown])
        sample = np.concatenate((sample, pixels[:: max(1, len(pixels) // SAMPLE)]))
    if not len(sample):  # nothing to see: any colours will do
        sample = np.zeros((1, field.dim), dtype=np.float32)
    reduction = Reduction.fit(sample, min(3, field.dim))
    low, high = np.percentile(reduction.reduce(sample), CLIP, axis=0)
    strips = [_colours(reduction.reduce(strip), low, high) for strip in shown]
    width = len(_picked(field.grid.width, step))
    picture = np.concatenate(strips).reshape(-1, width, 4)
    enlarge = max(1, SIZE // max(picture.shape[:2]))
    Image.fromarray(picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)).save(path, format="PNG", optimize=True)


def _directions(values: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
    """Return vectors (n, dim) at length 1; as they are where three colours show them whole."""
    if values.shape[1] <= 3:
        return values
    # What an encoder means is a direction: most were trained by cosine, and length is noise.
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(length, np.finfo(np.float32).tiny)


def _with_value(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return values[~np.isnan(values).any(axis=1)]


def _picked(count: int, step: int) -> npt.NDArray[np.int64]:
    """Return every `step`-th of `count` pixels, from the middle of the first step."""
    return np.arange(min(step // 2, count - 1), count, step)


def _strips(field: Field, step: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the picked pixels (n, dim), in strips of rows that share blocks."""
    rows, cols = _picked(field.grid.height, step), _picked(field.grid.width, step)
    for strip in np.split(rows, np.flatnonzero(np.diff(rows // field.blocksize)) + 1):
        yield field.pixels(np.repeat(strip, len(cols)), np.tile(cols, len(strip)))


def _colours(
    values: npt.NDArray[np.float64], low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Return RGBA (n, 4) of components (n, 1 to 3)."""
    stretched = (values - low) / np.where(high > low, high - low, 1.0)
    rgba = np.zeros((len(values), 4))
    # Fewer than three components repeat the last: one becomes a grey picture.
    rgba[:, :3] = stretched[:, np.minimum(np.arange(3), values.shape[1] - 1)]
    rgba[:, 3] = ~np.isnan(values).any(axis=1)
    return np.rint(255 * np.nan_to_num(rgba).clip(0, 1)).astype(np.uint8)
