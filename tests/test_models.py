"""The table of models: names, aliases, plugins, and what each card leads to."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import pytest

from embedfield import models
from embedfield.card import HubWeights
from embedfield.encoders import Encoder
from embedfield.errors import EmbedfieldWarning, InputsError, UnknownModelError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A list of plugins that stands for the installed ones."""
    found: list[Any] = []
    monkeypatch.setattr(models, "entry_points", lambda group: found)  # noqa: ARG005
    models.cards.cache_clear()
    yield found
    models.cards.cache_clear()


def test_cards_are_sorted_and_have_the_names_that_users_rely_on() -> None:
    names = [card.name for card in models.cards()]
    assert names == sorted(names)
    towers = {f"satclip-{tower}-l{degrees}" for tower in ("resnet18", "resnet50", "vit16") for degrees in (10, 40)}
    assert {"geoclip", "sh-l10", "sh-l40", "xyz"} | towers <= set(names)


def test_short_names_mean_the_vit16_towers() -> None:
    assert models.card("satclip-l40") is models.card("satclip-vit16-l40")
    assert models.card("satclip-l10") is models.card("satclip-vit16-l10")


def test_satclips_cards_point_to_the_official_files() -> None:
    weights = models.card("satclip-l40").weights
    assert isinstance(weights, HubWeights)
    assert (weights.repo, weights.file) == ("microsoft/SatCLIP-ViT16-L40", "satclip-vit16-l40.ckpt")


# Releases whose digest nobody has published: what is downloaded first is recorded, and held to from then on.
UNPINNED = {
    *("taxabind", "mind", "climplicit", "gps2vec-tag", "gps2vec-visual", "satclip-vit16-l40-tower"),
    *("sinr-an-full-10", "sinr-an-full-100", "sinr-an-full-1000", "sinr-an-full-distilled"),
    *("csp-fmow", "csp-fmow-finetuned", "csp-inat", "csp-inat-finetuned"),
    *("torchspatial-yfcc-nerf", "torchspatial-fmow-rff", "torchspatial-yfcc-theory", "torchspatial-fmow-spherec"),
    *("torchspatial-yfcc-spherem", "torchspatial-yfcc-wrap", "torchspatial-yfcc-xyz"),
}


@pytest.mark.parametrize("card", [card for card in models.cards() if card.weights], ids=lambda card: card.name)
def test_released_weights_are_pinned_where_their_digest_is_known(card: Any) -> None:
    assert (card.weights.sha256 is None) == (card.name in UNPINNED)
    if card.weights.sha256:
        assert re.fullmatch("[0-9a-f]{64}", card.weights.sha256)
    if isinstance(card.weights, HubWeights) and card.weights.sha256:
        assert re.fullmatch("[0-9a-f]{40}", str(card.weights.revision))


def test_an_input_that_a_model_does_not_take_is_refused() -> None:
    with pytest.raises(InputsError, match="xyz takes no input 'month'. It takes: only places"):
        models.load("xyz", inputs={"month": 3})


@pytest.mark.parametrize(
    ("asked", "near"), [("satclip-l4", "satclip-l40"), ("GeoClip", "geoclip"), ("geoclp", "geoclip")]
)
def test_an_unknown_name_is_answered_with_the_nearest(asked: str, near: str) -> None:
    with pytest.raises(UnknownModelError, match=f"No model named '{asked}'. Did you mean .*'{near}'") as error:
        models.card(asked)
    assert not str(error.value).startswith("'No model")


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UnknownModelError, match="No model named 'zzzzzz'. Run 'embedfield models'"):
        models.card("zzzzzz")


@pytest.mark.parametrize("card", models.cards(), ids=lambda card: card.name)
def test_every_cards_code_is_an_encoder(card: Any) -> None:
    assert issubclass(models._encoder_class(card), Encoder)


@pytest.mark.parametrize("name", ["sh-l10", "sh-l40", "xyz"])
def test_an_encoder_without_weights_refuses_some(name: str, tmp_path: Any) -> None:
    (tmp_path / "weights").write_text("x")
    with pytest.raises(WeightsError, match=f"{name} has no weights"):
        models.load(name, tmp_path / "weights")


def test_a_plugins_cards_appear(entry_points: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    mine = models.card("xyz").__class__(
        name="mine-a", title="t", dim=3, code="embedfield.encoders.analytic:Analytic", homepage="h"
    )
    models.cards.cache_clear()
    monkeypatch.setattr(EntryPoint, "load", lambda self: iter([mine]))  # noqa: ARG005
    entry_points.append(EntryPoint("mine", "somewhere:CARDS", models.PLUGINS))
    assert mine in models.cards()
    assert models.load("mine-a").card is mine


def test_a_plugin_that_cannot_be_imported_is_named_and_left_out(entry_points: list[Any]) -> None:
    entry_points.append(EntryPoint("broken", "no_such_package:CARDS", models.PLUGINS))
    with pytest.warns(UserWarning, match="plugin 'broken'.*left out.*no_such_package"):
        assert {card.name for card in models.cards()} == {card.name for card in models.built_in()}


@pytest.mark.parametrize("names", [{"name": "xyz"}, {"name": "satclip-l40"}, {"name": "mine", "aliases": ("xyz",)}])
def test_a_plugins_card_whose_name_is_taken_is_left_out(
    entry_points: list[Any], monkeypatch: pytest.MonkeyPatch, names: dict[str, Any]
) -> None:
    thief, other = (replace(models.card("xyz"), **each) for each in (names, {"name": "other"}))
    models.cards.cache_clear()
    monkeypatch.setattr(EntryPoint, "load", lambda self: [thief, other])  # noqa: ARG005
    entry_points.append(EntryPoint("thief", "somewhere:CARDS", models.PLUGINS))
    with pytest.warns(EmbedfieldWarning, match="of the plugin 'thief'.*left out: the name '.*' is taken") as caught:
        assert set(models.cards()) == {*models.built_in(), other}
    assert [warning.filename for warning in caught] == [__file__]


def test_of_two_plugins_with_one_name_the_first_by_its_own_name_has_it(
    entry_points: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = {name: replace(models.card("xyz"), name="mine", title=name) for name in ("a", "b")}
    models.cards.cache_clear()
    monkeypatch.setattr(EntryPoint, "load", lambda self: [cards[self.name]])
    entry_points.extend(EntryPoint(name, "somewhere:CARDS", models.PLUGINS) for name in ("b", "a"))
    with pytest.warns(EmbedfieldWarning, match="'mine' of the plugin 'b'"):
        assert models.card("mine").title == "a"


def test_no_two_built_in_cards_have_one_name() -> None:
    names = [name for card in models.built_in() for name in (card.name, *card.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("def x(:", "invalid syntax"),
        ("1 / 0", "division"),
        ("CARDS = ['xyz']", "'xyz'.*no Card"),
        ("raise OSError('a\\nb')", "OSError: a b"),
        ("class Own(Exception): pass\nraise Own('of a class of its own')", "Own: of a class of its own"),
    ],
)
def test_a_plugin_that_is_broken_in_any_way_is_left_out(
    entry_points: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, why: str
) -> None:
    (tmp_path / "broken_plugin.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)
    entry_points.append(EntryPoint("broken", "broken_plugin:CARDS", models.PLUGINS))
    with pytest.warns(UserWarning, match=f"plugin 'broken'.*left out.*{why}"):
        assert {card.name for card in models.cards()} == {card.name for card in models.built_in()}


def test_a_plugin_does_not_keep_the_user_from_stopping(
    entry_points: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: EntryPoint) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(EntryPoint, "load", stop)
    entry_points.append(EntryPoint("slow", "somewhere:CARDS", models.PLUGINS))
    with pytest.raises(KeyboardInterrupt):
        models.cards()
