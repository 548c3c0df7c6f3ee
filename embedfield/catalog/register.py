"""Register: a field that lies elsewhere → an item in a catalogue that points to it."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfield.catalog.documents import COLLECTION, linked, relative_href
from embedfield.catalog.shelves import enter, locked, open_catalog, open_collection
from embedfield.errors import FormatError, OutputExistsError
from embedfield.formats import ITEM, open_field
from embedfield.formats.address import Address, place_of
from embedfield.integrity import absolute
from embedfield.stac import item_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedfield.formats.stored import StoredField

# Files by which a folder is known for a Zarr.
ZARR = {"zarr.json", ".zgroup", ".zarray"}


def register(
    root: Path,
    href: str | Path,
    *,
    kind: str | None = None,
    name: str | None = None,
    field_id: str | None = None,
    draw: Callable[[StoredField, Path], object] | None = None,
    **options: Any,
) -> Path:
    """Enter a field into a catalogue, where it lies; see `Catalog.add`.

    Args:
        root: Folder of the catalogue; made if it is not there.
        href: As for `Catalog.add`.
        kind: As for `Catalog.add`.
        name: As for `Catalog.add`.
        field_id: As for `Catalog.add`.
        draw: As for `Catalog.add`.
        options: As for `Catalog.add`.

    Raises:
        FormatError: If it is no field, or how to read it is not clear.
        OutputExistsError: If another field has that id.
    """
    root = absolute(root)
    with _opened(href, kind, {"name": name, **options}) as field:
        folder = _folder(root, field, field_id)
        path = folder / f"{folder.name}.json"
        _check_free(root, path)
        with _made(folder):
            at_home = _is_home(field, folder)
            if draw and not at_home:
                draw(field, folder)
            item = item_of(field) if at_home else item_of(field, folder=folder, href=_href(root, field, folder))
            with locked(root):
                # Another process may have been quicker.
                _check_free(root, path)
                enter(root, field.card, path, item)
    return path


def _check_free(root: Path, path: Path) -> None:
    """Refuse an id that another field has, and a catalogue that nothing can be entered into.

    Raises:
        OutputExistsError: If there is an item of that id.
        FormatError: If catalogue or collection is something else, or damaged.
    """
    model = path.parent.parent.name
    collection = open_collection(root, model, open_catalog(root)) or {}
    if not path.exists():
        return
    if absolute(path) not in linked(root / model / COLLECTION, collection, "item"):
        raise OutputExistsError(
            f"{path} exists, and the catalogue does not lead to it: something was stopped halfway. 'embedfield "
            f"catalog rebuild --catalog {root}' enters it."
        )
    raise OutputExistsError(
        f"{path} exists: the catalogue has '{path.stem}' among those of {model} already. Give another --id, or take "
        "that one out with 'embedfield catalog remove'."
    )


@contextmanager
def _opened(href: str | Path, kind: str | None, options: dict[str, Any]) -> Iterator[StoredField]:
    """Open a field of ours, or one made by others.

    Raises:
        FormatError: If it is neither.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if kind is None:
        try:
            field = open_field(href)
        except FormatError as error:
            if _is_ours(href):
                raise
            field = _foreign(href, kind, given, error)
        else:
            if given:
                field.close()
                raise FormatError(f"{href} is a field of embedfield's own: leave out {', '.join(sorted(given))}.")
    else:
        field = _foreign(href, kind, given, None)
    with field:
        yield field


def _is_ours(href: str | Path) -> bool:
    """Return whether what an href leads to can only be meant as a field of ours: nothing, a folder, or an item."""
    place = place_of(href)
    if isinstance(place, Path) and (
        not place.exists() or (place.is_dir() and not any(map(_describes, place.iterdir())))
    ):
        return True
    return place.suffix == ITEM


def _describes(path: Path) -> bool:
    return path.name in ZARR


def _foreign(href: str | Path, kind: str | None, options: dict[str, Any], why: FormatError | None) -> StoredField:
    """Open a field made by others.

    Raises:
        FormatError: If it is none, or how to read it is not clear.
    """
    from embedfield.formats.foreign import OwnFieldError, open_foreign, recognise

    try:
        return open_foreign(href, recognise(href, kind, **options))
    except OwnFieldError as error:
        raise why or error from error  # what keeps a field of ours from being opened says more
    except FormatError as error:
        raise error from why


def _folder(root: Path, field: StoredField, field_id: str | None) -> Path:
    """Return where the item of a field goes.

    Raises:
        FormatError: If the id is none.
    """
    own = absolute(field.path.parent) if isinstance(field.path, Path) else None
    if own and own.parent.parent == root and own.parent.name == field.card.name and field_id in {None, own.name}:
        return own
    chosen = field_id or re.sub(r"[^\w.+-]+", "-", field.name).strip("-.")
    if not re.fullmatch(r"\w[\w.+-]*", chosen):
        raise FormatError(f"'{chosen}' is no id for a field. Give one of letters, digits, '-', '.' and '_' with --id.")
    return root / field.card.name / chosen


def _is_home(field: StoredField, folder: Path) -> bool:
    """Return whether a field lies in the folder of its item."""
    return isinstance(field.path, Path) and absolute(field.path.parent) == folder


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it again if what is done with it fails."""
    if folder.exists():
        yield
        return
    folder.mkdir(parents=True)
    with ExitStack() as undo:
        undo.callback(_unmake, folder)
        yield
        undo.pop_all()


def _unmake(folder: Path) -> None:
    shutil.rmtree(folder)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _href(root: Path, field: StoredField, folder: Path) -> str:
    """Return how the item points to the field: relative within the catalogue's folder, or else whole."""
    place = place_of(field.path)
    if isinstance(place, Address):
        return str(place)
    path = absolute(place)
    return relative_href(path, folder) if root in path.parents else path.as_posix()
