"""Certify: verify a field that lies in its folder, and keep what was found there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedfield.certificate import write_certificate
from embedfield.formats import open_field
from embedfield.integrity import SUMS, write_sums
from embedfield.stac import refresh
from embedfield.verify import verify_field

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.certificate import Certificate


def certify(path: str | Path, **options: Any) -> tuple[Certificate, Path]:
    """Verify a stored field and put the certificate into its folder, its checksums and its STAC item.

    Args:
        path: As for `open_field`.
        options: As for `verify_field`.

    Returns:
        The certificate, and the file that it is kept in.

    Raises:
        FormatError: If there is no field.
        WeightsError: If the weights are not those that it was made with.
    """
    with open_field(path) as field:
        folder = field.path.parent
        certificate = verify_field(field, **options)
        write_certificate(certificate, folder)
        if (folder / SUMS).exists():
            write_sums(folder)
            refresh(field)
    return certificate, folder / "certificate.json"
