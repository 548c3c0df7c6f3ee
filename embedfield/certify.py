"""Certify: verify a field that lies in its folder, and keep what was found there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedfield.catalog import is_entered, refresh
from embedfield.certificate import FILE, PICTURE, write_certificate
from embedfield.folder import held
from embedfield.formats import open_field
from embedfield.formats.address import Address, place_of
from embedfield.integrity import SUMS, absolute, listed, storage_errors, update_sums
from embedfield.verify import verify_field

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.certificate import Certificate
    from embedfield.formats.stored import StoredField


def certify(path: str | Path, **options: Any) -> tuple[Certificate, Path | None]:
    """Verify a stored field and put the certificate into its folder, its checksums and its STAC item.

    Digests and sizes of all other files stay as they were told when they were
    written: damage that was there before is found after. Nothing is written
    for a raster that does not lie in a folder of its own, as `build` makes one.

    Args:
        path: As for `open_field`.
        options: As for `verify_field`.

    Returns:
        The certificate, and the file that it is kept in; None if it is kept in none.

    Raises:
        FormatError: If there is no field, or its checksums or item cannot be read.
        WeightsError: If the weights are not those that it was made with.
        StorageError: If the disk is full, or may not be written.
        BusyError: If another process is building it.
    """
    place = place_of(path)
    if isinstance(place, Address):
        with open_field(path) as field:
            return verify_field(field, **options), None
    path = place
    with open_field(absolute(path)) as field:
        folder = field.disk_path.parent
        # Before the work: a list that cannot be read stops it.
        kept = _has_own_folder(field)
        if not kept:
            return verify_field(field, **options), None
        # A build of the same field would put another in its place meanwhile.
        with storage_errors(folder), held(folder):
            certificate = verify_field(field, **options)
            write_certificate(certificate, folder)
            update_sums(folder, (FILE, PICTURE))
            refresh(field, (FILE, PICTURE))
    # As the caller names the folder.
    return certificate, (path if absolute(path) == folder else path.parent) / FILE


def _has_own_folder(field: StoredField) -> bool:
    """Return whether a folder is that of a field, and no other in which its raster lies."""
    path, folder = field.disk_path, field.disk_path.parent
    if folder.name != path.stem or not (folder / SUMS).is_file():
        return False
    # Of a Zarr, which is a folder, the files are listed.
    raster = any(name == path.name or name.startswith(f"{path.name}/") for name in listed(folder))
    return raster or is_entered(folder.parent.parent, field)
