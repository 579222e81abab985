"""What one request costs the desk: all its events together, and every stage apart.

The load is a chat's: conversations over a few shared beginnings that grow from turn to turn and come back to what
they said before, several requests in flight on each replica, everybody's caches full. Its events are made
beforehand, by a desk like the one that is measured, so that nothing but ``desk.handle`` is timed. Processor time,
not the clock's: the machines that measure this are shared.
"""

from __future__ import annotations

import gc
import heapq
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from harness import Figures, median

from underlay.control import admission, metering
from underlay.control.desk import Desk, assemble
from underlay.control.effects import Close, Dispatch, WakeAt
from underlay.control.events import (
    AnyEvent,
    Arrived,
    Finished,
    FirstToken,
    KeyChanged,
    Progress,
    ReplicaSeen,
    Tick,
)
from underlay.control.fairness import OUTPUT_WEIGHT
from underlay.control.ticket import Standing, Ticket
from underlay.domain.answer import Usage
from underlay.domain.keys import Budget, Key, Limits
from underlay.domain.policy import DeskSettings, ModelPolicy

MODEL = "m"
TENANTS = 20
SLOTS = 8
IN_FLIGHT = 3  # on each replica, on average
CACHE_TOKENS = 32_768
BLOCK_TOKENS, BLOCK_BYTES = 32, 128
SHARED_BLOCKS = 8  # what every conversation of a kind begins with
BLOCKS = range(10, 23, 2)  # of the turns of a conversation: 16 on average
ANSWER_TOKENS = 64
BEGAN_S = 1_790_000_000.0
ROUNDS, REQUESTS = 9, 1_500


class Conversation:
    """Blocks of its own behind a shared beginning, more at each turn."""

    def __init__(self, dice: random.Random) -> None:
        self.tenant = dice.randrange(TENANTS)
        kind = dice.randrange(3)
        shared = random.Random(1000 * self.tenant + kind)
        self.blocks = tuple(shared.getrandbits(64) for _ in range(SHARED_BLOCKS))
        self.blocks += tuple(dice.getrandbits(64) for _ in range(BLOCKS[-1] - SHARED_BLOCKS))
        self.session = dice.getrandbits(63)
        self.turn = dice.randrange(len(BLOCKS))
        self.replica = ""  # where its last turn was answered

    def next(self) -> tuple[int, ...]:
        self.turn += 1
        return self.blocks[: BLOCKS[self.turn % len(BLOCKS)]]

    @property
    def over(self) -> bool:
        return self.turn % len(BLOCKS) == len(BLOCKS) - 1


class Crowd:
    """A chat's load on a desk of its own; ``events`` are what another one like it can be told.

    ``more`` goes into every key (limits, budgets).
    """

    def __init__(self, replicas: int, **more: Any) -> None:
        self.desk = desk_of(replicas, **more)
        self.events: list[AnyEvent] = []
        self._dice = random.Random(replicas)
        self._replicas = replicas
        self._at = BEGAN_S
        self._answer_s = 2.0
        self._gap_s = self._answer_s / (IN_FLIGHT * replicas)
        self._idle = [Conversation(self._dice) for _ in range(4 * IN_FLIGHT * replicas)]
        self._due: list[tuple[float, int, Callable[[float], AnyEvent]]] = []
        self._count = 0
        self.of: dict[str, Conversation] = {}

    def tell(self, event: AnyEvent) -> list[Any]:
        self.events.append(event)
        return self.desk.handle(event)

    def fill_caches(self) -> None:
        """Every replica reads long documents that nobody asks for again."""
        for _ in range(self._replicas):
            blocks = tuple(self._dice.getrandbits(64) for _ in range(CACHE_TOKENS // BLOCK_TOKENS))
            self.arrive(Conversation(self._dice), blocks)

    def ask(self, count: int) -> None:
        """So many requests arrive, and all that happens meanwhile."""
        for _ in range(count):
            place = self._dice.randrange(len(self._idle))
            talk = self._idle[place]
            if talk.over:
                talk = Conversation(self._dice)
                talk.turn = -1
            self._idle[place] = self._idle[-1]
            self._idle.pop()
            self.arrive(talk, talk.next())

    def arrived(self, talk: Conversation, blocks: tuple[int, ...]) -> Arrived:
        self._count += 1
        size = len(blocks) * BLOCK_BYTES + 60
        return Arrived(
            self._at, f"req_{self._count:020x}", (f"digest {talk.tenant}",), MODEL, "chat", size,
            max_tokens=1024, streaming=True, blocks=blocks, session=talk.session,
        )  # fmt: skip

    def arrive(self, talk: Conversation, blocks: tuple[int, ...]) -> None:
        self._at += self._gap_s * self._dice.expovariate(1.0)
        self._pass_time()
        event = self.arrived(talk, blocks)
        self.of[event.ticket] = talk
        self._note(self.tell(event))

    def _note(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Dispatch):
                self._answer(effect)
            elif isinstance(effect, Close):
                self._idle.append(self.of.pop(effect.ticket))
            elif isinstance(effect, WakeAt):
                self._later(max(effect.at, self._at), Tick)

    def _pass_time(self) -> None:
        while self._due and self._due[0][0] <= self._at:
            due, _, event = heapq.heappop(self._due)
            self._note(self.tell(event(due)))

    def _later(self, at: float, event: Callable[[float], AnyEvent]) -> None:
        heapq.heappush(self._due, (at, len(self.events), event))

    def _answer(self, effect: Dispatch) -> None:
        """A replica takes it up: what of it is cached there it skips."""
        talk, name, attempt = self.of[effect.ticket], effect.ticket, effect.attempt
        blocks = self.desk.tickets[name].arrived.blocks
        prompt = len(blocks) * BLOCK_TOKENS + 15
        known = len(blocks) - 2 if talk.replica == effect.replica else min(SHARED_BLOCKS, len(blocks) - 1)
        cached = 0 if len(blocks) > BLOCKS[-1] else known * BLOCK_TOKENS
        talk.replica = effect.replica
        first = self._at + 0.02 + (prompt - cached) * 0.0004 * self._dice.uniform(0.8, 1.2)
        each_s = self._answer_s / ANSWER_TOKENS * self._dice.uniform(0.9, 1.1)
        usage = Usage(prompt, cached, ANSWER_TOKENS)
        self._later(first, lambda at: FirstToken(at, name, attempt, prompt, cached))
        self._later(first + 32 * each_s, lambda at: Progress(at, name, 33))
        self._later(first + 63 * each_s, lambda at: Finished(at, name, attempt, usage))


def desk_of(replicas: int, **more: Any) -> Desk:
    """A desk with its replicas and keys."""
    desk = assemble(DeskSettings(models=(ModelPolicy(MODEL, context_tokens=131_072),)))
    for number in range(TENANTS):
        key = Key(f"key_{number}", f"digest {number}", f"tenant {number}", **more)
        desk.handle(KeyChanged(BEGAN_S - 60, key))
    for number in range(replicas):
        desk.handle(ReplicaSeen(BEGAN_S - 60, f"{MODEL}/{number}", MODEL, SLOTS, 1, CACHE_TOKENS))
    return desk


class Measured(NamedTuple):
    """Microseconds of processor time per request, in all and by stage; what was going on meanwhile."""

    total_us: float
    stages_us: dict[str, float]
    warm_share: float
    in_flight: float


def measure(replicas: int, **more: Any) -> Measured:
    """Measure one size of fleet."""
    crowd = Crowd(replicas, **more)
    crowd.fill_caches()
    crowd.ask(max(4_000, 30 * replicas))
    warm_up = len(crowd.events)
    crowd.ask(ROUNDS * REQUESTS)
    events, crowd.events = crowd.events, []
    desk = desk_of(replicas, **more)
    whys: list[str] = []
    for event in events[:warm_up]:
        whys += [effect.why for effect in desk.handle(event) if type(effect) is Dispatch]
    warm = sum("warm: holds" in why for why in whys[-2000:]) / len(whys[-2000:])
    with _Calm():
        rounds = [_round_us(desk, part) for part in _parts(events[warm_up:], ROUNDS)]
        desk.check()
        stages = _stages(desk, crowd)
    return Measured(median(rounds), stages, warm, len(desk.tickets) / replicas)


def _parts(events: list[AnyEvent], count: int) -> Iterator[list[AnyEvent]]:
    size = len(events) // count
    return (events[n * size : (n + 1) * size] for n in range(count))


def _round_us(desk: Desk, events: list[AnyEvent]) -> float:
    handle = desk.handle
    requests = sum(type(event) is Arrived for event in events)
    began = time.process_time()
    for event in events:
        handle(event)
    return (time.process_time() - began) / requests * 1e6


class _Calm:
    """The garbage collector as the gateway has it."""

    def __enter__(self) -> None:
        self._was = gc.get_threshold()
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()
        gc.set_threshold(*self._was)


# Stages


class _Stages:
    """Times parts of a request's way on the state that a load has left; what is taken is given back."""

    def __init__(self, desk: Desk, crowd: Crowd) -> None:
        self.desk = desk
        self.model = desk.desks[MODEL]
        self.us: dict[str, float] = {}
        at = max((ticket.arrived.at for ticket in desk.tickets.values()), default=BEGAN_S) + 3.0
        self.at = at
        talks = [talk for talk in crowd._idle if talk.replica and not talk.over][:REQUESTS]  # noqa: SLF001
        self.asked = [crowd.arrived(talk, talk.next()) for talk in talks]

    def time(self, name: str, each: Callable[[Any], Any], over: list[Any]) -> list[Any]:
        """Call ``each`` for all, five times where nothing is kept; the least of them counts."""
        began = time.process_time()
        results = [each(one) for one in over]
        took = time.process_time() - began
        empty = time.process_time()
        _ = [_nothing(one) for one in over]
        loop = time.process_time() - empty
        self.us[name] = self.us.get(name, 0.0) + max(0.0, took - loop) / len(over) * 1e6
        return results


def _nothing(_: Any) -> None:
    return None


def _stages(desk: Desk, crowd: Crowd) -> dict[str, float]:
    """What each stage costs, in microseconds; medians of several passes over other requests."""
    passes = []
    for _ in range(5):
        stages = _Stages(desk, crowd)
        _pass(stages)
        passes.append(stages.us)
    return {name: median([one[name] for one in passes]) for name in passes[0]}


def _pass(stages: _Stages) -> None:
    desk, model, at, asked = stages.desk, stages.model, stages.at, stages.asked
    policy, settings = desk.policies[MODEL], desk.settings

    def identify(one: Arrived) -> Standing:
        return desk._callers.standings[one.digests, one.model, one.operation, one.band]  # noqa: SLF001

    standings = stages.time("identify", identify, asked)
    stages.time("admission", lambda one: admission.check_size(one, policy, settings), asked)
    pairs = list(zip(asked, standings, strict=True))
    tickets: list[Ticket] = stages.time("ticket and its blocks' chain", lambda pair: Ticket(*pair), pairs)
    stages.time("ticket and its blocks' chain", model.size_up, tickets)

    def reserve(ticket: Ticket) -> None:
        ticket.held = ticket.holding.admit(ticket.prompt_tokens + 1024, 0, at)

    stages.time("accounts", reserve, tickets)
    chosen = stages.time(
        "routing", lambda t: model.route.choose(t, model.pool.open, model.pool, model.index), tickets
    )
    placed = list(zip(tickets, chosen, strict=True))
    pool = model.pool

    def take(pair: tuple[Ticket, Any]) -> Any:
        ticket, choice = pair
        cached = choice.cached_tokens
        ticket.attempts = 1
        return pool.take(choice.replica, 1, at, 1, max(1, ticket.prompt_tokens - cached), cached, ticket.cost)

    leases = stages.time("lease", take, placed)
    stages.time("lease", lambda lease: pool.first_token(lease, at), leases)
    stages.time("lease", pool.give_back, leases)
    stages.time("index", lambda pair: model.index.insert(pair[1].replica, pair[0].chain), placed)

    def fair(ticket: Ticket) -> None:
        model.held_back(ticket, at)
        for holdback in model._holdbacks_from(ticket.band):  # noqa: SLF001
            holdback.began(ticket.tenant, 1, at)
        model.counters.charge(ticket.tenant, float(ticket.prompt_tokens))
        model.counters.charge(ticket.tenant, OUTPUT_WEIGHT * 33)
        model.counters.charge(ticket.tenant, OUTPUT_WEIGHT * 31)
        for holdback in model._holdbacks_from(ticket.band):  # noqa: SLF001
            holdback.ended(ticket.tenant, 1, at)

    stages.time("fairness", fair, tickets)

    def learn(lease: Any) -> None:
        replica = lease.replica
        replica.pace.prefilled(lease.uncached_tokens, 0.1)
        replica.pace.decoded(63, 2.0)
        if replica.limit is not None:
            replica.limit.first_token(0.1, 0.1, replica.cost, at)
            replica.limit.decoded(2.0 / 63, replica.cost, at)
        model.index.correct(replica, lease.cached_tokens, lease.cached_tokens)
        model.index.learn(lease.uncached_tokens + lease.cached_tokens, 16)
        model.service.observe(2.0)

    stages.time("learning", learn, leases)
    usage = Usage(512, 448, ANSWER_TOKENS)

    def book(ticket: Ticket) -> None:
        charged = metering.charge(ticket.name, ticket.key, MODEL, ticket.standing.tariff, usage, "finished")
        Close(ticket.name, "finished", "every strand ended as the engine said")
        ticket.holding.settle(ticket.held, usage.total_tokens, charged.cost_pico_usd, at)

    stages.time("metering and close", book, tickets)


def calibration_ns() -> float:
    """What a step of a fixed loop costs here, so that slow machines can be told from slow code."""
    took = []
    for _ in range(7):
        began = time.process_time()
        x = 0
        for number in range(300_000):
            x = (x * 31 + number) & 0xFFFF
        took.append((time.process_time() - began) / 300_000 * 1e9)
    return median(took)


def cost(figures: Figures) -> None:
    """All events of one request, at three sizes of fleet."""
    ns = calibration_ns()
    figures.add("calibration: one step of a fixed loop", ns, "ns", how="x = (x * 31 + i) & 0xFFFF; median of 7")
    for replicas, must in ((10, 30), (100, 50), (1000, 100)):
        found = measure(replicas)
        how = (
            f"processor time, median of {ROUNDS} rounds of {REQUESTS} requests; Arrived, FirstToken, Progress and "
            f"Finished; {found.in_flight:.1f} in flight on each replica, {found.warm_share:.0%} went where they "
            f"were warm; {found.total_us * 1e3 / ns:.0f} steps of the loop"
        )
        figures.add(f"one request, {replicas:,} replicas", found.total_us, "us", at_most=must, how=how)
        _say_stages(figures, found, replicas)
    bounded = {"limits": Limits(6_000_000, 6_000_000_000, 10_000), "budgets": (Budget("month", 10**18, 10**12),)}
    found = measure(100, **bounded)
    how = "each key with three limits and a budget in money and tokens"
    figures.add("one request, 100 replicas, limits and budgets", found.total_us, "us", how=how)


def _say_stages(figures: Figures, found: Measured, replicas: int) -> None:
    for name, us in found.stages_us.items():
        figures.add(f"  {name}, {replicas:,} replicas", us, "us", how="timed apart, on the same state")
    rest = found.total_us - sum(found.stages_us.values())
    how = "the desk's own steps, calls, effects, life-cycle, agenda: the sum less the stages"
    figures.add(f"  the rest, {replicas:,} replicas", rest, "us", how=how)
