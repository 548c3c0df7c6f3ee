"""Style: how QGIS shows a field at once, a ``.qml`` beside its raster."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from embedfield.integrity import placed
from embedfield.pictures.colours import CLIP
from embedfield.pictures.look import Look

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.field import Field

# The coarser picture by which bands are judged has at least so many pixels along its longer side.
SIZE = 128
HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
# The oldest QGIS that it was checked with.
QGIS = "3.22"


def write_style(field: Field, path: Path) -> None:
    """Write a style of QGIS: three bands that differ much as red, green and blue, stretched by area.

    Values are decoded ones, as QGIS shows them; what has no value is
    transparent. QGIS takes the style by itself where `path` is that of
    `style_path`. The same field gives the same bytes.

    Args:
        field: What is to be shown.
        path: ``….qml``; nothing stands there before it is whole.
    """
    sample = Look(field, SIZE).sample()
    bands = _bands(sample, reduced=field.components is not None)
    limits = [_limits(sample[:, band]) for band in bands]
    text = HEAD + _document(bands, limits) + "\n"
    placed(path, lambda part: part.write_text(text, encoding="utf-8"))


def style_path(raster: Path) -> Path:
    """Return where QGIS looks for the style of a raster: ``x.qml`` of ``x.tif``, ``x.zarr.qml`` of ``x.zarr.vrt``.

    Args:
        raster: What QGIS opens. It opens a Zarr by the ``.zarr.vrt`` beside it, where there is one.
    """
    beside = raster.with_name(f"{raster.name}.vrt")
    return (beside if beside.exists() else raster).with_suffix(".qml")


def _bands(sample: npt.NDArray[np.float32], *, reduced: bool) -> list[int]:
    """Return up to three bands, from 0, of a sample (N, dim) that say most together.

    The first varies most; each further one has the most that those before it do not explain.
    """
    dim = sample.shape[1]
    if reduced or len(sample) < 2:  # components come by their importance
        return list(range(min(3, dim)))
    left = sample - sample.mean(axis=0, dtype=np.float64)
    bands: list[int] = []
    while len(bands) < min(3, dim):
        variance = np.einsum("nd,nd->d", left, left)
        variance[bands] = -1.0
        band = int(variance.argmax())
        bands.append(band)
        axis = left[:, band] / max(float(np.sqrt(max(variance[band], 0.0))), np.finfo(np.float64).tiny)
        left -= np.outer(axis, axis @ left)
    return bands


def _limits(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return what is darkest and what is brightest of values (N,), of which there may be none."""
    low, high = np.percentile(values.astype(np.float64), CLIP) if len(values) else (0.0, 0.0)
    return float(low), float(high if high > low else low + (abs(low) or 1.0))


def _document(bands: list[int], limits: list[tuple[float, float]]) -> str:
    """Return the style as XML."""
    root = Element("qgis", version=QGIS, styleCategories="Symbology")
    pipe = SubElement(root, "pipe")
    if len(bands) == 1:
        renderer = SubElement(pipe, "rasterrenderer", type="singlebandgray", grayBand=str(bands[0] + 1))
        renderer.set("gradient", "BlackToWhite")
        names = ["contrastEnhancement"]
    else:
        # Of two bands the second is green and blue, as in previews.
        bands, limits = [*bands, bands[-1]][:3], [*limits, limits[-1]][:3]
        colours = ("red", "green", "blue")
        shown = {f"{colour}Band": str(band + 1) for colour, band in zip(colours, bands, strict=True)}
        renderer = SubElement(pipe, "rasterrenderer", shown, type="multibandcolor")
        names = [f"{colour}ContrastEnhancement" for colour in colours]
    for name, value in (("opacity", "1"), ("alphaBand", "-1"), ("nodataColor", "")):
        renderer.set(name, value)
    for name, (low, high) in zip(names, limits, strict=True):
        stretch = SubElement(renderer, name)
        SubElement(stretch, "minValue").text = f"{low:.9g}"
        SubElement(stretch, "maxValue").text = f"{high:.9g}"
        SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"
    # Else QGIS may measure again what is brightest, over all pixels.
    SubElement(SubElement(renderer, "minMaxOrigin"), "limits").text = "None"
    indent(root)
    return tostring(root, encoding="unicode")
