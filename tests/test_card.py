"""A card says only what can be true, and survives JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedfield.card import Card, HubWeights, Input, PackageWeights, UrlWeights, Weights
from embedfield.errors import CardError
from embedfield.models import cards

HUB = HubWeights(file="a.ckpt", licence="MIT", repo="someone/tiny", revision="0" * 40)
PACKAGE = PackageWeights(file="a.pth", licence="MIT", package="tiny==1.0", member="tiny/a.pth", size_bytes=7)
URL = UrlWeights(file="a.pt", licence="CC-BY-4.0", url="https://example.org/a.pt", sha256="0" * 64)


def make_card(**fields: Any) -> Card:
    """A small card, with some fields changed."""
    plain: dict[str, Any] = {"name": "tiny-a", "title": "Tiny", "dim": 2, "code": "tiny.code:Tiny", "homepage": "x"}
    return Card(**plain | fields)


def through_json(card: Card) -> Card:
    """What is left of a card that was written to a file and read again."""
    return Card.from_dict(json.loads(json.dumps(card.to_dict())))


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.name)
def test_every_known_card_survives_json(card: Card) -> None:
    assert through_json(card) == card


@pytest.mark.parametrize("weights", [None, HUB, PACKAGE, URL], ids=["none", "hub", "package", "url"])
def test_weights_of_every_source_survive_json(weights: Weights | None) -> None:
    again = through_json(make_card(weights=weights)).weights
    assert again == weights
    assert type(again) is type(weights)


def test_aliases_and_latitudes_come_back_as_tuples_so_that_the_card_can_be_hashed() -> None:
    card = make_card(aliases=("t",), latitudes=(-60, 80), options={"scales": [1, 2]}, weights=URL)
    assert {card: "found"}[through_json(card)] == "found"


def test_reading_a_card_leaves_its_data_as_it_was() -> None:
    data = make_card(weights=HUB).to_dict()
    before = json.dumps(data)
    assert Card.from_dict(data) == Card.from_dict(data)
    assert json.dumps(data) == before


def test_changing_the_plain_data_does_not_change_the_card() -> None:
    card = make_card(options={"scales": [1, 2]})
    card.to_dict()["options"]["scales"].append(3)
    assert card.options == {"scales": [1, 2]}


@pytest.mark.parametrize("name", ["tiny", "satclip-l40", "range-plus", "sinr-an-full-1000", "range+"])
def test_a_plain_name_is_taken(name: str) -> None:
    assert make_card(name=name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-",
        "Tiny",
        "tiny a",
        "tiny_a",
        "tiny/a",
        "../tiny",
        "tiny.a",
        "-tiny",  # an option, to the command line
        "tiny-",
        "tiné",  # names become columns and folders
        "tiny²",
    ],
)
def test_a_name_that_is_not_lower_case_words_is_refused(name: str) -> None:
    with pytest.raises(CardError, match="Use letters, digits and '-'") as error:
        make_card(name=name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("dim", [0, -3])
def test_an_embedding_without_values_is_refused(dim: int) -> None:
    with pytest.raises(CardError, match=f"'tiny-a' has dim={dim}. An embedding has at least one value"):
        make_card(dim=dim)


@pytest.mark.parametrize("code", ["", "tiny.code.Tiny", "tiny.code:", ":Tiny", "tiny:code:Tiny"])
def test_code_that_is_not_a_module_and_a_class_is_refused(code: str) -> None:
    with pytest.raises(CardError, match=r"Write it 'package\.module:Class'") as error:
        make_card(code=code)
    assert repr(code) in str(error.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"weights": {"source": "ftp", "file": "a", "licence": "MIT"}}, "ftp"),
        ({"weights": {"source": "url", "file": "a", "licence": "MIT", "mirror": "b"}}, "mirror"),
        ({"weights": {"file": "a", "licence": "MIT", "url": "b"}}, "source"),
    ],
    ids=["field", "source", "field of weights", "no source"],
)
def test_data_that_no_card_has_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(CardError, match="A card") as error:
        Card.from_dict(make_card().to_dict() | change)
    assert named in str(error.value)


@pytest.mark.parametrize("change", [{"weights": "a.ckpt"}, {"name": 7}, {"dim": "two"}, {"aliases": 1}], ids=str)
def test_data_of_the_wrong_type_is_refused_as_a_card(change: dict[str, Any]) -> None:
    with pytest.raises(CardError):
        Card.from_dict(make_card().to_dict() | change)


def test_data_that_lacks_a_field_is_refused() -> None:
    data = make_card().to_dict()
    del data["homepage"]
    with pytest.raises(CardError, match="homepage"):
        Card.from_dict(data)


def test_a_contradiction_in_data_keeps_its_own_message() -> None:
    with pytest.raises(CardError, match="^Card 'tiny-a' has dim=0"):
        Card.from_dict(make_card().to_dict() | {"dim": 0})


def test_embeddings_inherit_the_licence_of_the_weights_and_else_of_the_code() -> None:
    assert make_card(weights=URL, code_licence="MIT").licence == "CC-BY-4.0"
    assert make_card(code_licence="Apache-2.0").licence == "Apache-2.0"


def test_an_input_named_as_a_word_of_ours_is_refused() -> None:
    with pytest.raises(CardError, match="has an input 'device'. That is a word of embedfield's own"):
        make_card(inputs={"device": Input(meaning="", minimum=0, maximum=1)})


def test_weights_that_are_the_users_have_a_licence_that_nobody_stated() -> None:
    assert make_card(training_data="the user's own").licence_in_words == "not stated"
    assert make_card().licence_in_words == "MIT"
