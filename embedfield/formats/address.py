"""Address: where a field lies on a network, and how it is read there."""

from __future__ import annotations

import re
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path, PurePosixPath
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import url2pathname

from embedfield.errors import FormatError
from embedfield.formats.clouds import CREDENTIALS, gdal_settings, store_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from obstore.store import ObjectStore

WEB = ("https", "http")
# How GDAL names what lies in a bucket.
BUCKETS = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
SCHEMES = (*WEB, *BUCKETS)
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# What an address of the web may have in it as it is; '%' where something is written in another way already.
PLAIN = "/%:@!$&'()*+,;=~-._"
# In what servers say of a bucket that is not there.
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
# In what obstore says where it was given no credentials: a machine in a cloud asks there for its own.
NOT_GIVEN = ("169.254.169.254", "metadata.google.internal", "Account must be specified")
# In what it says of a bucket whose names may not be listed: that is no kind of error of its own.
MAY_NOT = ("403 Forbidden", "401 Unauthorized")
RETRIES: Any = {"max_retries": 3, "backoff": {"init_backoff": timedelta(seconds=0.2)}}


@dataclass(frozen=True)
class Address:
    """Where a file or a folder lies on a network. Its text opens it again, in another process too."""

    scheme: str
    """``https``, ``http``, ``s3``, ``gs`` or ``az``."""
    host: str
    """The server, or the bucket."""
    path: str
    """From there, without slashes at its ends; on the web as addresses write it, in a bucket as it is."""
    query: str = ""
    """What an address of the web says after its '?', such as a signature; that of what lies beside it too."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the address that a text is.

        Raises:
            FormatError: If it is none of a network that is known here, or names no file in it.
        """
        scheme, _, rest = text.partition("://")
        scheme, query = scheme.lower(), ""
        if scheme in WEB:
            parts = urlsplit(text)
            host, path, query = parts.netloc, quote(parts.path, safe=PLAIN), parts.query
        else:
            host, _, path = rest.partition("/")
        path = path.strip("/")
        if scheme not in SCHEMES:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            raise FormatError(f"{text} cannot be opened: {scheme}:// is not known here. Give one of: {known}.")
        if not host or any(part in {"", ".", ".."} for part in path.split("/")):
            raise FormatError(f"{text} names no file or folder. Give the whole address of a field.")
        return cls(scheme, host, path, query)

    @classmethod
    def of_folder(cls, text: str) -> Self:
        """Return the address of a folder, which may be all of a bucket or a server.

        Raises:
            FormatError: If it is none of a network that is known here.
        """
        scheme, _, rest = text.partition("://")
        host, _, path = rest.partition("/")
        if path.strip("/") or not host:
            return cls.of(text)
        return replace(cls.of(f"{scheme}://{host}/any"), path="")

    def __str__(self) -> str:
        """Return the address as text."""
        return f"{self.scheme}://{self.host}/{self.path}".rstrip("/") + self._tail

    @property
    def _tail(self) -> str:
        return f"?{self.query}" if self.query else ""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """Of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def key(self) -> str:
        """The path in plain characters."""
        return unquote(self.path) if self.scheme in WEB else self.path

    @property
    def gdal_name(self) -> str:
        """The address as GDAL takes it."""
        return f"/vsicurl/{self}" if self.scheme in WEB else f"{BUCKETS[self.scheme]}{self.host}/{self.path}"

    @property
    def gdal_settings(self) -> dict[str, str]:
        """What GDAL must be told to read it."""
        return gdal_settings(self.scheme)

    def inside(self, name: str) -> Address:
        """Return the address of a file in the folder that this is the address of."""
        return replace(self, path=f"{self.path}/{quote(name) if self.scheme in WEB else name}".lstrip("/"))

    def beside(self, href: str) -> Address:
        """Return the address that a document at this one names: relative to itself, or whole.

        Raises:
            FormatError: If it is none.
        """
        if SCHEME.match(href):
            return Address.of(href)
        if self.scheme in WEB:
            moved = Address.of(urljoin(str(self), href))
            # A signature is for its own server alone.
            return replace(moved, query=moved.query or self.query * (moved.host == self.host))
        path = normpath(href if href.startswith("/") else join(dirname(self.path), href))
        return Address.of(f"{self.scheme}://{self.host}/{path.lstrip('/')}")

    def read_bytes(self) -> bytes:
        """Return what lies there; for small files.

        Raises:
            FormatError: If it cannot be had.
        """
        import obstore

        with self.answering():
            return bytes(obstore.get(self._root(), self.key).bytes())

    def check(self) -> None:
        """Find out whether there is a file that can be read, by asking for it.

        Raises:
            FormatError: If there is none: what stood in the way.
        """
        import obstore

        with self.answering():
            obstore.get(self._root(), self.key)

    def folder(self) -> ObjectStore:
        """Return the folder of that address as a store of obstore's.

        Raises:
            FormatError: If the environment's settings cannot be used.
        """
        with self.answering():
            return self._root(self.path)

    def _root(self, prefix: str = "") -> ObjectStore:
        """Return the store of a server or a bucket, or of a folder in it."""
        from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

        shared: Any = {"client_options": {"allow_http": self.scheme != "https"}, "retry_config": RETRIES}
        if self.scheme in WEB:
            return HTTPStore(f"{self.scheme}://{self.host}/{prefix}{self._tail}", **shared)
        config: Any = store_settings(self.scheme, self.host)
        kind: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[self.scheme]
        store: ObjectStore = kind(self.host, prefix=prefix or None, config=config, **shared)
        return store

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what goes wrong on the way there into an error of ours.

        Raises:
            FormatError: If something does.
        """
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            self.check_bucket(error)
            raise FormatError(
                f"{self} does not exist. Give the address of a .tif, .vrt, .zarr or STAC item, or of a field's folder."
            ) from error
        except BaseError as error:
            self.check_bucket(error)
            if says_denied(error):
                raise self._closed() from error
            raise FormatError(
                f"{self} cannot be reached: {reason_of(error)}. Look at the address and the network."
            ) from error

    def check_bucket(self, error: Exception) -> None:
        """Refuse an address whose bucket is not there, as an error of obstore's says.

        Raises:
            FormatError: If it is so.
        """
        if says_no_bucket(error):
            raise FormatError(
                f"{self} cannot be reached: there is no bucket '{self.host}'. Make it, or look at its name."
            ) from error

    def _closed(self) -> FormatError:
        # A bucket whose names may not be listed says the same of what is not there.
        return FormatError(
            f"{self} may not be read, or does not exist: permission is denied. {CREDENTIALS[self.scheme]}"
        )


def says_no_bucket(error: Exception) -> bool:
    """Return whether an error of obstore's says that there is no such bucket."""
    return any(words in str(error) for words in NO_BUCKET)


def says_denied(error: Exception) -> bool:
    """Return whether an error of obstore's says that permission is denied, or that it was given no credentials."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    closed = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    return closed or any(words in str(error) for words in (*NOT_GIVEN, *MAY_NOT))


def reason_of(error: Exception) -> str:
    """Return the end of the first line of an error of obstore's, which is what happened, after what was tried."""
    first, *_ = str(error).splitlines() or [""]
    return first.rpartition(" - ")[2].removeprefix("HTTP error: ").strip(" :.") or "no answer"


def place_of(href: str | Path) -> Path | Address:
    """Return a path of this disk, or an address on a network.

    Args:
        href: A path; ``file://…``, or another address.

    Raises:
        FormatError: If it is an address that cannot be opened.
    """
    found = SCHEME.match(href) if isinstance(href, str) else None
    if not isinstance(href, str) or not found:
        return Path(href)
    return Path(url2pathname(urlsplit(href).path)) if found[1].lower() == "file" else Address.of(href)


def answering(place: Path | Address) -> AbstractContextManager[None]:
    """Turn what goes wrong on the way to a place into an error of ours; on this disk nothing does.

    Raises:
        FormatError: If something does.
    """
    return place.answering() if isinstance(place, Address) else nullcontext()
