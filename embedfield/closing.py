"""Closing: what is made of a whole raster before its folder becomes the field's: pictures, certificate, digests."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from embedfield.certificate import write_certificate
from embedfield.folder import remove
from embedfield.formats.icechunk_store import carry_over, to_icechunk
from embedfield.integrity import write_sums
from embedfield.pictures.colours import COLOURS, Colours
from embedfield.pictures.preview import colours_of, write_both
from embedfield.pictures.style import style_path, write_style
from embedfield.verify import verify_field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from embedfield.formats.stored import StoredField
    from embedfield.order import Order
    from embedfield.plan import Plan


# What was a Zarr before it was committed, in the folder of an unfinished build.
COMMITTED = "committed.zarr"


def close(
    order: Order,
    plan: Plan,
    raster: Path,
    step: Callable[[str], None],
    *,
    verify: bool,
    known: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Make a field of a whole raster, in its place; return what its certificate says, in words.

    Args:
        order: What was built.
        plan: By which it was.
        raster: In the folder that becomes the field's; its pieces may lie elsewhere.
        step: Told what is done, as it begins.
        verify: Hold the field against its encoder.
        known: Digests of files that need not be read, by their names.
    """
    with order.site.open_written(raster) as written:
        verdict = _companions(order, written, raster, step, verify=verify)
    if order.store == "icechunk":
        step("committing it to Icechunk")
        _commit(order, plan, raster)
        known = {}
    step("entering it into the catalogue")
    _leave_out(plan.result, (".*.part",) if verify else (".*.part", "certificate.*"))
    write_sums(plan.result, known)
    order.site.settle()
    return verdict


def _companions(
    order: Order, written: StoredField, raster: Path, step: Callable[[str], None], *, verify: bool
) -> list[str]:
    """Put pictures and certificate beside a raster; return what the certificate says."""
    step("drawing the preview")
    _draw(written, order, raster)
    if not verify:
        return []
    step("verifying: the encoder is asked at random places")
    certificate = verify_field(written, order.judge)
    write_certificate(certificate, raster.parent)
    return certificate.lines


def _commit(order: Order, plan: Plan, raster: Path) -> None:
    """Put a Zarr into a repository in its place, which goes on from that of the field which is replaced."""
    name = f"{raster.stem}.icechunk"
    made, old = (plan.result / name).absolute(), (order.site.folder / name).absolute()
    remove(made)
    if old.is_dir():
        carry_over(old, made)
    to_icechunk(raster.absolute(), made)
    # Kept until the field has its place: a build that is stopped before goes on from it.
    raster.rename(plan.folder / COMMITTED)


def put_back(plan: Plan, raster: str) -> None:
    """Have a Zarr where it was before it was committed, in a build that was stopped after that.

    Args:
        plan: Of the build.
        raster: Name of the Zarr.
    """
    if (plan.folder / COMMITTED).exists():
        remove(plan.result / raster)
        (plan.folder / COMMITTED).rename(plan.result / raster)


def _draw(field: StoredField, order: Order, raster: Path) -> None:
    """Make the pictures of a field, in colours that all fields of its model have, wherever they lie."""
    folder = raster.parent
    evaluator, weights = order.evaluator, field.provenance.get("weights_sha256")
    if evaluator.local:  # its networks of all the world would take longer to read than a field to build
        colours = colours_of(field, own=True)
    else:
        colours = Colours.of_encoder(evaluator.encode, field.card, weights)
    colours.write(folder / COLOURS)
    write_both(field, folder / "preview.png", folder / "rgb.tif", colours)
    write_style(field, style_path(raster))


def _leave_out(folder: Path, patterns: Iterable[str]) -> None:
    """Remove what an earlier process left in a field's folder that is no part of it."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()
