"""The published catalogue is whole, and its field is what GeoCLIP gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pystac

import embedfield as ef

CATALOG = Path(__file__).parent.parent / "catalog"
FIELD = CATALOG / "geoclip" / "geoclip-5deg-cog-uint8"


def test_the_catalogue_leads_to_the_field_and_its_bytes_are_true() -> None:
    items = {
        item.id: item for item in pystac.Catalog.from_file(str(CATALOG / "catalog.json")).get_items(recursive=True)
    }
    asset = items[FIELD.name].assets["embeddings"]
    path = Path(str(asset.get_absolute_href()))
    assert path == FIELD / f"{FIELD.name}.tif"
    assert asset.extra_fields["file:size"] == path.stat().st_size
    assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_its_pixels_are_geoclip_within_the_error_that_packing_states(released: Path) -> None:
    with ef.open_field(FIELD) as field:
        centres = field.grid.lonlat()[::97]
        apart = abs(field.at(centres) - ef.load("geoclip", released, "cpu", "float64").encode(centres))
        assert (apart <= field.packing.max_error + 1e-7).all()
        assert field.saturated == 0
