"""Delimited text, CSV and TSV, as batches of columns whose types the whole file decides."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv

from embedfield.tables.columns import Numbering, as_type, refuse_duplicates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEPARATORS = {".csv": ",", ".tsv": "\t"}
# Bytes that are read at a time, and more where a row is longer: pyarrow reads up to 32 times as many ahead.
BLOCKS = (1 << 20, 16 << 20, 256 << 20)

# Bytes of blank lines that may stand at the end.
ROOM = 4096


@dataclass(frozen=True)
class TextSource:
    """A file of delimited text with a header, in UTF-8.

    It is read once to decide the types of its columns, so that all batches agree.
    """

    path: Path
    header: tuple[str, ...]
    """Names as they stand in the file."""
    schema: pa.Schema
    """int64, float64 or string; see `Numbering`."""
    count: int
    block: int
    """Bytes to read at a time."""
    geometry: None = None
    crs: None = None

    @classmethod
    def open(cls, path: Path) -> TextSource:
        """Read a file through and return it.

        Raises:
            PlacesError: If columns have the same name.
            ValueError: If it is no such text.
            OSError: If it cannot be read.
        """
        header, more = _header(path)
        names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
        refuse_duplicates(names, str(path))
        columns, count, block = _seen(path, header) if more else ([Numbering() for _ in header], 0, BLOCKS[0])
        schema = pa.schema([(name, column.type) for name, column in zip(names, columns, strict=True)])
        return cls(path, header, schema, count, block)

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 -- blocks are of so many bytes
        """Yield its rows, in order; how many at a time their length decides."""
        for block in _blocks(self.path, self.header, self.block) if self.count else ():
            cells = [as_type(*pair) for pair in zip(block.columns, self.schema.types, strict=True)]
            yield pa.RecordBatch.from_arrays(cells, schema=self.schema)


def _separator(path: Path) -> str:
    return SEPARATORS[path.suffix.lower()]


def _header(path: Path) -> tuple[tuple[str, ...], bool]:
    """Return the names in the first row that is not blank, and whether any row follows it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next((row for row in csv.reader(file, delimiter=_separator(path)) if row), None)
        if names is None:
            raise ValueError("it is empty")
        return tuple(names), any(line.strip("\r\n") for line in file)


def _seen(path: Path, header: tuple[str, ...]) -> tuple[list[Numbering], int, int]:
    """Return what all columns are, how many rows there are, and how many bytes to read at a time."""
    for size in BLOCKS:
        columns, count, last = [Numbering() for _ in header], 0, None
        try:
            for block in _blocks(path, header, size):
                count += block.num_rows
                last = block.columns[-1][-1].as_py() if block.num_rows else last
                for column, cells in zip(columns, block.columns, strict=True):
                    column.see(cells)
        except pa.ArrowInvalid as error:
            if "increase block size" not in str(error):
                raise
        else:
            _check_end(path, last or "")
            return columns, count, size
    raise ValueError(f"it has a row of more than {BLOCKS[-1] >> 20} MB")


def _check_end(path: Path, last: str) -> None:
    """Refuse a file whose last cell began with a quote that never ended, and so swallowed all rows after it."""
    quoted = '"{}"'.format(last.replace('"', '""')).encode()
    if "\n" in last or "\r" in last:
        with path.open("rb") as file:
            file.seek(-min(path.stat().st_size, len(quoted) + ROOM), io.SEEK_END)
            if not file.read().rstrip(b"\r\n").endswith(quoted):
                raise ValueError(f"a quote does not end before the file does, in a cell that begins {last[:20]!r}")


def _blocks(path: Path, header: tuple[str, ...], block: int) -> Iterator[pa.RecordBatch]:
    """Yield all cells as text, empty ones null."""
    with pyarrow.csv.open_csv(
        path,
        # In one thread, for only then do errors say the row.
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=block),
        parse_options=pyarrow.csv.ParseOptions(delimiter=_separator(path), newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    ) as reader:
        yield from reader
