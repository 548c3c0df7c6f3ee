"""Repository: where Icechunk keeps a Zarr and its history, on this disk or on a network."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from embedfield.errors import BusyError, EmbedfieldError, FormatError, StorageError
from embedfield.formats.address import WEB
from embedfield.formats.clouds import CREDENTIALS, ENDPOINTS, store_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from icechunk import IcechunkError, Repository, RepositoryConfig, SnapshotInfo, Storage

    from embedfield.formats.address import Address

# The branch that builds are committed to.
BRANCH = "main"
# What Icechunk says where there is nothing to mend: that two processes must not commit to one folder, of which
# embedfield has a lock, and that it leaves no marks of its own on what it writes.
LOGS = "warn,icechunk_arrow_object_store=error,icechunk_storage::readback=error"
# In what it says where something may not be read.
CLOSED = ("AccessDenied", "Forbidden", "privileges", "credentials", "InvalidAccessKeyId", "SignatureDoesNotMatch")
ON = {"YES", "TRUE", "ON", "1"}


class Commit(NamedTuple):
    """One build, as a repository keeps it."""

    id: str
    """Of its snapshot: what opens it again."""
    message: str
    """What was built, in a line."""
    written_at: datetime
    """When, with its time zone."""
    metadata: dict[str, Any]
    """What is known of the build: model, grid, dtype, versions, digests of the weights."""

    @classmethod
    def of(cls, found: SnapshotInfo) -> Self:
        """Return the commit that Icechunk describes."""
        return cls(found.id, found.message, found.written_at, dict(found.metadata))


@cache
def check_installed() -> None:
    """Refuse to go on without Icechunk, and keep it from saying what is of no use.

    Raises:
        FormatError: If it is not installed.
    """
    try:
        import icechunk
    except ImportError as error:
        raise FormatError(
            "Icechunk repositories are read and written by the package icechunk, and it is not installed. Run: pip "
            "install 'embedfield[icechunk]'."
        ) from error
    if "ICECHUNK_LOG" not in os.environ:  # else somebody wants to hear something
        icechunk.set_logs_filter(LOGS)


def opened(place: Path | Address) -> Repository:
    """Open a repository.

    Args:
        place: Its folder; a path from the root of the disk, or an address.

    Raises:
        FormatError: If it is none, cannot be reached or read, or Icechunk is not installed.
    """
    with asking(place):
        return _open(place)


def opened_or_made(place: Path | Address) -> Repository:
    """Open a repository, or make an empty one where there is none.

    Args:
        place: As for `opened`; not on the web, where nothing can be written.

    Raises:
        FormatError: If what is there cannot be reached or read, or Icechunk is not installed.
        StorageError: If none can be made there.
    """
    check_installed()
    from icechunk import Repository, RepositoryNotFoundError

    try:
        with asking(place, RepositoryNotFoundError):
            return _open(place)
    except RepositoryNotFoundError:
        with writing(place):
            return Repository.create(_storage(place))


@contextmanager
def asking(place: Path | Address, *expected: type[IcechunkError]) -> Iterator[None]:
    """Turn what goes wrong when a repository is read into an error of ours.

    Args:
        place: Its folder.
        expected: Errors that are left as they are.

    Raises:
        FormatError: If something does, or Icechunk is not installed.
    """
    check_installed()
    from icechunk import IcechunkError

    try:
        yield
    except expected:
        raise
    except IcechunkError as error:
        raise _unreadable(place, error) from error


@contextmanager
def writing(place: Path | Address) -> Iterator[None]:
    """Turn what goes wrong when a repository is written into an error of ours.

    Args:
        place: Its folder.

    Raises:
        BusyError: If another process committed to it meanwhile.
        StorageError: If something else goes wrong.
        FormatError: If Icechunk is not installed.
    """
    check_installed()
    from icechunk import ConflictError, IcechunkError

    try:
        yield
    except ConflictError as error:
        raise BusyError(f"Another process committed to {place} meanwhile. Give the same command again.") from error
    except IcechunkError as error:
        raise _unwritable(place, error) from error


def _unreadable(place: Path | Address, error: IcechunkError) -> EmbedfieldError:
    """Return the refusal of a repository that cannot be read."""
    from icechunk import ErrorKind, RepositoryNotFoundError

    kind = getattr(error, "kind", None)
    if isinstance(error, RepositoryNotFoundError):
        return FormatError(
            f"{place} cannot be opened: it is no Icechunk repository, or not a whole one. Look at its name, or build "
            "the field again."
        )
    if kind in {ErrorKind.SNAPSHOT_NOT_FOUND, ErrorKind.INVALID_SNAPSHOT_ID}:
        return FormatError(f"{place} has no such commit: {_reason(error)}. Give the id of one in its history.")
    if isinstance(place, Path) and "(os error" in str(error):
        return FormatError(f"{place} cannot be read: {_reason(error)}. Look at its name, and at who may read it.")
    if isinstance(place, Path) or kind != ErrorKind.OBJECT_STORE:
        return FormatError(f"{place} cannot be read: it is damaged or cut short: {_reason(error)}. Build it again.")
    return _closed(place, error) or FormatError(
        f"{place} cannot be reached: {_reason(error)}. Look at the address and the network."
    )


def _unwritable(place: Path | Address, error: IcechunkError) -> EmbedfieldError:
    """Return the refusal of a place where a repository cannot be written."""
    remedy = (
        "Make room there and make it writable" if isinstance(place, Path) else "Look at the address and the network"
    )
    closed = None if isinstance(place, Path) else _closed(place, error)
    return closed or StorageError(
        f"Cannot write {place}: {_reason(error)}. {remedy}, then give the same command to go on."
    )


def _closed(address: Address, error: IcechunkError) -> StorageError | FormatError | None:
    """Return the refusal of what may not be read or written; None of what has another fault."""
    if not any(words in str(error) for words in CLOSED):
        return None
    return FormatError(
        f"{address} may not be read or written, or does not exist: permission is denied. {CREDENTIALS[address.scheme]}"
    )


def _reason(error: IcechunkError) -> str:
    """Return what happened, without where in Icechunk's code it did."""
    first, *_ = str(error).splitlines() or [""]
    return first.removeprefix("object store error ").removeprefix("dispatch failure: ").strip(" :.") or "no answer"


def _open(place: Path | Address) -> Repository:
    from icechunk import Repository

    return Repository.open(_storage(place), config=_config())


def _config() -> RepositoryConfig:
    """Return how a repository is read; what it has of its own stays."""
    from icechunk import (
        ManifestConfig,
        ManifestPreloadConfig,
        RepositoryConfig,
        StorageRetriesSettings,
        StorageSettings,
    )

    # As `address.RETRIES`: ten times, as it does by itself, are half a minute where nobody answers.
    retries = StorageRetriesSettings(max_tries=4, initial_backoff_ms=200)
    # What is fetched beforehand, by a thread of Icechunk's, tells of damage where nobody asked.
    preload = ManifestPreloadConfig(max_total_refs=0)
    return RepositoryConfig(storage=StorageSettings(retries=retries), manifest=ManifestConfig(preload=preload))


def _storage(place: Path | Address) -> Storage:
    """Return where a repository is, as Icechunk takes it.

    Raises:
        FormatError: If Icechunk cannot reach such a place.
    """
    from icechunk import local_filesystem_storage

    if isinstance(place, Path):
        return local_filesystem_storage(str(place))
    return _on_the_web(place) if place.scheme in WEB else _in_bucket(place, store_settings(place.scheme, place.host))


def _on_the_web(address: Address) -> Storage:
    """Return where a repository is on the web, where it can be read.

    Raises:
        FormatError: If its address is signed.
    """
    from icechunk import http_storage

    if address.query:
        raise FormatError(
            f"{address} cannot be read: what an address says after its '?' holds for one file, and Icechunk asks for "
            "many. Give the address of a bucket, with credentials."
        )
    return http_storage(str(address))


def _in_bucket(address: Address, told: dict[str, str]) -> Storage:
    """Return where a repository is in a bucket.

    Args:
        address: Of the repository.
        told: What the environment says of buckets, in obstore's words.

    Raises:
        FormatError: If it does not say enough.
    """
    from icechunk import azure_storage, gcs_storage

    if address.scheme == "s3":
        return _in_s3(address, told)
    anonymous = any(value.upper() in ON for name, value in told.items() if name.endswith("SKIP_SIGNATURE")) or None
    if address.scheme == "gs":
        return gcs_storage(bucket=address.host, prefix=address.path, anonymous=anonymous, from_env=not anonymous)
    account = told.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise FormatError(f"{address} cannot be reached: its account is not known. {CREDENTIALS['az']}")
    key, sas = (None if anonymous else told.get(f"AZURE_STORAGE_{name}_KEY") for name in ("ACCOUNT", "SAS"))
    return azure_storage(
        account=account, container=address.host, prefix=address.path, access_key=key,
        sas_token=None if key else sas, anonymous=anonymous, from_env=not (anonymous or key or sas) or None,
    )  # fmt: skip


def _in_s3(address: Address, told: dict[str, str]) -> Storage:
    """Return where a repository is in a bucket of S3, Amazon's or another server's."""
    from icechunk import s3_storage

    named = told.get("AWS_ENDPOINT") or next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    in_host = "AWS_VIRTUAL_HOSTED_STYLE_REQUEST" in told
    # Icechunk puts the bucket there itself.
    endpoint = named.replace(f"://{address.host}.", "://", 1) if named and in_host else named
    anonymous = told.get("AWS_SKIP_SIGNATURE", "").upper() in ON
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return s3_storage(
        bucket=address.host, prefix=address.path, endpoint_url=endpoint, allow_http=True,
        region=region or ("us-east-1" if endpoint else None), force_path_style=bool(endpoint) and not in_host,
        anonymous=anonymous, from_env=not anonymous,
    )  # fmt: skip
