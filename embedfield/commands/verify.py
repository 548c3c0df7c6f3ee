"""``embedfield verify``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from embedfield.commands.console import news, out, progress_of
from embedfield.commands.options import Device, Offline, OwnDatabase, OwnWeights, Stored


def verify(
    path: Stored,
    *,
    checksums: Annotated[bool, typer.Option("--checksums", help="Only whether every byte is as written.")] = False,
    places: Annotated[int, typer.Option(help="How many places are compared.")] = 4096,
    seed: Annotated[int | None, typer.Option(help="Of the places.", show_default="always the same")] = None,
    weights: OwnWeights = None,
    database: OwnDatabase = None,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Hold a stored field against its model at random places, and keep the certificate."""
    if checksums:
        _print_faults(path)
        return
    from embedfield.certify import certify

    asked: dict[str, Any] = {} if seed is None else {"seed": seed}
    with progress_of("verifying", "places") as progress:
        progress.step("loading the model")
        certificate, kept = certify(
            path, places=places, weights=weights, database=database, device=device, offline=offline, report=news.print,
            progress=progress.count, **asked,
        )  # fmt: skip
    for line in certificate.lines:
        news.print(line)
    if kept is None:
        why = "is not on this disk" if "://" in path else "does not lie in a folder of its own, as 'build' makes one"
        news.print(f"Nothing was kept: {path} {why}.")
    else:
        out.print(kept)


def _print_faults(name: str) -> None:
    """Say what is wrong with the files of a field."""
    from embedfield.errors import FormatError
    from embedfield.formats.address import Address, place_of
    from embedfield.integrity import absolute, check_sums

    path = place_of(name)
    if isinstance(path, Address):
        raise FormatError(f"{name} is not on this disk, where its checksums could be compared. Copy its folder here.")
    if not path.exists():
        raise FormatError(f"{path} does not exist. Give a .tif, .vrt, .zarr or .icechunk, or the folder of a field.")
    path = absolute(path)
    folder = path if path.is_dir() and path.suffix not in {".zarr", ".icechunk"} else path.parent
    faults = check_sums(folder)
    for fault in faults:
        news.print(fault)
    if faults:
        places = "1 place" if len(faults) == 1 else f"{len(faults)} places"
        raise FormatError(f"{folder} is damaged in {places}. Build it again with --overwrite.")
    out.print(f"{folder}: every byte is as it was written.")
