"""Documents: the JSON files of a catalogue, read as they are and written whole."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError
from embedfield.formats.address import SCHEME
from embedfield.integrity import absolute, placed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CATALOG, COLLECTION, MODEL, ITEMS = "catalog.json", "collection.json", "model.json", "items.parquet"


def read_document(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        FormatError: If it is not there, cannot be read, or holds none.
    """
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError as error:
        raise FormatError(f"{path} does not exist") from error
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is no JSON: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path} holds no JSON object, but a {type(found).__name__}")
    return found


def write_document(path: Path, content: dict[str, Any]) -> None:
    """Write an object as JSON; whoever reads the file meanwhile sees the old one, or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    # Half a character, which UTF-8 cannot write, becomes JSON's escape again.
    placed(path, lambda part: part.write_bytes(text.encode("utf-8", "backslashreplace")))


def one_line(error: object, length: int = 240) -> str:
    """Return what an error says, in one printable line without its full stop."""
    text = " ".join(str(error).split()).rstrip(".")
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= length else f"{text[:length]} …"


def links_of(content: dict[str, Any], rel: str | None = None) -> list[dict[str, Any]]:
    """Return the links of an object that are links: of one relation, or all."""
    found = content.get("links")
    links = [link for link in found if isinstance(link, dict)] if isinstance(found, list) else []
    sound = [link for link in links if isinstance(link.get("href"), str) and isinstance(link.get("rel"), str)]
    return [link for link in sound if rel is None or link["rel"] == rel]


def hrefs_of(content: dict[str, Any], rel: str) -> list[str]:
    """Return where the links of one relation lead."""
    return [link["href"] for link in links_of(content, rel)]


def is_address(href: str) -> bool:
    """Return whether an href begins with the scheme of a network, or of files."""
    return SCHEME.match(href) is not None


def is_relative(href: str) -> bool:
    """Return whether an href is one from where it stands: no address, and no path from the root of a disk."""
    return not is_address(href) and not href.startswith(("/", "\\")) and not os.path.isabs(href)  # noqa: PTH117  no path


def target_of(document: Path, href: str) -> Path:
    """Return the path of this disk that an href in a document leads to; a relative one may leave the catalogue."""
    return absolute(document.parent / href)


def linked(path: Path, content: dict[str, Any], rel: str) -> list[Path]:
    """Return the files of the disk that a document's relative links of one relation lead to, there or not."""
    return [target_of(path, href) for href in hrefs_of(content, rel) if is_relative(href)]


def check_within(root: Path, path: Path) -> None:
    """Refuse a file that a link leads to, if it lies outside of the catalogue's folder.

    Raises:
        FormatError: If it does.
    """
    if absolute(root) not in path.parents:
        raise FormatError(f"{path} lies outside of {root}, and a link of that catalogue leads to it: put it in there")


def others(path: Path, content: dict[str, Any], rel: str, target: Path) -> list[str]:
    """Return where a document's links of one relation lead, but for those to one file."""
    found = hrefs_of(content, rel)
    return [href for href in found if not (is_relative(href) and target_of(path, href) == absolute(target))]


def relative_href(target: Path, folder: Path) -> str:
    """Return the href of a file for a document in a folder, ``./…`` or ``../…``."""
    href = os.path.relpath(absolute(target), absolute(folder)).replace(os.sep, "/")
    return href if href.startswith("../") else f"./{href}"


def moved_hrefs(content: dict[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """Return an item whose relative hrefs, of links and assets, are others."""
    assets: dict[str, dict[str, Any]] = content["assets"]
    return content | {
        "links": [link | {"href": _moved(link["href"], move)} for link in links_of(content)],
        "assets": {key: asset | {"href": _moved(asset["href"], move)} for key, asset in assets.items()},
    }


def _moved(href: str, move: Callable[[str], str]) -> str:
    return move(href) if is_relative(href) else href
