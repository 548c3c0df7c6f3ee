"""Tables: files of places that are read, and files of tables that are written, batch by batch."""

from embedfield.tables.columns import coordinates_of, points_of
from embedfield.tables.places_file import PlacesBatch, PlacesFile, open_places, read_places
from embedfield.tables.table_file import check_output, new_table, write_table

__all__ = [
    "PlacesBatch",
    "PlacesFile",
    "check_output",
    "coordinates_of",
    "new_table",
    "open_places",
    "points_of",
    "read_places",
    "write_table",
]
