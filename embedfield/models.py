"""The table of models: cards by name, and the encoders behind them."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections import Counter
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from embedfield import weights as weights_module
from embedfield.card import Card, HubWeights, PackageWeights
from embedfield.errors import CardError, InputsError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from embedfield.encoders import Encoder

PLUGINS = "embedfield.encoders"
# What a package can raise while it is imported and its cards are made.
BROKEN = (
    *(ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError),
    *(LookupError, ArithmeticError, AssertionError, OSError, RuntimeError),
)

GEOCLIP = Card(
    name="geoclip",
    title="GeoCLIP, trained on photographs",
    dim=512,
    code="embedfield.encoders.geoclip:GeoCLIP",
    options={"scales": [1, 16, 256]},
    weights=PackageWeights(
        file="location_encoder_weights.pth",
        package="geoclip==1.3.0",
        member="geoclip/model/weights/location_encoder_weights.pth",
        licence="MIT",
        sha256="94b80ae3af89fca78539e129dd2929d321247f5ceeeb0a31bc2c31041a253394",
        size_bytes=37_806_041,
    ),
    order="lat,lon",
    periodic=False,
    one_pole=False,
    # Half a wave of the finest scale: 256 waves over 180 degrees.
    detail=0.35,
    training_data="MP-16 (4.7 million geotagged photographs)",
    training_url="https://arxiv.org/abs/2309.16020",
    paper="Vivanco Cepeda et al. (2023), GeoCLIP: Clip-Inspired Alignment between Locations and Images for Effective "
    "Worldwide Geo-localization. NeurIPS 2023",
    doi="10.48550/arXiv.2309.16020",
    homepage="https://github.com/VicenteVivan/geo-clip",
)

# Commit of the hub's repository, and sha256 of the checkpoint in it.
SATCLIP_FILES = {
    "resnet18-l10": (
        "5263ff2455427581783c399808bdaa6c83857578",
        "c4af9559afb43d9c8be2781d4f70ce3f8a1087ea5a3773906c7c50ed05479ebd",
    ),
    "resnet18-l40": (
        "983a9d9d1f2f933f9a6a6225a214917fb58659d8",
        "6e2ed15146566170829bae8dd506d8274cd6fe4534c0ef407668dc3ccb04d2f1",
    ),
    "resnet50-l10": (
        "f41ed774863f2b0297e6f096eb3e3490888c03c2",
        "87ad5e8ca152e9564896f48de033e8d4278665bce049d36b3794847a430e69b1",
    ),
    "resnet50-l40": (
        "b66714c7308a55d12849d1ea43f892440d78e41a",
        "50df6453c20ce82b51ceba89811dcf1a21e7fa9d625cbc630f4cdcc4fc0de53a",
    ),
    "vit16-l10": (
        "829a79064fade0233c68bf01b7a3155be1b8778b",
        "c7596a5f7aacf72a7c49587a2a5a80f23cf61000a36b46e471c1422b273ca9c0",
    ),
    "vit16-l40": (
        "0ef2acc0b91d3c8cfdf4a0cc03207095989287ab",
        "c54c794cb8f95d4a141506656581240008570194b309c91217d86a6d4da5399f",
    ),
}


def _satclip(tower: str, degrees: int) -> Card:
    """Return the card of one released SatCLIP checkpoint."""
    variant = f"{tower.lower()}-l{degrees}"
    revision, sha256 = SATCLIP_FILES[variant]
    return Card(
        name=f"satclip-{variant}",
        title=f"SatCLIP {tower} L={degrees}, trained on Sentinel-2",
        dim=256,
        code="embedfield.encoders.satclip:SatCLIP",
        options={"legendre_polys": degrees, "vision_layers": f"moco_{tower.lower()}"},
        weights=HubWeights(
            file=f"satclip-{variant}.ckpt",
            repo=f"microsoft/SatCLIP-{tower}-L{degrees}",
            revision=revision,
            sha256=sha256,
            licence="MIT",
        ),
        aliases=(f"satclip-l{degrees}",) if tower == "ViT16" else (),
        dtype="float64",
        detail=180 / degrees,
        training_data="S2-100K (100,000 Sentinel-2 images)",
        training_url="https://github.com/microsoft/satclip",
        paper="Klemmer et al. (2023), SatCLIP: Global, General-Purpose Location Embeddings with Satellite Imagery",
        doi="10.48550/arXiv.2311.17179",
        homepage="https://github.com/microsoft/satclip",
    )


def _harmonics(degrees: int) -> Card:
    """Return the card of plain spherical harmonics."""
    return Card(
        name=f"sh-l{degrees}",
        title=f"real spherical harmonics, {degrees} degrees",
        dim=degrees**2,
        code="embedfield.encoders.analytic:Analytic",
        options={"legendre_polys": degrees},
        dtype="float64",
        detail=180 / degrees,
        homepage="https://en.wikipedia.org/wiki/Spherical_harmonics",
    )


XYZ = Card(
    name="xyz",
    title="the place as a unit vector",
    dim=3,
    code="embedfield.encoders.analytic:Analytic",
    dtype="float64",
    unit_norm=True,
    detail=180.0,
    homepage="https://en.wikipedia.org/wiki/N-vector",
)

BUILT_IN: tuple[Card, ...] = (
    GEOCLIP,
    *(_satclip(tower, degrees) for tower in ("ResNet18", "ResNet50", "ViT16") for degrees in (10, 40)),
    _harmonics(10),
    _harmonics(40),
    XYZ,
)


@cache
def cards() -> tuple[Card, ...]:
    """Return every known card, built in or from plugins, sorted by name.

    A plugin that cannot be imported is named in a warning and left out.

    Raises:
        CardError: If two cards have one name.
    """
    found = list(BUILT_IN)
    for entry in entry_points(group=PLUGINS):
        try:
            found.extend(_cards_of(entry.load()))
        except BROKEN as error:
            warnings.warn(f"The plugin {entry.name!r} ({entry.value}) is left out: {error}", stacklevel=2)
    names = Counter(name for card in found for name in (card.name, *card.aliases))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise CardError(f"Two cards have the name {twice[0]!r}. Uninstall one of the packages that declare it.")
    return tuple(sorted(found, key=lambda card: card.name))


def _cards_of(found: Sequence[Any]) -> list[Card]:
    """Return what a plugin declares, once it is known to be cards."""
    others = [thing for thing in found if not isinstance(thing, Card)]
    if others:
        raise CardError(f"It declares {others[0]!r}, which is no Card.")
    return list(found)


def card(name: str) -> Card:
    """Return the card of a name or an alias.

    Raises:
        UnknownModelError: If there is none; the message has the nearest names.
    """
    by_name = {known: card for card in cards() for known in (card.name, *card.aliases)}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name.lower(), by_name, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise UnknownModelError(f"No model named {name!r}. {hint}Run 'embedfield models' for the list.")


def load(
    name: str,
    weights: str | Path | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    offline: bool = False,
    report: Callable[[str], None] | None = None,
) -> Encoder:
    """Return the encoder of a name, with its weights in place.

    Args:
        name: A card's name or alias.
        weights: A checkpoint of your own; None for the released one, fetched
            once and then kept in the cache.
        inputs: What is asked beside the place, by the names in the card; they
            join the options of the encoder's card.
        offline: Never touch the network.
        report: Told what is fetched, before it is.

    Raises:
        UnknownModelError: If there is no such model.
        InputsError: If the model takes no input of a name.
        WeightsError: If the weights cannot be had or are not the model's.
    """
    model = _with_inputs(card(name), inputs or {})
    if weights is not None:
        held = weights_module.local(weights)
    elif model.weights is not None:
        held = weights_module.fetch(model.weights, model=model.name, offline=offline, report=report)
    else:
        held = None
    encoder = _encoder_class(model).from_card(model, held.path if held else None)
    encoder.weights_sha256 = held.sha256 if held else None
    return encoder


def _with_inputs(model: Card, inputs: Mapping[str, Any]) -> Card:
    """Return a card with inputs among its options."""
    for name in inputs:
        if name not in model.inputs:
            takes = ", ".join(model.inputs) or "only places"
            raise InputsError(f"{model.name} takes no input {name!r}. It takes: {takes}. Leave {name} out.")
    return replace(model, options={**model.options, **inputs}) if inputs else model


def _encoder_class(model: Card) -> type[Encoder]:
    """Return the class that a card's dotted path names."""
    module, _, attribute = model.code.partition(":")
    try:
        found: type[Encoder] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CardError(f"The code of {model.name!r}, {model.code!r}, cannot be imported: {error}.") from error
    return found
