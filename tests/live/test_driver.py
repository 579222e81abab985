"""The driver: one event at a time, and a defect in one request stops no other."""

import asyncio
import contextlib

import pytest

from underlay.control import effects as fx
from underlay.control import journal
from underlay.control.events import Arrived, ClientGone, Finished, KeyChanged, ReplicaSeen
from underlay.domain.answer import Usage
from underlay.domain.keys import Key
from underlay.domain.money import Price
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.live import journal_file
from underlay.live.driver import Driver
from underlay.live.store import Store
from underlay.live.store_writer import StoreWriter
from underlay.twin.replay import replay

KEY = Key(id="key_1", digest="d" * 64, tenant="acme", name="n", prefix="ul_", created_s=0.0)
SETTINGS = DeskSettings(models=(ModelPolicy("m", 4096, Price()),), default_limits=KEY.limits)


class Performer:
    """Does what a test tells it to at each effect, and remembers the order."""

    def __init__(self, driver, ticket, acts=None):
        self.driver, self.ticket, self.acts, self.seen = driver, ticket, acts or {}, []
        driver.enter(self)

    def _do(self, name, effect):
        self.seen.append(name)
        if name in self.acts:
            self.acts[name](effect)

    def __getattr__(self, name):
        if name in ("admitted", "hold", "dispatch", "refuse", "cancel", "cut", "charge", "close"):
            return lambda effect: self._do(name, effect)
        raise AttributeError(name)

    def sweep(self, now):
        pass

    def abandon(self):
        self._do("abandon", None)

    def arrive(self, **fields):
        self.driver.submit(
            Arrived(
                at=self.driver.now(),
                ticket=self.ticket,
                digests=(KEY.digest,),
                model=fields.pop("model", "m"),
                operation="chat",
                prompt_bytes=5,
                **fields,
            )
        )


@contextlib.contextmanager
def driving(folder, slots=2):
    folder.mkdir(exist_ok=True)
    with Store(folder) as store, contextlib.closing(StoreWriter(folder)) as writer:
        diary = journal_file.begin(folder, SETTINGS, "test", 1000.0)
        driver = Driver(SETTINGS, diary, writer, {}, lambda *_: None)
        driver.submit(KeyChanged(at=driver.now(), key=KEY))
        driver.submit(ReplicaSeen(at=driver.now(), replica="r", model="m", slots=slots))
        driver.store = store
        yield driver
        driver.close()
        diary.close()


def finished(driver, ticket):
    return Finished(at=driver.now(), ticket=ticket, attempt=1, usage=Usage(3, 0, 2))


async def test_an_event_caused_while_effects_are_performed_waits_its_turn(tmp_path):
    with driving(tmp_path) as driver:
        one = Performer(driver, "one")
        depth = []

        def dispatch(effect):
            driver.submit(finished(driver, effect.ticket))
            depth.append(driver.desk.tickets["one"].state)  # not handled yet

        one.acts["dispatch"] = dispatch
        one.arrive()
        assert depth == ["running"]
        assert one.seen == ["admitted", "dispatch", "charge", "close"]
        driver.desk.check()


@pytest.mark.parametrize("step", ["admitted", "dispatch", "charge", "close", "cancel"])
async def test_a_failing_performer_stops_nobody_else(tmp_path, step):
    with driving(tmp_path, slots=1) as driver:

        def fail(_):
            raise RuntimeError("a defect")

        bad = Performer(driver, "bad", {step: fail})
        good = Performer(driver, "good")
        bad.acts.setdefault("abandon", lambda _: driver.leave(bad))
        bad.arrive()
        good.arrive()
        driver.submit(ClientGone(at=driver.now(), ticket="bad", usage=Usage()))
        assert good.seen == ["admitted", "hold", "dispatch"]
        driver.submit(finished(driver, "good"))
        assert good.seen == ["admitted", "hold", "dispatch", "charge", "close"]
        driver.desk.check()
        assert not driver.desk.tickets
        assert driver.desk.replicas["r"].load == 0


async def test_a_defect_of_the_desk_in_one_event_does_not_keep_it_from_the_next(tmp_path):
    with driving(tmp_path) as driver:
        one = Performer(driver, "one")
        one.acts["abandon"] = lambda _: driver.leave(one)

        def dispatch(effect):
            driver.submit(object())  # nothing that the desk knows
            driver.submit(finished(driver, "one"))

        one.acts["dispatch"] = dispatch
        one.arrive()
        assert one.seen[-1] == "close"
        del one.acts["dispatch"]
        one.arrive()
        one.arrive()  # twice: the desk asserts against it
        assert "abandon" in one.seen


async def test_an_abandoning_that_fails_forgets_the_request(tmp_path):
    with driving(tmp_path) as driver:

        def fail(_):
            raise RuntimeError("a defect")

        bad = Performer(driver, "bad", {"refuse": fail, "abandon": fail})
        bad.arrive(model="unknown")
        assert not driver.exchanges


async def test_every_decision_is_in_the_journal_before_it_is_performed_and_replays(tmp_path):
    with driving(tmp_path) as driver:
        written = []

        def look(_):
            data = driver.journal.path.read_bytes()
            written.append([type(e).__name__ for entry, _ in journal.decode(data)[1] for e in entry.effects])

        one = Performer(driver, "one", {"charge": look, "close": look})
        one.arrive()
        driver.submit(finished(driver, "one"))
        assert written[0][-2:] == ["Charge", "Close"]
        refused = Performer(driver, "two")
        refused.arrive(model="unknown")
        assert refused.seen == ["refuse"]
        driver.journal.flush()
        report = replay(driver.journal.path)
        assert report.equal, report.first_difference
        assert report.open_tickets == 0


async def test_it_wakes_the_desk_when_the_desk_asked_for_it(tmp_path):
    with driving(tmp_path) as driver:
        ticks = []
        handle = driver.desk.handle
        driver.desk.handle = lambda event: (ticks.append(type(event).__name__), handle(event))[1]
        for at in (0.5, 0.05, 0.02):  # the last word counts
            driver._wake_at(fx.WakeAt(driver.now() + at))
        await asyncio.sleep(0.1)
        assert ticks == ["Tick"]
