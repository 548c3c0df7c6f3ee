"""What every test has: a cache of its own, no network, and makers of small things."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from embedfield import cli, weights
from embedfield.encoders.analytic import Analytic
from embedfield.evaluate import EncodedField, Evaluator
from embedfield.grid import Grid
from embedfield.models import card

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.grid import Bounds

# Whether a test passes is no matter of chance: its examples are the same in every run.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDFIELD_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def only_loopback(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test reached for {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)


@pytest.fixture
def make_field() -> Callable[..., EncodedField]:
    """A maker of computed fields that need no weights."""

    def make(res: float = 10.0, bounds: Bounds = (-180, -90, 180, 90), model: str = "xyz") -> EncodedField:
        encoder = Analytic.from_card(card(model), None)
        return EncodedField(Evaluator(encoder, "cpu"), Grid.from_bounds(res, bounds))

    return make


@pytest.fixture(scope="session")
def released() -> Path:
    """GeoCLIP's released weights, fetched once into the project's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDFIELD_CACHE", str(Path(__file__).parent.parent / ".cache"))
        released = card("geoclip").weights
        assert released
        return weights.fetch(released, model="geoclip").path


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """The folder of a catalogue that is not there yet."""
    return tmp_path / "catalog"


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """Return a runner of commands in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str | Path | float) -> Done:
        monkeypatch.setattr(sys, "argv", ["embedfield", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capfd.readouterr())

    return command
