"""Integrity: whether every byte of a field is still the one that was written."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from embedfield.errors import EmbedfieldError, FormatError, OutputExistsError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# Digests of all files of a field, as ``sha256sum --check`` reads them.
SUMS = "SHA256SUMS"
# The first characters of a multihash: sha2-256, 32 bytes.
MULTIHASH_SHA256 = "1220"
# How files end that GDAL and QGIS put beside a raster that they have opened: statistics, and nobody's damage.
ASIDE = ".aux.xml"
# What may be made anew without building.
RENEWED = ("certificate.json", "certificate.png")


def multihash(path: Path) -> str:
    """Return the digest of a file in the form that STAC's file extension has."""
    return MULTIHASH_SHA256 + sha256_of(path)


def write_sums(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write the digests of all files of a field beside them.

    Args:
        folder: Of the field.
        known: Digests of files that need not be read, by their names; these may lie elsewhere.
    """
    folder = absolute(folder)
    files = {_name(path, folder): path for path in _files(folder)}
    names = sorted(files.keys() | known.keys(), key=lambda name: name.split("/"))
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda name: known.get(name) or sha256_of(files[name]), names)
        _write_lines(folder, [f"{digest}  {name}" for name, digest in zip(names, digests, strict=True)])


def update_sums(folder: Path, names: Iterable[str]) -> None:
    """Write the digests of some files of a field anew; those of all others stay, or damage would go unseen.

    Raises:
        FormatError: If the folder has no digests, or they cannot be read.
    """
    folder = absolute(folder)
    _write_lines(folder, _replaced(_lines(folder), {name: sha256_of(folder / name) for name in names}))


def listed(folder: Path) -> dict[str, str]:
    """Return the digests that a folder's ``SHA256SUMS`` has, by file name.

    Raises:
        FormatError: If there is none, or it cannot be read.
    """
    return {name: digest for digest, _, name in (line.partition("  ") for line in _lines(folder))}


def sums_with(folder: Path, digests: Mapping[str, str | None]) -> str:
    """Return the multihash that ``SHA256SUMS`` would have with other digests of some files, or without them (None).

    Raises:
        FormatError: If it cannot be read.
    """
    return MULTIHASH_SHA256 + hashlib.sha256(_text(_replaced(_lines(folder), digests))).hexdigest()


def _replaced(lines: list[str], digests: Mapping[str, str | None]) -> list[str]:
    kept = [line for line in lines if line.partition("  ")[2] not in digests]
    made = [f"{digest}  {name}" for name, digest in digests.items() if digest]
    # As `_files` sorts: by folder, then by name.
    return sorted((*kept, *made), key=lambda line: line.partition("  ")[2].split("/"))


def _lines(folder: Path) -> list[str]:
    sums = folder / SUMS
    if not sums.exists():
        raise FormatError(f"{folder} has no {SUMS}: it is no field's folder, or an older one. Build it again.")
    try:
        return [line for line in sums.read_bytes().decode("utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise FormatError(f"{sums} cannot be read: {error}. Build the field again with --overwrite.") from error


def _write_lines(folder: Path, lines: list[str]) -> None:
    placed(folder / SUMS, lambda part: part.write_bytes(_text(lines)))


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def check_sums(folder: Path) -> list[str]:
    """Return what is wrong with the files of a field, a line each; nothing if they are those that were written.

    The digests in ``SHA256SUMS`` are held against the files, and the sizes and
    digests in the STAC item, where there is one, against both.

    Raises:
        FormatError: If the folder has no digests, or they cannot be read.
    """
    folder = absolute(folder)
    wanted = {name: digest for name, digest in listed(folder).items() if not name.endswith(ASIDE)}
    there = {_name(path, folder): path for path in _files(folder)}
    faults = {name: f"{_shown(name)} is missing{_where(name)}" for name in wanted if name not in there}
    faults |= {
        name: f"{_shown(name)} does not belong to the field{_where(name)}" for name in there if name not in wanted
    }
    for name, path in there.items():
        wrong = _differs(path, wanted[name]) if name in wanted else ""
        if wrong:
            faults[name] = f"{_shown(name)} {wrong}{_where(name)}"
    return [*faults.values(), *_against_item(folder, faults)]


def _differs(path: Path, digest: str) -> str:
    """Return what is wrong with a file, in words; nothing if it has the digest."""
    try:
        return "" if sha256_of(path) == digest else "is damaged: its bytes are not those that were written"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _against_item(folder: Path, known: Iterable[str]) -> Iterator[str]:
    """Yield what differs between the item of a field and its files, but for files whose faults are known."""
    item = folder / f"{folder.name}.json"
    if not item.exists():
        return
    try:
        assets: dict[str, Any] = dict(json.loads(item.read_text(encoding="utf-8"))["assets"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        yield f"{item.name} is damaged: {error!r}"
        return
    if "embeddings" not in assets:
        yield f"{item.name} is damaged: it has no asset 'embeddings'"
    for name, asset in assets.items():
        href = asset.get("href") if isinstance(asset, dict) else None
        if not isinstance(href, str):
            yield f"{item.name} is damaged: its asset {name!r} has no href"
            continue
        wrong = _against_asset(folder, href, asset, set(known))
        if wrong:
            yield f"{_shown(href)}, the asset {name!r}, {wrong}"


def _against_asset(folder: Path, href: str, asset: dict[str, Any], known: set[str]) -> str:
    """Return what is wrong with the file of an asset, in words; nothing if it is as the asset says, or is known."""
    path = absolute(folder / href)
    if folder not in path.parents:
        return "leads out of the field"
    name = _name(path, folder)
    if any(fault == name or fault.startswith(f"{name}/") for fault in known):
        return ""
    try:
        if not path.exists():
            return "is missing"
        # Of a folder the digest is that of the list of its files' digests.
        told = folder / SUMS if path.is_dir() else path
        same = asset.get("file:checksum") == multihash(told) and asset.get("file:size") == size(path)
    except (OSError, ValueError) as error:
        return f"cannot be read: {_shown(str(getattr(error, 'strerror', None) or error))}"
    return "" if same else "is not what the item says: its size or digest differs"


def absolute(path: Path) -> Path:
    """Return a path from the root on, without dots: a folder is known by its name, and '.' has none."""
    return Path(os.path.abspath(path))  # noqa: PTH100  Path.absolute() keeps '..'


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _shown(name: str) -> str:
    """Return a name as a line of it can be printed, whatever a damaged list calls a file."""
    return name[:200] if name.isprintable() else repr(name)[:200]


def _where(name: str) -> str:
    """Return which part of a field a file holds, in words."""
    if name in RENEWED:
        return " ('embedfield verify' makes it anew)"
    parts = name.split("/")
    if len(parts) >= 4 and parts[-4] == "c":
        return f" (row {parts[-2]}, column {parts[-1]} of its shards)"
    return " (a tile of the field)" if len(parts) > 1 and parts[-2].endswith(".tiles") else ""


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in _all(path))


def _files(folder: Path) -> list[Path]:
    """Return the files of a field, sorted: all but the digests, the item, and what is hidden."""
    left_out = {folder / SUMS, folder / f"{folder.name}.json"}
    return sorted(path for path in _all(folder) if path not in left_out and not path.name.startswith("."))


def _all(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(ASIDE))


def sha256_of(path: Path) -> str:
    """Return the digest of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_free(path: Path, homeless: type[EmbedfieldError], *, overwrite: bool) -> None:
    """Refuse a place where no file can or may be written.

    Args:
        path: The file.
        homeless: The error of one whose folder is not there.
        overwrite: Whether to replace what stands there.

    Raises:
        EmbedfieldError: If the folder is not there.
        OutputExistsError: If something stands there that may not be replaced.
    """
    if not path.parent.is_dir():
        raise homeless(f"{path.parent} is no folder. Make it, or write elsewhere.")
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder. Write elsewhere.")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists. Give --overwrite to replace it, or write elsewhere.")


def placed(path: Path, write: Callable[[Path], object]) -> Path:
    """Write under a temporary name, then rename: a file that is there is whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def sync(*paths: Path) -> None:
    """Wait until files are on the disk, and their names too."""
    for path in paths:
        sync_file(path)
    for folder in {path.parent for path in paths}:
        sync_folder(folder)


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if hasattr(os, "O_DIRECTORY"):  # elsewhere a folder cannot be waited for
        folder = os.open(path, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into ours, while a field's folder is written.

    Raises:
        StorageError: If there is one.
    """
    try:
        yield
    except EmbedfieldError:
        raise
    except OSError as error:
        raise StorageError(
            f"Cannot write {folder}: {error.strerror or error}. Make room there and make it writable, then give the "
            "same command to go on, or write elsewhere with --out."
        ) from error
