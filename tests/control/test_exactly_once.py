"""A driver that breaks every promise: words late, twice, out of order, of attempts and replicas that never were.

``test_desk_machine`` tells the desk what a good driver may tell it. Here nothing is promised: alarms are slept
through, generations go backwards, replicas swap names and models under load, ids come again, settings change in
mid-stream. Whatever is told, each admitted request is charged once and then closed, and everything it held is
given back (I1, I7, I9, I11). ``DESK_EXAMPLES=2000`` looks for longer.
"""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import settings as pace
from hypothesis import strategies as st
from tests.control.builders import (
    GEMMA,
    MODEL,
    NOW_S,
    PRICE,
    Bench,
    arrived,
    billed,
    key,
    kinds,
    settings,
    the,
)

from underlay.control.caller_desk import METER_S
from underlay.control.desk import assemble
from underlay.control.effects import Admitted, Charge, Close, Cut, Dispatch, Refuse, Replay
from underlay.control.events import (
    AttemptFailed,
    ClientGone,
    EnergySettled,
    Finished,
    FirstToken,
    KeyChanged,
    Probed,
    Progress,
    ReplicaDraining,
    ReplicaLost,
    ReplicaSeen,
    SettingsChanged,
    Tick,
)
from underlay.control.metering import Tariff
from underlay.domain.answer import Usage
from underlay.domain.keys import Budget, Limits
from underlay.domain.policy import Band, ModelPolicy

MODELS = (MODEL, "llama")
POLICIES = (GEMMA, ModelPolicy("llama", context_tokens=1000, price=PRICE))
KEYS = ("ann", "bob")
FAILURES = ("reset", "stall", "rejected")
HEDGED = {"hedge_share": 1.0, "drain_s": 2.0, "slow_start_s": 1.0, "suspect_s": 2.0}
OTHERS = (
    {},
    {"hedge_share": 0.0},
    {"bands": (Band("standard"),)},
    {"bands": (Band("batch"), Band("priority", 0.5), Band("standard"), Band("more", 0.1, 0.1))},
    {"idempotency_max": 0, "attempts_max": 1},
    {"routing": "prequal", "waiting_max": 0},
    {"default_limits": Limits(concurrent=2), "strikes_max": 1},
)
VERBS = (
    *(["arrive"] * 4 + ["first", "finish", "fail", "gone"] * 2),
    *("progress", "lost", "seen", "drain", "probe", "key", "settings", "time", "tick", "meter"),
)
small = st.integers(0, 7)
steps = st.lists(st.tuples(st.sampled_from(VERBS), small, small, small), max_size=60)


def of(**more):
    base = settings(**{**HEDGED, **more})
    return type(base)(**{**{name: getattr(base, name) for name in base.__struct_fields__}, "models": POLICIES})


class Hostile:
    """Tells the desk anything at all, and keeps its own books: one list of effects for each life of a ticket."""

    def __init__(self) -> None:
        self.at = NOW_S
        self.desk = assemble(of())
        self.lives: dict[str, list] = {}  # of each ticket, the effects of the life it leads
        self.ended: list[tuple[str, list]] = []
        self.event = None
        for name in KEYS:
            self.tell(KeyChanged(self.at, key(name)))
        for number, model in enumerate((MODEL, MODEL, "llama")):
            self.tell(ReplicaSeen(self.at, f"r{number}", model, 2))
        for number in range(16):  # some history, so that a first token can be late and is hedged
            self.tell(arrived(f"w{number}", self.at))
            self.at += 0.01
            self.tell(FirstToken(self.at, f"w{number}", 1, 1, 0))
            self.tell(Finished(self.at, f"w{number}", 1, Usage(1, 0, 1)))

    def tell(self, event):
        self.event = event
        effects = self.desk.handle(event)
        self.desk.check()
        for before, effect in pairwise([None, *effects]):
            self._enter(effect, before)
        return effects

    def _enter(self, effect, before) -> None:
        name = getattr(effect, "ticket", "")
        if not name:
            return
        if type(effect) is Admitted:
            assert name not in self.lives, "admitted twice"
            self.lives[name] = []
        if type(effect) is Refuse and name not in self.lives:
            return
        life = self.lives[name]  # nothing is said of what is not open
        life.append(effect)
        if type(effect) is Close:
            assert type(before) is Charge, "charged, and at once closed"
            assert (before.ticket, before.outcome) == (name, effect.outcome)
            self._bill(before)
        if type(effect) in (Close, Refuse, Replay):
            self.ended.append((name, self.lives.pop(name)))

    def _bill(self, charge: Charge) -> None:
        """I11: what is billed is what the last word says, whatever was tried before."""
        event = self.event
        if charge.outcome == "failed":
            assert charge.cost_pico_usd == 0
            return
        assert type(event) is (Finished if charge.outcome == "finished" else ClientGone)
        assert (event.ticket, event.usage) == (charge.ticket, charge.usage)
        assert charge.cost_pico_usd == Tariff(PRICE).cost_pico_usd(charge.usage)

    # What may happen. Every verb takes three small numbers.

    def arrive(self, a: int, b: int, c: int) -> None:
        name = f"t{a}"
        if name in self.lives:  # the one thing a driver must not do
            return
        self.tell(
            arrived(
                name,
                self.at,
                KEYS[b % 2],
                model=MODELS[b // 6],
                streaming=bool(b & 2),
                resumable=bool(c & 1),
                deadline_s=(None, 1.0, 2.0, 30.0)[c // 2],
                idempotency=("once", "body") if c >= 6 else ("", ""),
                band=("", "batch", "priority")[a % 3],
                max_tokens=(None, 16)[b % 2],
            )
        )

    def first(self, a: int, b: int, c: int) -> None:
        self.tell(FirstToken(self.at, f"t{a}", b % 4, 2 * c, c))

    def progress(self, a: int, b: int, c: int) -> None:
        self.tell(Progress(self.at, f"t{a}", b * 50 + c))

    def finish(self, a: int, b: int, c: int) -> None:
        for _ in range(1 + (c == 7)):
            self.tell(Finished(self.at, f"t{a}", b % 4, Usage(c, c // 2, b)))

    def fail(self, a: int, b: int, c: int) -> None:
        self.tell(AttemptFailed(self.at, f"t{a}", b % 4, FAILURES[c % 3], c, "detail"))

    def gone(self, a: int, b: int, c: int) -> None:
        self.tell(ClientGone(self.at, f"t{a}", Usage(c, 0, b)))

    def lost(self, a: int, _: int, __: int) -> None:
        self.tell(ReplicaLost(self.at, f"r{a % 3}", "killed"))

    def seen(self, a: int, b: int, c: int) -> None:
        self.tell(ReplicaSeen(self.at, f"r{a % 3}", MODELS[b // 5], 1 + b % 3, c % 4))

    def drain(self, a: int, b: int, _: int) -> None:
        self.tell(ReplicaDraining(self.at, f"r{a % 3}", b < 5))

    def probe(self, a: int, b: int, c: int) -> None:
        self.tell(Probed(self.at, f"r{a % 3}", b, c))

    def key(self, a: int, b: int, c: int) -> None:
        more = (
            {},
            {"revoked_s": self.at},
            {"revoked_s": self.at + 1},
            {"budgets": (Budget("total", tokens=100 * c),)},
            {"budgets": (Budget("day", pico_usd=10**8 * c),), "user": "u"},
            {"budgets": (Budget("day", joules=10.0 * c), Budget("total", tokens=10**6)), "user": "u"},
            {"limits": Limits(requests_per_minute=c + 1, tokens_per_minute=100 * c + 1)},
            {"replaced_by": "key_bob", "budgets": (Budget("total", tokens=50),)},
        )[b]
        self.tell(KeyChanged(self.at, key(KEYS[0 if "replaced_by" in more else a % 2], **more)))

    def meter(self, a: int, b: int, c: int) -> None:
        """Of a request that runs, is over, or never was; more than once; of a key that is not the request's."""
        for _ in range(1 + (c == 7)):
            name = KEYS[b % 2]
            self.tell(
                EnergySettled(
                    self.at, f"t{a}", f"key_{name}", f"{name}'s", MODELS[b // 6], c - 1.0, usage=Usage(c, c // 2, b)
                )
            )

    def settings(self, a: int, _: int, __: int) -> None:
        self.tell(SettingsChanged(self.at, of(**OTHERS[a % len(OTHERS)])))

    def time(self, a: int, b: int, _: int) -> None:
        """Alarms are slept through: what is due later finds all of it due at once."""
        self.at += (0.1, 0.5, 1.0, 2.0, 3.0, 10.0, 100.0, 2000.0)[a]
        if b < 5:
            self.tell(Tick(self.at))

    def tick(self, _: int, __: int, ___: int) -> None:
        self.tell(Tick(self.at))

    def end(self) -> None:
        """Everybody leaves, whom the desk still knows. Nothing may be left of them."""
        for name in list(self.lives):
            self.tell(ClientGone(self.at, name, Usage(1, 0, 1)))
        assert self.lives == {}, "I1: none vanished"
        assert self.desk.tickets == {}
        assert self.desk.waiting() == 0
        for replica in self.desk.replicas.values():
            assert (replica.load, replica.prefill_tokens) == (0, 0), "I9: leases are given back"
        self.desk.accounts.check({}, [])
        self.at += METER_S
        self.tell(Tick(self.at))
        holdings = list(self.desk.accounts._all_holdings())
        assert not any(holding.unsettled for holding in holdings), "no meter is waited for for ever"
        assert not any(purse.reserved_microjoules for holding in holdings for purse in holding.purses)
        for name, life in self.ended:
            found = kinds(life)
            assert found[0] == "Admitted"
            once = found.count("Charge"), found.count("Close"), found.count("Refuse"), found.count("Replay")
            assert once in ((1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)), f"{name}: {found}"
            assert found.count("Cut") <= 1
            attempts = [effect.attempt for effect in life if type(effect) is Dispatch]
            assert attempts == list(range(1, len(attempts) + 1))


@pace(max_examples=int(os.environ.get("DESK_EXAMPLES", "25")), deadline=None)
@given(steps)
@example([("arrive", 0, 0, 6), ("drain", 0, 0, 0), ("drain", 1, 0, 0), ("time", 6, 0, 0)])
def test_i1_i7_i9_i11_whatever_is_told_each_request_has_one_bill_and_leaves_nothing(told):
    desk = Hostile()
    for verb, *numbers in told:
        getattr(desk, verb)(*numbers)
    desk.end()


# The same, one trick at a time.


def test_i1_a_drain_and_a_deadline_that_are_due_together_end_a_request_once():
    """The alarm rang late: the drain has sent the request back into the line before its deadline is looked at."""
    bench = Bench(slots=1, drain_s=1.5)
    bench.arrive(deadline_s=2.0)
    bench.tell(ReplicaDraining(bench.at, "r1"))
    bench.at += 3.0
    effects = [*bench.tell(Tick(bench.at)), *bench.tell(Tick(bench.at))]
    assert billed(effects)[0] == "failed"
    assert bench.waiting() == []


def test_i7_a_ticket_whose_name_comes_again_is_billed_for_each_of_its_lives():
    bench = Bench()
    for tokens in (5, 7):
        bench.arrive()
        assert bench.tell(Finished(bench.at, "t1", 2, Usage(1, 0, 1))) == []  # never an attempt of this life
        assert billed(bench.tell(Finished(bench.at, "t1", 1, Usage(1, 0, tokens))))[1].completion_tokens == tokens
        assert bench.tell(Finished(bench.at, "t1", 1, Usage(1, 0, 99))) == []
        assert bench.tell(ClientGone(bench.at, "t1", Usage(1, 0, 99))) == []
    assert bench.load("r1") == 0


LAST_WORDS = {
    "finished": Finished(NOW_S, "t1", 1, Usage(10, 0, 5)),
    "gone": ClientGone(NOW_S, "t1", Usage(10, 0, 5)),
    "rejected": AttemptFailed(NOW_S, "t1", 1, "rejected", 5),
    "failed": AttemptFailed(NOW_S, "t1", 1, "reset", 5),
    "lost": ReplicaLost(NOW_S, "r1", "killed"),
}


@pytest.mark.parametrize("second", LAST_WORDS)
@pytest.mark.parametrize("first", LAST_WORDS)
@pytest.mark.parametrize("cut", ["no", "revoked", "spent"])
def test_i7_two_last_words_after_a_cut_are_one_bill(cut, first, second):
    """Between the cut of a stream and the driver's word that it is over, anything may come."""
    bench = Bench(attempts_max=1)
    budgets = (Budget("total", tokens=400),) if cut == "spent" else ()
    bench.tell(KeyChanged(bench.at, key(budgets=budgets)))
    bench.arrive(streaming=True)
    bench.tell(FirstToken(bench.at, "t1", 1, 10, 0))
    if cut == "revoked":
        the(Cut, bench.tell(KeyChanged(bench.at, key(revoked_s=bench.at))))
    if cut == "spent":
        the(Cut, bench.tell(Progress(bench.at, "t1", 390)))
    effects = [effect for event in (first, second) for effect in bench.tell(LAST_WORDS[event])]
    outcome, usage, cost = billed(effects)
    expected = {"finished": "finished", "gone": "client_gone"}.get(first, "failed")
    assert outcome == expected
    assert (cost == 0) == (outcome == "failed")
    if outcome != "failed":
        assert usage == Usage(10, 0, 5)
    for purse in bench.desk.accounts.holding(key(), MODEL).purses:
        assert (purse.spent_tokens, purse.reserved_tokens) == (0 if outcome == "failed" else 15, 0)


def test_i9_a_generation_that_goes_backwards_gives_every_lease_back():
    """Word of an earlier start comes after that of a later one: a restart like any other, and nothing counts twice."""
    bench = Bench(slots=2)
    bench.arrive("t1", streaming=True)
    bench.see("r1", generation=5)
    bench.arrive("t2", streaming=True)
    bench.see("r1", generation=4)
    assert bench.load("r1") == 2
    assert bench.tell(Finished(bench.at, "t1", 1, Usage(1, 0, 1))) == []
    for name in ("t1", "t2"):
        attempt = bench.desk.tickets[name].attempts
        assert billed(bench.tell(Finished(bench.at, name, attempt, Usage(1, 0, 1))))[0] == "finished"
    assert bench.load("r1") == 0


def test_i9_replicas_that_swap_names_and_models_under_load_keep_nothing():
    bench = Hostile()
    for name, model in (("t1", MODEL), ("t2", MODEL), ("t3", "llama")):
        bench.tell(arrived(name, bench.at, model=model, streaming=True))
    swapped = bench.tell(ReplicaSeen(bench.at, "r2", MODEL, 2, 1)) + bench.tell(
        ReplicaSeen(bench.at, "r0", "llama", 2, 1)
    )
    assert "Cancel" in kinds(swapped)
    assert bench.desk.replicas["r2"].model == MODEL
    for _ in range(2):
        for name in ("t1", "t2", "t3"):
            for attempt in range(1, 5):
                bench.tell(Finished(bench.at, name, attempt, Usage(1, 0, 1)))
    assert bench.lives == {}
    bench.end()


class Race:
    """A request whose first token is late, with a hedge beside it."""

    def __init__(self) -> None:
        self.desk = desk = Hostile()
        desk.tell(arrived("t1", desk.at))
        desk.at += 2.0
        desk.alarmed = desk.tell(Tick(desk.at))
        hedge = the(Dispatch, desk.alarmed)
        assert hedge.beside
        ticket = desk.desk.tickets["t1"]
        self.replicas = {1: ticket.lease.replica.name, 2: hedge.replica}


def test_i11_a_request_costs_the_same_whichever_copy_answers_it():
    for winner in (1, 2):
        race = Race()
        race.desk.tell(FirstToken(race.desk.at, "t1", winner, 10, 0))
        race.desk.tell(FirstToken(race.desk.at, "t1", 3 - winner, 10, 10))
        assert race.desk.tell(Finished(race.desk.at, "t1", 3 - winner, Usage(10, 10, 99))) == []
        ended = race.desk.tell(Finished(race.desk.at, "t1", winner, Usage(10, 0, 5)))
        assert billed(ended) == ("finished", Usage(10, 0, 5), Tariff(PRICE).cost_pico_usd(Usage(10, 0, 5)))
        race.desk.end()


@pytest.mark.parametrize("drained", [1, 2])
def test_i9_a_drain_of_either_replica_of_a_hedged_request_leaves_one_copy(drained):
    race = Race()
    desk = race.desk
    desk.tell(ReplicaDraining(desk.at, race.replicas[drained]))
    desk.at += 2.5
    told = kinds(desk.tell(Tick(desk.at)))
    assert told.count("Cancel") == 1
    assert "Drained" in told
    assert desk.tell(Finished(desk.at, "t1", drained, Usage(1, 0, 1))) == []
    assert billed(desk.tell(Finished(desk.at, "t1", 3 - drained, Usage(1, 0, 1))))[0] == "finished"
    desk.end()


def test_i11_hedging_that_is_turned_off_in_the_middle_of_a_race_lets_it_end():
    race = Race()
    race.desk.tell(SettingsChanged(race.desk.at, of(hedge_share=0.0)))
    race.desk.tell(AttemptFailed(race.desk.at, "t1", 1, "reset"))
    assert billed(race.desk.tell(Finished(race.desk.at, "t1", 2, Usage(1, 0, 1))))[0] == "finished"
    race.desk.end()


def test_fewer_bands_in_the_middle_of_a_request_do_not_lose_it():
    bench = Bench(replicas=2, slots=1)
    bench.arrive(band="batch", streaming=True)
    bench.tell(SettingsChanged(bench.at, settings(bands=(Band("standard"),))))
    for name in ("r1", "r2"):
        bench.tell(ReplicaLost(bench.at, name, "killed"))
    assert bench.waiting() == ["t1"]
    assert billed(bench.tell(ClientGone(bench.at, "t1", Usage())))[0] == "client_gone"


def test_a_request_whose_original_was_cut_by_a_revocation_runs_and_is_billed():
    """Only a finished answer is given again; one that was cut off, under a key of the same tenant, is not."""
    bench = Bench()
    other = type(key())(id="key_other", digest="digest of other", tenant="ann's")
    bench.tell(KeyChanged(bench.at, other))
    bench.arrive("t1", streaming=True, idempotency=("once", "body"))
    the(Cut, bench.tell(KeyChanged(bench.at, key(revoked_s=bench.at))))
    second = arrived("t2", bench.at, "other", idempotency=("once", "body"))
    assert the(Refuse, bench.tell(second)).reason == "conflict"  # the first has not ended yet
    bench.tell(ClientGone(bench.at, "t1", Usage(1, 0, 1)))
    assert kinds(bench.arrive("t3", who="other", idempotency=("once", "body")))[-1] == "Dispatch"
    bench.tell(Finished(bench.at, "t3", 1, Usage(1, 0, 1)))
    assert kinds(bench.arrive("t4", who="other", idempotency=("once", "body"))) == ["Admitted", "Replay"]
    assert bench.desk.tickets == {}


def test_i11_a_replay_is_charged_to_nobody_and_takes_nothing_of_a_budget():
    bench = Bench()
    bench.tell(KeyChanged(bench.at, key(budgets=(Budget("total", tokens=1000),))))
    bench.arrive("t1", max_tokens=10, idempotency=("once", "body"))
    bench.tell(Finished(bench.at, "t1", 1, Usage(10, 0, 5)))
    for number in range(2, 5):
        assert not [e for e in bench.arrive(f"t{number}", idempotency=("once", "body")) if type(e) is Charge]
    (purse,) = bench.desk.accounts.holding(key(), MODEL).purses
    assert (purse.spent_tokens, purse.reserved_tokens) == (15, 0)


troubles = st.lists(st.sampled_from(["fail", "lose", "restart", "drain", "late", "settings", "wait"]), max_size=8)


@pace(max_examples=30, deadline=None)
@given(troubles)
def test_i11_the_bill_and_the_budget_know_nothing_of_what_it_took(found):
    """The same answer, with anything that breaks before it: the same bill, and as much of the budget."""
    bench = Bench(replicas=3, attempts_max=100, drain_s=0.5, hedge_share=1.0, strikes_max=100)
    bench.tell(KeyChanged(bench.at, key(budgets=(Budget("total", tokens=10**6, pico_usd=10**12),))))
    bench.arrive(streaming=True)
    ticket = bench.desk.tickets["t1"]
    for number, trouble in enumerate(found):
        if ticket.lease is not None:
            bench.tell(FirstToken(bench.at, "t1", ticket.lease.attempt, 10, number))
            bench.tell(Progress(bench.at, "t1", number))
        make_trouble(bench, ticket, trouble, number)
    for name in bench.desk.replicas:
        bench.see(name, generation=1000)
    bench.at += 2.0
    bench.tell(Tick(bench.at))
    usage = Usage(10, 0, 5)
    assert billed(bench.tell(Finished(bench.at, "t1", ticket.lease.attempt, usage))) == (
        "finished",
        usage,
        Tariff(PRICE).cost_pico_usd(usage),
    )
    (purse,) = bench.desk.accounts.holding(key(), MODEL).purses
    assert (purse.spent_tokens, purse.spent_pico_usd) == (15, Tariff(PRICE).cost_pico_usd(usage))
    assert (purse.reserved_tokens, purse.reserved_pico_usd) == (0, 0)


def make_trouble(bench, ticket, trouble, number) -> None:
    at, lease = bench.at, ticket.lease
    if trouble == "wait" or lease is None:
        bench.at += 1.0
        bench.tell(Tick(bench.at))
    elif trouble == "fail":
        bench.tell(AttemptFailed(at, "t1", lease.attempt, "reset", number))
    elif trouble == "lose":
        bench.tell(ReplicaLost(at, lease.replica.name, "killed"))
    elif trouble == "restart":
        bench.see(lease.replica.name, generation=number + 1)
    elif trouble == "drain":
        bench.tell(ReplicaDraining(at, lease.replica.name))
    elif trouble == "late":
        bench.tell(Finished(at, "t1", lease.attempt - 1, Usage(99, 0, 99)))
    else:
        bench.tell(SettingsChanged(at, settings(**{**HEDGED, "attempts_max": 100})))
