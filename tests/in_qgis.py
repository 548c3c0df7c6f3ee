"""What QGIS makes of rasters: run by the Python that has it, prints JSON. Arguments: a folder for pictures, rasters."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsPointXY,
    QgsRasterBandStats,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def told(name: str, folder: Path) -> dict[str, object]:
    """Open a raster as a double click does, draw it, and return what there is to know."""
    layer = QgsRasterLayer(name, "layer")
    _, styled = layer.loadDefaultStyle()
    provider, extent = layer.dataProvider(), layer.extent()
    picture = folder / f"{Path(name).stem}.png"
    draw(layer, picture)
    across = [0.1015, 0.3015, 0.5015, 0.7015, 0.9015]  # not on the edges of pixels
    places = [
        (extent.xMinimum() + x * extent.width(), extent.yMaximum() - y * extent.height())
        for y in across
        for x in across
    ]
    bands = range(1, layer.bandCount() + 1)
    # Without a value sample() says (nan, False).
    samples = [[value(provider, place, band) for band in bands] for place in places]
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "extent": [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()],
        "bands": [layer.bandName(band) for band in bands],
        "overviews": [pyramid.level for pyramid in provider.buildPyramidList() if pyramid.exists],
        "styled": styled,
        "renderer": layer.renderer().type(),
        "shown": layer.renderer().usesBands(),
        "places": places,
        "samples": samples,
        "greatest": provider.bandStatistics(1, QgsRasterBandStats.Max).maximumValue,
        "picture": str(picture),
    }


def value(provider: object, place: tuple[float, float], band: int) -> float | None:
    """Return the value of a band at a place; None where there is none."""
    found, there = provider.sample(QgsPointXY(*place), band)  # type: ignore[attr-defined]
    return found if there else None


def draw(layer: QgsRasterLayer, path: Path) -> None:
    """Draw a layer over nothing."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(200, 200))
    settings.setBackgroundColor(QColor(0, 0, 0, 0))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(path))


if __name__ == "__main__":
    app = QgsApplication([], False)
    app.initQgis()
    found = {name: told(name, Path(sys.argv[1])) for name in sys.argv[2:]}
    print(json.dumps(found), flush=True)  # noqa: T201
    # QGIS 3.22 may break down as it ends, when all is done.
    os._exit(0)
