"""Receipt: what an item says of a field that the field itself does not, kept when the item is written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pystac

from embedfield.integrity import MULTIHASH_SHA256, SUMS, multihash, sums_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from embedfield.formats.stored import StoredField

# What an item says of the run.
RUN = ("device", "seconds", "resumed")


class Receipt(NamedTuple):
    """Arguments of `item_of`."""

    run: dict[str, Any]
    """Of the build: device, seconds."""
    created: datetime
    """When it was made."""
    known: dict[str, dict[str, Any]]
    """Sizes and digests of files that were not written since, by href."""

    @classmethod
    def of(cls, item: dict[str, Any], field: StoredField, written: Iterable[str] = ()) -> Receipt:
        """Return the receipt of an item.

        Args:
            item: As it lies beside the field; what is damaged in it breaks in one of the ways of `BROKEN`.
            field: As it lies on disk.
            written: Names of the files that were written since.
        """
        ran = item["properties"]["emb:runtime_parameters"]
        run = {name: ran[name] for name in RUN if name in ran}
        created = pystac.utils.str_to_datetime(item["properties"]["created"])
        said = {asset["href"]: _told(asset) for asset in item["assets"].values()}
        return cls(run, created, _still_known(field, said, [f"./{name}" for name in written]))


def _told(asset: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asset[name] for name in ("file:size", "file:checksum") if name in asset}


def _still_known(field: StoredField, said: dict[str, dict[str, Any]], written: list[str]) -> dict[str, dict[str, Any]]:
    """Return what an item said of files that were not written since, by href."""
    known = {href: told for href, told in said.items() if href not in written}
    sums = f"./{SUMS}"
    if sums not in known:
        return known
    before = {href: said.get(href, {}).get("file:checksum") for href in written}
    digests = {href.removeprefix("./"): told and told.removeprefix(MULTIHASH_SHA256) for href, told in before.items()}
    # The list of digests is others' now. But one that was changed before was damaged, and must stay so.
    if known[sums].get("file:checksum") == sums_with(field.disk_path.parent, digests):
        del known[sums]
        raster = known.get(f"./{field.disk_path.name}", {})
        if field.disk_path.is_dir():  # its digest is that of the list
            raster["file:checksum"] = multihash(field.disk_path.parent / SUMS)
    return known
