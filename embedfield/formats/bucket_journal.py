"""BucketJournal: what is done of a write into a bucket, kept there in batches of lines: an object cannot grow."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from embedfield.formats.bucket import Bucket
    from embedfield.formats.journal import Entry

# Where batches lie in the folder of an unfinished build.
FOLDER = "journal"
# Seconds between two batches; more as they become many, for all are read when a build goes on.
INTERVAL = 5.0
SLOWER = 0.05
# Batches that are read side by side.
READERS = 16


class BucketJournal:
    """The units that are done of a write into a bucket, their files whole there.

    A unit is done if it was entered, and all of its files lay in the bucket at
    the size that they should have when the journal was opened; or if it was
    entered since. Entries go to the bucket every few seconds, and when the
    ``with`` block ends, however it ends: a process that is killed loses the
    last few, whose units are then written again, with the same bytes. Several
    threads may enter units, and several processes may write the same field:
    each has batches of its own.
    """

    def __init__(self, bucket: Bucket, sizes: Mapping[str, int]) -> None:
        """Open the journal of an unfinished build; one without entries if it has none.

        Args:
            bucket: The folder of the build's bookkeeping.
            sizes: Bytes of the files of the field that lie in the bucket, by
                their names in the field's folder.

        Raises:
            FormatError: If the bucket cannot be read.
        """
        self.bucket = bucket
        self._name, self._batches, self._since = uuid4().hex, 0, -INTERVAL
        self._waiting: list[Entry] = []
        self._lock = threading.Lock()
        found = {entry["unit"]: entry for entry in self._read()}
        self._done = {unit: entry for unit, entry in found.items() if _is_there(entry, sizes)}

    def _read(self) -> Iterator[Entry]:
        """Yield the entries of earlier processes, the oldest first."""
        batches = self.bucket.objects(FOLDER)
        names = sorted(batches, key=lambda name: (batches[name].written, name))
        with ThreadPoolExecutor(READERS) as pool:
            for data in pool.map(self.bucket.read, names):
                yield from _entries(data)

    def done(self, unit: str, *_: Path) -> Entry | None:
        """Return what is known of a unit that is whole; None if it is not. Its entry names its files."""
        return self._done.get(unit)

    @property
    def entries(self) -> list[Entry]:
        """What is known of all units that are whole."""
        return list(self._done.values())

    @property
    def digests(self) -> dict[str, str]:
        """The sha256 of the files of all units that are whole, by their names in the field's folder."""
        return {name: digest for entry in self.entries for name, digest in entry["sha256"].items()}

    def enter(self, *entries: Entry) -> None:
        """Enter units whose files are in the bucket, with the digests of all of them.

        Raises:
            StorageError: If the bucket cannot be written.
        """
        with self._lock:
            self._waiting += entries
            self._done |= {entry["unit"]: entry for entry in entries}
            if time.monotonic() - self._since >= INTERVAL + SLOWER * self._batches:
                self._put()

    def flush(self) -> None:
        """Have all that was entered in the bucket.

        Raises:
            StorageError: If it cannot be written.
        """
        with self._lock:
            self._put()

    def _put(self) -> None:
        """Put what waits into the bucket, as one object."""
        if self._waiting:
            lines = "".join(f"{json.dumps(entry)}\n" for entry in self._waiting)
            self.bucket.put(f"{FOLDER}/{self._name}-{self._batches + 1:06d}.jsonl", lines.encode())
            self._batches += 1
            self._waiting.clear()
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have all that was entered in the bucket.

        Raises:
            StorageError: If it cannot be written.
        """
        self.flush()


def _entries(data: bytes) -> Iterator[Entry]:
    """Yield the entries of a batch; what is damaged in it is as if it had not been done."""
    for line in data.splitlines():
        try:
            entry: Any = json.loads(line)
            yield {
                "unit": str(entry["unit"]),
                "saturated": int(entry["saturated"]),
                "bytes": int(entry["bytes"]),
                "sha256": dict(entry["sha256"]),
            }
        except (ValueError, LookupError, TypeError):
            continue


def _is_there(entry: Entry, sizes: Mapping[str, int]) -> bool:
    """Return whether all files of a unit are there, as large together as they were."""
    return all(name in sizes for name in entry["sha256"]) and entry["bytes"] == sum(
        sizes[name] for name in entry["sha256"]
    )
