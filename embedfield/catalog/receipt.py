"""Receipt: what an item says of a field that the field itself does not, kept when the item is written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pystac

from embedfield.integrity import MULTIHASH_SHA256, SUMS, multihash, sums_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

# What an item says of the run.
RUN = ("device", "seconds", "resumed", "workers")


class Receipt(NamedTuple):
    """Arguments of `item_of`."""

    run: dict[str, Any]
    """Of the build: device, seconds."""
    created: datetime | None
    """When it was made; None for now."""
    known: dict[str, dict[str, Any]]
    """Sizes and digests of files that were not written since, by href."""

    @classmethod
    def of(cls, item: dict[str, Any], raster: Path, written: Iterable[str] = ()) -> Receipt:
        """Return the receipt of an item.

        Args:
            item: As it lies beside the field; what is damaged in it breaks in one of the ways of `BROKEN`.
            raster: Of the field, beside the item.
            written: Names of the files that were written since.
        """
        ran = item["properties"]["emb:runtime_parameters"]
        run = {name: ran[name] for name in RUN if name in ran}
        created = pystac.utils.str_to_datetime(item["properties"]["created"])
        said = {asset["href"]: _told(asset) for asset in item["assets"].values()}
        return cls(run, created, _still_known(raster, said, [f"./{name}" for name in written]))


def _told(asset: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asset[name] for name in ("file:size", "file:checksum") if name in asset}


def _still_known(raster: Path, said: dict[str, dict[str, Any]], written: list[str]) -> dict[str, dict[str, Any]]:
    """Return what an item said of files that were not written since, by href."""
    known = {href: told for href, told in said.items() if href not in written}
    sums = f"./{SUMS}"
    if sums not in known:
        return known
    before = {href: said.get(href, {}).get("file:checksum") for href in written}
    digests = {href.removeprefix("./"): told and told.removeprefix(MULTIHASH_SHA256) for href, told in before.items()}
    # The list of digests is others' now. But one that was changed before was damaged, and must stay so.
    if known[sums].get("file:checksum") == sums_with(raster.parent, digests):
        del known[sums]
        told = known.get(f"./{raster.name}", {})
        if raster.is_dir():  # its digest is that of the list
            told["file:checksum"] = multihash(raster.parent / SUMS)
    return known
