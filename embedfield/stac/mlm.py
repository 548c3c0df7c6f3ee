"""MLM: an encoder as a STAC item, by the extension for machine learning models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pystac
import shapely

from embedfield.card import NO_CODE, HubWeights, PackageWeights, UrlWeights
from embedfield.integrity import MULTIHASH_SHA256
from embedfield.stac import citation, extensions_of, licence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from embedfield.card import Card, Weights

# The extension has a list of tasks, and none is to embed. What vectors are for by themselves is to be compared.
TASKS = ["similarity-search"]
# How files of weights are made, by how their names end.
ARTIFACTS = {
    ".safetensors": "safetensors.torch.save_file",
    ".ckpt": "torch.save",
    ".pt": "torch.save",
    ".pth": "torch.save",
    ".pth.tar": "torch.save",
    ".npz": "numpy.savez",
    ".zip": "zip",
}
UNKNOWN_ARTIFACT = "file"
# Of an encoder that has no weights, or whose weights are the user's own.
CODE_ARTIFACT = "source code"
# The extension's word for what the code would tell of an encoder that is not at hand.
UNKNOWN = "unknown"
NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]")


def model_item(card: Card, created: datetime) -> pystac.Item:
    """Return the MLM item of an encoder; its id is the card's name.

    Args:
        card: Of the encoder.
        created: When the item was made.
    """
    south, north = card.latitudes
    assets = dict(_assets(card))
    properties = {
        "title": card.title,
        **({"description": card.note} if card.note else {}),
        "license": licence(card),
        "created": pystac.utils.datetime_to_str(created),
        **citation(card),
        **_model(card),
    }
    item = pystac.Item(
        id=card.name,
        geometry=shapely.geometry.mapping(shapely.box(-180, south, 180, north)),
        bbox=[-180.0, south, 180.0, north],
        datetime=created,
        properties=properties,
        stac_extensions=extensions_of(properties, assets.values()),
    )
    for key, asset in assets.items():
        item.add_asset(key, asset)
    for link in _links(card):
        item.add_link(link)
    return item


def _model(card: Card) -> dict[str, Any]:
    return {
        "mlm:name": _name(card.name),
        "mlm:architecture": UNKNOWN if card.code == NO_CODE else card.code.partition(":")[2],
        "mlm:tasks": TASKS,
        "mlm:framework": "PyTorch",
        "mlm:accelerator": None,
        **_training(card),
        "mlm:input": [_places(card), *_asked(card)],
        "mlm:output": [_vector(card)],
        **_options(card),
        "embedfield:code": card.code,
    }


def _name(name: str) -> str:
    """Return a card's name in letters that the extension allows."""
    plain = name.replace("+", "-plus")
    return plain if NAME.fullmatch(plain) else f"model-{plain}"


def _training(card: Card) -> dict[str, Any]:
    """Return on what the weights were trained; nothing where they are the user's own."""
    if card.weights is not None:
        return {"mlm:pretrained": True, "mlm:pretrained_source": card.training_data}
    if card.training_data == "none":
        return {"mlm:pretrained": False, "mlm:pretrained_source": None}
    return {}


def _places(card: Card) -> dict[str, Any]:
    """Return the input that every encoder has: order, units, where it is defined, and what is done to it."""
    south, north = card.latitudes
    return {
        "name": "lonlat",
        "description": "Longitude and latitude (EPSG:4326) in degrees, longitude first. "
        f"Latitudes from {south:g} to {north:g}; longitudes of any number of turns.",
        "bands": [],
        "input": {"shape": [-1, 2], "dim_order": ["batch", "coordinate"], "data_type": "float64"},
        "value_scaling": None,
        "resize_type": None,
        "pre_processing_function": {
            "format": "text",
            "expression": f"degrees (lon, lat) → ({card.order.replace(',', ', ')}), the order of the official code "
            f"→ {card.units}; done in float64 by the encoder itself",
        },
    }


def _asked(card: Card) -> Iterator[dict[str, Any]]:
    """Yield what can be asked of an encoder beside a place."""
    for name, asked in card.inputs.items():
        yield {
            "name": name,
            "description": f"{asked.meaning} From {asked.minimum:g} to {asked.maximum:g}; one number for all places.",
            "bands": [],
            "input": {"shape": [1], "dim_order": ["channel"], "data_type": "float64"},
        }


def _vector(card: Card) -> dict[str, Any]:
    length = "of length 1" if card.unit_norm else "not normalised"
    prefixes = ", ".join(map(str, card.prefixes))
    return {
        "name": "embedding",
        "description": f"{card.dim} numbers a place, {length}."
        + (f" The first {prefixes} are embeddings of their own." if prefixes else ""),
        "tasks": TASKS,
        "result": {"shape": [-1, card.dim], "dim_order": ["batch", "embedding"], "data_type": card.dtype},
    }


def _options(card: Card) -> dict[str, Any]:
    """Return the options of an encoder's code; the extension allows no empty table."""
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in card.options.items()}
    return {"mlm:hyperparameters": told} if told else {}


def _assets(card: Card) -> Iterator[tuple[str, pystac.Asset]]:
    """Yield weights, database and source code; the first of them is the model."""
    if card.weights is not None:
        yield "weights", _file(card.weights, ["mlm:model", "mlm:weights"], f"Weights of {card.name}")
    if card.database is not None:
        yield "database", _file(card.database, ["data"], f"Vectors that {card.name} looks things up in")
    itself = {} if card.weights is not None else {"mlm:artifact_type": CODE_ARTIFACT}
    yield (
        "source-code",
        pystac.Asset(
            card.homepage,
            _home(card),
            media_type="text/html",
            roles=[*(["mlm:model"] if itself else []), "mlm:source_code", "code"],
            extra_fields=itself,
        ),
    )


def _file(weights: Weights, roles: list[str], title: str) -> pystac.Asset:
    """Return the asset of a released file: itself, or what it is a part of."""
    href, member = _address(weights)
    digest = {"file:checksum": MULTIHASH_SHA256 + weights.sha256.lower()} if weights.sha256 else {}
    length = {"file:size": weights.size_bytes} if weights.size_bytes is not None else {}
    revision = {"version": weights.revision} if isinstance(weights, HubWeights) and weights.revision else {}
    own = {**length, **digest}
    return pystac.Asset(
        href,
        title,
        description=f"{weights.origin}, licence {weights.licence}",
        media_type="application/octet-stream",
        roles=roles,
        extra_fields={
            **({"mlm:artifact_type": _artifact(weights.file)} if "mlm:model" in roles else {}),
            "license": "other" if weights.licence == "none" else weights.licence,
            # Size and digest are the member's: of what it is a part of, none is known.
            **({"embedfield:member": {"path": member, **own}} if member else own),
            **revision,
        },
    )


def _address(weights: Weights) -> tuple[str, str | None]:
    """Return where a file is had from, and its path within what is there; None where it is the file itself."""
    match weights:
        case HubWeights():
            revision = quote(weights.revision or "main", safe="")
            return f"{weights.address}/resolve/{revision}/{quote(weights.file)}", None
        case PackageWeights():
            # The address of a package is its name, whichever index it is had from (purl).
            name, _, version = weights.package.partition("==")
            return f"pkg:pypi/{name}{f'@{version}' if version else ''}", weights.member
        case UrlWeights():
            return weights.url, weights.member
    raise TypeError(f"{type(weights).__name__} is no kind of weights that has an address. Add one in mlm.py.")


def _artifact(file: str) -> str:
    return next((kind for suffix, kind in ARTIFACTS.items() if file.lower().endswith(suffix)), UNKNOWN_ARTIFACT)


def _home(card: Card) -> str:
    return f"What {card.name} computes" if card.training_data == "none" else f"Official code of {card.name}"


def _links(card: Card) -> Iterator[pystac.Link]:
    yield pystac.Link("about", card.homepage, "text/html", _home(card))
    if card.training_url:
        yield pystac.Link("describedby", card.training_url, "text/html", f"Trained on: {card.training_data}")
    if card.doi:
        yield pystac.Link("cite-as", f"https://doi.org/{card.doi}", title=card.paper)
