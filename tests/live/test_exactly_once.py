"""The books of a platform whose store, journal and process fail at every bad moment (I1, I7, I8, I10).

Desk, journal and store are the real ones, driven as ``live.driver`` and ``live.platform`` drive them. The faults:
commits that fail, commits that are done and reported as failed, a locked store, a writer without room, a journal
on a full disk, kill -9 before, between and behind the steps of a decision, in a commit, in the middle of a frame
and in the recovery. Once all is healed, the ledger must hold exactly one row for each request that the journal
says was let in: what the desk charged, or what the last progress said where a crash cut it off.
``LEDGER_EXAMPLES=1000`` looks for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import tempfile
import threading
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as pace
from hypothesis import strategies as st
from tests.live.faults import Disk, Faults, Timers

from underlay.control import journal
from underlay.control.desk import assemble
from underlay.control.effects import Admitted, Charge, Dispatch, Hold, Refuse, Replay
from underlay.control.events import (
    Arrived,
    AttemptFailed,
    ClientGone,
    Finished,
    FirstToken,
    KeyChanged,
    Progress,
    ReplicaLost,
    ReplicaSeen,
    Tick,
)
from underlay.control.metering import Tariff
from underlay.domain.answer import Usage
from underlay.domain.keys import Budget, Key
from underlay.domain.money import Price
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.live import journal_file, spent, store_writer
from underlay.live.driver import Driver
from underlay.live.platform import Platform
from underlay.live.store import Store
from underlay.live.store_writer import StoreWriter

NOW_S = 1_790_000_000.0
PRICE = Price(Decimal("0.15"), Decimal("0.075"), Decimal("0.60"))
TARIFF = Tariff(PRICE)
SETTINGS = DeskSettings(models=(ModelPolicy("m", 4096, PRICE),), attempts_max=2, waiting_max=3)
KEY = Key(id="key_1", digest="d" * 64, tenant="acme", budgets=(Budget("total", tokens=10**9),))
VERBS = (
    *(["arrive"] * 7 + ["tokens"] * 4 + ["finish"] * 5 + ["back", "commit", "mark", "crash"] * 2),
    *("gone", "fail", "late", "lost", "gap", "timers", "fault", "heal", "disk", "stop"),
)
small = st.integers(0, 7)
steps = st.lists(st.tuples(st.sampled_from(VERBS), small, small), min_size=5, max_size=60)


class Killed(BaseException):
    """kill -9, here and now."""


@pytest.fixture(scope="module", autouse=True)
def world():
    """Where the faults come in."""
    with pytest.MonkeyPatch.context() as patch:
        here = SimpleNamespace(faults=Faults(), disk=Disk(), timers=Timers())
        patch.setattr(store_writer, "connect", here.faults.connect)
        patch.setattr(store_writer, "RETRY_FIRST_S", 0.001)
        patch.setattr(store_writer, "RETRY_LAST_S", 0.002)
        patch.setattr(journal_file, "os", here.disk)
        patch.setattr(journal_file, "asyncio", SimpleNamespace(get_running_loop=lambda: here.timers))
        yield here


class House:
    """A data directory, the run that lives in it, and what its ledger must come to hold."""

    def __init__(self, data_dir: Path, world) -> None:
        self.data_dir = data_dir
        self.world = world
        self.at = NOW_S
        self.names = (f"req_{number}" for number in itertools.count())
        self.owed: dict[str, tuple[str, Usage, int]] = {}  # by earlier runs
        self.recent: list[str] = []
        self.world.faults.heal()
        self.world.disk.room = math.inf
        self.world.timers.forget()
        self.begin()

    # A run, from its beginning to its end.

    def begin(self, kills: int = 0) -> None:
        """Start as the platform does; killed so often between settling and the commit of what was settled."""
        for left in range(kills, -1, -1):
            self.store, self.writer = Store(self.data_dir), self._writer(100_000)
            journal_file.settle_old(self.data_dir, self.store, self.writer)
            if left:
                self._drop_writer()
                self.store.close()
        assert self.writer.flush()
        self.writer.close()
        self.writer = self._writer(4)
        self.at += 1.0
        self.journal = journal_file.begin(self.data_dir, SETTINGS, "test", self.at)
        self.desk = assemble(SETTINGS)
        self.driver = SimpleNamespace(
            desk=SimpleNamespace(handle=self._decide, tickets=self.desk.tickets),
            journal=SimpleNamespace(append=self._write),
            _writer=self.writer,
            _perform=self._perform,
        )
        self.charged: dict[str, tuple[str, Usage, int]] = {}
        self.dies = ""
        self.tell(KeyChanged(self.at, KEY))
        for event in spent.spent(self.store, [KEY], SETTINGS, self.at):
            self.tell(event)
        for number in (1, 2):
            self.tell(ReplicaSeen(self.at, f"r{number}", "m", 2))
        self.journal.flush()
        self.check_budget()

    def _writer(self, room: int) -> StoreWriter:
        return StoreWriter(self.data_dir, waiting_max=room, pause_s=60.0)  # it commits when it is told to

    def tell(self, event) -> list:
        """Bring an event to the driver's own code; ``dies`` says behind which step the process is killed."""
        Driver._handle(self.driver, event)
        return self.effects

    def _decide(self, event) -> list:
        self.effects = self.desk.handle(event)
        self.desk.check()
        self._die_if("decided")
        return self.effects

    def _write(self, event, effects) -> None:
        self.journal.append(event, effects)
        charges = [effect for effect in effects if type(effect) is Charge]
        for charge in charges:
            self.charged[charge.ticket] = (charge.outcome, charge.usage, charge.cost_pico_usd)
        if (charges or type(event) is Progress) and self.world.disk.room == math.inf:
            assert self.journal.whole or self.journal.last_error, "what a bill depends on is written at once"
        self._die_if("written")

    def _perform(self, effect) -> None:
        assert self.journal.path.stat().st_size == self.journal.bytes_written
        self._die_if("booked")

    def _die_if(self, step: str) -> None:
        if self.dies == step:
            raise Killed

    def _drop_writer(self) -> None:
        writer = self.writer
        with writer._changed:
            writer._closing = writer._abandoned = True
            writer._changed.notify_all()
        writer._thread.join()

    def die(self, torn_bytes: int = 0) -> None:
        """kill -9: what was not written is gone, and the end of what was may be torn."""
        self._drop_writer()
        self.world.timers.forget()
        os.close(self.journal._descriptor)
        path = self.journal.path
        whole = path.read_bytes()
        if torn_bytes:
            ends = [end for _, end in journal.decode(whole)[1]]
            last = ends[-1] - ends[-2]
            os.truncate(path, len(whole) - min(torn_bytes, last - 1) if ends[-1] == len(whole) else len(whole))
        self._count_what_is_owed(path.read_bytes())
        self.store.close()

    def _count_what_is_owed(self, data: bytes) -> None:
        """One row for each request let in, as far as the journal goes or the ledger knows already."""
        entries = [entry for entry, _ in journal.decode(data)[1]]
        for name, cut_off in let_in(entries).items():
            self.owed[name] = cut_off
        for entry in entries:
            for effect in entry.effects:
                if type(effect) is Charge:
                    self.owed[effect.ticket] = self.charged[effect.ticket]
        for name, charged in self.charged.items():
            if (row := self.store.charge(name)) is not None:
                assert (row.outcome, row.usage, row.cost_pico_usd) == charged
                self.owed[name] = charged

    # What may happen.

    def arrive(self, a: int, b: int) -> None:
        name = next(self.names)
        self.recent = [*self.recent[-7:], name]
        digest = "nobody's" if a == 7 else KEY.digest
        once = ("once", "body") if b >= 6 else ("", "")
        self.tell(Arrived(self.at, name, (digest,), "m", "chat", 5, streaming=a % 2 == 0, idempotency=once))

    def _one(self, a: int):
        names = list(self.desk.tickets)
        ticket = self.desk.tickets[names[a % len(names)]] if names else None
        return ticket, ticket.lease.attempt if ticket is not None and ticket.lease is not None else 0

    def tokens(self, a: int, b: int) -> None:
        ticket, attempt = self._one(a)
        if ticket is not None:
            self.tell(FirstToken(self.at, ticket.name, attempt, 10 + b, b))
            self.tell(Progress(self.at, ticket.name, 20 * b + a))

    def finish(self, a: int, b: int) -> None:
        """Twice, now and then."""
        ticket, attempt = self._one(a)
        if ticket is not None:
            for _ in range(1 + b % 2):
                self.tell(Finished(self.at, ticket.name, attempt, Usage(10, b, 7)))

    def gone(self, a: int, b: int) -> None:
        """And its engine says that it finished, too late."""
        ticket, attempt = self._one(a)
        if ticket is not None:
            self.tell(ClientGone(self.at, ticket.name, Usage(10, 0, b)))
            assert self.tell(Finished(self.at, ticket.name, attempt, Usage(10, 0, 99))) == []

    def fail(self, a: int, b: int) -> None:
        ticket, attempt = self._one(a)
        if ticket is not None:
            failure = "rejected" if b == 7 else "reset"
            self.tell(AttemptFailed(self.at, ticket.name, attempt, failure, b))

    def late(self, a: int, b: int) -> None:
        """Words of requests that may be over long since, and of attempts that may be dead."""
        if self.recent:
            name = self.recent[a % len(self.recent)]
            self.tell(Finished(self.at, name, b, Usage(1, 0, 99)))
            if name not in self.desk.tickets:
                assert self.tell(ClientGone(self.at, name, Usage(1, 0, 99))) == []

    def lost(self, a: int, _: int) -> None:
        self.tell(ReplicaLost(self.at, f"r{1 + a % 2}", "killed"))

    def back(self, a: int, b: int) -> None:
        """Back from the dead: and what it says of its life before is not believed."""
        name = f"r{1 + a % 2}"
        before = [(t.name, t.lease.attempt) for t in self.desk.tickets.values() if t.replica is not None]
        before = [(ticket, attempt) for ticket, attempt in before if self.desk.tickets[ticket].replica.name == name]
        self.at += 1.0
        self.tell(ReplicaSeen(self.at, name, "m", 1 + b % 2, int(self.at - NOW_S)))
        for ticket, attempt in before:
            assert self.tell(Finished(self.at, ticket, attempt, Usage(10, 0, 99))) == []
        self.at += 1.0
        self.tell(Tick(self.at))

    def commit(self, _: int, __: int) -> None:
        """The writer commits what it has; unless the fault stays, it succeeds however often it is struck."""
        stays = self.world.faults.times == math.inf
        if self.writer.flush(0.01 if stays else 10.0) and not self.writer.has_gap:
            self.check_budget()

    def check_budget(self) -> None:
        """I8, I10: what the desk believes to be spent is what the ledger says."""
        use = spent.used(self.store, [KEY], ["total"], self.at).get(("key", KEY.id, "total"), spent.Used())
        (purse,) = self.desk.accounts.holding(KEY, "m").purses
        assert (purse.spent_tokens, purse.spent_pico_usd) == (use.tokens, use.pico_usd)

    def mark(self, a: int, b: int) -> None:
        """As the platform does now and then; and mostly it is committed soon."""
        Platform._mark(self)
        if b % 4:
            self.commit(a, b)

    def gap(self, _: int, __: int) -> None:
        """As the platform does now and then."""
        if self.writer.has_gap and self.world.faults.times < math.inf:
            asyncio.run(Platform._settle_gap(self))

    def timers(self, _: int, __: int) -> None:
        self.world.timers.ring()

    def fault(self, a: int, b: int) -> None:
        kinds = ("locked", "refused", "timed out", "away", "misjudged")
        self.world.faults.kind, self.world.faults.times = kinds[a % 5], (1 + b % 3 if b < 5 else math.inf)

    def heal(self, _: int, __: int) -> None:
        self.world.faults.heal()
        self.world.disk.room = math.inf

    def disk(self, a: int, _: int) -> None:
        self.world.disk.room = 40 * a

    def crash(self, a: int, b: int) -> None:
        """Killed: now, or behind a step of the next decision, or behind a commit it was never told of."""
        if a < 3:
            self.dies = ("decided", "written", "booked")[a]
            with contextlib.suppress(Killed):
                (self.finish if b % 2 else self.arrive)(b, 0)
        elif a == 3:
            self.world.faults.kind, self.world.faults.times = "timed out", math.inf
            self.writer.flush(0.01)
        self.die(torn_bytes=b * 7 if a >= 5 else 0)
        self.heal(0, 0)
        self.begin(kills=b % 3)

    def stop(self, _: int, __: int) -> None:
        """Stopped in good order: everybody is cut off, all is written."""
        self.heal(0, 0)
        for name in list(self.desk.tickets):
            self.tell(ClientGone(self.at, name, Usage(1, 0, 1)))
        self.journal.close()
        self.mark(0, 0)
        self.writer.close()
        self._count_what_is_owed(self.journal.path.read_bytes())
        self.store.close()
        self.begin()

    def end(self) -> None:
        """All is healed, and a last start has settled what there was."""
        self.crash(4, 0)
        rows = self.store.ledger(limit=10_000)
        assert {row.request_id: (row.outcome, row.usage, row.cost_pico_usd) for row in rows} == self.owed
        assert len(rows) == len(self.owed), "no row twice"
        assert self.store.totals().cost_pico_usd == sum(cost for _, _, cost in self.owed.values())
        self.check_budget()
        self.die()

    def answer(self, count: int) -> None:
        """So many requests that are answered at once."""
        for _ in range(count):
            self.arrive(1, 0)
            self.tell(Finished(self.at, self.recent[-1], 1, Usage(10, 0, 7)))


def let_in(entries) -> dict[str, tuple[str, Usage, int]]:
    """What the requests that a journal let in had used by its end, if a crash cut them off there."""
    usage: dict[str, Usage] = {}
    running: dict[str, int] = {}
    for entry in entries:
        event = entry.event
        name = getattr(event, "ticket", "")
        if name in running:
            usage[name] = heard(usage[name], event, running[name])
        for effect in entry.effects:
            match effect:
                case Admitted():
                    usage[effect.ticket] = Usage()
                case Dispatch():
                    running[effect.ticket] = effect.attempt
                case Hold():
                    running.pop(effect.ticket, None)
                case Refuse() | Replay():
                    usage.pop(effect.ticket, None)
    return {name: ("client_gone", used, TARIFF.cost_pico_usd(used)) for name, used in usage.items()}


def heard(usage: Usage, event, attempt: int) -> Usage:
    """What a word of a running attempt adds to what is known of its use."""
    match event:
        case FirstToken() if event.attempt == attempt and not usage.prompt_tokens:
            return Usage(event.prompt_tokens, event.cached_tokens, usage.completion_tokens)
        case Progress():
            return Usage(usage.prompt_tokens, usage.cached_tokens, event.completion_tokens)
        case AttemptFailed() if event.attempt == attempt and event.failure != "rejected":
            return Usage(usage.prompt_tokens, usage.cached_tokens, event.completion_tokens)
    return usage


@pace(max_examples=int(os.environ.get("LEDGER_EXAMPLES", "20")), deadline=None)
@given(told=steps)
def test_i1_i7_i8_i10_one_row_for_each_request_whatever_fails(world, told):
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder), world)
        for verb, *numbers in told:
            getattr(house, verb)(*numbers)
        house.end()


# The same, one fault at a time.


@pytest.fixture
def house(tmp_path, world):
    house = House(tmp_path, world)
    yield house
    house.end()


def rows(house: House) -> int:
    return house.store.totals().requests


@pytest.mark.parametrize("kind", ["locked", "refused", "timed out", "away", "misjudged"])
def test_i7_a_commit_that_fails_or_only_says_so_enters_each_charge_once(house, kind):
    house.answer(3)
    house.world.faults.kind, house.world.faults.times = kind, 2
    house.writer._disconnect()
    house.commit(0, 0)
    assert rows(house) == 3


def test_i7_a_commit_that_was_done_before_a_kill_is_not_done_again(house):
    house.answer(3)
    house.crash(3, 2)  # and killed twice in the recovery
    assert rows(house) == 3


def test_i7_a_row_whose_journal_lost_its_last_frame_stays_as_it_is(house):
    house.answer(2)
    house.commit(0, 0)
    house.crash(5, 1)
    assert [row.outcome for row in house.store.ledger()] == ["finished", "finished"]


def test_i1_a_mark_never_covers_a_request_that_is_open(house):
    house.answer(1)
    house.arrive(0, 0)
    house.tokens(0, 3)
    house.mark(0, 1)
    house.crash(4, 0)
    assert rows(house) == 2


def test_i7_charges_that_found_no_room_come_from_the_journal(house):
    house.answer(6)
    assert house.writer.has_gap
    house.commit(0, 0)
    house.mark(0, 1)
    house.gap(0, 0)
    house.commit(0, 0)
    assert rows(house) == 6


def test_i7_charges_that_found_no_room_come_from_the_journal_after_a_kill_too(house):
    house.answer(6)
    house.commit(0, 0)
    house.mark(0, 1)
    house.crash(4, 0)
    assert rows(house) == 6


def test_i7_a_gap_is_not_closed_from_a_journal_that_is_not_whole(house):
    """A full disk: neither store nor journal take anything, and the store is the first to recover."""
    house.answer(2)
    house.world.disk.room = 0
    house.answer(4)
    house.commit(0, 0)
    house.gap(0, 0)
    assert house.writer.has_gap
    house.world.disk.room = math.inf
    house.timers(0, 0)
    house.mark(0, 1)
    house.gap(0, 0)
    house.commit(0, 0)
    assert rows(house) == 6


def test_i7_a_stop_while_a_gap_is_settled_leaves_the_rest_to_the_next_start(house, monkeypatch):
    house.answer(6)
    house.commit(0, 0)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*_):
        begun.set()
        go_on.wait(5)

    async def stop() -> None:
        settling = asyncio.create_task(Platform._settle_gap(house))
        await asyncio.to_thread(begun.wait, 5)
        settling.cancel()
        await asyncio.wait([settling])
        house.mark(0, 1)
        go_on.set()

    with monkeypatch.context() as patch:
        patch.setattr(journal_file, "settle", slowly)
        asyncio.run(stop())
    house.crash(4, 0)
    assert rows(house) == 6


def test_i7_a_finish_that_comes_twice_and_one_that_comes_after_the_caller_left_are_one_row_each(house):
    house.arrive(1, 0)
    house.finish(0, 1)
    house.arrive(1, 0)
    house.gone(0, 3)
    house.commit(0, 0)
    assert [row.outcome for row in house.store.ledger()] == ["client_gone", "finished"]


def test_i7_i11_a_replica_back_from_the_dead_adds_nothing_to_the_bill(house):
    house.arrive(0, 0)
    house.tokens(0, 1)
    (ticket,) = house.desk.tickets.values()
    dead, attempt = ticket.replica.name, ticket.lease.attempt
    house.tell(ReplicaLost(house.at, dead, "silent"))
    house.tell(ReplicaSeen(house.at, dead, "m", 2, 9))
    assert house.tell(Finished(house.at, ticket.name, attempt, Usage(10, 0, 99))) == []
    house.tell(Finished(house.at, ticket.name, ticket.lease.attempt, Usage(10, 0, 7)))
    house.commit(0, 0)
    (row,) = house.store.ledger()
    assert (row.usage, row.cost_pico_usd) == (Usage(10, 0, 7), TARIFF.cost_pico_usd(Usage(10, 0, 7)))


def test_i1_i8_a_request_that_a_kill_cut_off_is_billed_by_its_last_progress(house):
    house.arrive(0, 0)
    house.tokens(0, 3)
    house.crash(4, 2)
    (row,) = house.store.ledger()
    assert (row.outcome, row.usage) == ("client_gone", Usage(13, 3, 60))
    house.check_budget()
