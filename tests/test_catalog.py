"""The published catalogue is whole, and its field is what GeoCLIP gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pystac

import embedfield as ef
from embedfield.catalog.validation import check_catalog_files

CATALOG = Path(__file__).parent.parent / "catalog"
FIELD = CATALOG / "geoclip" / "geoclip-pca16-1deg-cog-uint8"


def test_the_catalogue_leads_to_the_field_and_its_bytes_are_true() -> None:
    items = {
        item.id: item for item in pystac.Catalog.from_file(str(CATALOG / "catalog.json")).get_items(recursive=True)
    }
    asset = items[FIELD.name].assets["embeddings"]
    path = Path(str(asset.get_absolute_href()))
    assert path == FIELD / f"{FIELD.name}.tif"
    assert asset.extra_fields["file:size"] == path.stat().st_size
    assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_is_whole_and_small() -> None:
    assert check_catalog_files(CATALOG) == []
    assert sum(path.stat().st_size for path in CATALOG.rglob("*") if path.is_file()) < 2.5e6
    (entry,) = ef.Catalog(CATALOG).entries("geoclip", res=(1, 1))
    assert (entry.id, entry.bands) == (FIELD.name, 16)


def test_its_pixels_are_geoclip_within_the_error_that_packing_states(released: Path) -> None:
    with ef.open_field(FIELD) as field:
        centres = field.grid.lonlat()[::997]
        assert field.reduction
        exact = field.reduction.reduce(ef.load("geoclip", released, "cpu", "float64").encode(centres))
        # A few values lie beyond their band's range, and are stored as its end.
        first, last = (field.packing.offset + code * field.packing.scale for code in (1, 255))
        apart = abs(field.at(centres) - exact.clip(first, last))
        assert (apart <= field.packing.max_error + 1e-6).all()
        assert field.saturated < 1e-4 * field.dim * field.grid.width * field.grid.height
