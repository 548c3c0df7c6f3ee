"""Collection: a model and the items of its fields → a STAC collection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pystac

from embedfield.catalog.documents import CATALOG, MODEL, hrefs_of, is_address, links_of
from embedfield.catalog.entry import BROKEN
from embedfield.formats.item import ASSET, LAYOUT
from embedfield.stac import citation, extensions_of, licence
from embedfield.stac.assets import COMPANIONS, GDAL_TITLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from embedfield.card import Card, Weights

EXTENSIONS = extensions_of(("emb:type", "proj:code", "sci:citation", "version"), ())
# What assets are, by their keys; all others but tiles are said to be what they are called.
TITLES = {ASSET: "Vectors, a band a dimension", "gdal": GDAL_TITLE, **{each.key: each.title for each in COMPANIONS}}
# What the collection says of its items is said anew with every change; its users may add to all else.
ORDER = (
    *("type", "id", "stac_version", "stac_extensions", "title", "description", "keywords", "license", "version"),
    *("providers", "sci:citation", "sci:doi", "emb:type", "emb:dimensions", "data_type", "extent", "summaries"),
    *("item_assets", "links"),
)
OWN_LINKS = ("root", "parent", "item", "emb:model")
# Follow from its model; but where there are some, they stay.
MODEL_LINKS = ("emb:source-data", "license")
JSON, GEOJSON = "application/json", "application/geo+json"


def collection_of(
    card: Card | None, items: Sequence[dict[str, Any]], hrefs: Iterable[str], old: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the collection of a model.

    Args:
        card: Of the model; None where none of its fields can be opened.
        items: Of its fields, each one that `read_item` takes; one at least.
        hrefs: Where the items are, for the links; those of items that cannot be read too.
        old: What the collection said until now: what does not follow from the items stays.
    """
    first = items[0]
    said = old or {}
    stated = {**_of_model(card, first["collection"]), **said}
    own = {**_of_items(items, stated), "stac_extensions": _united(said.get("stac_extensions"), EXTENSIONS)}
    whole = {**stated, **own, "links": _links(card, items, hrefs, said)}
    # Whatever came first: the same collection is the same bytes.
    return {name: whole[name] for name in (*ORDER, *whole) if name in whole}


def additions(said: dict[str, Any]) -> dict[str, Any]:
    """Return what a collection says that follows neither from its model nor from its items: what users added."""
    own = {*OWN_LINKS, *MODEL_LINKS}
    links = [link for link in links_of(said) if link["rel"] not in own]
    kept = {name: told for name, told in said.items() if name not in ORDER or name == "stac_extensions"}
    return kept | ({"links": links} if links else {})


def _of_model(card: Card | None, name: str) -> dict[str, Any]:
    """Return what a collection says of its model alone."""
    head = {"type": "Collection", "id": name, "stac_version": pystac.get_stac_version(), "title": name}
    common = {"emb:type": "pixel", "keywords": ["embeddings", "location", name.partition("-")[0]], "version": "1"}
    if card is None:
        return {**head, "description": f"Fields of {name}.", "license": "other", "data_type": "float32", **common}
    return {
        **head,
        "description": f"{card.title}. Trained on: {card.training_data}.",
        **common,
        "version": _version(card.weights),
        "license": licence(card),
        "providers": _providers(card),
        "data_type": card.dtype,
        **citation(card),
    }


def _version(weights: Weights | None) -> str:
    """Return which weights a model's fields are made with: a revision, a release, or the first digits of a digest."""
    revision = getattr(weights, "revision", None) or getattr(weights, "package", "").partition("==")[2]
    digest = (weights.sha256 if weights else None) or "1"
    return str(revision or digest)[:12]


def _providers(card: Card) -> list[dict[str, Any]]:
    """Return who made the model, by the paper's authors where it has one, and what computed its fields."""
    cited = re.match(r"(.+?) \(\d{4}", card.paper or "")
    made = {"name": cited[1] if cited else card.title, "roles": ["producer", "licensor"], "url": card.homepage}
    return [*([made] if cited or card.weights else []), {"name": "embedfield", "roles": ["processor"]}]


def _of_items(items: Sequence[dict[str, Any]], stated: dict[str, Any]) -> dict[str, Any]:
    """Return what a collection says of the items that are in it."""
    dims = sorted({len(item["assets"][ASSET]["bands"]) for item in items})
    codes = sorted({str(item["properties"]["proj:code"]) for item in items})
    summaries = {name: said for name, said in _known(stated, "summaries").items() if name != "emb:dimensions"}
    summaries["proj:code"] = codes
    if len(dims) > 1:
        # The extension has one number, and a list where they differ.
        summaries["emb:dimensions"] = dims
    return {
        "emb:dimensions": dims[-1],
        "extent": {"spatial": {"bbox": [_bbox(items)]}, "temporal": {"interval": [_interval(items)]}},
        "summaries": summaries,
        "item_assets": dict(_item_assets(items)),
    }


def _known(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _bbox(items: Sequence[dict[str, Any]]) -> list[float]:
    """Return the box around all items; around the world where one of several crosses the antimeridian."""
    boxes = [[float(edge) for edge in item["bbox"]] for item in items]
    wests, souths, easts, norths = zip(*boxes, strict=True)
    if len(set(map(tuple, boxes))) == 1:
        return boxes[0]
    crossing = any(west > east for west, _, east, _ in boxes)
    west, east = (-180.0, 180.0) if crossing else (min(wests), max(easts))
    return [west, min(souths), east, max(norths)]


def _interval(items: Sequence[dict[str, Any]]) -> list[str | None]:
    """Return the first and the last instant of the items, as STAC writes them."""
    instants = []
    for item in items:
        for name in ("datetime", "start_datetime", "end_datetime"):
            try:
                instants.append(pystac.utils.str_to_datetime(item["properties"][name]))
            except BROKEN:
                continue  # an item has the one, or the other two
    if not instants:
        return [None, None]
    return [pystac.utils.datetime_to_str(min(instants)), pystac.utils.datetime_to_str(max(instants))]


def _item_assets(items: Sequence[dict[str, Any]]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield what the assets of the items are, by key; what they do not agree on is left out."""
    keys = {key for item in items for key, asset in item["assets"].items() if ".tiles/" not in asset["href"]}
    for key in sorted(keys):
        assets = [item["assets"][key] for item in items if key in item["assets"]]
        alike = {name: assets[0].get(name) for name in ("type", "roles")}
        agreed = {
            name: value for name, value in alike.items() if value and all(asset.get(name) == value for asset in assets)
        }
        yield key, {"title": TITLES.get(key, key), **agreed}


def _links(
    card: Card | None, items: Sequence[dict[str, Any]], hrefs: Iterable[str], said: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the links of a collection: up, to the model, to items, and those that it had beside."""
    kept = [link for link in links_of(said) if link["rel"] not in {*OWN_LINKS, "self"}]
    own = [{"rel": rel, "href": f"../{CATALOG}", "type": JSON} for rel in ("root", "parent")]
    # The extension asks for both even where no page is known: then it is an item that says what is known.
    itself = f"./{items[0]['id']}/{items[0]['id']}.json"
    page = card.homepage if card and is_address(card.homepage) else None
    own.append(_model_link(page or itself, items))
    if not hrefs_of(said, "emb:source-data"):
        trained = (card.training_url if card else None) or page or itself
        own.append({"rel": "emb:source-data", "href": trained, "title": card.training_data if card else "not stated"})
    if card and not hrefs_of(said, "license"):
        own += _licence_links(card, page)
    return own + kept + [{"rel": "item", "href": href, "type": GEOJSON} for href in sorted(set(hrefs))]


def _model_link(page: str, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the link to the model: to its own item, and for fields made by others to its page."""
    name = items[0]["collection"]
    if not all(LAYOUT in item["properties"] for item in items):
        return {"rel": "emb:model", "href": f"./{MODEL}", "type": GEOJSON, "title": name}
    return {"rel": "emb:model", "href": page, "title": name}


def _licence_links(card: Card, page: str | None) -> list[dict[str, Any]]:
    if card.licence == "none":
        return [{"rel": "license", "href": page, "title": card.licence_in_words}] if page else []
    names = [name for name in card.licence.split(" AND ") if re.fullmatch(r"[\w.+-]+", name)]
    return [{"rel": "license", "href": f"https://spdx.org/licenses/{name}.html", "title": name} for name in names]


def _united(said: Any, own: Iterable[str]) -> list[str]:
    before = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    return sorted({*before, *own})
