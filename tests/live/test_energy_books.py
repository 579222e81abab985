"""What the store, replies and journeys are told of joules: nothing twice, nothing lost, whoever was never heard."""

from __future__ import annotations

import asyncio

import pytest
from tests.live.books import Accounts, metered
from tests.support.inside import inside

from underlay.domain.figures import Figure
from underlay.live.meters.ladder import Ladder, Rung
from underlay.live.settings import SiteSettings


async def answered(books, *texts, **more):
    """Ask all of this at once, and go on until it is settled."""
    lines = [books.ask(text, **more) for text in texts]
    waiting = asyncio.gather(*(line.over.wait() for line in lines))
    await books.go_on(waiting.done)
    await books.go_on(lambda: len(books.settled) == len(books.journeys) >= len(texts))
    return list(books.settled.values())


def told(books):
    """What the store was told, added up by account."""
    sums = {}
    for booked, _ in books.booked:
        for account, joules in booked.accounts.items():
            sums[account] = sums.get(account, 0.0) + joules
    return sums


async def test_the_store_is_told_all_that_was_metered_and_of_each_request_once(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        journeys = await answered(books, *(f"number {n} [[tokens={20 + n} itl=3]]" for n in range(5)))
        await books.energy.finish()
        for booked, _ in books.booked:
            assert sum(booked.accounts.values()) == pytest.approx(booked.metered_joules, abs=1e-9)
        metered_j = sum(booked.metered_joules for booked, _ in books.booked)
        assert metered_j == pytest.approx(books.booked_j(), rel=1e-9)
        assert told(books)["open"] == pytest.approx(0.0, abs=1e-9)
        stored = [journey.id for _, settled in books.booked for journey in settled]
        assert sorted(stored) == sorted(books.settled)
        assert told(books)["busy"] == pytest.approx(sum(journey.energy.joules for journey in journeys), rel=1e-9)
        begins = [booked.begin_s for booked, _ in books.booked]
        assert begins[1:] == [booked.end_s for booked, _ in books.booked][:-1]


async def test_the_joules_of_a_request_are_those_of_its_hops(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        for engine in place.engines:
            engine.fault("reset", 8, 1, tag="torn")
        (journey,) = await answered(books, "torn [[tokens=30 itl=4 tag=torn]]")
        hops = [hop for hop in journey.hops if hop.joules is not None]
        assert {(hop.name, hop.attempt) for hop in hops} >= {("prefill", 1), ("decode", 1)}
        assert sum(hop.joules for hop in hops) == pytest.approx(journey.energy.joules, rel=1e-9)
        assert all(hop.joules is None for hop in journey.hops if hop.name not in {"prefill", "decode"})


async def test_who_was_never_heard_is_charged_to_its_own_request(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        await answered(books, "hello [[tokens=5 ttft=40]]")  # how fast prompts are read is known by now
        line = books.ask("gone before a word [[tokens=5 ttft=5000]]")
        await books.go_on(lambda: place.driver.exchanges)
        await asyncio.sleep(0.2)
        line.snap()
        await books.go_on(lambda: len(books.settled) == 2)
        (gone,) = (journey for journey in books.settled.values() if journey.outcome == "client_gone")
        assert set(gone.energy.accounts) == {"abandoned_streams"}
        assert gone.energy.joules > 0.0
        assert books.booked_j() == pytest.approx(books.metered_j(), rel=1e-9)
        books.energy.check()


async def test_warming_a_cache_is_nobodys_and_on_an_account_of_its_own(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        await books.go_on(lambda: books.booked_j() > 0.0)
        books.energy.warms("m", "r0")
        closed = books.energy._closed
        for _ in range(10):
            books.energy.look()
            await books.energy.close_due()
            await asyncio.sleep(0.02)
        assert books.energy._closed <= closed + 1  # nobody knows yet what is being read
        books.energy.warmed("m", "r0", 300)
        await books.go_on(lambda: ("warming", "assumed") in books.energy.totals())
        assert told(books) == {} or "warming" in books.energy.sums._booked or "warming" in told(books)
        assert books.booked_j() == pytest.approx(books.metered_j(), rel=1e-9)
        assert books.energy.open_joules == 0.0
        books.energy.warms("m", "r0")
        books.energy.warmed("m", "r0", 0)  # it came to nothing, and holds up no window
        assert books.energy._work.warming_since is None


async def test_stopping_closes_the_window_as_it_stands_and_settles_what_is_over(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        await answered(books, "hello [[tokens=20 itl=4]]")
        line = books.ask("last words [[tokens=20 itl=4]]")
        await line.over.wait()
        before = books.energy._closed
        end_s = place.driver.clock()
        await books.energy.finish()
        assert len(books.settled) == 2
        assert all(journey.energy.status == "settled" for journey in books.settled.values())
        assert books.energy.kept == len(books.energy._steps)
        assert books.booked_j() >= books.metered_j(end_s) * (1 - 1e-9)
        assert books.booked_j() == pytest.approx(sum(booked.metered_joules for booked, _ in books.booked), rel=1e-9)
        books.energy.look()
        await books.energy.close_due()
        await books.energy.finish()  # again: nothing is booked twice
        assert books.energy._closed == before
        books.energy.check()


async def test_a_reply_is_told_what_is_known_at_its_end(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        ended = []
        left = place.driver.on_left

        def leaves(exchange):
            ended.append(books.energy.so_far(exchange))
            left(exchange)

        place.driver.on_left = leaves
        (first,) = await answered(books, "first [[tokens=20 itl=3]]")
        assert ended[0].status == "provisional"
        await answered(books, *(f"more {n} [[tokens=30 itl=3]]" for n in range(6)))
        known = ended[-1]
        assert known.status == "provisional"
        assert known.method in {
            "modelled",
            "assumed",
        }  # never better than modelled: its last tokens are in no window
        last = books.settled[list(books.journeys)[-1]].energy
        assert known.joules == pytest.approx(last.joules, rel=0.9)
        assert known.joules == pytest.approx(sum(known.accounts.values()))
        assert known.carbon == {}  # that is for the record
        assert first.energy.joules > 0.0


async def test_a_window_that_cannot_be_closed_is_a_gap_and_keeps_no_other_from_being_closed(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        await answered(books, "hello [[tokens=5]]")
        close, broken = books.energy._host.close, []

        def fails(*window, **how):
            closed = close(*window, **how)
            if closed is not None and not broken:
                broken.append(closed)
                raise ArithmeticError("a defect")
            return closed

        books.energy._host.close = fails
        (*_, last) = await answered(books, "more [[tokens=20 itl=4]]")
        assert broken
        assert last.energy.status == "settled"
        assert books.energy.gap_s == pytest.approx(books.energy.window_s)
        await books.go_on(lambda: not books.energy._over)
        assert books.energy.open_joules == pytest.approx(0.0, abs=1e-9)


async def test_what_ended_while_nobody_looked_for_some_windows_is_settled_whole(tmp_path, monkeypatch):
    async with inside(tmp_path, engines=1) as place, Accounts(place, monkeypatch) as books:
        long, short = books.ask("long [[tokens=60 itl=5]]"), books.ask("short [[tokens=10 itl=5]]")
        await short.over.wait()
        await asyncio.sleep(3 * books.energy.window_s)  # the loop was busy
        await books.go_on(long.over.is_set)
        await books.go_on(lambda: len(books.settled) == 2)
        await books.energy.finish()
        assert told(books)["open"] == pytest.approx(0.0, abs=1e-9)
        assert books.energy._bills.kept == 0
        assert books.energy._statements._open == {}


async def test_many_that_end_in_one_window_are_settled_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("underlay.live.energy.accounting._AT_ONCE", 2)
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        lines = [books.ask(f"number {n} [[tokens=5]]") for n in range(7)]
        await asyncio.gather(*(line.over.wait() for line in lines))
        await books.go_on(lambda: len(books.settled) == 7)
        assert max(len(settled) for _, settled in books.booked) <= 2
        await books.energy.finish()
        metered_j = sum(booked.metered_joules for booked, _ in books.booked)
        assert metered_j == pytest.approx(books.booked_j(), rel=1e-9)
        assert {booked.method for booked, _ in books.booked} == {books.energy._host.method}


class Beside:
    """Accelerators, a host of processors beside them, and what the node's own meter says."""

    def __init__(self, node_w=None) -> None:
        self.meters = [metered(100.0), metered(20.0, "host/board/package-0")]
        if node_w is not None:
            self.meters.insert(0, metered(node_w, "host"))


@pytest.mark.parametrize("node_w", [None, 150.0])
async def test_a_host_beside_accelerators_goes_to_requests_by_their_tokens(tmp_path, monkeypatch, node_w):
    pue = SiteSettings(pue=1.5, carbon_g_per_kwh=100.0)
    beside = Beside(node_w).meters
    async with inside(tmp_path) as place, Accounts(place, monkeypatch, meters=beside, site=pue) as books:
        (journey,) = await answered(books, "hello [[tokens=40 itl=4]]")
        energy = journey.energy
        assert {"busy", "host", "overhead"} <= energy.accounts.keys()
        within = energy.accounts["busy"] + energy.accounts["host"]
        assert energy.joules == pytest.approx(within)
        assert energy.accounts["overhead"] == pytest.approx(0.5 * within)  # on top, and not in the joules
        accounts = {account for account, _ in books.energy.totals()}
        assert ("residual" in accounts) == (node_w is not None)
        seconds = books.energy._closed * books.energy.window_s
        drawn_w = node_w or 120.0
        assert books.booked_j() == pytest.approx(drawn_w * seconds, rel=0.05)
        assert books.energy.sums.overhead_j == pytest.approx(0.5 * books.booked_j(), rel=1e-9)
        books.energy.check()


def test_a_hole_in_the_meters_is_no_window_and_the_outer_meter_stands_in() -> None:
    outer, device, board = (metered(1.0, name) for name in ("host", "host/accelerator-0", "host/board/package-0"))
    inner = Ladder((Rung("all", (device, board), ""),))
    whole = Ladder((Rung("all", (outer, device, board), ""),))
    figures = {meter.id: Figure(1.0, "J", "measured", meter.id) for meter in (outer, device, board)}
    assert inner.parts({device.id: figures[device.id]}) is None
    assert inner.parts({board.id: figures[board.id]}) is None
    assert inner.parts(figures).host.meter == board.id
    assert whole.parts(figures).node.meter == outer.id
    assert whole.parts({outer.id: figures[outer.id]}).devices.meter == outer.id
    assert whole.parts({device.id: figures[device.id]} | {outer.id: figures[outer.id]}).host is None
    alone = Ladder((Rung("all", (board,), ""),))
    assert alone.parts(figures).devices.meter == board.id
