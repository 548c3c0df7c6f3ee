"""LocationEmbedder: embeddings of places, as a transformer of scikit-learn."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import geopandas
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from embedfield import models
from embedfield.card import Card
from embedfield.errors import PlacesError
from embedfield.field import Field
from embedfield.formats import OPENERS, open_field
from embedfield.located import located_of, lonlat_of
from embedfield.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from sklearn.utils import Tags

    from embedfield.evaluate import Precision
    from embedfield.field import Method
    from embedfield.located import Located

# Fields and models that are kept open, whoever asks for them: a search over parameters clones at every fold.
KEPT = 4
# One thread at a time may open one, or compute: an encoder is for one thread.
_LOCK = RLock()
# Statistics that are an embedding of a place.
STATS = ("mean", "std", "min", "max", "median")
# What an instance keeps to itself.
HELD = "_held"


class LocationEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Places to embeddings, in a pipeline of scikit-learn.

    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(LocationEmbedder("geoclip"), StandardScaler(), RidgeCV())
    model.fit(stations, stations["temperature"])

    There is nothing to learn: `fit` opens the model or the field and looks at
    the places, and `transform` works without it. A model is loaded once in a
    process, for an instance and all its clones; one that is unpickled loads
    what it needs when it is used.
    """

    def __init__(
        self,
        source: str | Path | Card | Field,
        *,
        method: Method | None = None,
        stat: str = "mean",
        device: str = "auto",
        precision: Precision | None = None,
        dims: int | None = None,
        weights: str | Path | None = None,
        database: str | Path | None = None,
        offline: bool = False,
        inputs: Mapping[str, float] | None = None,
    ) -> None:
        """Say where embeddings come from; nothing is opened yet.

        Args:
            source: A model's name or card, whose encoder is then asked at each
                place; the path or address of a stored field; or a field that
                is open. A name that is a model's is one; write ``./geoclip``
                for a folder of that name.
            method: ``nearest`` or ``bilinear`` of a stored field; a model's is
                ``exact``. None for the field's first.
            stat: What is taken of a field over polygons and lines: ``mean``,
                ``std``, ``min``, ``max`` or ``median``.
            device: Of a model: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            precision: Of a model; None for the official one.
            dims: Length of the prefix that is wanted of a Matryoshka model.
            weights: A model's checkpoint of your own; None for the released one.
            database: A database of your own, for a model that looks things up.
            offline: Never touch the network for a model.
            inputs: What is asked of a model beside the place, such as
                ``{"month": 7}``, by the names in its card.
        """
        self.source = source
        self.method = method
        self.stat = stat
        self.device = device
        self.precision = precision
        self.dims = dims
        self.weights = weights
        self.database = database
        self.offline = offline
        self.inputs = inputs

    def fit(self, X: pd.DataFrame | npt.ArrayLike, y: object = None) -> Self:  # noqa: ARG002, N803  scikit-learn's names
        """Open the model or the field, and look at the places.

        Args:
            X: Places, as of `transform`.
            y: Not used.

        Returns:
            Itself.

        Raises:
            EmbedfieldError: As of `transform`.
        """
        self.n_features_in_ = _checked_places(X).shape[1]
        self._field()
        return self

    def transform(self, X: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float32]:  # noqa: N803  scikit-learn's name
        """Return the embedding of each place.

        Args:
            X: Degrees (lon, lat), (N, 2); a DataFrame with columns of longitudes
                and latitudes by a usual name, among others; or a GeoDataFrame or
                GeoSeries in any reference system: of points, or of any geometries,
                over which `stat` is then taken of a field.

        Returns:
            (N, dim), float32, row by row; NaN where there is no value: outside
            a field, at its nodata, where an encoder has none. With
            ``set_output(transform="pandas")`` a DataFrame.

        Raises:
            PlacesError: If a place is not on the globe or has no coordinates,
                if the source cannot answer by that method, or has no pixels
                to take polygons of.
            UnknownModelError: If there is no such model.
            FormatError: If there is no such field.
            WeightsError: If a model's weights cannot be had.
        """
        places, field = _checked_places(X), self._field()
        if isinstance(places, geopandas.GeoDataFrame):
            located = located_of(places)
            if not located.points:
                return self._over(field, located)
        if "exact" not in field.methods:
            return field.at(lonlat_of(places), self.method)
        with _LOCK:
            return field.at(lonlat_of(places), self.method)

    def _over(self, field: Field, located: Located) -> npt.NDArray[np.float32]:
        """Return a statistic of a field over each geometry, (N, dim)."""
        if self.stat not in STATS:
            raise PlacesError(f"stat={self.stat!r} is nothing to take of embeddings. Choose from: {', '.join(STATS)}.")
        if "nearest" not in field.methods:
            raise PlacesError(
                f"The places are not points, and {field.card.name} has no pixels to take the {self.stat} of. Give a "
                "stored field, an EncodedField over a grid, or the polygons' centroids."
            )
        with _LOCK:
            return Sampler(field, stats=self.stat).sample(located).numbers

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:  # noqa: ARG002  scikit-learn's
        """Return the names of the columns, ``<model>_000`` and on.

        Args:
            input_features: Not used.
        """
        return np.array(self._field().band_names, dtype=object)

    def _field(self) -> Field:
        """Return the source, open.

        Raises:
            PlacesError: If it is a model, and `method` is one of fields.
        """
        if isinstance(self.source, Field):
            return self.source
        wanted = self._wanted()
        held: tuple[_Wanted, Field] | None = vars(self).get(HELD)
        if held is None or held[0] != wanted:
            with _LOCK:
                held = wanted, _opened(wanted)
            setattr(self, HELD, held)
        if isinstance(wanted.what, Card) and self.method not in (None, "exact"):
            raise PlacesError(
                f"method={self.method!r} is one of stored fields, and {wanted.what.name} is a model, asked at each "
                "place itself. Leave method out, or give a stored field."
            )
        return held[1]

    def _wanted(self) -> _Wanted:
        """Return what is to be opened, as what a cache can look up.

        Raises:
            UnknownModelError: If the source is a name, and no model's.
        """
        if not isinstance(self.source, Card) and _is_place(str(self.source)):
            return _Wanted(str(self.source), (_state(self.source),))
        files = self.weights, self.database
        options = {
            "device": self.device,
            "precision": self.precision,
            "dims": self.dims,
            "weights": self.weights,
            "database": self.database,
            "offline": self.offline,
            **(self.inputs or {}),
        }
        model = models.card(self.source if isinstance(self.source, Card) else str(self.source))
        return _Wanted(model, tuple(map(_state, files)), tuple(options.items()))

    def __sklearn_is_fitted__(self) -> bool:
        """Whether it can transform: always."""
        return True

    def __sklearn_tags__(self) -> Tags:
        """Say that it need not be fitted, and gives float32."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted one with the same parameters; of a field that is open, with the same field."""
        # A copy of it would hold all of its weights once more.
        bare = copy.copy(self)
        bare.source = ""
        twin: Self = super(LocationEmbedder, bare).__sklearn_clone__()
        twin.source = self.source
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled or copied: not what is open."""
        return {name: value for name, value in super().__getstate__().items() if name != HELD}


class _Wanted(NamedTuple):
    """What is to be opened."""

    what: Card | str
    """A model, or where a stored field is."""
    states: tuple[tuple[int, int] | None, ...]
    """Which files it comes from: others may have been put in their place since."""
    options: tuple[tuple[str, Any], ...] = ()
    """Of a model: what `load` takes beside, by name."""


@lru_cache(maxsize=KEPT)
def _opened(wanted: _Wanted) -> Field:
    """Return a field over a model or from storage."""
    if isinstance(wanted.what, str):
        return open_field(wanted.what)
    from embedfield.evaluate import EncodedField, load

    return EncodedField.everywhere(load(wanted.what, **dict(wanted.options)))


def _is_place(source: str) -> bool:
    """Whether a source is a path or an address, and not the name of a model."""
    if any(source in (card.name, *card.aliases) for card in models.cards()):
        return False
    return "/" in source or Path(source).suffix in (*OPENERS, ".json") or Path(source).exists()


def _state(path: object) -> tuple[int, int] | None:
    """Return what tells a file from another that is put in its place; None of what is no file here."""
    try:
        found = Path(str(path)).stat()
    except OSError:  # an address, or nothing, as will be said when it is opened
        return None
    return found.st_ino, found.st_mtime_ns


def _checked_places(places: pd.DataFrame | npt.ArrayLike) -> pd.DataFrame | npt.NDArray[Any]:
    """Return places as a table or an array of two columns.

    Raises:
        PlacesError: If they are neither.
    """
    if isinstance(places, geopandas.GeoSeries):
        located: pd.DataFrame = geopandas.GeoDataFrame(geometry=places)
        return located
    if isinstance(places, pd.DataFrame):
        return places
    found = np.asarray(places)
    if found.ndim != 2 or found.shape[1] != 2:
        raise PlacesError(
            f"Places of shape {found.shape}. Give (N, 2): degrees, longitude first; or a table with such columns."
        )
    return found
