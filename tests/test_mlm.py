"""An encoder's item says what it takes, what it gives and where its weights are, and is valid without a network."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pystac
import pytest
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.scientific import ScientificExtension

from embedfield.card import Card, HubWeights, Input, PackageWeights, UrlWeights, Weights
from embedfield.models import card as card_of
from embedfield.models import cards
from embedfield.schemas import validator
from embedfield.stac.mlm import model_item

if TYPE_CHECKING:
    from collections.abc import Callable

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIGEST = "ab" * 32


def card(**fields: Any) -> Card:
    """Return a card of an encoder that nobody made."""
    told = {"name": "some-model", "title": "A model", "dim": 8, "code": "some.where:Encoder"}
    return Card(**{**told, "homepage": "https://example.org/code", **fields})


def validate(item: pystac.Item) -> list[str]:
    """Validate an item as it would be written; return the schemas that were applied."""
    content = json.loads(json.dumps(item.to_dict(include_self_link=False)))
    kind = pystac.STACObjectType.ITEM
    applied: list[str] = validator().validate(content, kind, content["stac_version"], content["stac_extensions"])
    return applied


@pytest.mark.parametrize("name", [known.name for known in cards()])
def test_the_item_of_every_model_is_valid_with_all_its_extensions(name: str) -> None:
    item = model_item(card_of(name), WHEN)
    assert item.id == name
    applied = validate(item)[1:]
    assert applied == item.stac_extensions
    assert "https://stac-extensions.github.io/mlm/v1.4.0/schema.json" in applied
    stated = any(name.startswith("file:") for asset in item.assets.values() for name in asset.extra_fields)
    assert any("/file/" in url for url in applied) == stated


@pytest.mark.parametrize("name", ["a", "ab", "7-wonders", "range+", "a-b-c", "x+"])
def test_a_card_of_any_name_gives_a_valid_item(name: str) -> None:
    assert any("/mlm/" in url for url in validate(model_item(card(name=name), WHEN)))


def test_pystac_reads_what_the_model_takes_and_gives() -> None:
    found = MLMExtension.ext(model_item(card_of("geoclip"), WHEN))
    (places,), (vector,) = found.input, found.output
    assert found.mlm_name == "geoclip"
    assert found.architecture == "GeoCLIP"
    assert (places.name, places.bands, places.input.shape) == ("lonlat", [], [-1, 2])
    assert "longitude first" in places.to_dict()["description"]
    assert "(lat, lon)" in places.to_dict()["pre_processing_function"]["expression"]
    assert vector.result.shape == [-1, 512]
    assert vector.result.dim_order == ["batch", "embedding"]
    assert found.hyperparameters is not None
    assert found.hyperparameters.to_dict() == {"scales": [1, 16, 256]}


def test_a_model_that_asks_more_than_a_place_says_so() -> None:
    asking = card(inputs={"month": Input(meaning="Month of the year.", minimum=1, maximum=12)}, prefixes=(2, 4))
    item = model_item(asking, WHEN)
    places, month = item.properties["mlm:input"]
    assert (places["name"], month["name"]) == ("lonlat", "month")
    assert "From 1 to 12" in month["description"]
    assert "The first 2, 4 are embeddings of their own." in item.properties["mlm:output"][0]["description"]
    validate(item)


def test_latitudes_bound_the_item_of_a_model_that_has_none_beyond() -> None:
    item = model_item(card(latitudes=(-60.0, 85.0)), WHEN)
    assert item.bbox == [-180.0, -60.0, 180.0, 85.0]
    assert "Latitudes from -60 to 85" in item.properties["mlm:input"][0]["description"]


def weights_asset(weights: Weights) -> pystac.Asset:
    """Return the asset of a model's weights."""
    return model_item(card(weights=weights, training_data="photographs"), WHEN).assets["weights"]


def test_weights_of_a_hub_are_at_their_address_of_one_revision() -> None:
    hub = HubWeights(
        file="a b/c.safetensors", repo="me/mine", revision="f00", licence="MIT", sha256=DIGEST, size_bytes=9
    )
    asset = weights_asset(hub)
    assert asset.href == "https://huggingface.co/me/mine/resolve/f00/a%20b/c.safetensors"
    assert (FileExtension.ext(asset).size, FileExtension.ext(asset).checksum) == (9, f"1220{DIGEST}")
    assert asset.extra_fields["version"] == "f00"
    assert asset.extra_fields["mlm:artifact_type"] == "safetensors.torch.save_file"


def test_weights_of_a_hub_without_revision_are_at_its_head() -> None:
    asset = weights_asset(HubWeights(file="c.pt", repo="me/mine", repo_type="dataset", licence="none"))
    assert asset.href == "https://huggingface.co/datasets/me/mine/resolve/main/c.pt"
    assert {"version", "file:size", "file:checksum"}.isdisjoint(asset.extra_fields)
    assert asset.extra_fields["license"] == "other"


def test_what_is_known_of_a_member_is_not_said_of_its_archive() -> None:
    archive = UrlWeights(
        file="c.pth.tar", url="https://example.org/all.zip", member="in/c.pth.tar", licence="MIT", sha256=DIGEST
    )
    asset = weights_asset(archive)
    assert asset.href == "https://example.org/all.zip"
    assert "file:checksum" not in asset.extra_fields
    assert asset.extra_fields["embedfield:member"] == {"path": "in/c.pth.tar", "file:checksum": f"1220{DIGEST}"}


def test_weights_in_a_package_are_named_by_the_package_and_no_index() -> None:
    asset = weights_asset(PackageWeights(file="c.pth", package="geo==1.2", member="geo/c.pth", licence="MIT"))
    assert asset.href == "pkg:pypi/geo@1.2"
    assert asset.extra_fields["embedfield:member"] == {"path": "geo/c.pth"}


def test_weights_at_an_address_are_the_file_itself() -> None:
    asset = weights_asset(UrlWeights(file="c.pth", url="https://example.org/c.pth", licence="MIT", size_bytes=5))
    assert (asset.href, asset.extra_fields["file:size"]) == ("https://example.org/c.pth", 5)


def test_one_asset_is_the_model_whether_it_has_weights_or_not() -> None:
    hub = HubWeights(file="c.pt", repo="me/mine", licence="MIT")
    for made in (card(), card(weights=hub, training_data="photographs"), card(training_data="one's own")):
        item = model_item(made, WHEN)
        models = [asset for asset in item.assets.values() if "mlm:model" in (asset.roles or [])]
        assert [asset.extra_fields["mlm:artifact_type"] for asset in models] in (["source code"], ["torch.save"])
        validate(item)


def test_whether_it_was_trained_is_said_where_it_is_known() -> None:
    hub = HubWeights(file="c.pt", repo="me/mine", licence="MIT")
    said = [
        model_item(made, WHEN).properties
        for made in (card(), card(weights=hub, training_data="photographs"), card(training_data="one's own"))
    ]
    assert [found.get("mlm:pretrained") for found in said] == [False, True, None]
    assert [found.get("mlm:pretrained_source", "unsaid") for found in said] == [None, "photographs", "unsaid"]


def test_a_card_without_code_is_of_an_unknown_architecture() -> None:
    item = model_item(card(code="none:None"), WHEN)
    assert item.properties["mlm:architecture"] == "unknown"
    validate(item)


def test_a_paper_is_cited() -> None:
    item = model_item(card_of("geoclip"), WHEN)
    assert ScientificExtension.ext(item).doi == "10.48550/arXiv.2309.16020"
    assert item.get_single_link("cite-as") is not None
    assert item.properties["license"] == "MIT"


def test_the_same_card_gives_the_same_item() -> None:
    first, second = (json.dumps(model_item(card_of("geoclip"), WHEN).to_dict()) for _ in range(2))
    assert first == second


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "no name": lambda item: item["properties"].pop("mlm:name"),
    "a name of one letter": lambda item: item["properties"].update({"mlm:name": "x"}),
    "no input": lambda item: item["properties"].pop("mlm:input"),
    "an input without a shape": lambda item: item["properties"]["mlm:input"][0]["input"].pop("shape"),
    "an input of another type": lambda item: item["properties"]["mlm:input"][0]["input"].update(data_type="double"),
    "a task unheard of": lambda item: item["properties"].update({"mlm:tasks": ["embedding"]}),
    "an mlm: property unheard of": lambda item: item["properties"].update({"mlm:colour": "red"}),
    "no options in a table of them": lambda item: item["properties"].update({"mlm:hyperparameters": {}}),
    "no asset that is the model": lambda item: item["assets"]["source-code"].update(roles=["code"]),
    "a model of no artifact": lambda item: item["assets"]["source-code"].pop("mlm:artifact_type"),
    "a name in an asset": lambda item: item["assets"]["source-code"].update({"mlm:name": "some-model"}),
    "untrained from something": lambda item: item["properties"].update({"mlm:pretrained_source": "photographs"}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_schema_refuses_a_wrong_model(wrong: str) -> None:
    content = json.loads(json.dumps(model_item(card(), WHEN).to_dict(include_self_link=False)))
    WRONG[wrong](content)
    with pytest.raises(pystac.STACValidationError):
        validator().validate(content, pystac.STACObjectType.ITEM, "1.1.0", content["stac_extensions"])
