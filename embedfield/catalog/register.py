"""Register: a field that lies elsewhere → an item in a catalogue that points to it."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from embedfield.catalog.change import changed
from embedfield.catalog.documents import COLLECTION, linked, relative_href
from embedfield.catalog.shelves import enter, locked, open_catalog, open_collection
from embedfield.errors import FormatError, OutputExistsError
from embedfield.formats import ITEM, open_field
from embedfield.formats.address import Address, place_of
from embedfield.integrity import absolute
from embedfield.stac import item_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedfield.formats.bucket import Bucket
    from embedfield.formats.stored import StoredField

# Files by which a folder is known for a Zarr.
ZARR = {"zarr.json", ".zgroup", ".zarray"}


def register(
    root: Path | Bucket,
    href: str | Path,
    *,
    kind: str | None = None,
    name: str | None = None,
    field_id: str | None = None,
    draw: Callable[[StoredField, Path], object] | None = None,
    **options: Any,
) -> Path | Address:
    """Enter a field into a catalogue, where it lies; see `Catalog.add`.

    Args:
        root: Folder of the catalogue, here or in a bucket; made if it is not there.
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
    with _opened(href, kind, {"name": name, **options}) as field:
        home = _home(root, field)
        folder = _folder(field, field_id, home)
        if isinstance(root, Path):
            return _registered(absolute(root), field, folder, home, draw)
        if isinstance(field.path, Path):
            raise FormatError(
                f"{field.path} lies on this disk, where nobody finds it who reads {root}. Copy it to where it can be "
                "reached, and give its address."
            )
        return changed(
            root, lambda mirror: mirror.place(_registered(mirror.folder, field, folder, home, draw)), [folder]
        )


def _registered(
    root: Path, field: StoredField, name: str, home: str | None, draw: Callable[[StoredField, Path], object] | None
) -> Path:
    """Write the item of a field and what goes beside it, and enter it; return its file.

    Args:
        root: Folder of the catalogue, or of its mirror.
        field: As it lies in storage.
        name: Of the folder of its item, ``model/id``.
        home: Of the folder that it lies in, if that is one of the catalogue's.
        draw: As for `Catalog.add`.

    Raises:
        OutputExistsError: If another field has that id.
        FormatError: If catalogue or collection is something else, or damaged.
    """
    folder, at_home = root / name, name == home
    path = folder / f"{folder.name}.json"
    _check_free(root, path)
    with _made(folder):
        if draw and not at_home:
            draw(field, folder)
        href = f"./{PurePath(field.path).name}" if at_home else _href(root, field, folder)
        item = item_of(field, folder=folder, href=href)
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


def _home(root: Path | Bucket, field: StoredField) -> str | None:
    """Return the folder that a field lies in, ``model/id``, if it is one of a catalogue's; else None."""
    if isinstance(root, Path) != isinstance(field.path, Path):
        return None
    within = absolute(root).as_posix() if isinstance(root, Path) else str(root)
    place = absolute(field.path).as_posix() if isinstance(field.path, Path) else field.path
    above, _, below = place.partition(f"{within.rstrip('/')}/")
    folder, _, _ = below.rpartition("/")
    return folder if not above and folder.count("/") == 1 and folder.startswith(f"{field.card.name}/") else None


def _folder(field: StoredField, field_id: str | None, home: str | None) -> str:
    """Return where the item of a field goes: ``model/id``.

    Raises:
        FormatError: If the id is none.
    """
    if home and field_id in {None, PurePath(home).name}:
        return home
    chosen = field_id or re.sub(r"[^\w.+-]+", "-", field.name).strip("-.")
    if not re.fullmatch(r"\w[\w.+-]*", chosen):
        raise FormatError(f"'{chosen}' is no id for a field. Give one of letters, digits, '-', '.' and '_' with --id.")
    return f"{field.card.name}/{chosen}"


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
