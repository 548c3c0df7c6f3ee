"""embedfield: location encoders as rasters, and as columns of tables.

import embedfield as ef

encoder = ef.load("geoclip")
vectors = encoder.encode([[8.54, 47.37]])            # (1, 512)
field = ef.build_field("geoclip", res=1, out="catalog")
table = ef.extract_points(field, places)             # columns geoclip_000, …
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from embedfield.hook import once_imported

if TYPE_CHECKING:
    from embedfield.advise import advise_grid
    from embedfield.backend.virtual import virtual_field
    from embedfield.build import build_field
    from embedfield.card import Card
    from embedfield.catalog import Catalog
    from embedfield.certificate import Certificate
    from embedfield.describe import Description, describe_field
    from embedfield.embedder import LocationEmbedder
    from embedfield.encoders import Encoder
    from embedfield.errors import EmbedfieldError
    from embedfield.estimate import Estimate, estimate_build
    from embedfield.evaluate import EncodedField, Evaluator, load
    from embedfield.field import Field
    from embedfield.formats import history, open_field, write_field
    from embedfield.grid import Grid
    from embedfield.models import cards, read_card
    from embedfield.pictures.colours import Colours
    from embedfield.pictures.picture import write_picture
    from embedfield.pictures.preview import write_preview, write_rgb
    from embedfield.region import Region
    from embedfield.sample import extract_points, zonal_stats
    from embedfield.similar import find_similar, similar_places
    from embedfield.stream import sample_file
    from embedfield.tables import open_places, read_places, write_table
    from embedfield.verify import verify_field
    from embedfield.window import Window

# Where each public name lives. Nothing is imported before it is used: torch takes seconds.
_HOMES = {
    "Card": "card",
    "Catalog": "catalog",
    "Certificate": "certificate",
    "Colours": "pictures.colours",
    "Description": "describe",
    "EmbedfieldError": "errors",
    "EncodedField": "evaluate",
    "Encoder": "encoders",
    "Estimate": "estimate",
    "Evaluator": "evaluate",
    "Field": "field",
    "Grid": "grid",
    "LocationEmbedder": "embedder",
    "Region": "region",
    "Window": "window",
    "advise_grid": "advise",
    "build_field": "build",
    "cards": "models",
    "describe_field": "describe",
    "estimate_build": "estimate",
    "extract_points": "sample",
    "find_similar": "similar",
    "history": "formats",
    "load": "evaluate",
    "open_field": "formats",
    "open_places": "tables",
    "read_card": "models",
    "read_places": "tables",
    "sample_file": "stream",
    "similar_places": "similar",
    "verify_field": "verify",
    "virtual_field": "backend.virtual",
    "write_field": "formats",
    "write_picture": "pictures.picture",
    "write_preview": "pictures.preview",
    "write_rgb": "pictures.preview",
    "write_table": "tables",
    "zonal_stats": "sample",
}

__all__ = [
    "Card",
    "Catalog",
    "Certificate",
    "Colours",
    "Description",
    "EmbedfieldError",
    "EncodedField",
    "Encoder",
    "Estimate",
    "Evaluator",
    "Field",
    "Grid",
    "LocationEmbedder",
    "Region",
    "Window",
    "advise_grid",
    "build_field",
    "cards",
    "describe_field",
    "estimate_build",
    "extract_points",
    "find_similar",
    "history",
    "load",
    "open_field",
    "open_places",
    "read_card",
    "read_places",
    "sample_file",
    "similar_places",
    "verify_field",
    "virtual_field",
    "write_field",
    "write_picture",
    "write_preview",
    "write_rgb",
    "write_table",
    "zonal_stats",
]

# Arrays of xarray get `.embedfield`, whoever imports xarray, and when.
once_imported("xarray", lambda: importlib.import_module("embedfield.accessor"))


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'embedfield' has no attribute {name!r}")
    return getattr(importlib.import_module(f"embedfield.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
