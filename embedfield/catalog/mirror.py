"""Mirror: what a catalogue on a network says, in a folder of this disk for a while.

There the rest of the house reads it, and changes it, like any other. Its
documents are there, and the small files of the fields in question; for their
rasters empty files of the same sizes stand in, which take no room.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from embedfield.catalog.collection import JSON
from embedfield.catalog.documents import CATALOG, COLLECTION, MODEL, linked, read_document, write_document
from embedfield.catalog.shelves import new_catalog
from embedfield.errors import EmbedfieldError, FormatError
from embedfield.formats import OPENERS, PICTURE
from embedfield.formats.bucket import Bucket, NetworkFolder
from embedfield.integrity import SUMS, absolute, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from obstore import UpdateVersion

    from embedfield.catalog.entry import Entry
    from embedfield.formats.address import Address
    from embedfield.formats.bucket import Object

# Files that are fetched side by side: whoever waits for a network does not compute.
READERS = 16
# A file system may refuse to have larger files, even empty ones.
LARGEST = 2**40
# Of a set of tiles.
TILES = ".tiles"


class Mirror:
    """A folder of this disk that has what a catalogue on a network says."""

    def __init__(self, source: NetworkFolder, folder: Path) -> None:
        """Take where the catalogue is, and an empty folder."""
        self.source, self.folder = source, absolute(folder)
        self.versions: dict[str, UpdateVersion] = {}
        """What was fetched, by name; for `Bucket.replace`."""
        self.digests: dict[str, str] = {}
        """Of what was fetched, as it was then, by name."""
        self._stand_ins: set[str] = set()

    def name(self, path: Path) -> str:
        """Return the name of a file or a folder of the mirror, from the catalogue's folder on."""
        return path.relative_to(self.folder).as_posix()

    def place(self, path: Path) -> Address:
        """Return where a file or a folder of the mirror really lies."""
        return self.source.address.inside(self.name(path))

    def stands_in(self, path: Path) -> bool:
        """Return whether a file or a folder has only the size of the one that it stands for."""
        return self.name(path) in self._stand_ins

    @property
    def stand_ins(self) -> frozenset[str]:
        """Names of the files and folders that are empty here."""
        return frozenset(self._stand_ins)

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch files, those that are there.

        Raises:
            FormatError: If one cannot be read, or not be kept here.
        """
        wanted = [name for name in dict.fromkeys(names) if name not in self.versions]
        with ThreadPoolExecutor(READERS) as pool:
            for name, found in zip(wanted, pool.map(self.source.find, wanted), strict=True):
                if found:
                    _write(self.folder / name, found.data)
                    self.versions[name] = found.version
                    self.digests[name] = hashlib.sha256(found.data).hexdigest()

    def follow(self, models: Iterable[str] = ()) -> None:
        """Fetch the catalogue and all that it leads to: collections and items.

        Args:
            models: Whose collections are fetched even if the catalogue does not lead to them. It is made to: another
                process is about to enter a first field of that model, or was stopped there.

        Raises:
            FormatError: If something cannot be read.
        """
        self.fetch([CATALOG, *(f"{model}/{COLLECTION}" for model in models)])
        for model in models:
            self._adopt(self.folder / model / COLLECTION)
        collections = self._leads_to(self.folder / CATALOG, "child")
        shelves = {path.parent for path in collections} | {self.folder / model for model in models}
        self.fetch(map(self.name, [*collections, *(shelf / MODEL for shelf in shelves)]))
        self.fetch(self.name(item) for path in collections for item in self._leads_to(path, "item"))

    def _adopt(self, path: Path) -> None:
        """Have the catalogue lead to a collection that is there."""
        above = self.folder / CATALOG
        if path not in self._leads_to(above, "child") and path.exists():
            try:
                said = read_document(above) if above.exists() else new_catalog()
            except FormatError:  # which will be named by whoever reads it
                return
            href = f"./{self.name(path)}"
            link = {"rel": "child", "href": href, "type": JSON, "title": path.parent.name}
            write_document(above, said | {"links": [*said.get("links", []), link]})

    def _leads_to(self, path: Path, rel: str) -> list[Path]:
        """Return the files in the catalogue's folder that a document leads to; none if it cannot be read."""
        try:
            found = linked(path, read_document(path), rel)
        except FormatError:  # it is not there, or damaged, which will be named by whoever reads it
            return []
        return [target for target in found if self.folder in target.parents]

    def look_into(self, fields: Iterable[str] | None = None) -> None:
        """Fetch the small files of fields, and have files stand in for the large ones.

        Args:
            fields: Their folders, as ``model/id``; None for all that there are.

        Raises:
            FormatError: If their folders may not or cannot be listed.
        """
        bucket, small = Bucket(self.source.address), list[str]()
        with ThreadPoolExecutor(READERS) as pool:
            if fields is None:
                models = _shown(bucket.look()[1])
                fields = [field for _, found in pool.map(bucket.look, models) for field in _shown(found)]
                self.fetch(f"{model}/{name}" for model in models for name in (COLLECTION, MODEL))
            for objects, folders in pool.map(bucket.look, fields):
                for name in _shown(objects):
                    if is_raster(name):
                        self._stand_in(name, objects[name].bytes, objects[name].written)
                    else:
                        small.append(name)
                for folder in _shown(folders):
                    self._stand_in_folder(folder, bucket.objects(folder))
        self.fetch(small)

    def _stand_in(self, name: str, size: int, written: datetime) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, size)
        os.utime(path, (written.timestamp(), written.timestamp()))
        self._stand_ins.add(name)

    def _stand_in_folder(self, name: str, objects: dict[str, Object]) -> None:
        """Have something stand in for a folder: tiles for each of its tiles, else as much as all that is in it."""
        if name.endswith(TILES):
            for tile, found in objects.items():
                self._stand_in(tile, found.bytes, found.written)
            return
        left = sum(found.bytes for found in objects.values())
        written = max(found.written for found in objects.values())
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(-(-left // LARGEST)):
            self._stand_in(f"{name}/{number}", min(LARGEST, left - number * LARGEST), written)
        os.utime(self.folder / name, (written.timestamp(), written.timestamp()))
        self._stand_ins.add(name)

    def entry(self, entry: Entry) -> Entry:
        """Return what an item says of a field, with addresses for what the mirror has or stands for."""
        href = Path(entry.href)
        inside = self.folder in href.parents
        return replace(
            entry,
            path=str(self.place(Path(entry.path))),
            href=str(self.place(href)) if inside else entry.href,
        )

    def wrong_sums(self, folder: Path) -> Iterator[str]:
        """Yield what is wrong with the bytes of a field, a line each; each of its files is read where it lies.

        Raises:
            FormatError: If it has no digests, or a file cannot be read.
        """
        wanted, bucket = listed(folder), Bucket(self.place(folder))
        own = {SUMS, f"{folder.name}.json"}
        there = {name for name in bucket.objects() if name not in own and not name.rpartition("/")[2].startswith(".")}
        yield from (f"{name} is missing" for name in wanted if name not in there)
        yield from (f"{name} does not belong to the field" for name in sorted(there - wanted.keys()))
        names = sorted(there & wanted.keys())
        with ThreadPoolExecutor(READERS) as pool:
            for name, digest in zip(names, pool.map(lambda name: _sha256(bucket, name), names), strict=True):
                if digest != wanted[name]:
                    yield f"{name} is damaged: its bytes are not those that were written"

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn errors that name files of the mirror into errors that name those which it stands for.

        Raises:
            EmbedfieldError: If there is one.
        """
        try:
            yield
        except EmbedfieldError as error:
            told = str(error).replace(str(self.folder), str(self.source))
            raise type(error)(told) from error


@contextmanager
def mirrored(source: NetworkFolder, names: Iterable[str] = ()) -> Iterator[Mirror]:
    """Yield a mirror that has some files of a catalogue's folder, those that are there.

    Args:
        source: Where the catalogue lies.
        names: Of the files.

    Raises:
        FormatError: If they cannot be read.
    """
    with TemporaryDirectory(prefix="embedfield-") as folder:
        mirror = Mirror(source, Path(folder))
        mirror.fetch(names)
        with mirror.named():
            yield mirror


@contextmanager
def mirrored_catalog(source: NetworkFolder) -> Iterator[Mirror]:
    """Yield a mirror of a catalogue with its documents: catalogue, collections and items.

    Args:
        source: Where it lies; it need not be possible to list it.

    Raises:
        FormatError: If there is none, or it cannot be read.
    """
    with mirrored(source) as mirror:
        mirror.follow()
        if CATALOG not in mirror.versions:
            raise FormatError(
                f"{source} holds no catalogue: it has no {CATALOG}. Make a field with 'embedfield build --out "
                f"{source}'."
            )
        yield mirror


def _shown(names: Iterable[str]) -> list[str]:
    """Return the names that are not hidden."""
    return [name for name in names if not name.rpartition("/")[2].startswith(".")]


def is_raster(name: str) -> bool:
    """Return whether a file beside an item is a raster, or stands over one."""
    path = Path(name)
    return path.suffix in OPENERS and path.name != PICTURE


def _write(path: Path, data: bytes) -> None:
    """Write a file.

    Raises:
        FormatError: If its name cannot be one here.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise FormatError(
            f"{path} is a file and a folder: a link leads into the one, and another to the other"
        ) from error


def _sha256(bucket: Bucket, name: str) -> str:
    digest = hashlib.sha256()
    for piece in bucket.pieces(name):
        digest.update(piece)
    return digest.hexdigest()
