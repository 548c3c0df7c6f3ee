"""Field check: the item of one field against its files and the header of its raster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedfield.catalog.documents import is_address, is_relative, one_line, target_of
from embedfield.catalog.entry import BROKEN
from embedfield.errors import EmbedfieldError, FormatError
from embedfield.formats import open_field
from embedfield.formats.item import ASSET, LAYOUT
from embedfield.integrity import check_sums, multihash, size
from embedfield.stac.bands import quantization_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedfield.catalog.entry import Entry
    from embedfield.catalog.mirror import Mirror
    from embedfield.formats.stored import StoredField

AGAIN = "Build the field again with --overwrite"


class FieldCheck(NamedTuple):
    """A field to check, by its item."""

    root: Path
    """Folder of the catalogue, from the root of the disk."""
    path: Path
    """The item's file."""
    item: dict[str, Any]
    """What it holds."""
    entry: Entry
    """What it says."""
    mirror: Mirror | None = None
    """Of a catalogue on a network: what the files here stand for."""

    @property
    def at_home(self) -> bool:
        """Whether the raster lies in the folder of its item, and is no registered one."""
        local = not is_address(self.entry.href) and Path(self.entry.href).parent == self.path.parent
        return local and LAYOUT not in self.item["properties"]

    @property
    def size(self) -> int:
        """Bytes of the field's folder."""
        return size(self.path.parent)

    def faults(self) -> list[str]:
        """Return what is wrong with hrefs, files and header."""
        hrefs = list(self._hrefs())
        return hrefs or [*self._files(), *self._header()]

    def sums(self) -> list[str]:
        """Return what is wrong with the bytes of a field at home."""
        try:
            return list((self.mirror.wrong_sums if self.mirror else check_sums)(self.path.parent))
        except (FormatError, OSError) as error:
            return [one_line(error)]

    def _hrefs(self) -> Iterator[str]:
        """Yield the assets that lead out of the catalogue."""
        registered = LAYOUT in self.item["properties"] or not is_relative(self._assets[ASSET]["href"])
        for key, asset in self._assets.items():
            href = asset["href"]
            if is_relative(href):
                if self.root not in target_of(self.path, href).parents:
                    yield f"its asset '{key}', {one_line(href)}, leads out of the catalogue: put the file into it"
            elif not (registered and key == ASSET):
                yield f"its asset '{key}', {one_line(href)}, leads out of the catalogue: make it relative"

    @property
    def _assets(self) -> dict[str, dict[str, Any]]:
        return dict(self.item["assets"])

    def _files(self) -> Iterator[str]:
        """Yield what is wrong with files by their names and sizes; and of what no list has the digests, by those."""
        for key, asset in self._assets.items():
            path = self._place(asset["href"])
            if path is None:
                continue
            try:
                wrong = self._differs(path, asset)
            except (OSError, ValueError) as error:
                wrong = f"cannot be read: {one_line(error)}"
            if wrong:
                yield f"its asset '{key}', {one_line(asset['href'])}, {wrong}"

    def _place(self, href: str) -> Path | None:
        """Return the file of an href; None if it is on a network."""
        if is_relative(href):
            return target_of(self.path, href)
        return None if is_address(href) and not href.startswith("file:") else Path(href.removeprefix("file://"))

    def _differs(self, path: Path, asset: dict[str, Any]) -> str:
        if not path.exists():
            return "is missing: put it back, or take the field out with 'embedfield catalog remove'"
        if "file:size" in asset and asset["file:size"] != size(path):
            return f"has {size(path):,} bytes and not {asset['file:size']!r}: {AGAIN}"
        told = asset.get("file:checksum")
        # A raster at home has a list of digests, whose check may be left out.
        if told is None or self.at_home or path.is_dir() or self._stands_in(path) or multihash(path) == told:
            return ""
        return "is damaged: its bytes are not those that were registered"

    def _stands_in(self, path: Path) -> bool:
        """Return whether a file has only the size of the one that is meant."""
        return self.mirror is not None and self.mirror.stands_in(path)

    def _header(self) -> Iterator[str]:
        """Yield what the raster's own header and its item do not agree on."""
        raster = self._place(self.entry.href)
        if raster is None or not os.path.exists(raster):  # noqa: PTH110  the check of files has named it
            return
        try:
            with open_field(str(self.mirror.place(self.path)) if self.mirror else self.path) as field:
                for what in self._disagreed(field):
                    yield f"it and the raster do not agree on {what}: {AGAIN}"
        except (EmbedfieldError, OSError, *BROKEN) as error:
            yield f"its raster cannot be opened: {one_line(error)}"

    def _disagreed(self, field: StoredField) -> Iterator[str]:
        told, grid = self.item["properties"], field.grid
        transform = [float(number) for number in told["proj:transform"]][:6]
        same = {
            "the model": self.entry.model == field.card.name,
            "the reference system": self.entry.crs == grid.crs,
            "the shape": list(told.get("proj:shape", grid.shape)) == list(grid.shape),
            "the transform": len(transform) == 6 and np.allclose(transform, list(grid.transform)[:6], rtol=1e-12),
            "the bands": [band.get("name") for band in self._assets[ASSET]["bands"]] == list(field.band_names),
            "the packing": told.get("emb:quantization") == quantization_of(field),
        }
        yield from (what for what, agreed in same.items() if not agreed)
