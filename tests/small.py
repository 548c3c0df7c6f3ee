"""Few pixels in many pieces: what divides a field made small, in this process and in the workers of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from embedfield import builder
from embedfield.formats import cog, geozarr, shards

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.formats.pieces import Piece

# Of 100 bands of one byte: tiles of 128 x 128 pixels, shards of 64 x 64, two of them computed side by side.
SIZES = ((cog, "BUDGET", 2**18), (geozarr, "SHARD", 64), (shards, "ROW", 2 * 100 * 64 * 64))


def make_small(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Set the sizes, as `monkeypatch.setattr` does or for good."""
    for module, name, value in SIZES:
        put(module, name, value)


class Small(WorkerPlugin):  # type: ignore[misc]  # Dask is half typed
    """Sets the sizes in every worker, also in those that come later."""

    name = "small"

    def setup(self, worker: Any) -> None:  # noqa: ARG002  as Dask calls it
        make_small()


class Broken(WorkerPlugin):  # type: ignore[misc]  # Dask is half typed
    """Has every worker fail at one tile."""

    name = "broken"
    tile = "r000128c000256.tif"

    def setup(self, worker: Any) -> None:  # noqa: ARG002  as Dask calls it
        write = self.write = builder.Builder.write

        def failing(own: builder.Builder, piece: Piece) -> builder.Written:
            if piece.name == self.tile:
                raise RuntimeError("no such luck")
            return write(own, piece)

        builder.Builder.write = failing  # type: ignore[assignment, method-assign]  # for a while

    def teardown(self, worker: Any) -> None:  # noqa: ARG002  the same
        builder.Builder.write = self.write  # type: ignore[method-assign]
