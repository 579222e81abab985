from __future__ import annotations

from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.twin.world.worlds import arranged

from underlay.domain.errors import NotFound
from underlay.twin.kernel import Kernel
from underlay.twin.world.links import Links


class Ends:
    """Notes when streams end."""

    def __init__(self) -> None:
        self.at: dict[object, float] = {}

    def end(self, at: float, what: object) -> None:
        assert what not in self.at
        self.at[what] = at


def world(*rates: float) -> tuple[Kernel, Links, list, Ends]:
    kernel = Kernel(1)
    links = Links(kernel)
    return kernel, links, [links.add(f"l{n}", rate) for n, rate in enumerate(rates)], Ends()


def fair_rates(streams) -> dict:
    """Max-min fairness by its definition: all rise together, whoever meets a full link or the own ceiling stops."""
    rates = dict.fromkeys(streams, 0.0)
    rising = set(streams)
    while rising:
        links = {link for stream in rising for link in stream.path}
        step = min(stream.ceiling_bytes_s - rates[stream] for stream in rising)
        for link in links:
            free = link.capacity_bytes_s - sum(rates[stream] for stream in link.streams)
            step = min(step, free / sum(stream in rising for stream in link.streams))
        for stream in rising:
            rates[stream] += max(step, 0.0)
        full = {
            link
            for link in links
            if sum(rates[stream] for stream in link.streams) >= link.capacity_bytes_s * (1 - 1e-12)
        }
        rising = {
            stream
            for stream in rising
            if rates[stream] < stream.ceiling_bytes_s * (1 - 1e-12) and not full.intersection(stream.path)
        }
    return rates


def test_one_alone_has_all_and_two_share():
    kernel, links, (link,), ends = world(10.0)
    links.begin([link], 100.0, ends.end, "one")
    kernel.run(5.0)
    links.begin([link], 100.0, ends.end, "two")
    kernel.run()
    # 50 bytes alone, 50 shared; then the other's last 50 alone.
    assert ends.at == {"one": pytest.approx(15.0), "two": pytest.approx(20.0)}
    assert (link.carried_bytes, links.streams) == (pytest.approx(200.0), 0)


def test_who_is_held_up_elsewhere_leaves_more_to_the_others():
    kernel, links, (shared, narrow), ends = world(10.0, 2.0)
    slow = links.begin([shared, narrow], 100.0, ends.end, "slow")
    quick_ = links.begin([shared], 100.0, ends.end, "quick")
    kernel.run(0.0)
    assert (slow.rate_bytes_s, quick_.rate_bytes_s) == (2.0, 8.0)
    assert (links.utilisation(shared), links.utilisation(narrow)) == (1.0, 1.0)


def test_a_ceiling_bounds_a_stream_and_latency_is_added():
    kernel = Kernel(1)
    links = Links(kernel)
    link, ends = links.add("l", 10.0, latency_s=0.5), Ends()
    links.begin([link], 10.0, ends.end, "one", 1.0)
    links.begin([], 10.0, ends.end, "none", 2.0)
    kernel.run()
    assert ends.at == {"none": pytest.approx(5.0), "one": pytest.approx(10.5)}


def test_a_cut_link_holds_streams_until_it_is_back():
    kernel, links, (link,), ends = world(10.0)
    links.begin([link], 100.0, ends.end, "one")
    kernel.run(4.0)
    links.degrade(link, factor=0.0)
    assert links.delay_s([link]) == inf
    kernel.run(100.0)
    assert ends.at == {}
    links.degrade(link)
    kernel.run()
    assert ends.at == {"one": pytest.approx(106.0)}


def test_a_cancelled_stream_never_ends_and_frees_what_it_had():
    kernel, links, (link,), ends = world(10.0)
    first = links.begin([link], 100.0, ends.end, "one")
    links.begin([link], 100.0, ends.end, "two")
    kernel.run(10.0)
    links.cancel(first)
    links.cancel(first)
    kernel.run()
    assert ends.at == {"two": pytest.approx(15.0)}
    assert link.carried_bytes == pytest.approx(150.0)


@quick
@given(st.integers(0, 2**32))
def test_shares_are_max_min_fair_whatever_comes_and_goes(seed):
    dice = Random(seed)
    kernel, links, network, ends = world(*(dice.choice((1.0, 3.0, 10.0, 40.0)) for _ in range(dice.randint(1, 6))))
    live, number, asked = [], 0, 0.0
    for _ in range(25):
        act = dice.random()
        if act < 0.65 or not live:
            for _ in range(dice.choice((1, 1, 1, 5))):
                path = dice.sample(network, dice.randint(1, min(3, len(network))))
                ceiling = dice.choice((inf, inf, 0.5, 2.0, 15.0))
                number += 1
                asked += 10.0
                live.append(links.begin(path, 10.0, ends.end, number, ceiling))
        elif act < 0.8:
            stream = live.pop(dice.randrange(len(live)))
            links.cancel(stream)
            ends.end(kernel.at, stream.what) if stream.what not in ends.at else None
        else:
            links.degrade(dice.choice(network), factor=dice.choice((0.1, 0.5, 1.0)))
        kernel.run(kernel.at)
        live = [stream for stream in live if stream.what not in ends.at]
        expected = fair_rates(live)
        for stream in live:
            assert stream.rate_bytes_s == pytest.approx(expected[stream], rel=1e-9)
        for link in network:
            assert sum(stream.rate_bytes_s for stream in link.streams) <= link.capacity_bytes_s * (1 + 1e-9)
        kernel.run(kernel.at + dice.choice((0.0, 0.1, 1.0, 5.0)))
        live = [stream for stream in live if stream.what not in ends.at]
    kernel.run()
    assert sorted(ends.at) == list(range(1, number + 1))
    assert links.streams == 0
    assert not any(link.streams or link.classes for link in network)


@quick
@given(st.integers(0, 2**32))
def test_bytes_are_conserved_and_runs_repeat(seed):
    def run() -> tuple[dict, float]:
        dice = Random(seed)
        kernel, links, (store, *racks), ends = world(100.0, *[30.0] * 5)
        kernel_calls = Starter(links, ends)
        total = 0.0
        for number in range(40):
            total += (bytes_ := dice.uniform(1.0, 500.0))
            kernel.call(dice.uniform(0.0, 20.0), kernel_calls.begin, ([store, dice.choice(racks)], bytes_, number))
        kernel.run()
        assert store.carried_bytes == pytest.approx(total)
        assert sum(rack.carried_bytes for rack in racks) == pytest.approx(total)
        assert kernel.at >= total / 100.0 * (1 - 1e-9)
        return ends.at, kernel.at

    assert run() == run()


class Starter:
    def __init__(self, links: Links, ends: Ends) -> None:
        self.links, self.ends = links, ends

    def begin(self, at: float, what: tuple) -> None:
        path, bytes_, number = what
        self.links.begin(path, bytes_, self.ends.end, number, 15.0)


def test_a_snapshot_runs_on_apart_and_ends_alike():
    kernel, links, network, ends = world(10.0, 4.0)
    for number in range(6):
        links.begin(network[: 1 + number % 2], 50.0, ends.end, number)
    kernel.run(3.0)
    kernel.call(3.0, ends.end, "self")  # so that the copy can be reached
    twin = kernel.snapshot()
    copied = next(action.__self__ for _, _, _, action, what in arranged(twin) if what == "self")
    kernel.run()
    assert copied.at == {}
    twin.run()
    assert copied.at == ends.at


def test_a_thousand_streams_are_one_class_unless_they_bind():
    kernel, links, (store, *racks), ends = world(100e9, *[25e9] * 250)
    for number in range(1000):
        links.begin([store, racks[number % 250]], 1e9 * (1 + number), ends.end, number, 8e9)
    kernel.run(0.0)
    # Four streams of 8 GB/s would fill a rack, but the store leaves each 0.1 GB/s: racks are not looked at.
    assert len(store.classes) == 1
    kernel.run()
    assert len(ends.at) == 1000
    assert kernel.events < 10_000


def test_messages_wait_behind_streams_but_not_longer_than_the_buffer():
    kernel = Kernel(1)
    links = Links(kernel)
    link, ends = links.add("l", 1e9, latency_s=1e-3, buffer_s=2e-3), Ends()
    assert links.delay_s([link]) == pytest.approx(1e-3)
    links.begin([link], 1e12, ends.end, "half", 5e8)
    kernel.run(1.0)
    assert links.delay_s([link]) == pytest.approx(1e-3 + 65536 / 1e9)
    links.begin([link], 1e12, ends.end, "full")
    kernel.run(1.0)
    assert links.delay_s([link]) == pytest.approx(3e-3)


def test_lost_messages_come_later_and_lossy_links_carry_less():
    kernel = Kernel(1)
    links = Links(kernel)
    link, ends = links.add("l", 1e9, latency_s=10e-3), Ends()
    stream = links.begin([link], 1e12, ends.end, "one")
    links.degrade(link, added_s=0.14, loss=0.02)
    kernel.run(0.0)
    assert link.capacity_bytes_s == pytest.approx(0.98e9)
    # 64 connections, 1,460 bytes a segment, 0.3 s there and back: the loss bounds them, not the link.
    assert stream.rate_bytes_s == pytest.approx(64 * 1460 / 0.3 * (1.5 / 0.02) ** 0.5)
    assert links.delay_s([link]) == pytest.approx(0.15 + 0.02 / 0.98 * 0.6, rel=1e-3)


def test_what_is_no_link_and_no_stream_is_refused():
    _, links, (link,), ends = world(10.0)
    with pytest.raises(NotFound, match="did you mean l0"):
        links.link("l00")
    with pytest.raises(ValueError, match="already"):
        links.add("l0", 1.0)
    with pytest.raises(ValueError, match="above 0"):
        links.add("new", 0.0)
    with pytest.raises(ValueError, match="some bytes"):
        links.begin([], 1.0, ends.end)
    with pytest.raises(ValueError, match="cannot have"):
        links.degrade(link, loss=1.0)
