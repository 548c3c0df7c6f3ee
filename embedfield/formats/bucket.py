"""Bucket: a folder in object storage that is written to. An object appears there whole, or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from embedfield.errors import FormatError, StorageError
from embedfield.formats.address import BUCKETS, Address, reason_of, says_denied, says_no_bucket
from embedfield.formats.clouds import CREDENTIALS
from embedfield.integrity import placed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from obstore import UpdateVersion
    from obstore.store import ObjectStore

# Bytes of a part of a large object, how many parts one may have, and how many are in memory and under way.
PART = 8 * 2**20
PARTS = 10_000
AT_ONCE = 4
# Names that a listing asks for at a time.
PAGE = 1000


class Object(NamedTuple):
    """What a bucket knows of something that lies in it."""

    bytes: int
    """Its size."""
    version: UpdateVersion
    """Which one of those it is that were put under its name; for `Bucket.replace`."""
    written: datetime
    """When it was put there."""


class Found(NamedTuple):
    """An object that was read."""

    data: bytes
    version: UpdateVersion
    """As in `Object`."""


class NetworkFolder:
    """A folder on a network, of which small files are read by name: relative names, with slashes.

    It pickles as its address: whoever unpickles has a connection of his own,
    and credentials from his own environment.
    """

    def __init__(self, address: Address) -> None:
        """Take the address of the folder, where nothing need be yet."""
        self.address = address

    def __str__(self) -> str:
        """Return its address as text."""
        return str(self.address)

    def __reduce__(self) -> tuple[type[NetworkFolder], tuple[Address]]:
        """Pickle as the address."""
        return type(self), (self.address,)

    @cached_property
    def _store(self) -> ObjectStore:
        return self.address.folder()

    def read(self, name: str) -> bytes:
        """Return the bytes of an object; for small ones.

        Raises:
            FormatError: If it is not there, or cannot be read.
        """
        import obstore

        with self.address.inside(name).answering():
            return bytes(obstore.get(self._store, name).bytes())

    def find(self, name: str) -> Found | None:
        """Return the bytes of an object with its version; None if it is not there. For small ones.

        Raises:
            FormatError: If it cannot be read.
        """
        import obstore

        with self.address.inside(name).answering():
            try:
                answer = obstore.get(self._store, name)
            except FileNotFoundError as error:
                self.address.check_bucket(error)
                return None
            return Found(bytes(answer.bytes()), _version(answer.meta))

    def get(self, name: str, path: Path) -> bool:
        """Write the bytes of an object into a file, which is whole when it is there.

        Returns:
            Whether there is such an object; if not, no file is written.

        Raises:
            FormatError: If it cannot be read.
        """
        if not self.exists(name):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        placed(path, lambda part: self._write(name, part))
        return True

    def _write(self, name: str, path: Path) -> None:
        with path.open("wb") as file:
            file.writelines(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of an object piece by piece.

        Raises:
            FormatError: If it is not there, or cannot be read.
        """
        import obstore

        with self.address.inside(name).answering():
            yield from map(bytes, obstore.get(self._store, name).stream(min_chunk_size=PART))

    def exists(self, name: str) -> bool:
        """Return whether there is an object of a name.

        Raises:
            FormatError: If that cannot be found out.
        """
        import obstore

        with self.address.inside(name).answering():
            try:
                obstore.head(self._store, name)
            except FileNotFoundError:
                return False
            return True


class Bucket(NetworkFolder):
    """A folder of a bucket, or all of it, to which files are written too."""

    def __init__(self, address: Address) -> None:
        """Take the address of the folder, where nothing need be yet.

        Raises:
            FormatError: If it is one of the web, where nothing can be put.
        """
        if address.scheme not in BUCKETS:
            known = ", ".join(f"{name}://" for name in BUCKETS)
            raise FormatError(
                f"{address} is on the web, where files are read by their names, and neither listed nor written. Give "
                f"one of: {known}."
            )
        super().__init__(address)

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the bucket of a text such as ``s3://bucket/folder``.

        Raises:
            FormatError: If it is no address of a bucket.
        """
        return cls(Address.of_folder(text))

    def inside(self, name: str) -> Bucket:
        """Return a folder of this one."""
        return type(self)(self.address.inside(name))

    def put(self, name: str, data: bytes | Path) -> None:
        """Put an object in place of what has its name; until it is whole that is what readers see.

        Args:
            name: Its name.
            data: Its bytes, or the file that has them. Of a large one not all are in memory.

        Raises:
            StorageError: If it may not or cannot be written.
        """
        import obstore

        size = data.stat().st_size if isinstance(data, Path) else len(data)
        with self._writing(name):
            obstore.put(
                self._store, name, data, chunk_size=max(PART, -(-size // PARTS)), max_concurrency=AT_ONCE
            )  # fmt: skip

    def replace(self, name: str, data: bytes, seen: UpdateVersion | None) -> UpdateVersion | None:
        """Put an object in place of the one that was seen, if that is still the one which is there.

        Args:
            name: Its name.
            data: Its bytes.
            seen: The version that was read; None if there was nothing.

        Returns:
            The version of what was put; None if something else is there by now, which is left as it is.

        Raises:
            StorageError: If it may not or cannot be written.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._writing(name):
            try:
                return _version(obstore.put(self._store, name, data, mode="create" if seen is None else seen))
            except (AlreadyExistsError, PreconditionError):
                return None

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Turn what goes wrong as an object is put or deleted into an error of ours.

        Raises:
            StorageError: If something does.
        """
        from obstore.exceptions import BaseError

        place = self.address.inside(name)
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            try:
                place.check_bucket(error)
            except FormatError as missing:
                raise StorageError(str(missing)) from error
            if says_denied(error):
                raise StorageError(
                    f"{place} may not be written: permission is denied. {CREDENTIALS[self.address.scheme]}"
                ) from error
            raise StorageError(
                f"{place} cannot be written: {reason_of(error)}. Look at the address and the network, and give the "
                "same command to go on."
            ) from error

    def objects(self, folder: str = "") -> dict[str, Object]:
        """Return what lies in a folder, at any depth, by name; one request for a thousand.

        Args:
            folder: Its name; nothing for all that there is.

        Raises:
            FormatError: If it may not or cannot be listed.
        """
        import obstore

        with self.address.answering():
            pages = obstore.list(self._store, folder or None, chunk_size=PAGE)
            return {told["path"]: _object(told) for page in pages for told in page}

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the sizes of all objects in a folder, at any depth, by name, in bytes.

        Args:
            folder: As for `objects`.

        Raises:
            FormatError: If it may not or cannot be listed.
        """
        return {name: found.bytes for name, found in self.objects(folder).items()}

    def look(self, folder: str = "") -> tuple[dict[str, Object], list[str]]:
        """Return what lies in a folder itself: objects, and the names of folders in it.

        Args:
            folder: As for `objects`.

        Raises:
            FormatError: If it may not or cannot be listed.
        """
        import obstore

        with self.address.answering():
            found = obstore.list_with_delimiter(self._store, folder or None)
            return {told["path"]: _object(told) for told in found["objects"]}, list(found["common_prefixes"])

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there are no matter.

        Raises:
            StorageError: If they may not or cannot be deleted.
        """
        import obstore

        for name in names:
            # Some clouds refuse all of a list that names something which is not there.
            with self._writing(name):
                try:
                    obstore.delete(self._store, name)
                except FileNotFoundError as error:
                    if says_no_bucket(error):
                        raise

    def clear(self, folder: str) -> None:
        """Delete all that lies in a folder, at any depth.

        Raises:
            FormatError: If it may not or cannot be listed.
            StorageError: If it may not or cannot be deleted.
        """
        import obstore

        gone = list(self.objects(folder))
        with self._writing(folder):
            obstore.delete(self._store, gone)


def _version(told: Any) -> UpdateVersion:
    """Return a version: Amazon and Azure know it by the one, Google by the other."""
    known: Any = {name: told[name] for name in ("e_tag", "version") if told[name] is not None}
    version: UpdateVersion = known
    return version


def _object(told: Any) -> Object:
    return Object(told["size"], _version(told), told["last_modified"])
