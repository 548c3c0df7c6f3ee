"""Crew: what overlaps, what waits, and what becomes of errors."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fields import ArrayField

from embedfield.formats.crew import Crew, Part
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import Packing
from embedfield.processors import limited

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.window import Window

# Seconds after which a test that waits for another thread gives up.
PATIENCE = 20


class Watched(ArrayField):
    """A field that takes note of who reads it, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__(np.arange(24, dtype=np.float32).reshape(1, 6, 4))
        self.readers: list[int] = []
        self.changed = threading.Condition()

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        with self.changed:
            self.readers.append(threading.get_ident())
            self.changed.notify_all()
        return super().read(window)

    def was_read(self, times: int) -> bool:
        """Wait until it was read so many times; return whether it was."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.readers) >= times, PATIENCE)


def work_of(field: ArrayField, folder: Path, packing: Packing | None = None) -> Work:
    """Return a write of a field whose codes are its values and one more."""
    return Work(field, packing or Packing("uint8", np.ones(1), -np.ones(1)), Journal(folder), lambda _: None)


def strips(field: ArrayField, codes: npt.NDArray[Any], rows: int = 2) -> list[list[Part[str]]]:
    """Return a field as strips of two parts, three pixels wide and the rest."""
    found = []
    for strip in field.grid.window.tiles(rows, field.grid.width):
        parts = strip.tiles(rows, 3)
        found.append([Part(f"{part.row_off}.{part.col_off}", part, codes[:, part.rows, part.cols]) for part in parts])
    return found


def crew_threads() -> list[str]:
    """Return the names of the threads of crews."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("embedfield")]


def test_parts_of_strips_are_packed_into_their_places(tmp_path: Path) -> None:
    field, codes = Watched(), np.zeros((1, 6, 4), dtype=np.uint8)
    with Crew(work_of(field, tmp_path)) as crew:
        units = [part.unit for part, saturated in crew.packed(strips(field, codes)) if saturated == 0]
    assert units == ["0.0", "0.3", "2.0", "2.3", "4.0", "4.3"]
    np.testing.assert_array_equal(codes, field.values + 1)
    assert crew.work.clock.seconds["computing"] > 0
    assert crew.work.clock.seconds["packing"] > 0


def test_the_next_strip_is_computed_while_one_is_packed_and_by_the_caller_alone(tmp_path: Path) -> None:
    field, codes = Watched(), np.zeros((1, 6, 4), dtype=np.uint8)
    packers: list[int] = []

    class Slow(Packing):
        def pack(
            self, values: npt.NDArray[np.float32], out: npt.NDArray[Any] | None = None
        ) -> tuple[npt.NDArray[Any], int]:
            packers.append(threading.get_ident())
            # Until the strip after this one is read; there are three.
            assert field.was_read(min(int(values[0, 0, 0]) // 8 + 2, 3))
            return super().pack(values, out)

    with limited(2), Crew(work_of(field, tmp_path, Slow("uint8", np.ones(1), -np.ones(1)))) as crew:
        read_when_packed = [len(field.readers) for _ in crew.packed(strips(field, codes))]
    # Never is more than one strip ahead.
    assert read_when_packed == [2, 2, 3, 3, 3, 3]
    assert set(field.readers) == {threading.get_ident()}
    assert threading.get_ident() not in packers


@pytest.mark.parametrize(("accelerated", "ahead"), [(False, [1, 1, 2, 2, 3, 3]), (True, [2, 2, 3, 3, 3, 3])])
def test_one_processor_computes_a_strip_once_all_of_the_one_before_is_done_unless_a_device_does(
    tmp_path: Path, accelerated: bool, ahead: list[int]
) -> None:
    field, codes = Watched(), np.zeros((1, 6, 4), dtype=np.uint8)
    field.accelerated = accelerated
    handed, done = list[str](), list[str]()
    # How much of what was handed over was not done when a strip was read.
    left: list[int] = []
    read = field.read

    def noting(window: Window | None = None) -> npt.NDArray[np.float32]:
        left.append(len(handed) - len(done))
        return read(window)

    def write(unit: str) -> None:
        time.sleep(0.02)
        done.append(unit)

    field.read = noting  # type: ignore[method-assign]
    read_when_packed: list[int] = []
    with limited(1), Crew(work_of(field, tmp_path)) as crew:
        for part, _ in crew.packed(strips(field, codes)):
            read_when_packed.append(len(field.readers))
            handed.append(part.unit)
            crew.do(write, part.unit)
        crew.finish()
    assert read_when_packed == ahead
    assert done == handed
    assert accelerated or left == [0, 0, 0]


@pytest.mark.parametrize("when", ["begin", "finish", "packed"])
def test_what_fails_in_a_thread_is_raised_in_the_callers_and_no_thread_is_left(tmp_path: Path, when: str) -> None:
    field, codes, failed = Watched(), np.zeros((1, 6, 4), dtype=np.uint8), threading.Event()

    def fail() -> None:
        try:
            raise OSError("no space left")
        finally:
            failed.set()

    def go_on(crew: Crew) -> None:
        if when == "packed":
            assert failed.wait(PATIENCE)
            list(crew.packed(strips(field, codes)))
        for _ in range(2 if when == "begin" else 0):  # the second waits for the first
            crew.begin(most=0)
        crew.finish()

    with Crew(work_of(field, tmp_path)) as crew:
        crew.do(fail)
        with pytest.raises(OSError, match="no space left"):
            go_on(crew)
        assert crew_threads()
    assert crew_threads() == []


def test_a_unit_begins_once_those_before_it_are_done_with(tmp_path: Path) -> None:
    ended: list[str] = []
    with Crew(work_of(Watched(), tmp_path)) as crew:

        def write(unit: str) -> None:
            ended.append(unit)
            crew.end()

        crew.begin(2, most=2)
        crew.begin(2, most=2)
        for unit in "abcd":
            crew.do(write, unit)
        crew.begin(1, most=2)
        assert len(ended) >= 2
        crew.finish()
        assert sorted(ended) == list("abcd")


def test_finishing_waits_for_tasks_that_tasks_hand_over(tmp_path: Path) -> None:
    done: list[int] = []
    with Crew(work_of(Watched(), tmp_path)) as crew:

        def go_on(left: int) -> None:
            if left:
                crew.do(go_on, left - 1)
            done.append(left)

        crew.do(go_on, 50)
        crew.finish()
        assert sorted(done) == list(range(51))


def test_an_interrupt_drops_what_was_not_begun(tmp_path: Path) -> None:
    gate, done = threading.Event(), list[int]()

    def wait(number: int) -> None:
        gate.wait(PATIENCE)
        done.append(number)

    def interrupted() -> None:
        with Crew(work_of(Watched(), tmp_path)) as crew:
            for number in range(500):
                crew.do(wait, number)
            threading.Timer(0.05, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(done) < 500
    assert crew_threads() == []
