"""Weights: fetch, verify, cache; the answer is a path."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from embedfield import downloads
from embedfield.card import HubWeights, UrlWeights, Weights
from embedfield.errors import ChecksumError, OfflineError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Of a download that wrote nothing for so long, the process is gone.
ABANDONED_SECONDS = 24 * 60 * 60
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class LocalWeights:
    """A weights file on this machine, its bytes known."""

    path: Path
    """The file."""
    sha256: str
    """Hexadecimal digest of the file, lower case."""


def cache_dir() -> Path:
    """Return ``$EMBEDFIELD_CACHE``, else the user's own cache folder."""
    chosen = os.environ.get("EMBEDFIELD_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("embedfield")


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read piece by piece.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local(path: str | Path) -> LocalWeights:
    """Return a user's own weights file.

    Args:
        path: The file; ``~`` is the user's home.

    Raises:
        WeightsError: If there is no such file, or it is a folder, empty or unreadable.
    """
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            raise WeightsError(f"Weights {path} are a folder. Weights are one file. Name the file inside it.")
        if path.stat().st_size == 0:
            raise WeightsError(f"Weights {path} are an empty file, so there is nothing to load. Copy the file again.")
        return LocalWeights(path, sha256_of(path))
    except FileNotFoundError as error:
        raise WeightsError(f"No weights at {path}. There is no such file. Check the path.") from error
    except OSError as error:
        raise WeightsError(f"Cannot read weights {path}: {error.strerror}. Check the path and its rights.") from error


def fetch(
    weights: Weights, *, model: str, offline: bool = False, report: Callable[[str], None] | None = None
) -> LocalWeights:
    """Return released weights from the cache, downloading them at need.

    An archive that weights are a member of is kept in the cache as it is, for
    the models of a family are often members of one.

    Args:
        weights: What the model's card says of its weights.
        model: Name of the model; the folder in the cache of a file that is not
            of the hub.
        offline: Whether the network is not to be used; ``EMBEDFIELD_OFFLINE=1``
            and ``HF_HUB_OFFLINE=1`` mean the same.
        report: Is told in one line what will be downloaded, before it is.

    Returns:
        The verified file in the cache.

    Raises:
        ChecksumError: If the file differs from what the card, the hub or the
            record of its download states; it is deleted.
        OfflineError: If a download would be needed and is not allowed.
        WeightsError: If the weights cannot be had, or the cache not be written.
    """
    path = _place(weights, model)
    try:
        if found := _cached(weights, path):
            return found
        if _needs_network(weights) and (offline or _told_offline()):
            raise OfflineError(
                f"Weights of {model} are not in the cache, and the network is not to be used. They would be "
                f"{weights.origin}, kept as {path}. Run once with the network, or {downloads.BY_HAND}."
            )
        return _downloaded(weights, model, path, report)
    except OSError as error:
        raise WeightsError(
            f"Cannot keep weights of {model} in {path.parent}: {error.strerror or error}. "
            "Make room there and make it writable, or name another folder in EMBEDFIELD_CACHE."
        ) from error


def _told_offline() -> bool:
    said = (os.environ.get(name, "") for name in ("EMBEDFIELD_OFFLINE", "HF_HUB_OFFLINE"))
    return any(word.lower() in {"1", "true", "yes", "on"} for word in said)


def _place(weights: Weights, model: str) -> Path:
    """Return where the cache keeps a file, refusing names that lead out of it."""
    root = cache_dir() / "weights"
    # Several models share a file of the hub: RANGE has SatCLIP's.
    folder = f"{weights.repo_type}s--{weights.repo.replace('/', '--')}" if isinstance(weights, HubWeights) else model
    path = root / folder / weights.file
    # A card may come from a plugin or from the metadata of a downloaded raster.
    if not path.is_relative_to(root) or ".." in path.relative_to(root).parts or path.parent == root:
        raise WeightsError(
            f"Weights file {weights.file!r} of model {model!r} would lie outside the cache {root}. "
            "Use plain names in the card."
        )
    return path


def _archive_of(weights: Weights) -> Path | None:
    """Return where the cache keeps the archive that weights are a member of; None for weights that need none."""
    if isinstance(weights, UrlWeights) and weights.member is not None:
        return cache_dir() / "archives" / f"{hashlib.sha256(weights.url.encode()).hexdigest()}.zip"
    return None


def _needs_network(weights: Weights) -> bool:
    archive = _archive_of(weights)
    return archive is None or not archive.is_file()


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _recorded_sha256(weights: Weights, path: Path) -> str | None:
    """Return the digest that a download was recorded with; None where that was of another origin than weights have."""
    try:
        record = json.loads(_sidecar(path).read_text("utf-8"))
        return str(record["sha256"]) if _is_of(record, weights) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _is_of(record: Mapping[str, Any], weights: Weights) -> bool:
    """Return whether a record is that of weights: a card may be changed, or have the name of another."""
    if isinstance(weights, HubWeights):
        # The cache keeps each repository apart, and a branch or tag may move.
        return not COMMIT.fullmatch(weights.revision or "") or record["revision"] == weights.revision
    return bool(record["source"] == weights.origin)


def _cached(weights: Weights, path: Path) -> LocalWeights | None:
    """Return the cached file; one that nothing vouches for is as none."""
    expected = weights.sha256 or _recorded_sha256(weights, path)
    if expected is None or not path.is_file():
        return None
    found = LocalWeights(path, sha256_of(path))
    if found.sha256 != expected.lower():
        path.unlink(missing_ok=True)
        _sidecar(path).unlink(missing_ok=True)
        raise ChecksumError(
            f"sha256 of {path} is {found.sha256[:12]}…, expected {expected[:12]}…. "
            "The file was damaged or its card has changed. It was deleted; run again."
        )
    return found


def _downloaded(weights: Weights, model: str, path: Path, report: Callable[[str], None] | None) -> LocalWeights:
    weights = downloads.pinned(weights)
    if report is not None:
        report(_news(weights, model, path))
    _sweep()
    with downloads.temporary(path.parent) as folder, _archive_on_trial(weights):
        file = downloads.get(weights, folder, _archive_of(weights))
        sha256 = _verified_sha256(file, weights)
        _keep(file, path, weights, sha256)
    return LocalWeights(path, sha256)


def _news(weights: Weights, model: str, path: Path) -> str:
    """Return in one line what is about to be fetched."""
    size = "size unknown" if weights.size_bytes is None else _readable(weights.size_bytes)
    line = f"weights of {model}: {weights.origin} ({size}, licence {weights.licence}) to {path}"
    archive = _archive_of(weights)
    if not _needs_network(weights):
        return f"Unpacking {line}, from {archive}"
    return f"Fetching {line}" if archive is None else f"Fetching {line}, its whole archive to {archive}"


def _sweep() -> None:
    """Delete the temporary folders that killed processes left."""
    for room in ("weights", "archives"):
        for folder in list((cache_dir() / room).rglob(".fetch-*")):
            if time.time() - _last_written(folder) > ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _last_written(folder: Path) -> float:
    """Return when something in a folder was last written, in seconds since 1970."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:  # It changes as it is looked at, or is not ours: its process may live.
        return time.time()


@contextmanager
def _archive_on_trial(weights: Weights) -> Iterator[None]:
    """Delete a kept archive if what it gave is refused: it would be refused again."""
    try:
        yield
    except WeightsError:
        if archive := _archive_of(weights):
            archive.unlink(missing_ok=True)
        raise


def _readable(size_bytes: int) -> str:
    return f"{size_bytes} bytes" if size_bytes < 1 << 20 else f"{size_bytes / 1e6:.1f} MB"


def _verified_sha256(file: Path, weights: Weights) -> str:
    size, sha256 = file.stat().st_size, sha256_of(file)
    advice = "The download was damaged or the file has changed upstream. It was deleted; run again."
    if size == 0:
        raise downloads.unavailable(weights, "it is an empty file", "Check the card")
    if weights.size_bytes is not None and size != weights.size_bytes:
        raise ChecksumError(f"Size of {weights.origin} is {size} bytes, expected {weights.size_bytes}. {advice}")
    if weights.sha256 is not None and sha256 != weights.sha256.lower():
        raise ChecksumError(f"sha256 of {weights.origin} is {sha256[:12]}…, expected {weights.sha256[:12]}…. {advice}")
    return sha256


def _keep(file: Path, path: Path, weights: Weights, sha256: str) -> None:
    record = {
        "sha256": sha256,
        "size_bytes": file.stat().st_size,
        "source": weights.origin,
        "revision": weights.revision if isinstance(weights, HubWeights) else None,
    }
    written = file.with_name(f"{file.name}.record")
    written.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    # The record goes first: whatever kills the process, a file in place always has one to be judged by.
    written.replace(_sidecar(path))
    file.replace(path)
