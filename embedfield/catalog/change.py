"""Change: what is changed in the mirror of a catalogue, put back into the bucket where the catalogue lies.

There is no lock in a bucket. A document is put on the condition that nobody
has changed it since it was fetched; if somebody has, all is done again with
what is there by then. So of two builds that finish at once both are entered.
"""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from embedfield.catalog.documents import CATALOG, COLLECTION, ITEMS, MODEL
from embedfield.catalog.mirror import Mirror
from embedfield.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obstore import UpdateVersion

    from embedfield.formats.bucket import Bucket

# How often a change is tried, and how long at most is waited after the first time, in seconds; it grows with each.
TRIES = 24
WAIT = 0.1
# In which order documents are put: a reader never follows a link to a document that is not there yet; a new
# catalogue's link to its table waits for it a moment. For that is put last and was fetched first: where nobody else put
# it meanwhile, all that others have entered was seen.
LAST = (MODEL, COLLECTION, CATALOG, ITEMS)


def changed[T](bucket: Bucket, change: Callable[[Mirror], T], fields: Iterable[str] | None) -> T:
    """Change a catalogue in a bucket, by a function that changes its mirror.

    Args:
        bucket: The catalogue's folder, where nothing need be yet.
        change: Told the mirror, whose folder it changes; called again if another process was quicker.
        fields: Folders, as ``model/id``, whose small files it asks for or changes; None for all.

    Returns:
        What the function returned when its changes were put.

    Raises:
        BusyError: If others were quicker again and again.
        FormatError: If the catalogue cannot be read.
        StorageError: If it cannot be written.
    """
    asked = None if fields is None else list(fields)
    mine: dict[str, UpdateVersion] = {}
    for turn in range(TRIES):
        with TemporaryDirectory(prefix="embedfield-") as folder:
            mirror = Mirror(bucket, Path(folder))
            _fetch(mirror, asked, mine)
            with mirror.named():
                answer = change(mirror)
            if _Delivery(bucket, mirror, mine).done():
                return answer
        time.sleep(random.uniform(0, WAIT * (turn + 1)))  # noqa: S311  so that two do not meet again
    raise BusyError(f"Other processes change {bucket} all the time. Give the same command again when they are done.")


def _fetch(mirror: Mirror, fields: list[str] | None, mine: dict[str, UpdateVersion]) -> None:
    """Fetch what a change needs, but for what an earlier turn of it put: to a function it is not there yet."""
    mirror.fetch([ITEMS])
    mirror.follow({field.partition("/")[0] for field in fields or ()})
    mirror.look_into(fields)
    for name, version in mine.items():
        if mirror.versions.get(name) == version:
            (mirror.folder / name).unlink()


def _digests(mirror: Mirror) -> dict[str, str]:
    """Return the digests of the files of a mirror by name, but for those that only stand in, and hidden ones."""
    files = [path for path in mirror.folder.rglob("*") if path.is_file()]
    own = (path for path in files if not mirror.stands_in(path) and not path.name.startswith("."))
    return {mirror.name(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in own}


class _Delivery:
    """What differs between a mirror and the catalogue, on its way there."""

    def __init__(self, bucket: Bucket, mirror: Mirror, mine: dict[str, UpdateVersion]) -> None:
        self.bucket, self.mirror, self.mine = bucket, mirror, mine
        after = _digests(mirror)
        self.new = [name for name, digest in after.items() if mirror.digests.get(name) != digest]
        self.gone = [name for name in mirror.versions if name not in after and name not in mine]
        self.emptied = [name for name in mirror.stand_ins if not (mirror.folder / name).exists()]

    def done(self) -> bool:
        """Put and delete what differs; return False as soon as it shows that another process was quicker."""
        steps = [(_rank(name), name, True) for name in self.new]
        # A collection goes before the catalogue does without it: in between it could be taken for a new one.
        steps += [(_rank(name) or len(LAST) + 1, name, False) for name in self.gone]
        for _, name, stays in sorted(steps):
            if not (self._put(name) if stays else self._delete(name)):
                return False
        for name in self.emptied:
            self.bucket.clear(name)
            self.bucket.delete([name])
        return True

    def _put(self, name: str) -> bool:
        seen = self.mirror.versions.get(name)
        version = self.bucket.replace(name, (self.mirror.folder / name).read_bytes(), seen)
        if version and not _rank(name):
            self.mine[name] = version
        return version is not None

    def _delete(self, name: str) -> bool:
        """Delete an object; of those that several processes write only the one that was seen."""
        if _rank(name):
            found = self.bucket.find(name)
            if found and found.version != self.mirror.versions[name]:
                return False
        self.bucket.delete([name])
        return True


def _rank(name: str) -> int:
    """Return when a document is put; 0 for what belongs to one field alone."""
    folder, _, last = name.rpartition("/")
    return LAST.index(last) + 1 if last in LAST and folder.count("/") == 0 else 0
