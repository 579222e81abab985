from __future__ import annotations

from math import inf, nan

import pytest

from underlay.twin.kernel import Kernel, Trace


class Walker:
    """An actor that throws dice, notes what it threw and comes again."""

    def __init__(self, kernel: Kernel, name: str, steps: int) -> None:
        self.kernel = kernel
        self.name = name
        self.left = steps
        kernel.call(0.0, self.step)

    def step(self, at: float, what: object) -> None:
        assert what is None
        self.kernel.trace.note(at, len(self.name), self.left)
        self.left -= 1
        if self.left:
            self.kernel.call(at + self.kernel.stream(self.name).expovariate(1.0), self.step)


def test_what_returns_a_time_is_done_again_then_behind_what_was_asked_for_before() -> None:
    kernel = Kernel(1)
    seen: list[tuple[float, str]] = []

    def again(at: float, what: str) -> float | None:
        seen.append((at, what))
        return at + 1.0 if at < 3.0 else None

    kernel.call(2.0, lambda at, what: seen.append((at, what)), "once", rank=1)
    kernel.call(1.0, again, "again", rank=1)
    kernel.run()
    assert seen == [(1.0, "again"), (2.0, "once"), (2.0, "again"), (3.0, "again")]
    kernel.call(5.0, lambda at, _: at - 1.0)
    with pytest.raises(ValueError, match="nothing can be done again at 4 s"):
        kernel.run()
    assert kernel.events == 5


def test_things_happen_in_the_order_of_time_then_rank_then_asking() -> None:
    kernel = Kernel(1)
    seen: list[tuple[float, str]] = []
    see = lambda at, what: seen.append((at, what))  # noqa: E731
    kernel.call(2.0, see, "late")
    kernel.call(1.0, see, "second", rank=1)
    kernel.call(1.0, see, "third", rank=1)
    kernel.call(1.0, see, "first")
    kernel.run(1.5)
    assert seen == [(1.0, "first"), (1.0, "second"), (1.0, "third")]
    assert (kernel.at, kernel.next_at()) == (1.5, 2.0)
    kernel.run()
    assert (kernel.at, kernel.events, kernel.next_at()) == (2.0, 4, inf)


@pytest.mark.parametrize("at", [0.5, inf, nan])
def test_nothing_is_arranged_for_the_past_or_for_never(at: float) -> None:
    kernel = Kernel(1)
    kernel.run(1.0)
    with pytest.raises(ValueError, match="nothing can be arranged"):
        kernel.call(at, print)


def walked(seed: int, names: tuple[str, ...] = ("ann", "robert")) -> Kernel:
    kernel = Kernel(seed)
    for name in names:
        Walker(kernel, name, 5000)
    return kernel


def test_equal_seeds_give_equal_hashes() -> None:
    hashes = []
    for seed in (7, 7, 8):
        kernel = walked(seed)
        kernel.run()
        hashes.append(kernel.trace.hash())
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_stream_is_not_moved_by_another() -> None:
    alone, together = walked(3, ("ann",)), walked(3)
    alone.run()
    together.run()
    assert alone.stream("ann").random() == together.stream("ann").random()
    assert alone.stream("ann").random() != alone.stream("robert").random()


def test_a_snapshot_ends_as_its_original_does() -> None:
    kernel = walked(5)
    kernel.run(100.0)
    copy = kernel.snapshot()
    kernel.run()
    before = copy.trace.count
    copy.run()
    assert before < copy.trace.count == kernel.trace.count == 10000
    assert copy.trace.hash() == kernel.trace.hash()
    assert copy.at == kernel.at


def test_the_check_runs_after_everything_that_happens() -> None:
    seen: list[str] = []
    kernel = Kernel(1, check=lambda: seen.append("check"))
    kernel.call(1.0, lambda _, what: seen.append(what), "a")
    kernel.call(2.0, lambda _, what: seen.append(what), "b")
    kernel.run()
    assert seen == ["a", "check", "b", "check"]


def test_asking_for_a_hash_changes_nothing() -> None:
    asked, unasked = Trace(), Trace()
    for number in range(6000):
        asked.note(number * 0.5, 1, number)
        unasked.note(number * 0.5, 1, number)
        if number % 1000 == 0:
            asked.hash()
    assert asked.hash() == unasked.hash()
    unasked.note(0.0, 0, 0)
    assert asked.hash() != unasked.hash()
