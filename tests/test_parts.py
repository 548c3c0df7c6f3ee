"""Places that are divided come back in their order, each asked once, with its neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from fields import ArrayField
from hypothesis import given, settings
from hypothesis import strategies as st

from embedfield import parts
from embedfield.errors import StorageError
from embedfield.grid import Grid
from embedfield.located import Located
from embedfield.parts import STATUSES, Parts, Squares
from embedfield.sampler import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

DEGREES = "EPSG:4326"
WORLD = Grid.from_bounds(0.25)
FULL = Path("/dev/full")


def squares(grid: Grid = WORLD) -> Squares:
    return Squares(ArrayField(np.zeros((1, *grid.shape)), grid))


def random_places(count: int, seed: int = 7) -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    return np.column_stack((generator.uniform(-180, 180, count), generator.uniform(-90, 90, count)))


def batches(located: Located, rows: int) -> Iterator[Located]:
    for start in range(0, len(located), rows):
        yield located[start : start + rows]


def counted(field_squares: Squares, located: Located) -> npt.NDArray[np.int64]:
    return np.bincount(field_squares.of(located.lonlat()[0]), minlength=field_squares.count)


class Asked:
    """Answers with the places themselves, and remembers which were asked together."""

    def __init__(self) -> None:
        self.groups: list[Located] = []

    def __call__(self, located: Located) -> Samples:
        self.groups.append(located)
        lonlat, status = located.lonlat()
        return Samples(lonlat.astype(np.float32), np.where(status == "", "valid", status))


def divided(folder: Path, located: Located, most: int, rows: int) -> tuple[list[Samples], Asked]:
    """Divide places in batches, ask each part, and return what came back."""
    own, ask = squares(), Asked()
    found = Parts(folder, own, counted(own, located), most)
    found.divide(batches(located, rows))
    found.sample(located.crs, ask)
    return list(found.samples()), ask


@pytest.mark.parametrize("most", [1, 7, 100, 10_000])
@pytest.mark.parametrize("rows", [1, 64, 10_000])
def test_answers_come_back_in_the_batches_and_the_order_of_the_places(tmp_path: Path, most: int, rows: int) -> None:
    places = random_places(300)
    found, ask = divided(tmp_path, Located(DEGREES, xy=places), most, rows)
    assert [len(part.status) for part in found] == [len(part) for part in batches(Located(DEGREES, xy=places), rows)]
    np.testing.assert_array_equal(np.concatenate([part.numbers for part in found]), places.astype(np.float32))
    assert max(map(len, ask.groups)) <= most
    assert sum(map(len, ask.groups)) == 300


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.floats(-180, 359), st.sampled_from([np.nan, np.inf, 400.0])),
            st.one_of(st.floats(-90, 90), st.sampled_from([np.nan, -np.inf, 90.5])),
        ),
        min_size=1,
        max_size=80,
    ),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_any_places_come_back_as_they_were_found(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[float, float]], most: int, rows: int
) -> None:
    located = Located(DEGREES, xy=np.array(places))
    found, _ = divided(tmp_path_factory.mktemp("parts"), located, most, rows)
    wanted = Asked()(located)
    assert np.concatenate([part.status for part in found]).tolist() == wanted.status.tolist()
    np.testing.assert_array_equal(np.concatenate([part.numbers for part in found]), wanted.numbers)


def test_geometries_come_back_as_they_went(tmp_path: Path) -> None:
    with np.errstate(invalid="ignore"):
        shapes: list[Any] = [
            shapely.Point(8.5, 47.4),
            None,
            shapely.box(0.1, 0.2, 30.3, 40.4),
            shapely.from_wkt("POLYGON EMPTY"),
            shapely.Point(np.inf, np.inf),
            shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(170, 0, 171, 1)]),
            shapely.LineString([(0, 0, 7), (0.1 + 0.2, 1, 8)]),
            shapely.Point(),
        ]
    located = Located(DEGREES, np.array(shapes, dtype=object))
    found, ask = divided(tmp_path, located, 2, 3)
    assert sum(len(part.status) for part in found) == len(shapes)
    asked = np.concatenate([group.geometries for group in ask.groups])
    assert sorted(shapely.to_wkt(asked, rounding_precision=17).astype(str)) == sorted(
        shapely.to_wkt(np.array(shapes, dtype=object), rounding_precision=17).astype(str)
    )


def test_every_status_is_kept(tmp_path: Path) -> None:
    places = Located(DEGREES, xy=random_places(50))
    own = squares()
    found = Parts(tmp_path, own, counted(own, places), 10)
    found.divide(batches(places, 20))
    given_back = STATUSES[np.arange(50) % len(STATUSES)]
    numbers = dict(zip(map(tuple, places.xy.tolist()), given_back, strict=True))

    def ask(located: Located) -> Samples:
        status = np.array([numbers[tuple(place)] for place in located.xy.tolist()])
        return Samples(np.zeros((len(located), 0), dtype=np.float32), status)

    found.sample(DEGREES, ask)
    assert np.concatenate([part.status for part in found.samples()]).tolist() == given_back.tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 40))
def test_a_part_is_a_share_of_neighbours_or_one_square_alone(counts: list[int], share: int) -> None:
    part = parts._shares(np.array(counts), share)
    assert (np.diff(part) >= 0).all()
    sizes = np.bincount(part, weights=counts)
    alone = np.bincount(part, weights=np.array(counts) > 0)
    assert (alone[sizes > share] == 1).all()
    # So that few of them are small: all together are about as many as their shares.
    assert np.count_nonzero(sizes) <= 2 * -(-sum(counts) // share)


def test_places_of_a_square_are_asked_together(tmp_path: Path) -> None:
    located, own = Located(DEGREES, xy=random_places(3000)), squares()
    counts = counted(own, located)
    _, ask = divided(tmp_path, located, int(counts.max()), 100)
    asked = [square for group in ask.groups for square in np.unique(own.of(group.lonlat()[0])).tolist()]
    assert sorted(asked) == np.flatnonzero(counts).tolist()
    assert len(ask.groups) <= 2 * -(-3000 // int(counts.max()))


def test_a_square_with_more_places_than_may_be_asked_together_spoils_none_beside_it(tmp_path: Path) -> None:
    # In a city are more places than fit; beside it few.
    city = np.random.default_rng(1).uniform([8, 47], [9, 48], (1000, 2))
    places = np.concatenate((random_places(500), city))[np.random.default_rng(2).permutation(1500)]
    located, own = Located(DEGREES, xy=places), squares()
    counts = counted(own, located)
    _, ask = divided(tmp_path, located, 90, 64)
    asked = np.zeros(own.count, dtype=int)
    for group in ask.groups:
        asked[np.unique(own.of(group.lonlat()[0]))] += 1
    np.testing.assert_array_equal(asked, -(-counts // 90))


def test_more_parts_than_files_may_be_open_together(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    places = random_places(2000)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 20, before[1]))
        found, ask = divided(tmp_path, Located(DEGREES, xy=places), 4, 500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(ask.groups) >= 500
    np.testing.assert_array_equal(np.concatenate([part.numbers for part in found]), places.astype(np.float32))


def test_parts_stay_few_and_what_is_asked_together_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PARTS", 5)
    _, ask = divided(tmp_path, Located(DEGREES, xy=random_places(1000)), 30, 250)
    assert len(list(tmp_path.glob("*.found"))) <= 10
    assert max(map(len, ask.groups)) == 30


def test_files_of_places_go_as_soon_as_they_are_sampled(tmp_path: Path) -> None:
    located, own = Located(DEGREES, xy=random_places(500)), squares()
    found = Parts(tmp_path, own, counted(own, located), 100)
    found.divide(batches(located, 100))
    before = len(list(tmp_path.glob("*.places")))
    left = []

    def ask(places: Located) -> Samples:
        left.append(len(list(tmp_path.glob("*.places"))))
        return Asked()(places)

    found.sample(DEGREES, ask)
    assert left == list(range(before, 0, -1))
    assert not list(tmp_path.glob("*.places"))


def test_a_full_disk_is_said_as_such(tmp_path: Path) -> None:
    if not FULL.exists():
        pytest.skip("no device that is always full")
    located, own = Located(DEGREES, xy=random_places(500)), squares()
    found = Parts(tmp_path, own, counted(own, located), 100)
    for number in range(100):
        (tmp_path / f"{number}.places").symlink_to(FULL)
    with pytest.raises(StorageError, match=f"Cannot divide the places in {tmp_path.parent}: No space left.*Make room"):
        found.divide(batches(located, 100))


def test_a_disk_that_fills_up_while_sampling_is_said_as_such(tmp_path: Path) -> None:
    if not FULL.exists():
        pytest.skip("no device that is always full")
    located, own = Located(DEGREES, xy=random_places(500)), squares()
    found = Parts(tmp_path, own, counted(own, located), 100)
    found.divide(batches(located, 100))
    for path in list(tmp_path.glob("*.places")):
        path.with_suffix(".found").symlink_to(FULL)
    with pytest.raises(StorageError, match=f"Cannot divide the places in {tmp_path.parent}.*Make room"):
        found.sample(DEGREES, Asked())


def test_squares_are_the_blocks_of_the_field_and_one_for_what_lies_beside_it() -> None:
    grid = Grid(west=-10.0, north=50.0, res=0.1, width=300, height=200)
    own = squares(grid)
    assert own.count == 3 * 2 + 1
    corners = [(-10.0, 50.0), (20.0, 50.0), (-10.0, 30.0), (20.0, 30.0), (2.8 + 1e-6, 37.2 - 1e-6)]
    assert own.of(np.array(corners)).tolist() == [0, 2, 3, 5, 4]
    beside = [(21.0, 40.0), (0.0, 60.0), (np.nan, 40.0), (0.0, np.nan), (np.inf, 40.0), (-179.0, -89.0)]
    assert own.of(np.array(beside)).tolist() == [6] * 6
    assert own.of(np.empty((0, 2))).tolist() == []


def test_squares_of_a_grid_across_the_antimeridian_hold_both_sides() -> None:
    own = squares(Grid.from_bounds(0.1, (170, -10, -170, 10)))
    assert own.of(np.array([(175.0, 0.0), (-175.0, 0.0), (0.0, 0.0)])).tolist() == [0, 1, 4]


def test_squares_of_a_projected_grid_are_its_blocks() -> None:
    grid = Grid.from_bounds(10_000, (2_500_000, 1_400_000, 7_400_000, 5_500_000), "EPSG:3035")
    own = squares(grid)
    rows, cols = np.random.default_rng(0).integers(0, grid.shape, (100, 2)).T
    np.testing.assert_array_equal(own.of(grid.centres(rows, cols)), rows // 128 * 4 + cols // 128)
    assert own.of(np.array([(-170.0, -52.0)])).tolist() == [own.count - 1]


def test_squares_of_a_huge_grid_are_few_and_hold_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SQUARES", 20)
    own = squares()
    assert own.count <= 20
    # 1440 x 720 pixels are 12 x 6 blocks, in squares of two a side 6 x 3.
    assert own.count == 19
    places = random_places(1000)
    rows, cols = (position.astype(int) // 256 for position in WORLD.positions(places))
    np.testing.assert_array_equal(own.of(places), rows * 6 + cols)
