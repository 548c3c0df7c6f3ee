"""Journal: what is done of a write and whole on the disk, so that the same write goes on from there."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from embedfield.clock import Clock
from embedfield.integrity import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.formats.packing import Packing

# Seconds of work after which the finished rows of a large unit are kept.
INTERVAL = 60.0


@dataclass(frozen=True)
class Work:
    """A write under way."""

    field: Field
    """What is written; the same at every run."""
    packing: Packing
    """How numbers are stored; the same at every run."""
    journal: Journal | Notes
    """What is done."""
    progress: Callable[[int], None]
    """Told the number of pixels done, piece by piece."""
    clock: Clock = dataclasses.field(default_factory=Clock)
    """What the parts of it took."""


class Entry(TypedDict, total=False):
    """What is known of a unit."""

    unit: str
    saturated: int
    """How many of its values lay outside their range."""
    bytes: int
    """Size of its files."""
    rows: int
    """How many of its rows are kept, while it is not whole."""
    sha256: dict[str, str]
    """Digests of its files, by their names in the field's folder, where they are known."""


class Journal:
    """A file with a line for each unit that is done, written once the unit itself is on the disk.

    A process that is killed leaves at most a half line, which is not read.
    Several threads may add units.
    """

    def __init__(self, folder: Path) -> None:
        """Open the journal of a folder; begin one if it has none."""
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._path = folder / "journal.jsonl"
        self._done: dict[str, Entry] = {}
        self._kept: dict[str, list[Entry]] = {}
        self._since = time.monotonic()
        self._lock = threading.Lock()
        self._read()

    def _read(self) -> None:
        """Take in the lines of an earlier process, and cut off what it did not finish."""
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        whole = 0
        for line in lines:
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
        if lines:
            os.truncate(self._path, whole)

    def _take(self, entry: Entry) -> None:
        unit, kind = entry["unit"], "rows" if "rows" in entry else "bytes"
        whole: Entry = {"unit": unit, "saturated": int(entry["saturated"]), kind: int(entry[kind])}  # type: ignore[misc]
        if "sha256" in entry:
            whole["sha256"] = dict(entry["sha256"])
        if kind == "rows":
            self._kept.setdefault(unit, []).append(whole)
        else:
            self._done[unit] = whole
            self._kept.pop(unit, None)  # its rows are not kept any longer

    def done(self, unit: str, *paths: Path) -> Entry | None:
        """Return what is known of a unit that is whole, its files as large as they were; None if it is not."""
        entry = self._done.get(unit)
        return entry if entry and entry["bytes"] == bytes_of(paths) else None

    def add(self, unit: str, *paths: Path, saturated: int = 0) -> None:
        """Enter a unit as whole.

        Args:
            unit: Its name.
            paths: Its files; one that holds only nodata may be left out by a format.
            saturated: How many of its values lay outside their range.
        """
        sync(*(path for path in paths if path.exists()))
        self.enter({"unit": unit, "saturated": saturated, "bytes": bytes_of(paths)})

    def enter(self, *entries: Entry) -> None:
        """Enter units whose files are on the disk."""
        self._enter(*entries)
        for entry in entries:
            self._scratch(entry["unit"]).unlink(missing_ok=True)

    def _enter(self, *entries: Entry) -> None:
        with self._lock, self._path.open("ab") as file:
            file.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
            file.flush()
            os.fsync(file.fileno())
            for entry in entries:
                self._take(entry)
            self._since = time.monotonic()

    @property
    def digests(self) -> dict[str, str]:
        """The digests that are known of the units' files, by their names in the field's folder."""
        return {name: digest for entry in self._done.values() for name, digest in entry.get("sha256", {}).items()}

    def keep(self, unit: str, codes: npt.NDArray[Any], rows: int, saturated: int) -> None:
        """Keep the first rows of a unit that is not whole, if the last time is long ago.

        Args:
            unit: Its name.
            codes: (dim, height, width), of which the first rows are done.
            rows: How many.
            saturated: How many of their values lay outside their range.
        """
        if time.monotonic() - self._since < INTERVAL or rows == codes.shape[1]:
            return
        kept = self._kept.get(unit, [])
        start = kept[-1]["rows"] if kept else 0
        path = self._scratch(unit)
        path.touch()
        os.truncate(path, start * _row_bytes(codes))  # what a killed process wrote beyond its last line
        with path.open("ab") as file:
            file.write(np.ascontiguousarray(codes[:, start:rows]).data)
        sync(path)
        self._enter({"unit": unit, "rows": rows, "saturated": saturated})

    def restore(self, unit: str, codes: npt.NDArray[Any]) -> tuple[int, int]:
        """Set the rows of a unit that were kept; return how many they are, and how many of their values saturated."""
        kept, start = self._kept.get(unit, []), 0
        path = self._scratch(unit)
        if kept and (not path.exists() or path.stat().st_size < kept[-1]["rows"] * _row_bytes(codes)):
            kept = self._kept[unit] = []
        for entry in kept:
            strip = codes[:, start : entry["rows"]]
            data = np.fromfile(path, codes.dtype, count=strip.size, offset=start * _row_bytes(codes))
            strip[...] = data.reshape(strip.shape)
            start = entry["rows"]
        return start, kept[-1]["saturated"] if kept else 0

    def _scratch(self, unit: str) -> Path:
        return self.folder / f"{unit}.rows"


class Notes:
    """What a process did of a write that another leads, who enters it into the journal: nothing is kept here."""

    def __init__(self, folder: Path) -> None:
        """Begin without any; the folder is for what is made on the way."""
        self.folder = folder
        self.entries: list[Entry] = []
        self.files: dict[str, list[Path]] = {}
        """Those that are there of each unit."""

    def done(self, unit: str, *paths: Path) -> Entry | None:  # noqa: ARG002  the journal's own asks for them
        """Return what is known of a unit: nothing, for it is only given here what is to be done."""
        return None

    def add(self, unit: str, *paths: Path, saturated: int = 0) -> None:
        """Note a unit that is whole."""
        self.files[unit] = [path for path in paths if path.exists()]
        self.entries.append({"unit": unit, "saturated": saturated, "bytes": bytes_of(paths)})

    def keep(self, unit: str, codes: npt.NDArray[Any], rows: int, saturated: int) -> None:
        """Keep nothing of a unit that is not whole."""

    def restore(self, unit: str, codes: npt.NDArray[Any]) -> tuple[int, int]:  # noqa: ARG002  as the journal's own
        """Return that nothing of a unit is kept."""
        return 0, 0


def bytes_of(paths: Iterable[Path]) -> int:
    """Return the size of files together; of one that is not there none."""
    return sum(path.stat().st_size for path in paths if path.exists())


def _row_bytes(codes: npt.NDArray[Any]) -> int:
    dim, _, width = codes.shape
    return int(dim * width * codes.itemsize)
