"""Integrity: whether every byte of a field is still the one that was written."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Digests of all files of a field, as ``sha256sum --check`` reads them.
SUMS = "SHA256SUMS"
# The first characters of a multihash: sha2-256, 32 bytes.
MULTIHASH_SHA256 = "1220"


def multihash(path: Path) -> str:
    """Return the digest of a file in the form that STAC's file extension has."""
    return MULTIHASH_SHA256 + _sha256(path)


def write_sums(folder: Path) -> None:
    """Write the digests of all files of a field beside them."""
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)]
    placed(folder / SUMS, lambda part: part.write_text("".join(lines), encoding="utf-8"))


def check_sums(folder: Path) -> list[str]:
    """Return what is wrong with the files of a field, a line each; nothing if they are those that were written.

    The digests in ``SHA256SUMS`` are held against the files, and the sizes and
    digests in the STAC item, where there is one, against both.

    Raises:
        FormatError: If the folder has no digests.
    """
    sums = folder / SUMS
    if not sums.exists():
        raise FormatError(f"{folder} has no {SUMS}: it is no field's folder, or an older one. Build it again.")
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in sums.read_text().splitlines())}
    there = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    faults = [f"{name} is missing{_where(name)}" for name in wanted if name not in there]
    faults += [f"{name} does not belong to the field" for name in there if name not in wanted]
    faults += [
        f"{name} is damaged: its bytes are not those that were written{_where(name)}"
        for name, path in there.items()
        if name in wanted and _sha256(path) != wanted[name]
    ]
    return faults + list(_against_item(folder))


def _against_item(folder: Path) -> Iterator[str]:
    """Yield what differs between the item of a field and its files."""
    item = folder / f"{folder.name}.json"
    if not item.exists():
        return
    try:
        assets: dict[str, Any] = json.loads(item.read_text(encoding="utf-8"))["assets"]
    except (ValueError, KeyError) as error:
        yield f"{item.name} is damaged: {error}"
        return
    for name, asset in assets.items():
        path = folder / asset["href"]
        # Of a folder the digest is that of the list of its files' digests.
        told = folder / SUMS if path.is_dir() else path
        if not path.exists():
            yield f"{asset['href']}, the asset {name!r}, is missing"
        elif asset.get("file:checksum") != multihash(told) or asset.get("file:size") != size(path):
            yield f"{asset['href']}, the asset {name!r}, is not what {item.name} says: its size or digest differs"


def _where(name: str) -> str:
    """Return which part of a field a file holds, in words."""
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
    return (path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def sync(path: Path) -> None:
    """Wait until a file is on the disk, and its name too."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    if hasattr(os, "O_DIRECTORY"):  # elsewhere a folder cannot be waited for
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
