"""Vrt: a GDAL virtual raster, which gives pixels that lie elsewhere their names, packing and place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

from embedfield.formats.stored import HEADER, header_of

if TYPE_CHECKING:
    from embedfield.field import Field
    from embedfield.formats.packing import Packing
    from embedfield.window import Window

# Types of stored numbers in GDAL's words.
GDAL_TYPES = {"uint8": "Byte", "int16": "Int16", "float16": "Float16", "float32": "Float32"}
BLOCKSIZE = 128


class Vrt:
    """A virtual raster: bands with their names and packing, and where their pixels are."""

    def __init__(
        self, field: Field, packing: Packing, saturated: int, window: Window, stored: str | None = None
    ) -> None:
        """Describe a window of a field; its bands have no pixels yet.

        Args:
            field: What it is a part of.
            packing: How its numbers are stored.
            saturated: How many of its values lay outside their range.
            window: Which part.
            stored: Type of the numbers where the pixels are; None for the packing's.
        """
        self.packing, self.stored = packing, stored or packing.dtype
        self.root = Element("VRTDataset", rasterXSize=str(window.width), rasterYSize=str(window.height))
        # Without a mapping of axes x comes first, as in every raster.
        SubElement(self.root, "SRS").text = field.grid.crs
        west, north = field.grid.transform @ (window.col_off, window.row_off)
        SubElement(
            self.root, "GeoTransform"
        ).text = f"{west!r}, {field.grid.res!r}, 0, {north!r}, 0, {-field.grid.res!r}"
        metadata = SubElement(self.root, "Metadata")
        SubElement(metadata, "MDI", key=HEADER.upper()).text = json.dumps(header_of(field, packing, saturated))
        SubElement(metadata, "MDI", key="AREA_OR_POINT").text = "Area"
        self.bands = [self._band(number, name) for number, name in enumerate(field.band_names)]

    def _band(self, number: int, name: str) -> Element:
        band = SubElement(
            self.root, "VRTRasterBand", dataType=GDAL_TYPES[self.stored], band=str(number + 1),
            blockXSize=str(BLOCKSIZE), blockYSize=str(BLOCKSIZE),
        )  # fmt: skip
        SubElement(band, "Description").text = name
        SubElement(band, "NoDataValue").text = repr(self.packing.nodata)
        SubElement(band, "Scale").text = repr(float(self.packing.scale[number]))
        SubElement(band, "Offset").text = repr(float(self.packing.offset[number]))
        return band

    def add_files(self, names: list[str]) -> None:
        """Let the pixels and overviews of all bands be the same bands of files beside the VRT."""
        for number, band in enumerate(self.bands):
            for level, name in enumerate(names):
                source = SubElement(band, "Overview" if level else "SimpleSource")
                SubElement(source, "SourceFilename", relativeToVRT="1").text = name
                SubElement(source, "SourceBand").text = str(number + 1)

    def add_tile(self, name: str, window: Window) -> None:
        """Let a part of all bands be the same bands of a file beside the VRT."""
        size: dict[str, str] = {"xSize": str(window.width), "ySize": str(window.height)}
        for number, band in enumerate(self.bands):
            source = SubElement(band, "SimpleSource")
            SubElement(source, "SourceFilename", relativeToVRT="1").text = name
            SubElement(source, "SourceBand").text = str(number + 1)
            SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0"} | size)
            SubElement(source, "DstRect", {"xOff": str(window.col_off), "yOff": str(window.row_off)} | size)

    def text(self) -> str:
        """Return the XML."""
        return tostring(self.root, encoding="unicode")
