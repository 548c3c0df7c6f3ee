"""The table of models: cards by name, and the encoders behind them."""

from __future__ import annotations

import difflib
import importlib
import inspect
import tomllib
import warnings
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfield import weights as weights_module
from embedfield.card import FILES, Card
from embedfield.errors import CardError, EmbedfieldWarning, InputsError, UnknownModelError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from importlib.metadata import EntryPoint

    from embedfield.encoders import Encoder

PLUGINS = "embedfield.encoders"
# What a user's card file may leave out where it names other code.
ANY_CODE = {"homepage": "not stated", "code_licence": "none", "training_data": "the user's own"}
# And where it names none: it describes an encoder trained with the code of Rußwurm et al. 2024.
USERS = {
    **ANY_CODE,
    "code": "embedfield.encoders.locationencoder:LocationEncoder",
    "homepage": "https://github.com/MarcCoru/locationencoder",
    "paper": "Rußwurm et al. (2024), Geographic Location Encoding with Spherical Harmonics and Sinusoidal "
    "Representation Networks. ICLR 2024",
    "doi": "10.48550/arXiv.2310.06743",
    "dtype": "float64",
}


def read_card(path: str | Path) -> Card:
    """Return the card that a TOML file describes: a model of the user's own.

    The file has the fields of `Card`. It may leave out all but ``name``,
    ``dim`` and, in ``[options]``, ``posenc`` and ``network`` of an encoder
    trained with the code of Rußwurm et al. 2024 (`encoders.locationencoder`);
    or ``code`` names another family, and ``[options]`` has what that wants.

    Raises:
        CardError: If there is no such file, it is no TOML, or no card.
    """
    path = Path(path).expanduser()
    try:
        # Some editors begin a file with a mark that TOML does not know.
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        left_out = ANY_CODE if "code" in data else USERS
        found = Card.from_dict({**left_out, "title": data.get("name", ""), **data})
    except OSError as error:
        raise CardError(f"Cannot read the card {path}: {error.strerror}. Check the path.") from error
    except ValueError as error:  # of TOML, of UTF-8, and of cards
        raise CardError(f"The card {path} cannot be used: {error}") from error
    if any(found.name in (known.name, *known.aliases) for known in cards()):
        raise CardError(f"The card {path} is named {found.name!r}, as a known model is. Give it a name of its own.")
    return found


@cache
def built_in() -> tuple[Card, ...]:
    """Return the cards that come with embedfield, one file a family."""
    folder = files("embedfield") / "cards"
    families = [
        tomllib.loads(file.read_text(encoding="utf-8")) for file in folder.iterdir() if file.name.endswith(".toml")
    ]
    return tuple(Card.from_dict(data) for family in families for data in _variants(family))


def _variants(family: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each variant, joined with what the family has in common."""
    common = {name: value for name, value in family.items() if name != "variants"}
    for variant in family.get("variants", [{}]):
        tables = {name: common.get(name, {}) | variant[name] for name in FILES if name in variant}
        yield common | variant | tables


@cache
def cards() -> tuple[Card, ...]:
    """Return every known card, built in or from plugins, sorted by name.

    A plugin that cannot be imported is named in a warning and left out, and so
    is a plugin's card whose name is taken: one package does not stop the rest.
    """
    found = list(built_in())
    taken = {name for card in found for name in _names(card)}
    # Sorted, so that of two plugins the same one has a name on every machine.
    for entry in sorted(entry_points(group=PLUGINS)):
        for card in _declared(entry):
            twice = sorted(taken.intersection(_names(card)))
            if twice:
                reason = f"the name {twice[0]!r} is taken. Uninstall one of the packages that declare it."
                warnings.warn(
                    f"The model {card.name!r} of the plugin {entry.name!r} is left out: {reason}",
                    EmbedfieldWarning,
                    stacklevel=2,
                )
                continue
            found.append(card)
            taken.update(_names(card))
    return tuple(sorted(found, key=lambda card: card.name))


def _names(card: Card) -> tuple[str, ...]:
    return card.name, *card.aliases


def _declared(entry: EntryPoint) -> list[Card]:
    """Return the cards of a plugin; none, and a warning, where they cannot be had."""
    found: list[Card] = []
    with _CodeOfOthers(entry) as theirs:
        found.extend(_cards_of(theirs.load()))
    return found


class _CodeOfOthers:
    """Here a plugin's own code runs: whatever error it raises is told in a warning that names it, and goes no further.

    The classes of such errors cannot be listed: a package may define its own.
    """

    def __init__(self, entry: EntryPoint) -> None:
        self.entry = entry

    def __enter__(self) -> EntryPoint:
        return self.entry

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        # Being told to stop is no error of the plugin's.
        if kind is None or not issubclass(kind, Exception):
            return False
        # An error of one's own making may have many lines, or none.
        reason = " ".join(f"{kind.__name__}: {error}".split())
        told = f"The plugin {self.entry.name!r} ({self.entry.value}) is left out: {reason}"
        warnings.warn(told, EmbedfieldWarning, stacklevel=4)
        return True


def _cards_of(found: Iterable[Any]) -> list[Card]:
    """Return what a plugin declares, once it is known to be cards."""
    found = list(found)
    others = [thing for thing in found if not isinstance(thing, Card)]
    if others:
        raise CardError(f"It declares {others[0]!r}, which is no Card.")
    return found


def card(name: str | Card) -> Card:
    """Return the card of a name or an alias; a card is its own.

    Raises:
        UnknownModelError: If there is none; the message has the nearest names.
    """
    if isinstance(name, Card):
        return name
    by_name = {known: card for card in cards() for known in (card.name, *card.aliases)}
    if isinstance(name, str) and name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(str(name).lower(), by_name, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise UnknownModelError(f"No model named {name!r}. {hint}Run 'embedfield models' for the list.")


def asked(model: str | Card, inputs: Mapping[str, Any] | None = None, dims: int | None = None) -> Card:
    """Return the card of a model with what is asked of it beside the place among its options.

    Args:
        model: A card, or its name or alias.
        inputs: Numbers by the names in the card's ``inputs``.
        dims: Length of the prefix that is wanted of a Matryoshka model.

    Raises:
        UnknownModelError: If there is no such model.
        InputsError: If the model takes no such input, or not that number.
    """
    model = card(model)
    options = {name: _number(model, name, value) for name, value in (inputs or {}).items()}
    if dims is None:
        return replace(model, options={**model.options, **options}) if options else model
    if not model.prefixes:
        raise InputsError(
            f"{model.name} has no prefixes: all its {model.dim} dimensions belong together. Leave dims out."
        )
    if isinstance(dims, bool) or not isinstance(dims, Integral) or dims < 1:
        raise InputsError(
            f"dims={dims!r} is no length. {model.name} was trained to be cut to: {_list(model.prefixes)}."
        )
    return replace(model, dim=int(dims), options={**model.options, **options, "dims": int(dims)})


def _number(model: Card, name: str, value: Any) -> float:
    """Return an input, once it is known to be a number that the model takes."""
    if name not in model.inputs:
        takes = ", ".join(model.inputs) or "only places"
        raise InputsError(f"{model.name} takes no input {name!r}. It takes: {takes}. Leave {name} out.")
    allowed = model.inputs[name]
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not allowed.minimum <= value <= allowed.maximum:
        raise InputsError(
            f"{name}={value!r} is nothing that {model.name} takes. "
            f"Give a number from {allowed.minimum:g} to {allowed.maximum:g}: {allowed.meaning}."
        )
    return int(value) if value == int(value) else float(value)


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def load(
    model: str | Card,
    weights: str | Path | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    dims: int | None = None,
    database: str | Path | None = None,
    offline: bool = False,
    report: Callable[[str], None] | None = None,
) -> Encoder:
    """Return the encoder of a model, with its weights in place.

    Args:
        model: A card, or its name or alias.
        weights: A checkpoint of your own; None for the released one, fetched
            once and then kept in the cache.
        inputs: What is asked beside the place, by the names in the card; it
            joins the options of the encoder's card.
        dims: Length of the prefix that is wanted of a Matryoshka model.
        database: A database of your own, for a model that looks things up;
            None for the released one.
        offline: Never touch the network.
        report: Told what is fetched, before it is.

    Raises:
        UnknownModelError: If there is no such model.
        InputsError: If the model takes no input of a name, or not that number.
        WeightsError: If the weights cannot be had or are not the model's.
        CardError: If the card leads to no encoder.
    """
    model = asked(model, inputs, dims)
    if dims is not None and weights is None and dims not in model.prefixes:
        raise InputsError(f"{model.name} was not trained to be cut to {dims}. Choose from: {_list(model.prefixes)}.")
    if database is not None and model.database is None:
        raise WeightsError(f"{model.name} looks nothing up, and {database} was given. Leave --database out.")
    held = {
        name: _held(model, name, own, offline=offline, report=report)
        for name, own in (("weights", weights), ("database", database))
    }
    given = {name: file.path for name, file in held.items() if file}
    make: Callable[..., Encoder] = _encoder_class(model).from_card
    encoder = make(model, given.pop("weights", None), **given)
    for name, file in held.items():
        setattr(encoder, f"{name}_sha256", file.sha256 if file else None)
    return encoder


def _held(
    model: Card, name: str, own: str | Path | None, *, offline: bool, report: Callable[[str], None] | None
) -> weights_module.LocalWeights | None:
    """Return a file that a model needs: the user's own, else the released one; None where there is neither."""
    if own is not None:
        return weights_module.local(own)
    released = getattr(model, name)
    return weights_module.fetch(released, model=model.name, offline=offline, report=report) if released else None


def fetch(
    model: str | Card, *, offline: bool = False, report: Callable[[str], None] | None = None
) -> dict[str, weights_module.LocalWeights]:
    """Return the released files of a model, each by its field in the card, downloading what is not in the cache.

    Raises:
        UnknownModelError: If there is no such model.
        WeightsError: If a file cannot be had, or is not what its card says.
    """
    model = card(model)
    held = {name: _held(model, name, None, offline=offline, report=report) for name in FILES}
    return {name: file for name, file in held.items() if file}


def _encoder_class(model: Card) -> type[Encoder]:
    """Return the class that a card's dotted path names."""
    module, _, attribute = model.code.partition(":")
    try:
        found: type[Encoder] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CardError(f"The code of {model.name!r}, {model.code!r}, cannot be imported: {error}.") from error
    if not hasattr(found, "from_card") or inspect.isabstract(found):
        raise CardError(f"The code of {model.name!r}, {model.code!r}, is no Encoder. Name a class of that kind.")
    return found
